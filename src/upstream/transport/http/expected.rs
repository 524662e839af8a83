//! Messages that calls of one session expect beside their own streams: answers after a bare `202`,
//! and progress by the tokens that were given.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::{
    call::event::ServerNotification,
    mcp::{id::number_of, message::Body, meta::PROGRESS_TOKEN, raw::Raw, splice, word::Word},
    upstream::exchange::error::SendError,
};

use super::Http;

/// Answers that came before it was known that their requests were taken, and their bytes.
const EARLY_MAX: usize = 16;
const EARLY_BYTES_MAX: usize = 1 << 20;
/// Tokens of tasks, which are told of when their calls are answered.
const TASKS_MAX: usize = 64;

/// The name of the member by which a request asks for a task, as clients write it.
static TASK: Word = Word::new("\"task\"");

/// Whether the session has a stream of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listening {
    /// The stream was not asked for so far.
    Unasked,
    Asked,
    Open,
    /// The server has none.
    None,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Expected {
    listening: watch::Sender<Listening>,
    answers: Mutex<Answers>,
    /// The tokens of calls; none where a session is shared: there each call has a token of the
    /// connection's own, which its own stream is held to.
    tokens: Option<Mutex<Tokens>>,
}

#[derive(Debug, Default)]
struct Answers {
    awaited: HashMap<u64, oneshot::Sender<Body>>,
    early: VecDeque<(u64, Body)>,
}

#[derive(Debug, Default)]
struct Tokens {
    /// The params of the calls under way, by their ids.
    calls: Vec<(u64, Raw)>,
    /// Params of calls that became tasks.
    tasks: VecDeque<Raw>,
}

/// The one reader of the session's own stream. Dropped, another may read it.
#[derive(Debug)]
pub(super) struct Reads<'a>(&'a watch::Sender<Listening>);

/// An answer that is to come on the session's own stream.
#[derive(Debug)]
pub(super) struct Awaited {
    id: u64,
    answer: oneshot::Receiver<Body>,
}

impl Expected {
    /// `shared`: by clients that have nothing to do with each other.
    pub fn new(shared: bool) -> Self {
        let tokens = (!shared).then(Mutex::default);
        Self {
            listening: watch::Sender::new(Listening::Unasked),
            answers: Mutex::default(),
            tokens,
        }
    }

    /// The right to read the session's own stream; none where another has it, or the server has no
    /// such stream.
    pub fn read(&self) -> Option<Reads<'_>> {
        let begins = self.listening.send_if_modified(|listening| {
            let begins = *listening == Listening::Unasked;
            if begins {
                *listening = Listening::Asked;
            }
            begins
        });
        begins.then_some(Reads(&self.listening))
    }

    /// A request with these params is sent.
    pub fn begin(&self, id: u64, params: &Raw) {
        if let Some(tokens) = &self.tokens {
            tokens.lock().calls.push((id, params.clone()));
        }
    }

    /// Notes that a request has ended. Where it asked for a task, its token is good for longer.
    pub fn end(&self, id: u64, params: &Raw) {
        let Some(tokens) = &self.tokens else { return };
        let mut tokens = tokens.lock();
        tokens.calls.retain(|(call, _)| *call != id);
        let is_task = TASK.is_in(params.bytes());
        let Some(meta) = is_task.then(|| splice::member(params, "_meta")).flatten() else { return };
        if tokens.tasks.len() == TASKS_MAX {
            tokens.tasks.pop_front();
        }
        // Its own copy: a part would keep all arguments in memory.
        let meta = format!(r#"{{"_meta":{}}}"#, meta.as_str());
        tokens.tasks.push_back(Raw::trusted(meta));
    }

    /// Progress of a call under way, with the token as it was given; none where nobody gave it.
    pub fn progress(&self, notice: &ServerNotification) -> Option<ServerNotification> {
        let tokens = self.tokens.as_ref()?.lock();
        let mut all = tokens.calls.iter().map(|(_, params)| params).chain(&tokens.tasks);
        all.find_map(|params| with_token(notice.clone(), params))
    }

    /// An answer that came on the session's own stream; false where nobody can be waiting for it.
    pub fn answered(&self, id: u64, body: Body) -> bool {
        let mut answers = self.answers.lock();
        if let Some(awaited) = answers.awaited.remove(&id) {
            return awaited.send(body).is_ok();
        }
        let kept: usize = answers.early.iter().map(|(_, body)| length(body)).sum();
        if EARLY_MAX <= answers.early.len() || EARLY_BYTES_MAX < kept + length(&body) {
            answers.early.pop_front();
            return false;
        }
        answers.early.push_back((id, body));
        true
    }
}

