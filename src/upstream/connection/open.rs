//! An open connection, and how a client's request is fitted to the era spoken on it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    call::{Client, UpstreamRequest, spans::SpanGuard},
    config::Timeout,
    mcp::{
        compat,
        index::{MetaMember, Param},
        meta,
        method::Method,
        params::Params,
        raw::Raw,
        splice,
        version::Era,
    },
    upstream::{
        connection::{
            channel::{Channel, EndReason, exit_reason},
            error::OpenError,
            handshake::{Agreed, Found, discover, initialize, initialize_first, probe},
            outgoing_trace::OutgoingTrace,
            owner::ConnectionOwner,
            peer::Peer,
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
    ///
    /// # Errors
    /// Where the server and the gateway agree on nothing, or the server ends.
    pub async fn open(
        link: Channel,
        client: &Client,
        handshake: Handshake,
        timeout: Timeout,
        owner: ConnectionOwner<'_>,
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
        let is_shared = matches!(owner, ConnectionOwner::Everyone);
        let peer = if is_shared && undeclared::is_blank(&peer) {
            Box::pin(undeclared::complete(&link, peer, timeout)).await
        } else {
            peer
        };
        let has_many_calls = owner.has_many_calls();
        let connection = Self { link, peer: Arc::new(peer), timeout, has_many_calls };
        Ok(Opened { connection, inferred })
    }

    /// The kind of its transport, in OpenTelemetry's words.
    pub fn network_transport(&self) -> &'static str {
        match &self.link {
            Channel::Multiplexer(_, process) if process.lock().is_some() => "pipe",
            Channel::Multiplexer(..) | Channel::Http(_) => "tcp",
        }
    }

    pub fn link(&self) -> &Channel {
        &self.link
    }

    /// Sends a client's request, fitted to the era spoken here.
    ///
    /// # Errors
    /// Nothing was sent then.
    pub async fn call(
        &self,
        ask: &UpstreamRequest,
        span: Option<SpanGuard>,
    ) -> Result<Exchange, SendError> {
        let era = self.peer.version.era();
        let own = ask.params.text();
        let params = match (ask.client.era(), era) {
            (Era::Legacy, Era::Modern) => meta::to_modern(
                own,
                &ask.capabilities_for_modern(&self.peer.capabilities),
                &ask.client.info,
                ask.log_level.as_deref(),
            ),
            (Era::Modern, Era::Legacy) => meta::to_legacy(own),
            _ => own.clone(),
        };
        // The one thing of a tool's call that could be there is rare, and nothing above adds it.
        let is_known = ask.method == Method::ToolsCall && !ask.params.has(Param::Task);
        let params =
            if is_known { params } else { compat::params(self.peer.version, ask.method, &params) };
        let params = if ask.as_task && era == Era::Legacy {
            let wish = format!(r#"{{"ttl":{}}}"#, self.timeout.total.as_millis());
            splice::edit(&params, &[("task", Some(wish.as_bytes()))])
        } else {
            params
        };
        let trace = OutgoingTrace::of(ask, span.as_ref());
        let params = match &trace {
            Some(trace) => trace.put(params),
            None => params,
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
            trace: trace.as_ref().map(|trace| &trace.headers),
            spans: ask.spans.as_ref(),
            safe: ask.safe,
        };
        let mut aside = None;
        let (source, token) = match &self.link {
            Channel::Multiplexer(lines, _) => {
                let token = progress_token(&ask.params);
                let call = lines
                    .request(ask.method, &params, Origin::Client { has_token: token.is_some() })
                    .await?;
                (Source::Multiplexer(call), token)
            }
            Channel::Http(http) if self.has_many_calls && era == Era::Legacy => {
                let token = progress_token(&ask.params);
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
        let exchange = exchange.restoring(token).traced(span);
        Ok(if ask.as_task { exchange.over(self.clone()) } else { exchange })
    }

    /// Sends a request of the gateway's own; a modern server gets the `_meta` it demands.
    ///
    /// # Errors
    /// Where it cannot be sent.
    pub async fn ask(
        &self,
        method: Method,
        params: &Raw,
        name: Option<&str>,
    ) -> Result<Exchange, SendError> {
        self.link.ask(method, params, name, self.peer.version, self.timeout).await
    }

    /// Passes a notification on (legacy).
    ///
    /// # Errors
    /// Where the connection has ended, or the server does not take it.
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
    pub async fn closed(&self) -> EndReason {
        match &self.link {
            Channel::Multiplexer(lines, process) => {
                let why = lines.closed().await;
                let process = process.lock().take();
                match process {
                    Some(process) => exit_reason(process, &why).await,
                    None => EndReason::silent(&why),
                }
            }
            Channel::Http(http) => EndReason::silent(&http.closed().await),
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

    /// Ends it as [`Connection::close`], and waits until the server knows.
    pub async fn close_wholly(&self, why: &str) {
        self.close(why).await;
        if let Channel::Http(http) = &self.link {
            http.deleted().await;
        }
    }
}

fn progress_token(params: &Params) -> Option<Raw> {
    params.meta_member(MetaMember::ProgressToken)
}
