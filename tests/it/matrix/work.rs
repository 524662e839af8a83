//! A request at work in a fake server: what each method and each tool does.

use std::sync::{Arc, atomic::Ordering};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    server::{Out, Peer, SUBSCRIPTION_KEY, Server},
    spec::{Side, V2025_03_26, needs},
    world,
};

/// Precedes a `requestState`; whoever decodes and encodes it wrongly is found out.
const STATE: &str = "a state: +/=\u{e9}\"\\ ";

/// A request at work.
pub struct Work {
    pub server: Arc<Server>,
    pub peer: Arc<Peer>,
    pub params: Value,
    pub capabilities: Value,
    pub level: Option<String>,
    pub out: Out,
    pub cancel: CancellationToken,
}

/// A result, or an error object.
type Answer = Result<Value, Value>;

pub fn error(code: i64, message: &str) -> Value {
    json!({ "code": code, "message": message })
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

impl Work {
    pub fn finish(&self, method: &str, id: &Value, answer: Answer) {
        let mut message = json!({ "jsonrpc": "2.0", "id": id });
        match answer {
            Ok(mut result) => {
                if self.server.is_modern() && result["resultType"].is_null() {
                    result["resultType"] = "complete".into();
                }
                message["result"] = result;
            }
            Err(error) => message["error"] = error,
        }
        self.server.itself(&message, Some(method));
        let mut text = message.to_string();
        if self.params["name"] == "faithful" {
            text = text.replace(r#""content":[]"#, world::FAITHFUL);
        }
        drop(self.out.send(text));
    }

    pub async fn answer(&self, method: &str, id: &Value) -> Answer {
        let (version, params) = (self.server.version, &self.params);
        match method {
            "initialize" => Ok(json!({
                "protocolVersion": version,
                "capabilities": world::capabilities(version),
                "serverInfo": world::implementation(version, "fake"),
                "instructions": "Use it well",
            })),
            "server/discover" => Ok(self.cacheable(json!({
                "supportedVersions": [version],
                "capabilities": world::capabilities(version),
                "instructions": "Use it well",
            }))),
            "tools/list" => {
                let mut names = world::tool_names(version);
                names.extend(self.server.grown.load(Ordering::SeqCst).then_some("grown"));
                self.page("tools", names.iter().map(|name| world::tool(version, name)).collect())
            }
            "prompts/list" => self.page("prompts", world::prompts(version)),
            "resources/list" => self.page("resources", world::resources(version)),
            "resources/templates/list" => self.page("resourceTemplates", world::templates(version)),
            "tools/call" => self.call(params["name"].as_str().unwrap_or_default()).await,
            "prompts/get" => self.prompt(params["name"].as_str().unwrap_or_default()).await,
            "resources/read" => self.read(params["uri"].as_str().unwrap_or_default()).await,
            "completion/complete" => self.complete().await,
            "subscriptions/listen" => self.listen(id).await,
            "logging/setLevel" => {
                *self.peer.level.lock() = params["level"].as_str().map(str::to_owned);
                Ok(json!({}))
            }
            "resources/subscribe" => {
                self.peer.uris.lock().extend(params["uri"].as_str().map(str::to_owned));
                Ok(json!({}))
            }
            "resources/unsubscribe" => {
                self.peer.uris.lock().retain(|uri| params["uri"] != **uri);
                Ok(json!({}))
            }
            "ping" => Ok(json!({})),
            _ => Err(error(-32601, "method not found")),
        }
    }

    pub fn was_cancelled(&self) {
        if self.params["name"] == "slow" {
            self.server.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A page of a list; cursors are offsets.
    fn page(&self, key: &str, entries: Vec<Value>) -> Answer {
        let from: usize = self.params["cursor"].as_str().map_or(0, |text| text.parse().unwrap());
        let end = entries.len().min(from + world::PAGE);
        let mut page = json!({ key: entries[from..end] });
        if end < entries.len() {
            page["nextCursor"] = end.to_string().into();
        }
        Ok(self.cacheable(page))
    }

    fn cacheable(&self, mut result: Value) -> Value {
        if self.server.is_modern() {
            result["ttlMs"] = 60_000.into();
            result["cacheScope"] = "public".into();
        }
        result
    }

    async fn call(&self, name: &str) -> Answer {
        let server = &self.server;
        let said = match name {
            "echo" | "headers" => text(&self.params["arguments"]["text"].to_string()),
            "blocks" => return Ok(json!({ "content": world::blocks(server.version) })),
            "faithful" => return Ok(json!({ "content": [] })),
            "fails" => return Ok(json!({ "content": [text("it failed")], "isError": true })),
            "structured" => {
                let structured = json!({ "n": 1 });
                let content = [text(&structured.to_string())];
                return Ok(json!({ "content": content, "structuredContent": structured }));
            }
            "work" => self.progress(),
            "logs" => self.logs(),
            "slow" => {
                server.at_work.fetch_add(1, Ordering::SeqCst);
                std::future::pending().await
            }
            "grow" => {
                server.grown.store(true, Ordering::SeqCst);
                server.announce("notifications/tools/list_changed", json!({}));
                text("grown")
            }
            "touch" => {
                let params = json!({ "uri": "note:///text" });
                server.announce("notifications/resources/updated", params);
                text("touched")
            }
            "page" if server.opened.load(Ordering::SeqCst) => text("opened"),
            "page" => return self.page_required(),
            "pings" => text(&self.ask_one("ping", json!({})).await["result"].to_string()),
            _ if world::tool_names(server.version).contains(&name) => {
                match self.asks(name, "tools/call").await? {
                    Ok(answers) => text(&answers.to_string()),
                    Err(result) => return Ok(result),
                }
            }
            _ => return Err(error(-32602, "unknown tool")),
        };
        Ok(json!({ "content": [said] }))
    }

    /// Refuses until a page was opened (2025-11-25): the client is to call again.
    fn page_required(&self) -> Answer {
        if self.capabilities.pointer("/elicitation/url").is_none() {
            return self.cannot("/elicitation/url", "tools/call").map(Result::unwrap_err);
        }
        self.server.opened.store(true, Ordering::SeqCst);
        let mut refusal = error(-32042, "open the page first");
        let rounds = world::questions(self.server.version, "page").concat();
        let pages: Vec<&Value> = rounds.iter().map(|(_, params)| params).collect();
        refusal["data"] = json!({ "elicitations": pages });
        Err(refusal)
    }

    async fn prompt(&self, name: &str) -> Answer {
        let said = match self.asks(name, "prompts/get").await? {
            Ok(answers) => answers.to_string(),
            Err(result) => return Ok(result),
        };
        let content = text(&format!("{} {said}", self.params["arguments"]["topic"]));
        Ok(json!({ "messages": [{ "role": "user", "content": content }] }))
    }

    async fn read(&self, uri: &str) -> Answer {
        let said = match self.asks(uri, "resources/read").await? {
            Ok(answers) => answers.to_string(),
            Err(result) => return Ok(result),
        };
        let contents = match uri {
            "note:///blob" => json!({ "uri": uri, "blob": "aGk=" }),
            "note:///text" | "note:///asks" | "item:///1" => json!({ "uri": uri, "text": said }),
            _ => {
                let code = if self.server.is_modern() { -32602 } else { -32002 };
                let mut missing = error(code, "Resource not found");
                missing["data"] = json!({ "uri": uri });
                return Err(missing);
            }
        };
        Ok(self.cacheable(json!({ "contents": [contents] })))
    }

    /// A legacy server may ask even here.
    async fn complete(&self) -> Answer {
        let mut values = vec!["one", "two"];
        if self.params["argument"]["value"] == "ask" && !self.server.is_modern() {
            let answer = self.ask_one("roots/list", json!({})).await;
            values.push(if answer["result"].is_object() { "answered" } else { "refused" });
        }
        Ok(json!({ "completion": { "values": values } }))
    }

    async fn listen(&self, id: &Value) -> Answer {
        let filter = &self.params["notifications"];
        let params = json!({ "notifications": filter, "_meta": { SUBSCRIPTION_KEY: id } });
        // Noted first: whoever reads the acknowledgement may be quick.
        self.server.listens.lock().push((id.clone(), filter.clone(), self.out.clone()));
        self.say("notifications/subscriptions/acknowledged", params);
        std::future::pending().await
    }

    fn progress(&self) -> Value {
        let token = &self.params["_meta"]["progressToken"];
        for step in [1, 2].iter().filter(|_| !token.is_null()) {
            let mut params = json!({ "progressToken": token, "progress": step, "total": 2 });
            if V2025_03_26 <= self.server.version {
                params["message"] = "at work".into();
            }
            self.say("notifications/progress", params);
        }
        text("worked")
    }

    /// What the level asks for: a legacy server without one says all, a modern one nothing.
    fn logs(&self) -> Value {
        let rank = |level: &str| ["debug", "info", "error"].iter().position(|one| *one == level);
        let silent = self.server.is_modern().then_some(usize::MAX);
        let least = self.level.as_deref().and_then(rank).or(silent).unwrap_or(0);
        for level in ["debug", "info", "error"].iter().filter(|level| rank(level) >= Some(least)) {
            self.say("notifications/message", json!({ "level": level, "data": "a word" }));
        }
        text("logged")
    }

    fn say(&self, method: &str, params: Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.server.itself(&message, None);
        drop(self.out.send(message.to_string()));
    }

    /// Asks all that `name` asks, in rounds: the answers; or a result to give instead (that the
    /// client must be asked first, or cannot be); or an error.
    async fn asks(&self, name: &str, method: &str) -> Result<Result<Value, Value>, Value> {
        let rounds = world::questions(self.server.version, name);
        for (question, params) in rounds.iter().flatten() {
            let message = json!({ "method": question, "params": params });
            let needed = needs(self.server.version, Side::Server, &message).unwrap_or_default();
            if self.capabilities.pointer(needed).is_none() {
                return self.cannot(needed, method);
            }
        }
        match self.server.is_modern() {
            true => self.asks_by_result(&rounds),
            false => Ok(Ok(self.asks_by_request(rounds).await)),
        }
    }

    fn cannot(&self, needed: &str, method: &str) -> Result<Result<Value, Value>, Value> {
        let said = format!("the client has no {needed}");
        if self.server.is_modern() {
            let mut error = error(-32021, &said);
            let mut path = needed.split('/').skip(1);
            let mut required = json!({ path.next().unwrap_or_default(): {} });
            if let Some(mode) = path.next() {
                required = json!({ "elicitation": { mode: {} } });
            }
            error["data"] = json!({ "requiredCapabilities": required });
            return Err(error);
        }
        match method {
            "tools/call" => Ok(Err(json!({ "content": [text(&said)], "isError": true }))),
            _ => Err(error(-32603, &said)),
        }
    }

    async fn asks_by_request(&self, rounds: Vec<Vec<(&'static str, Value)>>) -> Value {
        let mut answers = Vec::new();
        for round in rounds {
            let asked = round.into_iter().map(|(method, params)| self.ask_one(method, params));
            for answer in futures_util::future::join_all(asked).await {
                let answer = answer.get("result").or(answer.get("error"));
                answers.push(answer.cloned().unwrap_or_default());
            }
        }
        answers.into()
    }

    /// A request of the server's own, on the call's stream; the whole response.
    async fn ask_one(&self, method: &'static str, params: Value) -> Value {
        let id: Value = format!("ask-{}", self.server.next_id()).into();
        let (answer, answered) = oneshot::channel();
        self.peer.asked.lock().insert(id.to_string(), (method, answer));
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.server.itself(&message, None);
        drop(self.out.send(message.to_string()));
        answered.await.unwrap_or_default()
    }

    /// `input_required` until all rounds are answered; what was answered before is in the state.
    fn asks_by_result(
        &self,
        rounds: &[Vec<(&'static str, Value)>],
    ) -> Result<Result<Value, Value>, Value> {
        let mut answers: Vec<Vec<Value>> = match self.params["requestState"].as_str() {
            Some(state) => {
                let known = state.strip_prefix(STATE);
                let known = known.and_then(|known| serde_json::from_str(known).ok());
                known.ok_or_else(|| {
                    self.server.fault("requestState was altered", state);
                    error(-32602, "requestState was altered")
                })?
            }
            None => vec![],
        };
        if let Some(given) = self.params["inputResponses"].as_object() {
            let asked = rounds.get(answers.len()).map_or(0, Vec::len);
            let answer = |at| given.get(&format!("k{at}")).cloned();
            let round: Option<Vec<Value>> = (0..asked).map(answer).collect();
            answers.extend(round);
        }
        let Some(round) = rounds.get(answers.len()) else {
            return Ok(Ok(answers.concat().into()));
        };
        let inputs = round.iter().enumerate().map(|(at, (method, params))| {
            (format!("k{at}"), json!({ "method": method, "params": params }))
        });
        let inputs: serde_json::Map<String, Value> = inputs.collect();
        let state = format!("{STATE}{}", json!(answers));
        Ok(Err(json!({
            "resultType": "input_required", "inputRequests": inputs, "requestState": state,
        })))
    }
}
