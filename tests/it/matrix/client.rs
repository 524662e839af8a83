//! A client of exactly one version, over any transport: it answers what it is asked, and holds
//! every message that it gets to its version.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Transport,
    link::{Incoming, Link},
    server::{CAPABILITIES_KEY, VERSION_KEY},
    spec::{Fault, MODERN, Side, Version, needs, promised, spec},
    world,
};
use crate::gate::Gate;

/// How long one message is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server that asks more often asks for ever.
const ROUNDS_MAX: usize = 5;

pub struct Client {
    pub version: Version,
    pub transport: Transport,
    pub faults: Mutex<Vec<Fault>>,
    /// What the gate says that it can do.
    pub server: Value,
    /// The answer to `initialize` or `server/discover`.
    pub opened: Value,
    capabilities: Value,
    pub mood: Mood,
    link: Link,
    ids: u64,
    /// Methods of the requests under way, by id.
    asked: HashMap<u64, String>,
    /// Notifications that no call waited for.
    heard: Vec<Value>,
}

/// How a client answers what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Helpful,
    /// It declines what it may decline (elicitation).
    Declines,
    /// It answers with an error (legacy).
    Refuses,
}

/// What came of a request.
#[derive(Debug, Default)]
pub struct Told {
    /// The result, or the error object.
    pub answer: Option<Result<Value, Value>>,
    /// The very text of the answer.
    pub text: String,
    pub notices: Vec<Value>,
    /// Questions of the server, method and params.
    pub questions: Vec<(String, Value)>,
}

impl Told {
    pub fn result(&self) -> Result<&Value, String> {
        match &self.answer {
            Some(Ok(result)) => Ok(result),
            other => Err(format!("expected a result, got {other:?}")),
        }
    }

    /// The text of the first content block.
    pub fn text_block(&self) -> Result<&str, String> {
        let text = self.result()?["content"][0]["text"].as_str();
        text.ok_or_else(|| format!("no text in {self:?}"))
    }

    pub fn notices_of(&self, method: &str) -> Vec<&Value> {
        self.notices.iter().filter(|notice| notice["method"] == *method).collect()
    }
}

impl Client {
    /// Connects, and gets to know the gate.
    pub async fn open(
        gate: &Gate,
        version: Version,
        transport: Transport,
        capabilities: Value,
    ) -> Result<Self, String> {
        let link = Link::open(gate, version, transport, &capabilities).await?;
        let mut client = Self {
            version,
            transport,
            faults: Mutex::default(),
            server: Value::Null,
            opened: Value::Null,
            capabilities,
            mood: Mood::Helpful,
            link,
            ids: 0,
            asked: HashMap::new(),
            heard: Vec::new(),
        };
        let told = if version == MODERN {
            client.ask("server/discover", json!({})).await?
        } else {
            let info = world::implementation(version, "client");
            let params = json!({ "protocolVersion": version,
                "capabilities": client.capabilities, "clientInfo": info });
            client.ask("initialize", params).await?
        };
        client.opened = told.result()?.clone();
        client.server = client.opened["capabilities"].clone();
        if version != MODERN {
            if client.opened["protocolVersion"] != version {
                return Err(format!("agreed on another version: {}", client.opened));
            }
            client.notify("notifications/initialized", json!({})).await?;
            client.link.listen().await?;
        }
        Ok(client)
    }

    pub fn is_modern(&self) -> bool {
        self.version == MODERN
    }

    /// Whether the gate said that it has what this request needs.
    pub fn may(&self, method: &str) -> bool {
        let message = json!({ "method": method });
        let needed = needs(self.version, Side::Client, &message);
        needed.is_none_or(|needed| self.server.pointer(needed).is_some())
    }

    pub async fn call(&mut self, tool: &str, arguments: Value) -> Result<Told, String> {
        self.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await
    }

    /// Sends a request and answers what is asked meanwhile.
    pub async fn ask(&mut self, method: &str, params: Value) -> Result<Told, String> {
        let mut told = Told::default();
        let mut retry = json!({});
        for _ in 0..ROUNDS_MAX {
            let mut params = params.clone();
            for (key, value) in retry.as_object().into_iter().flatten() {
                params[key] = value.clone();
            }
            let id = self.start(method, params).await?;
            self.finish(id, &mut told).await?;
            match &told.answer {
                Some(Ok(result)) if result["resultType"] == "input_required" => {
                    retry = self.answers(&result.clone(), &mut told);
                }
                _ => return Ok(told),
            }
        }
        Err(format!("asked again and again: {told:?}"))
    }

    /// Sends a request; gives its id.
    pub async fn start(&mut self, method: &str, mut params: Value) -> Result<u64, String> {
        self.ids += 1;
        let id = self.ids;
        if self.is_modern() {
            params["_meta"][VERSION_KEY] = self.version.into();
            params["_meta"][CAPABILITIES_KEY] = self.capabilities.clone();
        }
        self.asked.insert(id, method.to_owned());
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.itself(&message, None);
        self.link.send(&message).await?;
        Ok(id)
    }

