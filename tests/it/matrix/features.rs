//! What a client can do with a server through the gate, one function of the kind "do it, say what
//! was seen" for each feature.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    client::{Client, Mood, Told},
    server::{LEVEL_KEY, Server},
    world,
};

macro_rules! features {
    ($($name:ident,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Feature {
            $($name,)*
        }

        /// In the order in which they are tried.
        pub const FEATURES: &[Feature] = &[$(Feature::$name,)*];
    };
}

features! {
    Opened, ToolsListed, ToolCalled, Blocks, StructuredContent, FailedTool, UnknownTool,
    Fidelity, ParamHeaders, Prompts, Resources, ResourceMissing, Templates, Completion,
    Progress, LogMessages, Cancellation, ListChanged, ResourceUpdated, Sampling, Roots,
    ElicitForm, ElicitUrl, Declined, SamplingRefused, PageRequired, TwoInARow, TwoAtOnce,
    AskedInPrompt, AskedInResource, AskedInCompletion, AskedIncapable, Ping, PingedByServer,
}

/// What a client saw.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    Works,
    Error(i64),
    /// It works but for this.
    Without(String),
    /// The server could not ask what it wanted to, and says so.
    Refused,
}

pub type Sight = Result<Seen, String>;

/// A server and two clients of the same version: one that can be asked everything, one nothing.
pub struct Pair {
    pub server: Arc<Server>,
    pub client: Client,
    pub plain: Client,
}

impl Pair {
    pub async fn run(&mut self, feature: Feature) -> Sight {
        match feature {
            Feature::Opened => self.opened(),
            Feature::ToolsListed => self.tools_listed().await,
            Feature::ToolCalled => self.tool_called("echo").await,
            Feature::Blocks => self.blocks().await,
            Feature::StructuredContent => self.structured_content().await,
            Feature::FailedTool => self.failed_tool().await,
            Feature::UnknownTool => told_by(self.client.call("nothing", json!({})).await?, |_| {
                Err("an unknown tool was called".to_owned())
            }),
            Feature::Fidelity => self.fidelity().await,
            Feature::ParamHeaders => self.tool_called("headers").await,
            Feature::Prompts => self.prompts().await,
            Feature::Resources => self.resources().await,
            Feature::ResourceMissing => self.resource_missing().await,
            Feature::Templates => self.templates().await,
            Feature::Completion => self.completion().await,
            Feature::Progress => self.progress().await,
            Feature::LogMessages => self.log_messages().await,
            Feature::Cancellation => self.cancellation().await,
            Feature::ListChanged => self.list_changed().await,
            Feature::ResourceUpdated => self.resource_updated().await,
            Feature::Sampling => self.asked("sampling").await,
            Feature::Roots => self.asked("roots").await,
            Feature::ElicitForm => self.asked("form").await,
            Feature::ElicitUrl => self.asked("url").await,
            Feature::Declined => self.moody(Mood::Declines, "form").await,
            Feature::SamplingRefused if self.client.is_modern() => without(["a refusal"]),
            Feature::SamplingRefused => self.moody(Mood::Refuses, "sampling").await,
            Feature::PageRequired => self.page_required().await,
            Feature::TwoInARow => self.asked("in_a_row").await,
            Feature::TwoAtOnce => self.asked("at_once").await,
            Feature::AskedInPrompt => self.asked_in_prompt().await,
            Feature::AskedInResource => self.asked_in_resource().await,
            Feature::AskedInCompletion => self.asked_in_completion().await,
            Feature::AskedIncapable => {
                let told = self.plain.call("sampling", json!({})).await?;
                self.answered(&told, "sampling")
            }
            Feature::Ping => told_by(self.client.ask("ping", json!({})).await?, |_| works()),
            Feature::PingedByServer => {
                let told = self.client.call("pings", json!({})).await?;
                told_by(told, |told| same(told.text_block()?, "{}"))
            }
        }
    }

    fn opened(&self) -> Sight {
        same(self.client.opened["instructions"].as_str().unwrap_or("none"), "Use it well")?;
        let own = world::capabilities(world::newest());
        let lacks = |name: &&String| {
            let shown = &self.client.server[name.as_str()];
            let promises = own[name.as_str()].as_object().unwrap();
            !shown.is_object() || promises.iter().any(|(key, value)| shown[key] != *value)
        };
        without(own.as_object().unwrap().keys().filter(lacks))
    }

    async fn tools_listed(&mut self) -> Sight {
        let tools = self.list("tools").await?;
        let names: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
        same(&names, &world::tool_names(self.server.version))?;
        for tool in &tools {
            let own = world::tool(self.server.version, tool["name"].as_str().unwrap());
            self.described(&own, &world::tool(self.client.version, "structured"), tool)?;
        }
        works()
    }

    async fn tool_called(&mut self, tool: &str) -> Sight {
        let told = self.client.call(tool, json!({ "text": "hello" })).await?;
        told_by(told, |told| same(told.text_block()?, "\"hello\""))
    }

