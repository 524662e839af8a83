//! Questions of a legacy server in the call of a modern client: gathered, put as `input_required`,
//! and answered by the client's retry (2026-07-28, MRTR).

use tokio::time::Instant;

use crate::{
    call::event::ServerRequest,
    config::Limits,
    mcp::{
        id::Id, index::Param, message::Body, meta::RELATED_TASK, params::Params,
        question::QuestionKind, raw::Raw, splice,
    },
    park::{OpenQuestions, Parked, no_answer, seconds},
    pipeline::{context::Context, fault::Fault},
    telemetry::Counter,
};

/// Questions of one call that the client does not know of yet.
#[derive(Debug, Default)]
pub struct QuestionBatch {
    open: Vec<(String, ServerRequest)>,
    /// The number of the call's questions so far: no key is used twice.
    count: u32,
    /// The time until which more may come.
    until: Option<Instant>,
}

impl QuestionBatch {
    /// Goes on counting where a call was parked.
    pub fn after(count: u32) -> Self {
        Self { count, ..Self::default() }
    }

    /// Takes a question of the server for the client of the call, beside those that it was put and
    /// has not answered. One that cannot be put in a result is refused by being dropped.
    ///
    /// # Errors
    /// Where the client has not declared what it takes to answer, or is asked too much at once.
    pub fn add(
        &mut self,
        context: &Context,
        question: ServerRequest,
        put: OpenQuestions,
    ) -> Result<(), Fault> {
        let call = &context.call;
        let limits = context.limits();
        let kind = QuestionKind::of(&question.method, &question.params);
        let Some(kind) = kind.filter(|_| call.method.may_require_input()) else { return Ok(()) };
        if !kind.is_declared(&call.client.capabilities) {
            return Err(Fault::MissingCapability(kind.required()));
        }
        let open = OpenQuestions::of(&self.open).and(put);
        if limits.questions_max <= open.count {
            return Err(Fault::Limit(too_many(limits)));
        }
        check_bytes(context, open.bytes.saturating_add(question.params.bytes().len()))?;
        let Some(mut question) = question.for_version(call.client.version) else { return Ok(()) };
        // The task of a legacy server that it belongs to is none of the client's.
        question.params = splice::edit_within(&question.params, "_meta", &[(RELATED_TASK, None)]);
        self.count += 1;
        self.open.push((format!("q{}", self.count), question));
        self.until = Some(Instant::now() + limits.question_window);
        Ok(())
    }

    /// The server no longer wants an answer.
    pub fn withdraw(&mut self, id: &Id) {
        self.open.retain(|(_, question)| question.id != *id);
    }

    /// When the client is to be asked; none while there is nothing to ask.
    pub fn due(&self) -> Option<Instant> {
        self.until.filter(|_| !self.open.is_empty())
    }

    /// All that the client is to be asked, and the count so far.
    pub fn take(&mut self) -> (Vec<(String, ServerRequest)>, u32) {
        (std::mem::take(&mut self.open), self.count)
    }
}

/// Returns what a call ends with whose server asks too much at once.
pub fn too_many(limits: &Limits) -> String {
    let max = limits.questions_max;
    format!("the server behind this asks more than {max} things at once (`questions_max`)")
}

/// Checks how many bytes of questions are open at once.
///
/// # Errors
/// Where they are more than `questions_bytes_max`; the call ends with that.
pub fn check_bytes(context: &Context, bytes: usize) -> Result<(), Fault> {
    let max = context.limits().questions_bytes_max;
    if bytes <= max {
        return Ok(());
    }
    context.gate.counters.add(Counter::RefusedQuestionBytes);
    Err(Fault::Limit(too_many_bytes(max)))
}

/// Returns what a call ends with whose server asks too large things at once.
pub fn too_many_bytes(max: usize) -> String {
    format!("the server behind this asks more than {max} bytes at once (`questions_bytes_max`)")
}

/// An `InputRequiredResult` that puts these questions.
pub fn result<'a>(questions: impl Iterator<Item = (&'a str, &'a str, Raw)>, state: &Raw) -> Raw {
    let requests = requests(questions);
    let parts: [&[u8]; 5] = [
        br#"{"resultType":"input_required","inputRequests":"#,
        requests.bytes(),
        br#","requestState":"#,
        state.bytes(),
        b"}",
    ];
    Raw::trusted(parts.concat())
}

/// An `InputRequests` object of keys of our own, methods and params.
pub fn requests<'a>(questions: impl Iterator<Item = (&'a str, &'a str, Raw)>) -> Raw {
    let mut requests = vec![b'{'];
    for (key, method, params) in questions {
        let comma = if requests.len() == 1 { "" } else { "," };
        let head = format!(r#"{comma}"{key}":{{"method":"{method}","params":"#);
        requests.extend_from_slice(head.as_bytes());
        requests.extend_from_slice(params.bytes());
        requests.push(b'}');
    }
    requests.push(b'}');
    Raw::trusted(requests)
}

/// Parks a call, and puts its questions to the client.
///
/// # Errors
/// Where there is no room for one more; the call is ended then.
pub fn park(context: &Context, mut parked: Parked) -> Result<Raw, Fault> {
    let limits = context.limits();
    let lot = &context.gate.lot;
    let put = |(key, question): &(String, ServerRequest)| {
        (key.clone(), question.method.clone(), question.params.clone())
    };
    let questions: Vec<_> = parked.unanswered.iter().map(put).collect();
    parked.record = context.record_id();
    let held = lot.park(parked, context.caller(), limits);
    let held = held.map_err(|full| Fault::Limit(full.to_string()))?;
    let state = lot.states.seal(held, context.binding(), seconds(limits.answer_timeout));
    let questions =
        questions.iter().map(|(key, method, params)| (key.as_str(), &**method, params.clone()));
    Ok(result(questions, &state))
}

/// Returns what the client answered; an empty object where it answered nothing.
pub fn responses(params: &Params) -> Raw {
    let responses = params.member(Param::InputResponses).filter(Raw::is_object);
    responses.unwrap_or_else(Raw::object)
}

/// Gives the server what the client answered; questions without an answer that fits stay open.
pub fn answer(open: Vec<(String, ServerRequest)>, responses: &Raw) -> Vec<(String, ServerRequest)> {
    let mut unanswered = Vec::new();
    for (key, question) in open {
        let kind = QuestionKind::of(&question.method, &question.params);
        let response = splice::member(responses, &key);
        match response.filter(|response| kind.is_some_and(|kind| kind.fits(response))) {
            // The server may have gone: that is seen by whoever reads on.
            Some(response) => drop(question.reply.send(Body::Result(response.into()))),
            None => unanswered.push((key, question)),
        }
    }
    unanswered
}

/// Nobody answered in time: the server is told so.
pub fn unanswered(open: Vec<(String, ServerRequest)>) {
    for (_, question) in open {
        let body = no_answer(&question.method, "the client did not answer in time");
        // The server may have gone.
        drop(question.reply.send(body));
    }
}
