//! `tollgate audit`: proves the log of calls, and lists what is in it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{
    audit::{self, AuditOpenError, Broken, Filter, Proof},
    call::clock,
    config,
};

use super::output::{complain, say, show};

/// Between two looks whether the gate has done it, and how many there are: ten seconds.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 200;

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Read the whole log, also while the gate runs, and prove that no record in it was changed,
    /// taken out or put in
    Verify {
        /// The files of one log, in any order [default: the one that is written, and those that
        /// were put away beside it]
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Put the file away beside itself, named for its last record; the log goes on in a new one,
    /// with the same chain. Also while the gate runs
    Rotate,
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
        Command::Verify { files } if files.is_empty() => prove(&audit::files(&log.path)),
        Command::Verify { files } => prove(files),
        Command::Rotate => rotate(&log),
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

/// Proves each file, and that together they are one log.
fn prove(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut proofs = Vec::new();
    for file in files {
        let shown = file.display();
        match audit::verify(file)? {
            Ok(proof) => {
                let Proof { after, count, head, .. } = &proof;
                let since = if *after == 0 { String::new() } else { format!(" after {after}") };
                say(&format!("{shown}: {count} record(s){since}, whole; head {head}"));
                proofs.push(proof);
            }
            Err(Broken { seq }) => {
                complain(&format!("{shown}: record {seq} is not what was written"));
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    match audit::join(proofs) {
        Ok(Some(whole)) if 0 < whole.after => {
            let last = whole.after;
            say(&format!("records 1 to {last} are in none of these files: name those, too"));
        }
        Ok(_) => (),
        Err(gap) => {
            complain(&gap.to_string());
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts the log away, or has the gate do so that writes it.
fn rotate(log: &config::Audit) -> anyhow::Result<ExitCode> {
    let away = match audit::rotate(log) {
        Err(AuditOpenError::Taken(_)) => rotated_by_gate(log)?,
        rotated => rotated?,
    };
    match away {
        Some(away) => say(&format!("{}: put away", away.display())),
        None => say(&format!("{}: has no record to put away", log.path.display())),
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the gate by a file beside the log, which it removes when it has done so.
fn rotated_by_gate(log: &config::Audit) -> anyhow::Result<Option<PathBuf>> {
    let before = audit::files(&log.path);
    let asked = audit::beside(&log.path, audit::ROTATE);
    File::create(&asked).with_context(|| format!("{} cannot be made", asked.display()))?;
    for _ in 0..LOOKS {
        if !asked.exists() {
            return Ok(audit::files(&log.path).into_iter().find(|file| !before.contains(file)));
        }
        #[allow(clippy::disallowed_methods, reason = "a command without a runtime")]
        std::thread::sleep(LOOK);
    }
    fs::remove_file(&asked).ok();
    bail!("the gate that writes {} does not put it away: see its log", log.path.display());
}

/// A record in a line for people.
fn line(record: &str) -> String {
    let record = serde_json::from_str::<Value>(record).unwrap_or_default();
    let text = |key| record.get(key).and_then(Value::as_str).unwrap_or("-");
    let number = |key| record.get(key).and_then(Value::as_u64).unwrap_or_default();
    // The names that clients give themselves and their targets may hold anything.
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
