//! Events that come back from an upstream while a call is under way.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::mcp::{
    compat,
    error::{ErrorObject, INVALID_PARAMS},
    id::Id,
    message::Body,
    method::Method,
    raw::Raw,
    version::Version,
};

/// An event on a call's way back.
#[derive(Debug)]
pub enum Event {
    /// The end: the result or the error, and the HTTP status it came with.
    Answer { body: Body, status: u16 },
    /// A notification of this call: progress, a log message.
    Notification(ServerNotification),
    /// The server asks the client (legacy): sampling, elicitation, roots.
    ServerRequest(ServerRequest),
    /// The upstream closed its stream and will go on when it is asked again (SEP-1699).
    Resumable { retry: Duration },
}

/// A notification as it came.
#[derive(Debug, Clone)]
pub struct ServerNotification {
    /// None for one that the table does not know.
    pub method: Option<Method>,
    pub params: Raw,
    pub whole: Raw,
}

/// A request from the server; dropped unanswered, the server gets a refusal.
#[derive(Debug)]
pub struct ServerRequest {
    /// The server's own id of it.
    pub id: Id,
    pub method: Box<str>,
    pub params: Raw,
    pub reply: oneshot::Sender<Body>,
}

impl ServerRequest {
    /// Converts it to what a client of this version knows. A request that it cannot be asked is
    /// answered with the reason, by the code with which a client refuses what it did not declare
    /// (2025-11-25, elicitation: error handling).
    pub fn for_version(self, client: Version) -> Option<Self> {
        let id = format!("{:032x}", rand::random::<u128>());
        match compat::question(client, &self.method, &self.params, &id) {
            Ok(params) => Some(Self { params, ..self }),
            Err(reason) => {
                let error = ErrorObject::new(INVALID_PARAMS, reason.to_string());
                // The asking side may be gone.
                self.reply.send(Body::Error(error.raw())).ok();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_refused_with_the_reason() {
        let (reply, mut answer) = oneshot::channel();
        let params = Raw::trusted(r#"{"message":"m","requestedSchema":{}}"#);
        let method = "elicitation/create".into();
        let question = ServerRequest { id: Id::number(1), method, params, reply };
        let question = question.for_version(Version::V2025_06_18).expect("it can be asked");
        assert!(answer.try_recv().is_err(), "nobody answered yet");
        assert!(question.for_version(Version::V2025_03_26).is_none());
        let Ok(Body::Error(error)) = answer.try_recv() else { panic!("refused") };
        assert!(error.as_str().contains("-32602"), "{error:?}");
        assert!(error.as_str().contains("2025-03-26"), "{error:?}");
    }
}
