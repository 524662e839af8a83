//! `tollgate explain`: whether somebody may call a tool, and which policies say so.

use std::{path::Path, process::ExitCode};

use anyhow::bail;

use crate::{
    app::offline::{Explained, Offline},
    policy,
};

use super::{
    output::{say, start_failed},
    tools,
};

#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Who calls: `AUTHORITY/SUBJECT`, or an address for somebody whom nobody vouches for
    #[arg(long = "as", value_name = "CALLER")]
    caller: String,
    /// Groups that the caller is in
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    groups: Vec<String>,
    /// Scopes of the caller's token
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// The caller logged in with a second factor
    #[arg(long)]
    mfa: bool,
    /// The route of the configuration; its first one if none is named
    #[arg(long)]
    route: Option<String>,
    /// The tool, by the name that clients know
    tool: String,
    /// Arguments, as those of `tollgate call`
    arguments: Vec<String>,
}

/// Prints whether somebody may call a tool, and why.
///
/// # Errors
/// The configuration is wrong, or has no such route or tool.
pub fn run(config: &Path, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let offline = Offline::open(config, arguments.route.as_deref()).map_err(start_failed)?;
    let Some(tool) = offline.tool(&arguments.tool) else {
        let unknown = offline.unknown();
        if unknown.is_empty() {
            bail!("`{}` has no tool `{}`", offline.path, arguments.tool);
        }
        bail!(
            "`{}` has no tool `{}` that is known; nothing is known yet of what these have: {}. \
             `tollgate tools` opens them",
            offline.path,
            arguments.tool,
            unknown.join(", ")
        );
    };
    let caller = &arguments.caller;
    let Some(who) = policy::caller(caller, &arguments.groups, &arguments.scopes, arguments.mfa)
    else {
        bail!("`{caller}` is no caller: write AUTHORITY/SUBJECT, or an address");
    };
    let values = tools::values(&tool.entry, &arguments.arguments)?;
    let Explained { sees, may } = offline.explain(&who, &tool, &values);
    let (upstream, own) = tool.origin();
    let path = &offline.path;
    say(&format!("{caller}, `{}` on {path} (`{own}` of `{upstream}`)", arguments.tool));
    if offline.is_open() {
        say("allowed: no policy is configured");
        return Ok(ExitCode::SUCCESS);
    }
    for (what, verdict) in
        std::iter::once(("list", &sees)).chain(may.iter().map(|may| ("call", may)))
    {
        say(&format!("{what}: {verdict}"));
    }
    match may {
        Some(may) if may.allowed => Ok(ExitCode::SUCCESS),
        Some(_) => Ok(ExitCode::FAILURE),
        None => {
            say("so it reads as unknown");
            Ok(ExitCode::FAILURE)
        }
    }
}
