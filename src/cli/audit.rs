//! `tollgate audit`: proves the log of calls, and lists what is in it.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{
    audit::{self, Broken, Filter, Proof},
    call::clock,
    config,
};

use super::output::{complain, say, show};

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Read the whole log, also while the gate runs, and prove that no record in it was changed,
    /// taken out or put in
    Verify,
    /// Print the newest records
    List(Arguments),
}

#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Show no calls before this: a time as in RFC 3339, or how long ago (24h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<String>,
    /// Show calls of callers that have this in their name
    #[arg(long, value_name = "TEXT")]
    caller: Option<String>,
    /// Show calls that ended so: ok, `tool_error`, error, `access_denied`, …
    #[arg(long, value_name = "WORD")]
    outcome: Option<String>,
    /// Show so many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Print the records as they are written, one a line
    #[arg(long)]
    json: bool,
}

fn moment(text: &str) -> Result<String, String> {
    clock::moment(text).ok_or_else(|| "write 2026-11-24T08:00:00Z, or 24h".to_owned())
}

/// Runs a command on the log of calls.
///
/// # Errors
/// The log cannot be read.
pub fn run(path: &Path, command: &Command) -> anyhow::Result<ExitCode> {
    let config = match config::load(path, &config::environment) {
        Ok(config) => config,
        Err(problems) => {
            show(&problems.render(false));
            bail!("{} cannot be read", path.display());
        }
    };
    let log = config.audit.with_context(|| {
        format!("{} has no [audit]: nothing is recorded without it", path.display())
    })?;
    match command {
        Command::Verify => match audit::verify(&log.path)? {
            Ok(Proof { count, head }) => {
                say(&format!("{}: {count} record(s), whole; head {head}", log.path.display()));
                Ok(ExitCode::SUCCESS)
            }
            Err(Broken { seq }) => {
                complain(&format!("{}: record {seq} is not what was written", log.path.display()));
                Ok(ExitCode::FAILURE)
            }
        },
        Command::List(Arguments { since, caller, outcome, limit, json }) => {
            let since = since.clone();
            let caller = caller.clone();
            let outcome = outcome.clone();
            let filter = Filter { since, caller, outcome, limit: *limit };
            for record in audit::list(&log.path, &filter)? {
                let text = if *json { record } else { line(&record) };
                say(&text);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A record in a line for people.
fn line(record: &str) -> String {
    let record = serde_json::from_str::<Value>(record).unwrap_or_default();
    let text = |key| record.get(key).and_then(Value::as_str).unwrap_or("-");
    let number = |key| record.get(key).and_then(Value::as_u64).unwrap_or_default();
    // What clients call themselves and their targets may hold anything.
    let shown = |key| text(key).escape_debug();
    format!(
        "{:>6} {} {} {} {} {} -> {} {} µs",
        number("seq"),
        text("at"),
        shown("caller"),
        text("route"),
        text("method"),
        shown("name"),
        text("outcome"),
        number("duration_us")
    )
}
