//! A small modern client: how the command line speaks to a gate, running or its own.

use anyhow::{Context as _, bail};
use http::{HeaderValue, Request, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::{
    mcp::{header as value, id::Id, message, meta, mirror::Mirrors, raw::Raw, version::Version},
    net::{Net, SendOptions},
};

/// Speaks to one route.
pub struct McpClient {
    net: Net,
    url: String,
    token: Option<String>,
}

impl McpClient {
    /// `token` is an access token or an API key, where the route wants one.
    pub fn new(url: &str, token: Option<&str>) -> Self {
        Self { net: Net::new(), url: url.to_owned(), token: token.map(str::to_owned) }
    }

    /// Every tool of the route, over all pages.
    ///
    /// # Errors
    /// The server does not answer, or with an error.
    pub async fn tools(&self) -> anyhow::Result<Vec<Value>> {
        let mut tools = Vec::new();
        let mut params = json!({});
        loop {
            let mut page = self.ask("tools/list", &params, None, &[]).await?;
            if let Some(Value::Array(more)) = page.get_mut("tools").map(Value::take) {
                tools.extend(more);
            }
            let Some(cursor) = page.get("nextCursor") else { return Ok(tools) };
            params = json!({ "cursor": cursor });
        }
    }

    /// Calls a tool; the result object.
    ///
    /// # Errors
    /// The server does not answer, or with an error.
    pub async fn call(&self, tool: &Value, arguments: &Value) -> anyhow::Result<Value> {
        let name = tool["name"].as_str().unwrap_or_default();
        let mirrors = Mirrors::of(&tool["inputSchema"]).map_err(anyhow::Error::msg)?;
        let mirrored = mirrors.values(&Raw::encode(arguments)).into_iter();
        let mirrored: Vec<_> =
            mirrored.filter_map(|mirror| Some((mirror.header, mirror.text?))).collect();
        let params = json!({ "name": name, "arguments": arguments });
        self.ask("tools/call", &params, Some(name), &mirrored).await
    }

    async fn ask(
        &self,
        method: &str,
        params: &Value,
        name: Option<&str>,
        mirrored: &[(String, String)],
    ) -> anyhow::Result<Value> {
        let info = json!({ "name": "tollgate-cli", "version": env!("CARGO_PKG_VERSION") });
        let params =
            meta::to_modern(&Raw::encode(params), &Raw::object(), &Raw::encode(&info), None);
        let body = message::request(&Id::number(1), method, &params);
        let mut request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", Version::MODERN.as_str())
            .header("mcp-method", method);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(name) = name {
            request = request.header("mcp-name", HeaderValue::from_str(&value::encode(name))?);
        }
        for (name, text) in mirrored {
            request = request.header(name, HeaderValue::from_str(&value::encode(text))?);
        }
        let request = request.body(body)?;
        let response = self.net.send(request, SendOptions::default()).await?;
        let status = response.status();
        let text = response.into_body().collect().await?.to_bytes();
        let answer = last_message(&text).with_context(|| {
            format!(
                "{} answered {status} with no MCP message: {}",
                self.url,
                String::from_utf8_lossy(&text)
            )
        })?;
        if let Some(error) = answer.get("error") {
            bail!(
                "{} ({})",
                error["message"].as_str().unwrap_or("an error without a message"),
                error["code"]
            );
        }
        answer.get("result").cloned().context("an answer with neither result nor error")
    }
}

/// The answer: the body, or the last event of a stream.
fn last_message(text: &[u8]) -> Option<Value> {
    if let Ok(message) = serde_json::from_slice(text) {
        return Some(message);
    }
    let text = std::str::from_utf8(text).ok()?;
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).next_back()
}
