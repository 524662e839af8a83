//! A fake server of exactly one version: it does what `world` has, and holds every message that it
//! gets to its version. What carries the messages is the business of `doors`.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    spec::{Fault, MODERN, Side, Version, needs, promised, spec},
    work::{Work, error},
    world,
};

/// Where messages to the other side go, one text each.
pub type Out = mpsc::UnboundedSender<String>;

pub const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
pub const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
pub const LEVEL_KEY: &str = "io.modelcontextprotocol/logLevel";
pub const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";

#[derive(Debug)]
pub struct Server {
    pub version: Version,
    pub faults: Mutex<Vec<Fault>>,
    /// Calls that were cancelled.
    pub cancelled: AtomicUsize,
    /// Calls that are to be cancelled.
    pub at_work: AtomicUsize,
    pub grown: AtomicBool,
    /// The page that a tool wants opened was asked for.
    pub opened: AtomicBool,
    tried: AtomicBool,
    ids: AtomicUsize,
    peers: Mutex<Vec<Arc<Peer>>>,
    /// Of the modern era: the id of each, what it asked for, and its stream.
    pub listens: Mutex<Vec<(Value, Value, Out)>>,
}

/// A session, a connection or a process; of modern HTTP, a single request.
#[derive(Debug, Default)]
pub struct Peer {
    opened: AtomicBool,
    capabilities: Mutex<Value>,
    pub level: Mutex<Option<String>>,
    pub uris: Mutex<Vec<String>>,
    /// Requests to the client, by the raw text of their ids.
    pub asked: Mutex<HashMap<String, (&'static str, oneshot::Sender<Value>)>>,
    running: Mutex<HashMap<String, CancellationToken>>,
    /// For what belongs to no call.
    pub aside: Mutex<Option<Out>>,
}

impl Peer {
    /// It is gone, and all that it wanted with it.
    pub fn close(&self) {
        *self.aside.lock() = None;
        self.running.lock().drain().for_each(|(_, running)| running.cancel());
    }
}

impl Server {
    pub fn new(version: Version) -> Arc<Self> {
        Arc::new(Self {
            version,
            faults: Mutex::default(),
            cancelled: AtomicUsize::new(0),
            at_work: AtomicUsize::new(0),
            grown: AtomicBool::new(false),
            opened: AtomicBool::new(false),
            tried: AtomicBool::new(false),
            ids: AtomicUsize::new(0),
            peers: Mutex::default(),
            listens: Mutex::default(),
        })
    }

    pub fn is_modern(&self) -> bool {
        self.version == MODERN
    }

    pub fn peer(&self) -> Arc<Peer> {
        let peer = Arc::new(Peer::default());
        self.peers.lock().push(Arc::clone(&peer));
        peer
    }

    pub fn next_id(&self) -> usize {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn fault(&self, what: &str, message: impl ToString) {
        let what = format!("to the server: {what}");
        self.faults.lock().push(Fault { what, message: message.to_string() });
    }

    /// Takes a message from the other side; what it leads to goes to `out`. The token ends the work
    /// of a request.
    pub fn hear(self: &Arc<Self>, peer: &Arc<Peer>, text: &str, out: Out) -> CancellationToken {
        let cancel = CancellationToken::new();
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            self.fault("no JSON", text);
            return cancel;
        };
        match (message["method"].as_str(), message.get("id")) {
            (Some(_), Some(_)) => self.requested(peer, message, out, cancel.clone()),
            (Some(_), None) => self.notified(peer, &message),
            (None, _) => self.answered(peer, message),
        }
        cancel
    }

    fn requested(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        message: Value,
        out: Out,
        cancel: CancellationToken,
    ) {
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        let id = message["id"].clone();
        if let Some(refusal) = self.refuses(peer, &message) {
            let refusal = json!({ "jsonrpc": "2.0", "id": id, "error": refusal });
            drop(out.send(refusal.to_string()));
            return;
        }
        peer.running.lock().insert(id.to_string(), cancel.clone());
        let params = message["params"].clone();
        let meta = &params["_meta"];
        let (capabilities, level) = match self.is_modern() {
            true => (meta[CAPABILITIES_KEY].clone(), meta[LEVEL_KEY].as_str().map(str::to_owned)),
            false => (peer.capabilities.lock().clone(), peer.level.lock().clone()),
        };
        let (server, peer) = (Arc::clone(self), Arc::clone(peer));
        let work = Work { server, peer, params, capabilities, level, out, cancel };
        tokio::spawn(async move {
            let answer = tokio::select! {
                answer = work.answer(&method, &id) => answer,
                () = work.cancel.cancelled() => {
                    work.was_cancelled();
                    return;
                }
            };
            work.peer.running.lock().remove(&id.to_string());
            work.finish(&method, &id, answer);
        });
    }

