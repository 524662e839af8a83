//! The bridge between the eras: how a client is asked what its server wants to know in mid-call,
//! and hears what that says besides.
//!
//! | client | server | |
//! |---|---|---|
//! | legacy | legacy | the server's requests are put on the call's stream ([`pending_requests`]) |
//! | legacy | modern | `input_required` is put there, and the call sent again ([`rounds`]) |
//! | modern | legacy | requests are gathered, and the call is parked ([`input_required`]) |
//! | modern | modern | `input_required` passes, its state sealed ([`request_state`]) |
//!
//! A modern client that takes tasks may look at the call as a task in place of the retry.

pub mod client_requests;
pub mod events;
pub mod gateway_task;
pub mod input_required;
pub mod pending_requests;
pub mod request_state;
pub mod retry;
pub mod rounds;
pub mod url_elicitation;

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use self::{client_requests::ClientRequests, gateway_task::GatewayTask, retry::InputRequired};
use crate::{
    mcp::{message::Body, version::Era},
    park::task::Task,
    pipeline::{
        context::Context,
        event::ClientEvent,
        fault::Fault,
        response::{guard::Guarded, resend::Resend},
    },
};

/// Events that go to the client before anything else happens.
pub type Outgoing = VecDeque<Result<ClientEvent, Fault>>;

/// How the client of a call is asked.
#[derive(Debug)]
pub enum Bridge {
    /// A legacy client: by requests on the call's stream.
    Requests(ClientRequests),
    /// A modern client: by an answer that requires input, and its retry.
    InputRequired(InputRequired),
    /// A modern client that looks at the call as a task of the gate.
    Task(GatewayTask),
}

/// The result of an event.
#[derive(Debug)]
pub enum Bridged {
    /// Nothing for the client; what there is goes out by itself.
    Nothing,
    /// The event goes to the client as it is.
    Event(ClientEvent),
    /// The call's own answer, in the server's words.
    Answer { body: Body, status: u16 },
    /// The call goes on as this task.
    Task(Arc<Task>),
}

impl Bridge {
    /// Makes the bridge of a call that is sent to a server, as far as that is known.
    pub fn new(context: &Context, resend: &Resend) -> Self {
        match context.client().era() {
            Era::Legacy => Self::Requests(ClientRequests::new(context)),
            Era::Modern => Self::InputRequired(InputRequired::new(context, resend)),
        }
    }

    /// When the client is to be asked, or was left waiting for long enough.
    pub fn due(&mut self) -> Option<Instant> {
        match self {
            Self::Requests(requests) => requests.due(),
            Self::InputRequired(retry) => retry.due(),
            Self::Task(task) => task.due(),
        }
    }

    /// Whether that is before anything is heard from the server.
    pub fn is_due_at_once(&self, context: &Context) -> bool {
        matches!(self, Self::InputRequired(retry) if retry.is_task_at_once(context))
    }

    /// Does what was due.
    ///
    /// # Errors
    /// Where there is no room for a call that waits.
    pub fn on_due(
        &mut self,
        context: &Context,
        below: &mut Guarded,
        outgoing: &mut Outgoing,
    ) -> Result<Bridged, Fault> {
        match self {
            Self::Requests(requests) => {
                outgoing.extend(requests.expire().into_iter().map(Ok));
                Ok(Bridged::Nothing)
            }
            Self::Task(task) => {
                task.put(context, below.resend_mut());
                Ok(Bridged::Nothing)
            }
            Self::InputRequired(retry) => match retry.open_task(context, below.resend_mut()) {
                Some(task) => {
                    let shown = Arc::clone(task.task());
                    *self = Self::Task(task);
                    Ok(Bridged::Task(shown))
                }
                None => retry.park(context, below.resend_mut()),
            },
        }
    }
}
