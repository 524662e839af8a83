//! `tollgate stdio`: one route for a client that starts its servers itself.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{
    app::{self, Options, StartError, Viewer},
    config::Layers,
};

use super::output::{show, start_failed};

const HELP: &str = "\
The client starts this command and speaks MCP to it: nothing else is written to standard output,
and the log goes to standard error. It listens on no port; it ends with the client, and the
servers it started end with it. Clients of any version of the protocol can use it.

At its very first start a client waits for the servers behind the route, 10 s at most (another
time is `limits.settle` of the configuration); from then on what they have is known.

Clients start it in a folder of their own, so give the configuration with its whole path. For
Claude Desktop, Cursor and others that have `mcpServers`:

  {
    \"mcpServers\": {
      \"tollgate\": {
        \"command\": \"tollgate\",
        \"args\": [\"stdio\", \"--config\", \"/home/me/routes.toml\"]
      }
    }
  }";

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// The route of the configuration that is served; its first one if none is named
    #[arg(long, value_name = "PATH")]
    route: Option<String>,
}

/// Serves until the client is gone.
///
/// # Errors
/// The gate does not start.
pub fn run(config: &Path, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let options = Options {
        config: config.to_owned(),
        layers: Layers::patient(),
        watch: true,
        launcher: Some(PathBuf::from("/proc/self/exe")),
        ..Options::default()
    };
    serve(options, arguments.route.as_deref(), async |_| Ok(()))
}

/// Serves with any options; `ready` is awaited before anything is read.
///
/// # Errors
/// The gate does not start, or `ready` fails.
pub fn serve(
    options: Options,
    route: Option<&str>,
    ready: impl AsyncFnOnce(Viewer) -> Result<(), StartError>,
) -> anyhow::Result<ExitCode> {
    if std::io::stdin().is_terminal() {
        show(
            "this speaks MCP on standard input and output: a client is to start it \
             (Ctrl-D ends it)",
        );
    }
    app::serve_stdio(options, route, ready).map_err(start_failed)?;
    Ok(ExitCode::SUCCESS)
}
