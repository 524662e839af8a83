//! Tells the binary which commit it is made of, for `tollgate --version`.
//!
//! `TOLLGATE_COMMIT` and `TOLLGATE_COMMIT_DATE` say it where there is no Git, as in an image. Else
//! releases ask Git; other builds do not, since each commit would have all of them compiled anew.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "runs while it is built")]

use std::{env, process::Command};

fn main() {
    let told = |name: &str| {
        println!("cargo::rerun-if-env-changed={name}");
        env::var(name).ok().filter(|told| !told.is_empty())
    };
    let date = told("TOLLGATE_COMMIT_DATE");
    let told = told("TOLLGATE_COMMIT");
    let released = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let asks = told.is_none() && released;
    let commit = if asks { asked() } else { told };
    // The day on which it was committed, in UTC wherever it is built.
    let day = ["show", "--no-patch", "--format=%cd", "--date=format-local:%Y-%m-%d"];
    let date = date.or_else(|| asks.then(|| git(&day)).flatten());
    let date = date.map(|date| format!(", {date}")).unwrap_or_default();
    println!("cargo::rustc-env=TOLLGATE_COMMIT_DATE={date}");
    let commit = commit.unwrap_or_else(|| "development build".to_owned());
    println!("cargo::rustc-env=TOLLGATE_COMMIT={commit}");
}

/// The commit that is checked out, with `-dirty` where files differ from it.
fn asked() -> Option<String> {
    // Grows with each commit and each checkout.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={log}");
    git(&["describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let done = Command::new("git").env("TZ", "UTC").args(arguments).output().ok()?;
    let said = String::from_utf8(done.stdout).ok()?.trim().to_owned();
    (done.status.success() && !said.is_empty()).then_some(said)
}
