//! Questions to policies: made of a call, as far as the policies that are asked read it.

use std::sync::{Arc, LazyLock};

use cedar_policy_core::{
    ast::{Context, EntityUID, Request, Value},
    evaluator::Evaluator,
    extensions::Extensions,
};

use crate::{
    call::{Action, Caller, Client},
    mcp::{document::CallArguments, splice, version::Era},
};

use super::{
    arguments::{ArgumentError, ArgumentValues},
    bounds::PolicyBounds,
    entity::{self, PolicyEntity},
    group::PolicyGroup,
    object::Object,
    verdict::{Outcome, Verdict},
};

/// A question to the policies: who wants to do what with which thing.
#[derive(Debug, Clone, Copy)]
pub struct AccessRequest<'a> {
    pub caller: &'a Caller,
    pub client: &'a Client,
    pub action: Action,
    pub object: &'a Object,
    pub arguments: &'a CallArguments,
    /// Seconds since 1970.
    pub now: u64,
}

/// What a question has besides the call: it is the same for many.
#[derive(Debug, Clone, Copy)]
pub struct QuestionBase<'a> {
    pub route: &'a Value,
    /// None where Cedar cannot have the caller as an entity.
    pub caller: Option<&'a PolicyEntity>,
    pub bounds: PolicyBounds,
}

/// Why a question cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    #[error("this {0} is nothing that policies can be asked about")]
    Entity(&'static str),
}

/// An attribute of the context, by name.
type Attribute = (&'static str, Value);

impl QuestionError {
    /// The verdict of a question that cannot be asked: it denies.
    pub fn verdict(&self) -> Verdict {
        let is_misfit = matches!(self, Self::Arguments(error) if error.is_misfit());
        Verdict { is_misfit, ..Verdict::failed(self.to_string()) }
    }
}

impl QuestionBase<'_> {
    /// Asks these policies.
    ///
    /// # Errors
    /// Where the call cannot be judged: it is to be denied.
    pub fn ask(
        &self,
        group: &PolicyGroup,
        asked: &AccessRequest<'_>,
    ) -> Result<Outcome, QuestionError> {
        if group.is_empty() {
            return Ok(Outcome::default());
        }
        let caller = self.caller.ok_or(QuestionError::Entity("caller"))?;
        let object = asked.object.entity().ok_or(QuestionError::Entity("object"))?;
        let reads = &group.reads;
        let mut context = vec![("route", self.route.clone())];
        let mut arguments = Vec::new();
        // The decision to show a thing is the same for all calls: a list is made once.
        if reads.context && asked.action != Action::List {
            of_call(group, asked, &mut context);
            if matches!(asked.action, Action::Call | Action::Get) {
                self.read_arguments(group, asked, &mut context, &mut arguments)?;
            }
        }
        let known = [(caller, reads.principal), (object, reads.resource)];
        let known = known.into_iter().filter(|(_, is_read)| *is_read).map(|(entity, _)| entity);
        let entities = entity::entities(known.chain(&arguments));
        let entities = entities.ok_or(QuestionError::Entity("call"))?;
        let context = context.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let request = Request::new_unchecked(
            caller.name(),
            entity::action(asked.action),
            object.name(),
            Some(Context::Value(Arc::new(context))),
        );
        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
        Ok(group.evaluate(&evaluator))
    }

    /// Adds the arguments that any of these policies reads, by kind.
    fn read_arguments(
        &self,
        group: &PolicyGroup,
        asked: &AccessRequest<'_>,
        context: &mut Vec<Attribute>,
        entities: &mut Vec<PolicyEntity>,
    ) -> Result<(), QuestionError> {
        static TEXTS: LazyLock<Arc<EntityUID>> = LazyLock::new(|| all_of("Texts"));
        static NUMBERS: LazyLock<Arc<EntityUID>> = LazyLock::new(|| all_of("Numbers"));
        static FLAGS: LazyLock<Arc<EntityUID>> = LazyLock::new(|| all_of("Flags"));
        static LISTS: LazyLock<Arc<EntityUID>> = LazyLock::new(|| all_of("Lists"));
        let kinds = group.reads.attributes.kinds;
        let found = ArgumentValues::of(asked.arguments, &group.wanted, self.bounds)?;
        let mut add = |attribute, uid: &Arc<EntityUID>, tags| {
            context.push((attribute, Value::new(Arc::clone(uid), None)));
            entities.push(PolicyEntity::with_tags(uid, tags));
        };
        if kinds.text {
            add("texts", &TEXTS, found.texts);
        }
        if kinds.number {
            add("numbers", &NUMBERS, found.numbers);
        }
        if kinds.flag {
            add("flags", &FLAGS, found.flags);
        }
        if kinds.list {
            add("lists", &LISTS, found.lists);
        }
        Ok(())
    }
}

/// The entity whose tags are all arguments of a kind.
fn all_of(kind: &str) -> Arc<EntityUID> {
    Arc::new(entity::uid(kind, "").into())
}

/// Adds the attributes of a call besides its arguments that any of these policies reads.
fn of_call(group: &PolicyGroup, asked: &AccessRequest<'_>, context: &mut Vec<Attribute>) {
    let reads = group.reads.attributes;
    if reads.client {
        let said = |key| {
            let said = splice::member(&asked.client.info, key);
            let said = said.and_then(|said| said.try_read::<String>()).unwrap_or_default();
            Value::from(said)
        };
        let client = [("name", said("name")), ("version", said("version"))];
        context.push(("client", Value::record(client, None)));
    }
    if reads.era {
        let era = match asked.client.era() {
            Era::Legacy => "legacy",
            Era::Modern => "modern",
        };
        context.push(("era", Value::from(era)));
    }
    if reads.time {
        let number = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
        let days = asked.now / 86_400;
        let time = [
            ("hour", number(asked.now / 3_600 % 24)),
            // The first day of 1970 was a Thursday.
            ("weekday", number((days + 3) % 7 + 1)),
            ("epoch", number(asked.now)),
        ];
        context.push(("time", Value::record(time, None)));
    }
}
