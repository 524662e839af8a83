//! `tollgate tools` and `tollgate call`: through a running gate, or straight from the file.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use crate::{
    app::{self, Options, names},
    config,
};

use super::{
    client::McpClient,
    output::{complain, is_coloured, say, show, start_failed},
    table,
};

/// Selects the route whose tools are meant.
#[derive(Debug, Clone, clap::Args)]
struct RouteChoice {
    /// A running gate's route, such as `http://127.0.0.1:8080/mcp`; without it the gate of the
    /// configuration is used if it runs, else the upstreams are opened just for this
    #[arg(long)]
    url: Option<String>,
    /// The route of the configuration; its first one if none is named
    #[arg(long, conflicts_with = "url")]
    route: Option<String>,
    /// An access token or an API key, where the route wants to know who calls
    #[arg(long, env = "TOLLGATE_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ListArguments {
    #[command(flatten)]
    place: RouteChoice,
    /// The whole list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ToolCallArguments {
    #[command(flatten)]
    place: RouteChoice,
    /// The tool's name
    name: String,
    /// Arguments: `key=text`, or `key:=JSON`. Numbers, booleans, lists and objects are read as the
    /// tool's schema says
    arguments: Vec<String>,
    /// The whole result as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the tools of a route.
///
/// # Errors
/// The gate does not start, or does not answer.
pub fn list(config: &Path, arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    let place = &arguments.place;
    with_client(config, place, async |client| {
        let tools = client.tools().await?;
        if arguments.json {
            say(&serde_json::to_string_pretty(&tools)?);
            return Ok(ExitCode::SUCCESS);
        }
        // A gate elsewhere tells nobody where its names lead.
        let of_file =
            place.url.is_none().then(|| names::upstreams_of_tools(config, place.route.as_deref()));
        let upstreams = of_file.transpose().unwrap_or_default().unwrap_or_default();
        let rows = tools.iter().map(|tool| {
            let text = |key: &str| tool[key].as_str().unwrap_or_default().to_owned();
            let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
            let upstream =
                upstreams.get(&text("name")).map_or_else(|| "-".to_owned(), ToString::to_string);
            vec![text("name"), upstream, parameters(tool), first(text("description"))]
        });
        say(&table::table(&["tool", "upstream", "arguments", "description"], rows));
        Ok(ExitCode::SUCCESS)
    })
}

/// Calls a tool and prints its result.
///
/// # Errors
/// The gate does not start, has no such tool, or the call fails.
pub fn call(config: &Path, arguments: &ToolCallArguments) -> anyhow::Result<ExitCode> {
    with_client(config, &arguments.place, async |client| {
        let tools = client.tools().await?;
        let Some(tool) = tools.iter().find(|tool| tool["name"] == arguments.name.as_str()) else {
            bail!("there is no tool `{}`: `tollgate tools` lists those there are", arguments.name);
        };
        let values = values(tool, &arguments.arguments)?;
        let result = client.call(tool, &values).await?;
        if arguments.json {
            say(&serde_json::to_string_pretty(&result)?);
        } else {
            print(&result)?;
        }
        if result.get("isError") == Some(&Value::Bool(true)) {
            complain("the tool says that it failed");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn with_client(
    config: &Path,
    place: &RouteChoice,
    work: impl AsyncFnOnce(&McpClient) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let token = place.token.as_deref();
    app::runtime()?.block_on(async {
        if let Some(url) = &place.url {
            return work(&McpClient::new(url, token)).await;
        }
        let read = config::load(config, &config::environment);
        let read = read.map_err(|problems| start_failed(app::StartError::Config(problems)))?;
        let route = match &place.route {
            Some(route) => route.as_str().into(),
            None => read.routes.first().context("the configuration has no route")?.path.clone(),
        };
        let scheme = if read.server.tls.is_some() { "https" } else { "http" };
        let running = format!("{scheme}://{}{route}", read.server.listen);
        if tokio::net::TcpStream::connect(read.server.listen).await.is_ok() {
            show(&format!("through the gate at {running}"));
            return work(&McpClient::new(&running, token)).await;
        }
        if is_coloured() {
            show("no gate runs: opening the upstreams for this");
        }
        let options = Options {
            config: config.to_owned(),
            listen: Some(([127, 0, 0, 1], 0).into()),
            launcher: Some("/proc/self/exe".into()),
            ..Options::default()
        };
        let gate = app::start(options).await.map_err(start_failed)?;
        gate.viewer().settled().await;
        let done = work(&McpClient::new(&format!("http://{}{route}", gate.address()), token)).await;
        gate.stop().await;
        done
    })
}

/// Names of the arguments; those that may be left out have a `?`.
fn parameters(tool: &Value) -> String {
    let schema = &tool["inputSchema"];
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let names = schema["properties"].as_object().into_iter().flat_map(Map::keys);
    let mark = |name: &String| {
        if required.contains(&name.as_str()) { name.clone() } else { format!("{name}?") }
    };
    names.map(mark).collect::<Vec<_>>().join(" ")
}

/// The arguments of a command line, as the schema of a tool (an entry of a list) says.
///
/// # Errors
/// An argument has no `=`, or a value that its schema does not allow.
pub fn values(tool: &Value, arguments: &[String]) -> anyhow::Result<Value> {
    let mut values = Map::new();
    for argument in arguments {
        let (key, text) = argument
            .split_once('=')
            .with_context(|| format!("`{argument}`: write it as key=value"))?;
        if let Some(key) = key.strip_suffix(':') {
            let value = serde_json::from_str(text)
                .with_context(|| format!("`{key}:=` wants JSON, not `{text}`"))?;
            values.insert(key.to_owned(), value);
            continue;
        }
        let property = tool.pointer("/inputSchema/properties").and_then(|all| all.get(key));
        let kind = property.and_then(|property| property.get("type")?.as_str());
        let value = match kind {
            Some("integer" | "number" | "boolean" | "array" | "object") => {
                serde_json::from_str(text).with_context(|| {
                    format!(
                        "`{key}` is of type {}, which `{text}` is not",
                        kind.unwrap_or_default()
                    )
                })?
            }
            _ => Value::from(text),
        };
        values.insert(key.to_owned(), value);
    }
    Ok(Value::Object(values))
}

fn print(result: &Value) -> anyhow::Result<()> {
    for block in result["content"].as_array().into_iter().flatten() {
        match block["text"].as_str() {
            Some(text) => say(text),
            None => say(&serde_json::to_string_pretty(block)?),
        }
    }
    Ok(())
}