    async fn blocks(&mut self) -> Sight {
        let told = self.client.call("blocks", json!({})).await?;
        let own = world::blocks(self.server.version);
        let found = told.result()?["content"].as_array().unwrap();
        same(&found.len(), &own.len())?;
        let kind = |block: &Value| block["type"].as_str().unwrap().to_owned();
        let pairs = own.iter().zip(found);
        without(pairs.filter(|(own, found)| kind(own) != kind(found)).map(|(own, _)| kind(own)))
    }

    async fn structured_content(&mut self) -> Sight {
        let told = self.client.call("structured", json!({})).await?;
        told_by(told, |told| {
            same(told.text_block()?, r#"{"n":1}"#)?;
            match told.result()?.get("structuredContent") {
                Some(content) => same(content, &json!({ "n": 1 })),
                None => without(["structuredContent"]),
            }
        })
    }

    async fn failed_tool(&mut self) -> Sight {
        let told = self.client.call("fails", json!({})).await?;
        same(&told.result()?["isError"], &json!(true))?;
        same(told.text_block()?, "it failed")
    }

    async fn fidelity(&mut self) -> Sight {
        let told = self.client.call("faithful", json!({})).await?;
        match told.text.contains(world::FAITHFUL) {
            true => works(),
            false => Err(format!("not as it was sent: {}", told.text)),
        }
    }

    async fn prompts(&mut self) -> Sight {
        let prompts = self.list("prompts").await?;
        same(&prompts.len(), &2)?;
        let own = &world::prompts(self.server.version)[0];
        self.described(own, &world::prompts(self.client.version)[0], &prompts[0])?;
        let params = json!({ "name": "greet", "arguments": { "topic": "tea" } });
        let told = self.client.ask("prompts/get", params).await?;
        same(&told.result()?["messages"][0]["content"]["text"], &json!("\"tea\" []"))
    }

    async fn resources(&mut self) -> Sight {
        let resources = self.list("resources").await?;
        same(&resources.len(), &3)?;
        let mut own = world::resources(self.server.version)[0].clone();
        own["uri"] = resources[0]["uri"].clone();
        self.described(&own, &world::resources(self.client.version)[0], &resources[0])?;
        for (at, member, content) in [(0, "text", "[]"), (1, "blob", "aGk=")] {
            let told = self.client.ask("resources/read", json!({ "uri": resources[at]["uri"] }));
            same(&told.await?.result()?["contents"][0][member], &json!(content))?;
        }
        works()
    }

    async fn resource_missing(&mut self) -> Sight {
        let template = self.template().await?;
        let params = json!({ "uri": template.replace("{id}", "404") });
        let told = self.client.ask("resources/read", params).await?;
        told_by(told, |_| Err("a missing resource was read".to_owned()))
    }

    async fn templates(&mut self) -> Sight {
        let template = self.template().await?;
        let params = json!({ "uri": template.replace("{id}", "1") });
        let told = self.client.ask("resources/read", params).await?;
        same(&told.result()?["contents"][0]["text"], &json!("[]"))
    }

    async fn completion(&mut self) -> Sight {
        if !self.client.may("completion/complete") {
            return without(["completions"]);
        }
        let template = self.template().await?;
        let prompt = json!({ "type": "ref/prompt", "name": "greet" });
        for reference in [prompt, json!({ "type": "ref/resource", "uri": template })] {
            let told = self.complete(&reference, "o").await?;
            same(&told.result()?["completion"]["values"], &json!(["one", "two"]))?;
        }
        works()
    }

    async fn progress(&mut self) -> Sight {
        let params = json!({ "name": "work", "_meta": { "progressToken": "mine" } });
        let told = self.client.ask("tools/call", params).await?;
        same(told.text_block()?, "worked")?;
        let steps = told.notices_of("notifications/progress");
        let steps: Vec<&Value> = steps.iter().map(|step| &step["params"]["progress"]).collect();
        let tokens = told.notices_of("notifications/progress");
        let mut tokens = tokens.iter().map(|step| &step["params"]["progressToken"]);
        match tokens.all(|token| token == "mine") {
            true => same(&steps, &vec![&json!(1), &json!(2)]),
            false => Err(format!("another's token: {:?}", told.notices)),
        }
    }

    /// A level for the session, or for the one request.
    async fn log_messages(&mut self) -> Sight {
        let mut params = json!({ "name": "logs" });
        if self.client.is_modern() {
            params["_meta"][LEVEL_KEY] = "info".into();
        } else {
            let level = json!({ "level": "info" });
            self.client.ask("logging/setLevel", level).await?.result()?;
        }
        let told = self.client.ask("tools/call", params).await?;
        same(told.text_block()?, "logged")?;
        let levels = told.notices_of("notifications/message");
        let levels: Vec<&Value> = levels.iter().map(|said| &said["params"]["level"]).collect();
        same(&levels, &vec![&json!("info"), &json!("error")])
    }

    async fn cancellation(&mut self) -> Sight {
        let before = self.server.cancelled.load(Ordering::SeqCst);
        let id = self.client.start("tools/call", json!({ "name": "slow" })).await?;
        let server = Arc::clone(&self.server);
        until("the server is at work", || server.at_work.load(Ordering::SeqCst) > before).await?;
        self.client.cancel(id).await?;
        until("the server is told", || server.cancelled.load(Ordering::SeqCst) > before).await?;
        works()
    }

    async fn list_changed(&mut self) -> Sight {
        let filter = json!({ "toolsListChanged": true });
        let listening = self.listen(filter).await?;
        self.client.call("grow", json!({})).await?.result()?;
        self.client.hears("notifications/tools/list_changed").await?;
        self.deafen(listening).await?;
        let tools = self.list("tools").await?;
        match tools.iter().any(|tool| tool["name"] == "grown") {
            true => works(),
            false => Err("what was added is not listed".to_owned()),
        }
    }

    async fn resource_updated(&mut self) -> Sight {
        let uri = at(&self.list("resources").await?, 0)?["uri"].clone();
        let listening = self.listen(json!({ "resourceSubscriptions": [uri] })).await?;
        if listening.is_none() {
            let params = json!({ "uri": uri });
            self.client.ask("resources/subscribe", params).await?.result()?;
        }
        self.client.call("touch", json!({})).await?.result()?;
        let update = self.client.hears("notifications/resources/updated").await?;
        self.deafen(listening).await?;
        same(&update["params"]["uri"], &uri)
    }

    /// All pages of a list.
    pub async fn list(&mut self, what: &str) -> Result<Vec<Value>, String> {
        let (method, key) = match what {
            "templates" => ("resources/templates/list", "resourceTemplates"),
            _ => (&*format!("{what}/list"), what),
        };
        let (mut entries, mut params) = (Vec::new(), json!({}));
        loop {
            let told = self.client.ask(method, params).await?;
            let page = told.result()?;
            entries.extend(page[key].as_array().unwrap().iter().cloned());
            match page.get("nextCursor") {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => return Ok(entries),
            }
        }
    }

    pub async fn template(&mut self) -> Result<String, String> {
        let templates = self.list("templates").await?;
        Ok(at(&templates, 0)?["uriTemplate"].as_str().unwrap().to_owned())
    }

    pub async fn complete(&mut self, reference: &Value, value: &str) -> Result<Told, String> {
        let argument = json!({ "name": "topic", "value": value });
        let params = json!({ "ref": reference, "argument": argument });
        self.client.ask("completion/complete", params).await
    }

    /// In the modern era a client says what it listens for.
    async fn listen(&mut self, filter: Value) -> Result<Option<u64>, String> {
        if !self.client.is_modern() {
            return Ok(None);
        }
        let params = json!({ "notifications": filter });
        let id = self.client.start("subscriptions/listen", params).await?;
        let acknowledged = self.client.hears("notifications/subscriptions/acknowledged").await?;
        same(&acknowledged["params"]["notifications"], &filter)?;
        Ok(Some(id))
    }

    async fn deafen(&mut self, listening: Option<u64>) -> Result<(), String> {
        match listening {
            Some(id) => self.client.cancel(id).await,
            None => Ok(()),
        }
    }

    /// An entry of a list has all that both versions have to say of it.
    fn described(&self, own: &Value, client: &Value, shown: &Value) -> Result<(), String> {
        for (name, value) in own.as_object().into_iter().flatten() {
            if client.get(name).is_some() && shown[name] != *value {
                return Err(format!("{name} is {} in {shown}", shown[name]));
            }
        }
        Ok(())
    }
}

pub fn at(entries: &[Value], at: usize) -> Result<&Value, String> {
    entries.get(at).ok_or_else(|| format!("nothing at {at} in {entries:?}"))
}

pub fn works() -> Sight {
    Ok(Seen::Works)
}

/// Works, but for these things.
pub fn without(lacking: impl IntoIterator<Item = impl ToString>) -> Sight {
    let lacking: Vec<String> = lacking.into_iter().map(|one| one.to_string()).collect();
    Ok(match lacking.is_empty() {
        true => Seen::Works,
        false => Seen::Without(lacking.join(", ")),
    })
}

pub fn same<T: PartialEq + std::fmt::Debug + ?Sized>(found: &T, wanted: &T) -> Sight {
    match found == wanted {
        true => works(),
        false => Err(format!("found {found:?}, not {wanted:?}")),
    }
}

/// An error is what was seen; a result is looked at.
pub fn told_by(told: Told, look: impl FnOnce(&Told) -> Sight) -> Sight {
    match &told.answer {
        Some(Err(error)) => Ok(Seen::Error(error["code"].as_i64().unwrap_or_default())),
        _ => look(&told),
    }
}

async fn until(what: &str, mut happens: impl FnMut() -> bool) -> Result<(), String> {
    for _ in 0..2000 {
        if happens() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("waited in vain until {what}"))
}
