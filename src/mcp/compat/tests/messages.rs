//! Messages of the newest version of an era, thrown together by dice.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test says which methods it means")]

use serde_json::{Value, json};

use crate::mcp::method::Method;

/// Throws the same messages for the same seed.
pub(super) struct Dice {
    state: u64,
    /// As 2026-07-28 has it, else as 2025-11-25.
    modern: bool,
}

impl Dice {
    pub(super) fn new(seed: u64, modern: bool) -> Self {
        Self { state: seed, modern }
    }

    /// splitmix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    fn some(&mut self, mut one: impl FnMut(&mut Self) -> Value) -> Value {
        (0..self.below(4)).map(|_| one(self)).collect()
    }

    fn text(&mut self) -> &'static str {
        self.pick(&["", "a", "ä\"\n", "\"audio\" resource_link", "\u{1b}[0m", "x-big"])
    }

    /// The object, with some of these members.
    fn with(&mut self, mut object: Value, optional: Value) -> Value {
        let Value::Object(optional) = optional else { panic!("an object") };
        for (key, value) in optional {
            if self.coin() {
                object[key] = value;
            }
        }
        object
    }

    fn annotations(&mut self) -> Value {
        let when = "2025-01-12T15:00:58Z";
        let all = json!({ "audience": ["user"], "priority": 0.5, "lastModified": when });
        self.with(json!({ "x-big": "BIG" }), all)
    }

    fn icons(&mut self) -> Value {
        self.some(|dice| {
            let all = json!({ "mimeType": "image/png", "sizes": ["48x48"], "theme": "dark" });
            dice.with(json!({ "src": "https://example.org/i.png" }), all)
        })
    }

    fn contents(&mut self) -> Value {
        let (key, value) = if self.coin() { ("text", self.text()) } else { ("blob", "AAAA") };
        let contents = json!({ "uri": "file:///a", key: value, "x-big": "BIG" });
        self.with(contents, json!({ "mimeType": "a/b", "_meta": { "a": 1 } }))
    }

    /// A block with what only its kind has.
    fn kind(&mut self, kind: &str) -> Value {
        match kind {
            "text" => json!({ "text": self.text() }),
            "image" | "audio" => json!({ "data": "AAAA", "mimeType": "a/b" }),
            "resource" => json!({ "resource": self.contents() }),
            "tool_use" => json!({ "id": "7", "name": "n", "input": { "a": [1] } }),
            "tool_result" => {
                let content = self.some(|dice| {
                    let kind = dice.pick(&["text", "audio", "image"]);
                    let mut block = dice.kind(kind);
                    block["type"] = kind.into();
                    block
                });
                let structured = self.structured();
                self.with(
                    json!({ "toolUseId": "7", "content": content }),
                    json!({ "isError": true, "structuredContent": structured }),
                )
            }
            _ => {
                let icons = self.icons();
                let all = json!({ "title": "t", "description": "d", "size": 5, "icons": icons });
                let link = json!({ "name": self.text(), "uri": "file:///a" });
                self.with(link, all)
            }
        }
    }

    fn block(&mut self, kinds: &[&str]) -> Value {
        let kind = self.pick(kinds);
        let mut block = self.kind(kind);
        block["type"] = kind.into();
        block["x-big"] = "BIG".into();
        let mut more = json!({ "_meta": { "a": 1 } });
        if !kind.starts_with("tool") {
            more["annotations"] = self.annotations();
        }
        self.with(block, more)
    }

    fn content(&mut self) -> Value {
        self.block(&["text", "image", "audio", "resource", "resource_link"])
    }

    fn structured(&mut self) -> Value {
        let any = [json!({ "a": 1 }), json!([1]), json!("a"), json!(null), json!({})];
        any[if self.modern { usize::try_from(self.below(5)).unwrap() } else { 0 }].clone()
    }

    pub(super) fn result(&mut self, method: Method) -> Value {
        let mut result = match method {
            Method::ToolsCall => {
                let structured = self.structured();
                let content = self.some(Self::content);
                self.with(
                    json!({ "content": content }),
                    json!({ "isError": true, "structuredContent": structured }),
                )
            }
            Method::PromptsGet => {
                let messages =
                    self.some(|dice| json!({ "role": "user", "content": dice.content() }));
                self.with(json!({ "messages": messages }), json!({ "description": "d" }))
            }
            _ => json!({ "contents": self.some(Self::contents) }),
        };
        if self.modern {
            result["resultType"] = "complete".into();
            if method == Method::ResourcesRead {
                result["ttlMs"] = 7.into();
                result["cacheScope"] = "public".into();
            }
        }
        self.with(result, json!({ "_meta": { "a": 1 }, "x-big": "BIG" }))
    }

    fn schema(&mut self, output: bool) -> Value {
        if !self.modern {
            let schema = json!({ "type": "object" });
            return self.with(schema, json!({ "properties": { "a": {} }, "required": ["a"] }));
        }
        let any = json!({ "$schema": "s", "properties": { "a": true, "b": false, "c": {} } });
        match self.below(3) {
            0 if output => json!({ "type": "array", "items": {} }),
            1 if output => self.with(json!({}), any),
            _ => self.with(json!({ "type": "object" }), any),
        }
    }

    fn tool(&mut self) -> Value {
        let tool = json!({ "name": "n", "inputSchema": self.schema(false), "x-big": "BIG" });
        let mut all = json!({
            "description": "d",
            "title": "t",
            "annotations": { "title": "t", "readOnlyHint": true },
            "outputSchema": self.schema(true),
            "icons": self.icons(),
            "_meta": { "a": 1 },
        });
        if !self.modern {
            all["execution"] = json!({ "taskSupport": "optional" });
        }
        self.with(tool, all)
    }

    pub(super) fn entry(&mut self, method: Method) -> Value {
        let mut all = json!({
            "title": "t",
            "description": "d",
            "icons": self.icons(),
            "_meta": { "a": 1 },
        });
        let own = match method {
            Method::ToolsList => return self.tool(),
            Method::PromptsList => {
                all["arguments"] = self.some(|dice| {
                    let all = json!({ "title": "t", "description": "d", "required": true });
                    dice.with(json!({ "name": "a" }), all)
                });
                json!({ "name": "n" })
            }
            Method::ResourcesList => json!({ "name": "n", "uri": "file:///a" }),
            _ => json!({ "name": "n", "uriTemplate": "file:///{a}" }),
        };
        if method != Method::PromptsList {
            all["mimeType"] = "a/b".into();
            all["annotations"] = self.annotations();
        }
        let entry = self.with(own, all);
        self.with(entry, json!({ "x-big": "BIG" }))
    }

    fn field(&mut self) -> Value {
        let choices = json!([{ "const": "x", "title": "X" }, { "const": "y", "title": "Y" }]);
        let (own, more) = match self.below(7) {
            0 => (json!({ "type": "boolean" }), json!({ "default": true })),
            1 => (json!({ "type": "string", "oneOf": choices }), json!({ "default": "x" })),
            2 => (json!({ "type": "string", "enum": ["x"] }), json!({ "default": "x" })),
            3 => (json!({ "type": "integer" }), json!({ "default": 3, "minimum": 1 })),
            4 if self.coin() => {
                let items = json!({ "anyOf": choices });
                (json!({ "type": "array", "items": items }), json!({ "default": ["x"] }))
            }
            5 => (
                json!({ "type": "string", "enum": ["x"], "enumNames": ["X"] }),
                json!({ "default": "x" }),
            ),
            _ => (
                json!({ "type": "string" }),
                json!({ "default": "a", "maxLength": 9, "format": "email" }),
            ),
        };
        let field = self.with(own, more);
        self.with(field, json!({ "title": "t", "description": "d", "x-big": "BIG" }))
    }

    pub(super) fn question(&mut self, method: &str) -> Value {
        let task = json!({ "ttl": 60 });
        if method != "elicitation/create" {
            return self.sampling(task);
        }
        let mut asked = json!({ "message": self.text(), "x-big": "BIG" });
        if !self.modern && self.coin() {
            asked["task"] = task;
        }
        if self.below(4) == 0 {
            asked["mode"] = "url".into();
            asked["url"] = "https://example.org/".into();
            if !self.modern {
                asked["elicitationId"] = "7".into();
            }
            return asked;
        }
        let mut schema = json!({ "type": "object", "properties": {}, "required": ["a"] });
        for name in ["a", "b", "c"] {
            if self.coin() {
                schema["properties"][name] = self.field();
            }
        }
        asked["requestedSchema"] = self.with(schema, json!({ "$schema": "s" }));
        self.with(asked, json!({ "mode": "form" }))
    }

    fn sampling(&mut self, task: Value) -> Value {
        let messages = self.some(|dice| {
            let kinds = ["text", "image", "audio", "tool_use", "tool_result"];
            let content = match dice.coin() {
                true => dice.block(&kinds),
                false => dice.some(|dice| dice.block(&kinds)),
            };
            dice.with(json!({ "role": "user", "content": content }), json!({ "_meta": {} }))
        });
        let mode = self.pick(&["auto", "none", "required"]);
        let mut all = json!({
            "tools": self.some(|dice| {
                let mut tool = dice.tool();
                tool["x-big"] = 1.into(); // it goes with the tools
                tool
            }),
            "toolChoice": { "mode": mode },
            "systemPrompt": "s",
            "temperature": 0.5,
            "includeContext": "none",
        });
        if !self.modern {
            all["task"] = task;
        }
        self.with(json!({ "maxTokens": 9, "messages": messages, "x-big": "BIG" }), all)
    }

    /// Params of `tools/call` and of `completion/complete`.
    pub(super) fn requests(&mut self) -> (Value, Value) {
        let mut call = json!({ "name": "n", "x-big": "BIG" });
        let mut complete = json!({
            "ref": { "type": "ref/prompt", "name": "n" },
            "argument": { "name": "a", "value": "v" },
            "x-big": "BIG",
        });
        if self.coin() {
            complete["ref"]["title"] = "t".into();
        }
        if self.modern {
            // As `meta::antiquate` leaves them, but that this version demands some.
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            (call["_meta"], complete["_meta"]) = (meta.clone(), meta);
        } else if self.coin() {
            call["task"] = json!({ "ttl": 60 });
        }
        let call = self.with(call, json!({ "arguments": { "a": 1 } }));
        (call, self.with(complete, json!({ "context": { "arguments": { "b": "v" } } })))
    }

    pub(super) fn answer(&mut self, method: &str) -> Value {
        if method == "roots/list" {
            let roots = self.some(|dice| {
                let root = json!({ "uri": "file:///a", "x-big": "BIG" });
                dice.with(root, json!({ "name": "n", "_meta": { "a": 1 } }))
            });
            return json!({ "roots": roots });
        }
        let block = |dice: &mut Self| {
            let mut block = dice.block(&["text", "image", "audio", "tool_use"]);
            // These go where several become one.
            block["x-big"] = 1.into();
            block.as_object_mut().unwrap().remove("annotations");
            block
        };
        let content = if self.coin() { block(self) } else { self.some(block) };
        let answer = json!({ "role": "assistant", "model": "m", "content": content });
        self.with(answer, json!({ "stopReason": "endTurn", "x-big": "BIG" }))
    }

    pub(super) fn server_capabilities(&mut self) -> Value {
        let mut all = json!({
            "tools": { "listChanged": true },
            "resources": { "subscribe": true },
            "completions": {},
            "logging": {},
        });
        let (key, value) = match self.modern {
            true => ("extensions", json!({ "a/b": {} })),
            false => ("tasks", json!({ "list": {}, "requests": { "tools": { "call": {} } } })),
        };
        all[key] = value;
        self.with(json!({ "x-big": "BIG" }), all)
    }

    pub(super) fn client_capabilities(&mut self) -> Value {
        let mut all = json!({
            "roots": if self.modern { json!({}) } else { json!({ "listChanged": true }) },
            "sampling": self.with(json!({}), json!({ "tools": {}, "context": {} })),
            "elicitation": self.with(json!({}), json!({ "form": {}, "url": {} })),
        });
        let (key, value) = match self.modern {
            true => ("extensions", json!({ "a/b": {} })),
            false => ("tasks", json!({ "list": {} })),
        };
        all[key] = value;
        self.with(json!({ "x-big": "BIG" }), all)
    }

    pub(super) fn implementation(&mut self) -> Value {
        let icons = self.icons();
        let all = json!({
            "title": "t",
            "description": "d",
            "websiteUrl": "https://example.org/",
            "icons": icons,
        });
        self.with(json!({ "name": "n", "version": "1", "x-big": "BIG" }), all)
    }

    /// Params of a notification.
    pub(super) fn progress(&mut self) -> Value {
        let params = json!({ "progressToken": 1, "progress": 0.5, "x-big": "BIG" });
        let message = self.text();
        self.with(params, json!({ "total": 1, "message": message }))
    }
}