    pub async fn notify(&mut self, method: &str, params: Value) -> Result<(), String> {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.itself(&message, None);
        self.link.send(&message).await
    }

    /// Gives a request up, as the version and the transport have it.
    pub async fn cancel(&mut self, id: u64) -> Result<(), String> {
        if self.is_modern() && self.transport == Transport::Http {
            self.link.leave(id);
            return Ok(());
        }
        self.notify("notifications/cancelled", json!({ "requestId": id })).await
    }

    /// Waits until a notification comes that belongs to no call.
    pub async fn hears(&mut self, method: &str) -> Result<Value, String> {
        let mut told = Told::default();
        loop {
            let heard = std::mem::take(&mut told.notices);
            self.heard.extend(heard);
            if let Some(at) = self.heard.iter().position(|one| one["method"] == *method) {
                return Ok(self.heard.remove(at));
            }
            self.step(&mut told, method).await?;
        }
    }

    async fn finish(&mut self, id: u64, told: &mut Told) -> Result<(), String> {
        told.answer = None;
        let what = format!("the answer to {:?}", self.asked.get(&id));
        while self.asked.contains_key(&id) {
            self.step(told, &what).await?;
        }
        let heard = told.notices.iter().filter(|notice| promised(notice).is_some());
        self.heard.extend(heard.cloned());
        Ok(())
    }

    /// Takes one message.
    async fn step(&mut self, told: &mut Told, what: &str) -> Result<(), String> {
        let incoming = timeout(PATIENCE, self.link.next()).await;
        let incoming = incoming.map_err(|late| format!("waited in vain for {what}: {late}"))?;
        let text = match incoming {
            Some(Incoming::Message(text)) => text,
            Some(Incoming::Broken(why)) => return Err(why),
            None => return Err("the connection was closed".to_owned()),
        };
        let message: Value =
            serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        match (message["method"].as_str(), message.get("id")) {
            (Some(method), Some(id)) => {
                let params = message["params"].clone();
                self.judge(&message, None);
                self.questioned(&message);
                let (member, answer) = match self.mood {
                    Mood::Refuses => ("error", world::refusal()),
                    Mood::Helpful | Mood::Declines => ("result", self.answer(method, &params)),
                };
                told.questions.push((method.to_owned(), params));
                let answer = json!({ "jsonrpc": "2.0", "id": id, member: answer });
                self.itself(&answer, Some(method));
                self.link.send(&answer).await?;
            }
            (Some(_), None) => {
                self.judge(&message, None);
                if let Some(needed) = promised(&message)
                    && self.server.pointer(needed).is_none()
                {
                    self.fault("announced without the capability", &message);
                }
                told.notices.push(message);
            }
            (None, _) => {
                let asked = message["id"].as_u64().and_then(|id| self.asked.remove(&id));
                self.judge(&message, Some(asked.as_deref().unwrap_or("nothing")));
                told.text = text;
                told.answer = Some(match message.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(message["result"].clone()),
                });
            }
        }
        Ok(())
    }

    /// Answers `input_required`: what a retry must carry.
    fn answers(&mut self, result: &Value, told: &mut Told) -> Value {
        let mut retry = json!({});
        for (key, question) in result["inputRequests"].as_object().into_iter().flatten() {
            self.questioned(question);
            let method = question["method"].as_str().unwrap_or_default();
            told.questions.push((method.to_owned(), question["params"].clone()));
            retry["inputResponses"][key] = self.answer(method, &question["params"]);
        }
        if let Some(state) = result.get("requestState") {
            retry["requestState"] = state.clone();
        }
        retry
    }

    pub fn answer(&self, method: &str, params: &Value) -> Value {
        match (self.mood, method) {
            (_, "ping") => json!({}),
            (Mood::Declines, "elicitation/create") => json!({ "action": "decline" }),
            (_, _) => world::answer(method, params),
        }
    }

    /// Nobody may ask for what was not declared.
    fn questioned(&self, question: &Value) {
        if let Some(needed) = needs(self.version, Side::Server, question)
            && self.capabilities.pointer(needed).is_none()
        {
            self.fault(&format!("asked without the capability {needed}"), question);
        }
    }

    fn judge(&self, message: &Value, asked: Option<&str>) {
        for fault in spec(self.version).faults(Side::Server, message, asked) {
            self.fault(&fault, message);
        }
    }

    /// The client holds to its version itself.
    fn itself(&self, message: &Value, asked: Option<&str>) {
        let faults = spec(self.version).faults(Side::Client, message, asked);
        // Whoever has no ping may be asked for one all the same.
        let faults = if message["method"] == "ping" { vec![] } else { faults };
        if !faults.is_empty() {
            self.fault(&format!("the client itself is wrong: {faults:?}"), message);
        }
    }

    fn fault(&self, what: &str, message: &Value) {
        let what = format!("to the client: {what}");
        self.faults.lock().push(Fault { what, message: message.to_string() });
    }
}
