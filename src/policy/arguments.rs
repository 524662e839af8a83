//! Arguments as policies see them: only those that a policy asks for, as plain values that nobody
//! can make an entity or an extension value of.
//!
//! A policy that asks for a number and is given a text would find no number, and a `forbid` that
//! relies on it would not apply. So an argument that is there, and is not what is asked for, is a
//! failure, which denies. So is a name that stands there twice: nobody knows which of them the
//! server takes. Names that differ in case only are one, for servers that do not tell cases apart.

use std::{borrow::Cow, collections::BTreeMap};

use cedar_policy_core::ast::Value;

use crate::mcp::{
    document::{CallArguments, Document, JsonNode},
    unique_members::is_same_name,
};

use super::{bounds::PolicyBounds, reads::Kinds};

/// The arguments that are there, by kind.
#[derive(Debug, Default)]
pub struct ArgumentValues {
    pub texts: Vec<(String, Value)>,
    pub numbers: Vec<(String, Value)>,
    pub flags: Vec<(String, Value)>,
    pub lists: Vec<(String, Value)>,
}

/// Why arguments cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    #[error("the arguments cannot be read as an object")]
    Shape,
    #[error("the argument `{0}` is not of a kind that a policy asks for it as")]
    Kind(String),
    #[error("the argument `{0}` is there twice")]
    Twice(String),
    #[error("the argument `{0}` is written in another case")]
    Case(String),
    /// The name is a member of every JavaScript object: as an argument it would bring others with
    /// it.
    #[error("an argument is called `{0}`")]
    Prototype(String),
    #[error("the argument `{0}` has more than {1} bytes (`judged_text_max`)")]
    Long(String, usize),
    #[error("the argument `{0}` has more than {1} items (`judged_items_max`)")]
    Many(String, usize),
}

/// Members by which servers in JavaScript reach what all objects share: one that is copied with
/// others would bring arguments that no policy has seen.
const PROTOTYPES: [&str; 3] = ["__proto__", "constructor", "prototype"];

/// Values that policies ask for within a value: its kinds, and those of its members.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestedArguments {
    kinds: Option<Kinds>,
    members: BTreeMap<String, Self>,
}

impl RequestedArguments {
    /// Arguments by the names that policies have for them.
    pub fn new(arguments: &BTreeMap<String, Kinds>) -> Self {
        let mut wanted = Self::default();
        for (name, kinds) in arguments {
            let mut node = &mut wanted;
            for step in name.split('/') {
                node = node.members.entry(unescaped(step)).or_default();
            }
            node.kinds = Some(*kinds);
        }
        wanted
    }
}

/// The argument that a policy's name leads to, or into.
pub fn first_step(name: &str) -> String {
    unescaped(name.split('/').next().unwrap_or_default())
}

fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

impl ArgumentError {
    /// Whether the arguments are not what a schema says, perhaps: their server's words tell a
    /// client more than a denial.
    pub fn is_misfit(&self) -> bool {
        match self {
            Self::Shape | Self::Kind(_) | Self::Case(_) | Self::Twice(_) => true,
            Self::Prototype(_) | Self::Long(..) | Self::Many(..) => false,
        }
    }
}

impl ArgumentValues {
    /// Takes what is asked for from the arguments of a call.
    ///
    /// # Errors
    /// Where an argument is there, and cannot be judged.
    pub fn of(
        arguments: &CallArguments,
        wanted: &RequestedArguments,
        bounds: PolicyBounds,
    ) -> Result<Self, ArgumentError> {
        let mut found = Self::default();
        if wanted.members.is_empty() {
            return Ok(found);
        }
        let Some(arguments) = arguments.document() else { return Ok(found) };
        match arguments.text().bytes().first() {
            // Clients write so that have none.
            Some(b'n') => return Ok(found),
            Some(b'{') => (),
            _ => return Err(ArgumentError::Shape),
        }
        if let Some(name) = prototype(arguments) {
            return Err(ArgumentError::Prototype(name));
        }
        found.walk(arguments.root(), wanted, String::new(), bounds)?;
        Ok(found)
    }

