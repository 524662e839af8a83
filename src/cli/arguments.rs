//! The arguments of the command line, and which command they run.

use std::{path::PathBuf, process::ExitCode};

use clap::{
    ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, parser::ValueSource,
};

use crate::{config, telemetry};

use super::{
    audit, cache, check, explain, import, key, names,
    output::{complain, say},
    run, sidecar, stdio, tools,
};

/// What has all of standard error be JSON, also what is wrong with the arguments.
const JSON_WORD: &str = "--log-json";
/// The exit code of wrong arguments, as `clap` has it.
const USAGE_CODE: u8 = 2;
const ABOUT: &str = "One endpoint for many MCP servers, in both eras of the protocol";
/// rmcp speaks of every connection at this level, pingora of every step; Tollgate of what matters.
const LOG_OF_RUN: &str = "info,rmcp=warn,pingora_core=warn";
const LOG_OF_OTHERS: &str = "warn";
/// Shows the standard error of a sidecar's server to whoever started the sidecar.
const LOG_OF_SERVER: &str = "tollgate::process=debug";

/// The version with the commit and its date, where `build.rs` knows them.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("TOLLGATE_COMMIT"),
    env!("TOLLGATE_COMMIT_DATE"),
    ")"
);

#[derive(Debug, Parser)]
#[command(
    name = "tollgate",
    version = VERSION,
    about = ABOUT,
    after_help = "Without a command: `tollgate run`."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// The configuration; a sidecar reads one only where it is named
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        default_value = "routes.toml",
        env = "TOLLGATE_CONFIG"
    )]
    config: PathBuf,
    /// What is logged, as in `RUST_LOG` (error, warn, info, debug, trace, or by
    /// module); `run` and a listening `sidecar` log at info, all else at warn
    #[arg(long, global = true, value_name = "FILTER", env = "RUST_LOG")]
    log: Option<String>,
    /// Log errors only
    #[arg(long, short, global = true, conflicts_with_all = ["log", "verbose"])]
    quiet: bool,
    /// Log more of what the gate does; twice, all of it
    #[arg(long, short, global = true, action = clap::ArgAction::Count, conflicts_with = "log")]
    verbose: u8,
    /// Log lines as JSON
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the routes of the configuration (the default)
    Run(run::Arguments),
    /// Serve one route to the client that starts this command, on standard input and output
    Stdio(stdio::Arguments),
    /// Serve one server as it is to clients of every version: over HTTP, or to the client that
    /// starts this command
    Sidecar(sidecar::Arguments),
    /// Check the configuration, and what it needs of this machine, and show every problem in it
    Check(check::Arguments),
    /// Print the JSON Schema of routes.toml, for editors
    Schema,
    /// Turn the servers of other clients' files (Claude, Cursor, VS Code, Codex, …) into a
    /// routes.toml, or add them to one
    Import(import::Arguments),
    /// List the tools of a route
    Tools(tools::ListArguments),
    /// Call a tool: `tollgate call echo message=hello`
    Call(tools::ToolCallArguments),
    /// Results that the running gate keeps
    #[command(subcommand)]
    Cache(cache::Command),
    /// What the names of a route lead to: listed, released, pinned, exported
    Names(names::Arguments),
    /// The log of calls
    #[command(subcommand)]
    Audit(audit::Command),
    /// API keys of the gate's own
    #[command(subcommand)]
    Key(key::Command),
    /// Say whether somebody may call a tool, and which policies decide: `tollgate explain --as
    /// corp/ann --groups finance transfer amount=100`
    Explain(explain::Arguments),
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
}

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    let read = Arguments::command().try_get_matches();
    let read = read.and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, matches)));
    let (arguments, matches) = match read {
        Ok(read) => read,
        // Help goes to standard output.
        Err(error) if error.use_stderr() && std::env::args_os().any(|word| word == JSON_WORD) => {
            telemetry::speak_json();
            complain(&error.to_string());
            return ExitCode::from(USAGE_CODE);
        }
        Err(error) => error.exit(),
    };
    let common = &arguments.common;
    let command = arguments.command.unwrap_or(Command::Run(run::Arguments::default()));
    let log = telemetry::init(&log_filter(common, &command), common.log_json);
    let done = dispatch(command, common, names_config(&matches));
    // What was logged stands before the last word.
    drop(log);
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The filter of the log that the options ask for, else that of the command.
fn log_filter(common: &Common, command: &Command) -> String {
    match (&common.log, common.quiet, common.verbose) {
        (Some(filter), ..) => filter.clone(),
        (None, true, _) => "error".to_owned(),
        (None, false, 0) => usual_log(command),
        (None, false, 1) => format!("{LOG_OF_RUN},tollgate=debug"),
        (None, false, _) => format!("{LOG_OF_RUN},tollgate=trace"),
    }
}

fn usual_log(command: &Command) -> String {
    match command {
        Command::Run(_) => LOG_OF_RUN.to_owned(),
        Command::Sidecar(sidecar) if sidecar.stdio => format!("{LOG_OF_OTHERS},{LOG_OF_SERVER}"),
        Command::Sidecar(_) => format!("{LOG_OF_RUN},{LOG_OF_SERVER}"),
        Command::Stdio(_)
        | Command::Check(_)
        | Command::Schema
        | Command::Import(_)
        | Command::Tools(_)
        | Command::Call(_)
        | Command::Cache(_)
        | Command::Names(_)
        | Command::Audit(_)
        | Command::Key(_)
        | Command::Explain(_)
        | Command::Completions { .. } => LOG_OF_OTHERS.to_owned(),
    }
}

/// Tells whether `--config` was given, before or behind the command.
fn names_config(matches: &ArgMatches) -> bool {
    let given =
        |matches: &ArgMatches| matches.value_source("config") == Some(ValueSource::CommandLine);
    given(matches) || matches.subcommand().is_some_and(|(_, matches)| given(matches))
}

fn dispatch(command: Command, common: &Common, names_config: bool) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => {
            anyhow::ensure!(
                arguments.file.is_none() || !names_config,
                "the configuration is named twice: by --config, and behind `run`"
            );
            run::run(arguments.file.as_deref().unwrap_or(&common.config), &arguments)
        }
        Command::Stdio(arguments) => stdio::run(&common.config, &arguments),
        Command::Sidecar(arguments) => {
            // The file of a gate is none of a sidecar's: only one that is named counts.
            sidecar::run(names_config.then_some(common.config.as_path()), &arguments)
        }
        Command::Check(arguments) => check::run(&common.config, &arguments),
        Command::Schema => {
            say(&serde_json::to_string_pretty(&config::schema())?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Import(arguments) => import::run(&arguments),
        Command::Tools(arguments) => tools::list(&common.config, &arguments),
        Command::Call(arguments) => tools::call(&common.config, &arguments),
        Command::Cache(command) => cache::run(&common.config, &command),
        Command::Names(arguments) => names::run(&common.config, &arguments),
        Command::Audit(command) => audit::run(&common.config, &command),
        Command::Key(command) => key::run(&common.config, &command),
        Command::Explain(arguments) => explain::run(&common.config, &arguments),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "tollgate",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}