    /// The rules of the version, and what is refused by them: the other era, above all.
    fn refuses(&self, peer: &Peer, message: &Value) -> Option<Value> {
        let method = message["method"].as_str().unwrap_or_default();
        let asked = message["params"]["protocolVersion"].as_str();
        let claims = message["params"]["_meta"][VERSION_KEY].as_str();
        match (self.is_modern(), method) {
            // To try once whether it speaks the other era as well is right.
            (true, "initialize") => {
                if self.tried.swap(true, Ordering::Relaxed) {
                    self.fault("initialize once more", message);
                }
                let data = json!({ "supported": [MODERN], "requested": asked });
                return Some(json!({ "code": -32022, "message": "unsupported", "data": data }));
            }
            // Looking for the era is right, and done by the rules of the newest version.
            (false, "server/discover") if !peer.opened.load(Ordering::Relaxed) => {
                self.check(MODERN, message);
                return Some(error(-32601, "method not found"));
            }
            // Offered in a version of the client's choice, and to be held to that.
            (false, "initialize") => {
                let offered = super::spec::VERSIONS.iter().find(|known| asked == Some(**known));
                self.check(offered.unwrap_or(&self.version), message);
                peer.opened.store(true, Ordering::Relaxed);
                *peer.capabilities.lock() = message["params"]["capabilities"].clone();
                return None;
            }
            _ => self.check(self.version, message),
        }
        if self.is_modern() && claims != Some(self.version) {
            self.fault(&format!("claims version {claims:?}"), message);
        }
        if !self.is_modern() && !peer.opened.load(Ordering::Relaxed) {
            self.fault("before initialize", message);
        }
        if let Some(needed) = needs(self.version, Side::Client, message)
            && world::capabilities(self.version).pointer(needed).is_none()
        {
            self.fault(&format!("the server never declared {needed}"), message);
        }
        None
    }

    fn check(&self, version: Version, message: &Value) {
        for fault in spec(version).faults(Side::Client, message, None) {
            self.fault(&fault, message);
        }
    }

    fn notified(&self, peer: &Peer, message: &Value) {
        self.check(self.version, message);
        let capabilities = peer.capabilities.lock().clone();
        if promised(message).is_some_and(|needed| capabilities.pointer(needed).is_none()) {
            self.fault("announced without the capability", message);
        }
        if message["method"] == "notifications/cancelled" {
            let running = peer.running.lock().remove(&message["params"]["requestId"].to_string());
            // None where the answer crossed it.
            running.iter().for_each(CancellationToken::cancel);
        }
    }

    fn answered(&self, peer: &Peer, message: Value) {
        let Some((method, answer)) = peer.asked.lock().remove(&message["id"].to_string()) else {
            return self.fault("answers nothing that was asked", message);
        };
        for fault in spec(self.version).faults(Side::Client, &message, Some(method)) {
            self.fault(&fault, &message);
        }
        // Its call may be over.
        drop(answer.send(message));
    }

    /// To everyone who listens for it.
    pub fn announce(&self, method: &str, mut params: Value) {
        let tell = |out: &Out, params: &Value| {
            let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
            self.itself(&message, None);
            drop(out.send(message.to_string()));
        };
        let uri = params["uri"].as_str().map(str::to_owned);
        for peer in self.peers.lock().iter() {
            let wants = uri.as_ref().is_none_or(|uri| peer.uris.lock().contains(uri));
            if let Some(out) = peer.aside.lock().as_ref().filter(|_| wants) {
                tell(out, &params);
            }
        }
        for (id, filter, out) in self.listens.lock().iter() {
            let wants = match &uri {
                Some(uri) => filter["resourceSubscriptions"]
                    .as_array()
                    .is_some_and(|uris| uris.iter().any(|known| known == uri)),
                None => filter["toolsListChanged"] == true,
            };
            params["_meta"] = json!({ SUBSCRIPTION_KEY: id });
            if wants {
                tell(out, &params);
            }
        }
    }

    /// The fake holds to its version itself.
    pub fn itself(&self, message: &Value, asked: Option<&str>) {
        let faults = spec(self.version).faults(Side::Server, message, asked);
        if !faults.is_empty() {
            self.fault(&format!("the fake itself is wrong: {faults:?}"), message);
        }
    }
}
