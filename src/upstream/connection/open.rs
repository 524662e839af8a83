//! An open connection, and how a client's request is fitted to the era spoken on it.

use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::oneshot;

use crate::{
    call::{Client, UpstreamRequest},
    config::Timeout,
    mcp::{
        compat, error, meta,
        method::Method,
        raw::Raw,
        splice,
        version::{Era, Version},
    },
    upstream::{
        connection::{
            channel::{Channel, exit_reason},
            handshake::{
                Agreed, Found, discover, initialize, initialize_first, probe, refused_versions,
            },
            owner::Owner,
            pool::Leased,
            undeclared,
        },
        exchange::{Exchange, Source, error::SendError},
        replica::era::Handshake,
        transport::{
            http::Mirrored,
            multiplexed::{Origin, own_token},
        },
    },
};

/// An open connection. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Connection {
    link: Channel,
    pub peer: Arc<Peer>,
    timeout: Timeout,
    /// Calls that have nothing to do with each other are on it at once: progress tokens must be its
    /// own.
    has_many_calls: bool,
}

/// What was agreed with a server.
#[derive(Debug, Clone)]
pub struct Peer {
    pub version: Version,
    /// A `ServerCapabilities` object.
    pub capabilities: Raw,
    /// An `Implementation` object.
    pub info: Option<Raw>,
    pub instructions: Option<String>,
}

/// Why it was not opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Send(#[from] SendError),
    /// `status` is that of HTTP, where there is one.
    #[error("it refused `{method}`: {}", message_of(error))]
    Refused { method: &'static str, error: Raw, status: u16 },
    #[error("it speaks no HTTP+SSE: {0}")]
    NoStream(String),
    /// Where it would have messages sent.
    #[error("its stream names the endpoint `{0}`, which is no address of the same origin as `url`")]
    Endpoint(String),
    #[error("it speaks version `{0}`, which is no version of MCP that can be agreed on here")]
    Version(String),
    #[error("its answer to `{0}` is no valid one")]
    Answer(&'static str),
    #[error("it does not speak 2026-07-28, which `era` demands")]
    NotModern,
}

impl OpenError {
    /// The server itself would not have it: it is not for lack of a connection, of time, or of
    /// credentials.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Version(_) | Self::Answer(_) | Self::NotModern => true,
            Self::Send(SendError::Status(status)) => {
                (400..500).contains(status) && ![401, 403, 407, 408, 429].contains(status)
            }
            Self::Send(_) | Self::NoStream(_) | Self::Endpoint(_) => false,
        }
    }

    /// It was not even tried, for want of room on this machine.
    pub fn is_unready(&self) -> bool {
        matches!(self, Self::Send(SendError::Unready(_)))
    }

    /// The process or the connection ended before there was an answer.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Send(SendError::Lost(_)))
    }

    /// A server of the older HTTP+SSE answers so (transports: backwards compatibility).
    pub fn leaves_sse(&self) -> bool {
        let status = match self {
            Self::Send(SendError::Status(status)) => *status,
            Self::Refused { error, status, .. } if !error::is_modern(refused_versions(error).0) => {
                *status
            }
            Self::Send(_)
            | Self::Refused { .. }
            | Self::NoStream(_)
            | Self::Endpoint(_)
            | Self::Version(_)
            | Self::Answer(_)
            | Self::NotModern => return false,
        };
        [400, 404, 405].contains(&status)
    }
}

/// A connection, and how it was learned which era is spoken.
#[derive(Debug)]
pub struct Opened {
    pub connection: Connection,
    /// The server did not say that it is a legacy one: it broke off, refused with 403, or was
    /// silent.
    pub inferred: bool,
}

impl Connection {
    /// Agrees with the server behind `link`, as long as the caller waits.
    pub async fn open(
        link: Channel,
        client: &Client,
        handshake: Handshake,
        timeout: Timeout,
        owner: Owner<'_>,
    ) -> Result<Opened, OpenError> {
        let Agreed { peer, inferred } = match handshake {
            Handshake::Initialize => Agreed::stated(initialize(&link, client, timeout).await?),
            Handshake::InitializeFirst => initialize_first(&link, client, timeout).await?,
            Handshake::Discover => match discover(&link, timeout).await? {
                Found::Modern(peer) => Agreed::stated(peer),
                Found::Legacy { .. } => return Err(OpenError::NotModern),
            },
            Handshake::Probe => probe(&link, client, timeout).await?,
        };
        // Boxed: rare.
        let is_shared = matches!(owner, Owner::Everyone);
        let peer = if is_shared && undeclared::is_blank(&peer) {
            Box::pin(undeclared::complete(&link, peer, timeout)).await
        } else {
            peer
        };
        let has_many_calls = owner.has_many_calls();
        let connection = Self { link, peer: Arc::new(peer), timeout, has_many_calls };
        Ok(Opened { connection, inferred })
    }

    pub fn link(&self) -> &Channel {
        &self.link
    }