    fn walk(
        &mut self,
        value: JsonNode<'_>,
        wanted: &RequestedArguments,
        name: String,
        bounds: PolicyBounds,
    ) -> Result<(), ArgumentError> {
        if let Some(kinds) = wanted.kinds {
            self.take(value, kinds, &name, bounds)?;
        }
        if wanted.members.is_empty() {
            return Ok(());
        }
        let within = |step: &str| {
            let step = step.replace('~', "~0").replace('/', "~1");
            if name.is_empty() { step } else { format!("{name}/{step}") }
        };
        match value.first() {
            Some(b'{') => self.walk_object(value, wanted, &within, bounds),
            Some(b'[') => {
                // Some servers would take its items for objects with the members that are asked
                // for.
                if wanted.members.keys().any(|step| step.parse::<usize>().is_err()) {
                    return Err(ArgumentError::Kind(name));
                }
                wanted.members.iter().try_for_each(|(step, wanted)| {
                    let item = step.parse::<usize>().ok().and_then(|at| value.items().nth(at));
                    item.map_or(Ok(()), |item| self.walk(item, wanted, within(step), bounds))
                })
            }
            // An object written as a text, for example: some servers would read it.
            Some(first) if wanted.kinds.is_none() && first != b'n' => {
                Err(ArgumentError::Kind(name))
            }
            _ => Ok(()),
        }
    }

    fn walk_object(
        &mut self,
        object: JsonNode<'_>,
        wanted: &RequestedArguments,
        within: &dyn Fn(&str) -> String,
        bounds: PolicyBounds,
    ) -> Result<(), ArgumentError> {
        let members = object.members().map(|(key, value)| Some((key.string()?, value)));
        let members = members.collect::<Option<Vec<_>>>().ok_or(ArgumentError::Shape)?;
        for (step, wanted) in &wanted.members {
            let mut all = members.iter().filter(|(key, _)| is_same_name(key, step));
            match (all.next(), all.next()) {
                (Some(_), Some(_)) => return Err(ArgumentError::Twice(within(step))),
                (Some((key, value)), None) if key == step => {
                    self.walk(*value, wanted, within(step), bounds)?;
                }
                (Some(_), None) => return Err(ArgumentError::Case(within(step))),
                (None, _) => (),
            }
        }
        Ok(())
    }

    /// Enters a value as what it is, if that is what is asked for.
    fn take(
        &mut self,
        value: JsonNode<'_>,
        kinds: Kinds,
        name: &str,
        bounds: PolicyBounds,
    ) -> Result<(), ArgumentError> {
        let text = value.text();
        let key = name.to_owned();
        let unfit = || ArgumentError::Kind(name.to_owned());
        let short = |text: Cow<'_, str>| match text.len() <= bounds.text_max {
            true => Ok(Value::from(text.into_owned())),
            false => Err(ArgumentError::Long(name.to_owned(), bounds.text_max)),
        };
        match text.as_bytes().first() {
            Some(b'"') if kinds.text => {
                let text = value.string().ok_or_else(unfit)?;
                self.texts.push((key, short(text)?));
            }
            Some(b't' | b'f') if kinds.flag => {
                self.flags.push((key, Value::from(text == "true")));
            }
            // A fraction, an exponent, or too large a number is none.
            Some(b'-' | b'0'..=b'9') if kinds.number => {
                let number: i64 = text.parse().ok().ok_or_else(unfit)?;
                self.numbers.push((key, Value::from(number)));
            }
            Some(b'[') if kinds.list => {
                let items: Option<Vec<_>> = value.items().map(JsonNode::string).collect();
                let items = items.ok_or_else(unfit)?;
                if bounds.items_max < items.len() {
                    return Err(ArgumentError::Many(key, bounds.items_max));
                }
                let items = items.into_iter().map(short).collect::<Result<Vec<_>, _>>()?;
                self.lists.push((key, Value::set(items, None)));
            }
            _ => return Err(unfit()),
        }
        Ok(())
    }
}
/// A member that reaches what all objects share, wherever in the arguments it stands.
fn prototype(arguments: &Document) -> Option<String> {
    let mut open = vec![arguments.root()];
    while let Some(value) = open.pop() {
        for (key, value) in value.members() {
            let key = key.string().unwrap_or_default();
            if PROTOTYPES.contains(&&*key) {
                return Some(key.into_owned());
            }
            open.push(value);
        }
        open.extend(value.items());
    }
    None
}
