//! `tollgate sidecar`: one server, as it is, for clients of any version and transport.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::ArgGroup;
use sha2::{Digest as _, Sha256};

use crate::{
    app::{self, Options},
    config::{self, Sidecar},
};

use super::{
    output::{show, start_failed},
    run, stdio,
};

/// How long the first client may wait for a server that says nothing: as `settle` of its
/// configuration. Clients wait for a minute, some for less.
const GREETING_MAX: Duration = Duration::from_secs(10);
/// The name of its one upstream.
const UPSTREAM: &str = "sidecar";

const HELP: &str = "\
The server is shown to clients as it is: its own name, instructions, tools and their names. What
it and its clients do not have in common is bridged, so that

  tollgate sidecar -- npx -y @modelcontextprotocol/server-everything

makes a server of any age, which speaks over standard input and output, one that every client
can use at http://127.0.0.1:8080/mcp; and

  tollgate sidecar --stdio --url https://example.com/mcp --header 'Authorization: env:TOKEN'

makes one for a client that starts its servers itself.

The command runs as if it had been started here: in this folder, with the whole environment, and
what it writes to its standard error is written to this one's, as log lines. It ends with the
sidecar, even where that is killed. If it cannot be started, the sidecar says why and ends with
code 1; a server at a URL is waited for instead, unless --stdio is given.

--config FILE brings all other settings, as in routes.toml: the sections [server],
[routes.\"/mcp\"] (without `upstreams`) and [upstreams.sidecar] (without `command` or `url`). It is
read only where it is given; what the command line says wins.

The key and the last good lists are kept per command and folder in
$XDG_STATE_HOME/tollgate/sidecar (~/.local/state/tollgate/sidecar).";

#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = HELP,
    group(ArgGroup::new("server").required(true).args(["url", "command"]))
)]
pub struct Arguments {
    /// Listen here; clients connect to the path `/mcp`, older ones to `/mcp/sse` [default:
    /// 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "stdio")]
    listen: Option<SocketAddr>,
    /// Serve the client that starts this command on standard input and output; listen nowhere
    #[arg(long)]
    pub stdio: bool,
    /// The server's address, in place of a command
    #[arg(long)]
    url: Option<String>,
    /// A header sent to the server with every request, `Name: value`; as in routes.toml the value
    /// may be `env:NAME` or `file:PATH`, where a secret is kept
    #[arg(long, value_name = "HEADER", requires = "url")]
    header: Vec<String>,
    /// Keep the key and the last good lists here
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// The server: a program that speaks MCP over standard input and output, and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Serves one server until a signal, or the client, ends it.
///
/// # Errors
/// The gate does not start, or its one server cannot be opened.
pub fn run(file: Option<&Path>, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let server = server(arguments)?;
    let state = match &arguments.state {
        Some(state) => std::path::absolute(state)?,
        None => state_of(&server)?,
    };
    let options = Options {
        config: file.map(Path::to_owned).unwrap_or_default(),
        layers: config::sidecar(&server, &state, arguments.state.is_some(), arguments.stdio),
        listen: arguments.listen,
        watch: file.is_some(),
        launcher: Some(PathBuf::from("/proc/self/exe")),
        whole_environment: true,
        ..Options::default()
    };
    if arguments.stdio {
        // The client learns what the server is when it greets: nothing is answered before. One that
        // says nothing is not waited for longer than clients wait themselves.
        let opened = async |gate: app::Viewer| {
            let opened = tokio::time::timeout(GREETING_MAX, gate.opened(UPSTREAM)).await;
            opened.unwrap_or(Ok(()))
        };
        return stdio::serve(options, Some("/mcp"), opened);
    }
    let may_wait = matches!(server, Sidecar::Url { .. });
    let tell = |gate: &app::RunningGate| {
        let base = run::base(gate);
        let viewer = gate.viewer();
        show(&format!("tollgate {} serves on {base}/mcp", env!("CARGO_PKG_VERSION")));
        async move {
            let opened = viewer.opened(UPSTREAM).await;
            if may_wait || opened.is_ok() {
                run::tell(&viewer, &base).await;
                return Ok(());
            }
            opened
        }
    };
    app::serve(options, tell).map_err(start_failed)?;
    Ok(ExitCode::SUCCESS)
}

fn server(arguments: &Arguments) -> anyhow::Result<Sidecar> {
    let Some(url) = &arguments.url else {
        anyhow::ensure!(arguments.header.is_empty(), "--header is for a server at a --url");
        return Ok(Sidecar::Command(arguments.command.clone()));
    };
    let headers = arguments.header.iter().map(|header| {
        let (name, value) = header
            .split_once(':')
            .with_context(|| format!("--header `{header}`: write it as `Name: value`"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    });
    Ok(Sidecar::Url { url: url.clone(), headers: headers.collect::<anyhow::Result<_>>()? })
}

/// The folder of this server's own: the same words, said in the same folder, mean the same server.
fn state_of(server: &Sidecar) -> anyhow::Result<PathBuf> {
    let home = || Some(PathBuf::from(config::environment("HOME")?).join(".local/state"));
    let base = config::environment("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let base = base.or_else(home).context(
        "neither XDG_STATE_HOME nor HOME is set: say where the key is to be kept with --state",
    )?;
    let (words, name) = match server {
        Sidecar::Command(words) => {
            let folder = std::env::current_dir().context("the current folder is gone")?;
            let name = words.first().map(Path::new).and_then(Path::file_name);
            let name = name.map(|name| name.to_string_lossy().into_owned());
            let mut all = vec![folder.to_string_lossy().into_owned()];
            all.extend(words.iter().cloned());
            (all, name.unwrap_or_default())
        }
        Sidecar::Url { url, .. } => (vec![url.clone()], "url".to_owned()),
    };
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word.as_bytes());
        hash.update([0]);
    }
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    let mut folder: String = name.chars().filter(plain).take(32).collect();
    folder.push('-');
    for byte in hash.finalize().iter().take(8) {
        write!(folder, "{byte:02x}")?;
    }
    Ok(base.join("tollgate/sidecar").join(folder))
}