    /// Sends a client's request, fitted to the era spoken here.
    pub async fn call(
        &self,
        ask: &UpstreamRequest,
        leased: Option<Leased>,
    ) -> Result<Exchange, SendError> {
        let era = self.peer.version.era();
        let params = match (ask.client.era(), era) {
            (Era::Legacy, Era::Modern) => meta::to_modern(
                &ask.params,
                &ask.capabilities_for_modern(&self.peer.capabilities),
                &ask.client.info,
                ask.log_level.as_deref(),
            ),
            (Era::Modern, Era::Legacy) => meta::to_legacy(&ask.params),
            _ => ask.params.clone(),
        };
        let params = compat::params(self.peer.version, ask.method, &params);
        let params = if ask.as_task && era == Era::Legacy {
            let wish = format!(r#"{{"ttl":{}}}"#, self.timeout.total.as_millis());
            splice::edit(&params, &[("task", Some(wish.as_bytes()))])
        } else {
            params
        };
        // A client's own connection outlives the token that it was opened with.
        let whose = ask.caller.token();
        if let Some(token) = whose.filter(|_| !self.has_many_calls) {
            self.link.set_token(token);
        }
        let mirrored = Mirrored {
            name: ask.name.as_deref(),
            params: &ask.mirrored,
            whose,
            forwarded: ask.forwarded.as_deref(),
            safe: ask.safe,
        };
        let mut aside = None;
        let (source, token) = match &self.link {
            Channel::Multiplexer(lines, _) => {
                let token = progress_token(&params);
                let call = lines
                    .request(ask.method, &params, Origin::Client { has_token: token.is_some() })
                    .await?;
                (Source::Multiplexer(call), token)
            }
            Channel::Http(http) if self.has_many_calls && era == Era::Legacy => {
                let token = progress_token(&params);
                let id = http.next_id();
                let own = token.as_ref().map(|_| own_token(&params, id));
                let call =
                    http.request_as(id, ask.method, own.as_ref().unwrap_or(&params), &mirrored);
                (Source::Http(call), token)
            }
            Channel::Http(http) => {
                aside = http.claim();
                (Source::Http(http.request(ask.method, &params, &mirrored)), None)
            }
        };
        let exchange = Exchange::new(source, era, self.timeout).hearing(aside);
        let exchange = exchange.restoring(token).holding(leased);
        Ok(if ask.as_task { exchange.over(self.clone()) } else { exchange })
    }

    /// Sends a request of the gateway's own; a modern server gets the `_meta` it demands.
    pub async fn ask(
        &self,
        method: Method,
        params: &Raw,
        name: Option<&str>,
    ) -> Result<Exchange, SendError> {
        self.link.ask(method, params, name, self.peer.version, self.timeout).await
    }

    /// Passes a notification on (legacy).
    pub async fn notify(&self, method: Method, params: &Raw) -> Result<(), SendError> {
        self.link.notify(method, params).await
    }

    /// Reads what the server says outside of calls, where the transport has a stream of its own for
    /// that. `answered` is told, or dropped, when it is known whether there is one.
    pub async fn listen_aside(&self, answered: oneshot::Sender<()>) {
        match &self.link {
            Channel::Http(http) if self.peer.version.era() == Era::Legacy => {
                tokio::select! {
                    // Nothing is left to be heard on a connection that has ended.
                    () = http.listen(answered) => (),
                    _ = http.closed() => (),
                }
            }
            Channel::Http(_) | Channel::Multiplexer(..) => (),
        }
    }

    /// Waits for its end, and says why it came. A process is then gone, with its group.
    pub async fn closed(&self) -> String {
        match &self.link {
            Channel::Multiplexer(lines, process) => {
                let why = lines.closed().await;
                let process = process.lock().take();
                match process {
                    Some(process) => exit_reason(process, &why).await,
                    None => why,
                }
            }
            Channel::Http(http) => http.closed().await,
        }
    }

    pub fn is_closed(&self) -> bool {
        match &self.link {
            Channel::Multiplexer(lines, _) => lines.is_closed(),
            Channel::Http(http) => http.is_closed(),
        }
    }

    /// Whether the server may keep something for it that it does not keep for all: a session, or
    /// cookies.
    pub fn keeps_session(&self) -> bool {
        match &self.link {
            Channel::Multiplexer(..) => true,
            Channel::Http(http) => http.keeps_session(),
        }
    }

    /// Whether it ended although the server is well: with a session that it knew no longer. Told
    /// is whether anything was answered well in that.
    pub fn lost_session(&self) -> Option<bool> {
        match &self.link {
            Channel::Multiplexer(..) => None,
            Channel::Http(http) => http.has_lost_session().then(|| http.is_proven()),
        }
    }

    /// Ends it: a session by DELETE, a process by a request to end and then by force.
    pub async fn close(&self, why: &str) {
        self.link.close(why).await;
    }

    /// The same, and waits until the server knows.
    pub async fn close_wholly(&self, why: &str) {
        self.close(why).await;
        if let Channel::Http(http) = &self.link {
            http.deleted().await;
        }
    }
}

pub fn unavailable(why: String) -> OpenError {
    OpenError::Send(SendError::Unavailable(why))
}

/// The words of an error object.
pub fn message_of(error: &Raw) -> String {
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    error.try_read::<Words>().map_or_else(|| "without a word".to_owned(), |error| error.message)
}

fn progress_token(params: &Raw) -> Option<Raw> {
    let meta = splice::member(params, "_meta")?;
    splice::member(&meta, meta::PROGRESS_TOKEN)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn some_refusals_leave_the_older_transport() {
        let status = |status| OpenError::Send(SendError::Status(status));
        let refused = |code: i64, status| {
            let error = Raw::encode(&serde_json::json!({ "code": code, "message": "no" }));
            OpenError::Refused { method: "initialize", error, status }
        };
        for error in [status(400), status(404), status(405), refused(-32000, 405)] {
            assert!(error.leaves_sse(), "{error:?}");
        }
        for error in [
            status(401),
            status(406),
            status(415),
            status(500),
            refused(-32000, 200),
            refused(-32022, 400),
            OpenError::Send(SendError::Idle(Duration::ZERO)),
            OpenError::Version("1".to_owned()),
        ] {
            assert!(!error.leaves_sse(), "{error:?}");
        }
    }
}
