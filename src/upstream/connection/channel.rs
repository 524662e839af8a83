//! A link with a server by its transport, before and after anything is agreed.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    call::{Token, gateway_info},
    config::Timeout,
    mcp::{
        message, meta,
        method::Method,
        raw::Raw,
        version::{Era, Version},
    },
    process::{Ended, Process},
    upstream::{
        exchange::{Exchange, Source, error::SendError},
        transport::{
            http::{Http, Mirrored},
            multiplexed::{Multiplexer, Origin},
        },
    },
};

/// The time that a process has to end by itself once its input is closed.
const GRACE: Duration = Duration::from_secs(2);

/// A connection by its transport.
#[derive(Debug, Clone)]
pub enum Channel {
    /// Lines or events; with the process, where there is one.
    Multiplexer(Multiplexer, Arc<Mutex<Option<Process>>>),
    Http(Http),
}

impl Channel {
    /// Sends a request of the gateway's own, in the words of `version`.
    ///
    /// # Errors
    /// Where it cannot be sent. How the exchange fails, its end says.
    pub async fn ask(
        &self,
        method: Method,
        params: &Raw,
        name: Option<&str>,
        version: Version,
        timeout: Timeout,
    ) -> Result<Exchange, SendError> {
        let era = version.era();
        let params = match era {
            Era::Modern => &meta::to_modern(params, &carried_capabilities(), &gateway_info(), None),
            Era::Legacy => params,
        };
        let source = match self {
            Self::Multiplexer(lines, _) => {
                let call = lines.request(method, params, Origin::Gateway).await?;
                let greets = matches!(method, Method::Discover | Method::Initialize);
                Source::Multiplexer(if greets { call.quiet() } else { call })
            }
            Self::Http(http) => {
                let mirrored = Mirrored { name, ..Mirrored::default() };
                Source::Http(http.request(method, params, &mirrored))
            }
        };
        Ok(Exchange::new(source, era, timeout))
    }

    /// # Errors
    /// Where the connection has ended, or the server does not take it.
    pub async fn notify(&self, method: Method, params: &Raw) -> Result<(), SendError> {
        match self {
            Self::Multiplexer(lines, _) => lines.notify(method, params).await,
            Self::Http(http) => {
                let text = message::notification(method.name(), params);
                http.post_notification(text.bytes().clone()).await
            }
        }
    }

    /// Ends it: a session by DELETE, a process by a request to end and then by force.
    pub async fn close(&self, why: &str) {
        match self {
            Self::Multiplexer(lines, process) => {
                lines.last_words().await;
                lines.close(why);
                let process = process.lock().take();
                if let Some(process) = process {
                    process.stop(GRACE).await;
                }
            }
            Self::Http(http) => http.close(why),
        }
    }

    /// Gives up an opening; says why, with a process's last words.
    pub async fn end(&self, why: &str) -> EndReason {
        match self {
            Self::Multiplexer(lines, process) => {
                let broken = lines.is_closed().then(|| lines.why());
                lines.close(why);
                let process = process.lock().take();
                match process {
                    Some(process) => {
                        exit_reason(process, &broken.unwrap_or_else(|| why.to_owned())).await
                    }
                    None => EndReason::silent(why),
                }
            }
            Self::Http(http) => {
                http.close(why);
                EndReason::silent(why)
            }
        }
    }

    /// Whether it has ended from the other side, before anything was agreed.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Multiplexer(lines, _) => lines.is_closed(),
            Self::Http(http) => http.is_closed(),
        }
    }

    /// Whether there is a process that runs and has said nothing yet.
    pub fn is_silent_process(&self) -> bool {
        match self {
            Self::Multiplexer(lines, process) => {
                process.lock().is_some() && !lines.is_closed() && lines.is_silent()
            }
            Self::Http(_) => false,
        }
    }

    /// Opens another link with the same server, for what is not to be agreed on this one; over a
    /// pair of streams that is the same link.
    pub fn beside(&self) -> Self {
        match self {
            Self::Multiplexer(..) => self.clone(),
            Self::Http(http) => Self::Http(http.afresh()),
        }
    }

    /// Sets the token of the caller whose connection this is.
    pub fn set_token(&self, token: &Token) {
        match self {
            Self::Multiplexer(lines, _) => lines.set_token(token),
            Self::Http(http) => http.set_token(token),
        }
    }

    /// Sets the version that is spoken from here on.
    pub fn agree(&self, version: Version) {
        match self {
            Self::Multiplexer(lines, _) => lines.agree(version),
            Self::Http(http) => http.agree(version),
        }
    }
}

/// Why a connection ended.
#[derive(Debug)]
pub struct EndReason {
    pub why: String,
    /// The last words of its process, where there was one. They may be of one client: they are for
    /// operators only, and clients that may read the reason must not see them.
    pub last_words: Option<String>,
}

impl EndReason {
    /// Makes the reason of a connection without a process.
    pub fn silent(why: &str) -> Self {
        Self { why: why.to_owned(), last_words: None }
    }
}

/// How a process ended; one that still runs is stopped.
pub async fn exit_reason(process: Process, why: &str) -> EndReason {
    let Ended { status, last_words } = process.end(GRACE).await;
    EndReason { why: format!("{why} ({status})"), last_words }
}

/// Declares to a modern server all that the gateway carries between servers and clients. A server
/// lists for it what it lists for any client; that it asks is not to be feared, since only a call
/// may (MRTR).
fn carried_capabilities() -> Raw {
    Raw::trusted(r#"{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{}}"#)
}