impl Http {
    /// Whether an answer may come on the session's own stream.
    pub(super) fn may_answer_aside(&self) -> bool {
        self.0.session.get().is_some() && *self.0.expected.listening.borrow() != Listening::None
    }

    /// The server took request `id` and said nothing: its answer comes on the session's own stream,
    /// which is asked for where nobody did so far.
    pub(super) fn await_aside(&self, id: u64) -> Awaited {
        if *self.0.expected.listening.borrow() == Listening::Unasked {
            let http = self.clone();
            self.0.tasks.spawn("upstream http: listen for an answer", async move {
                tokio::select! {
                    // Nothing is left to be heard once it is closed.
                    () = http.listen(oneshot::channel().0) => (),
                    _ = http.closed() => (),
                }
            });
        }
        let (send, answer) = oneshot::channel();
        let mut answers = self.0.expected.answers.lock();
        let early = answers.early.iter().position(|(early, _)| *early == id);
        match early.and_then(|at| answers.early.remove(at)) {
            // The receiver is here.
            Some((_, body)) => drop(send.send(body)),
            None => drop(answers.awaited.insert(id, send)),
        }
        Awaited { id, answer }
    }
}

impl Reads<'_> {
    /// The server has such a stream.
    pub fn begins(&self) {
        self.0.send_replace(Listening::Open);
    }

    /// The server has none.
    pub fn ends(&self) {
        self.0.send_replace(Listening::None);
    }
}

impl Drop for Reads<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|listening| {
            let given_up = *listening != Listening::None;
            if given_up {
                *listening = Listening::Unasked;
            }
            given_up
        });
    }
}

impl Awaited {
    /// The answer. Safe to drop: it stays for the next look.
    ///
    /// # Errors
    /// Where the stream ends before it.
    pub async fn body(&mut self, http: &Http) -> Result<Body, SendError> {
        let mut listening = http.0.expected.listening.subscribe();
        let unheard = listening.wait_for(|listening| *listening == Listening::None);
        let found = tokio::select! {
            // Both hold nothing when dropped.
            biased;
            body = &mut self.answer => body.map_err(|_dropped| http.closed_why()),
            why = http.closed() => Err(why),
            _ = unheard => {
                return Err(SendError::Garbage("a body that answers nothing".to_owned()));
            }
        };
        http.0.expected.answers.lock().awaited.remove(&self.id);
        found.map_err(SendError::Lost)
    }
}

/// The progress notification with the token that `params` have; none where that is another one, or
/// they have none.
pub(super) fn with_token(notice: ServerNotification, params: &Raw) -> Option<ServerNotification> {
    let said = splice::member(&notice.params, PROGRESS_TOKEN)?;
    let given = splice::member(&splice::member(params, "_meta")?, PROGRESS_TOKEN)?;
    if said == given {
        return Some(notice);
    }
    number_of(&said).filter(|number| Some(*number) == number_of(&given))?;
    let edits: &[(&str, Option<&[u8]>)] = &[(PROGRESS_TOKEN, Some(given.bytes()))];
    Some(ServerNotification {
        params: splice::edit(&notice.params, edits),
        whole: splice::edit_within(&notice.whole, "params", edits),
        ..notice
    })
}

fn length(body: &Body) -> usize {
    body.text().bytes().len()
}
