//! `tollgate check`: every problem of the configuration, and what is right in it and hardly meant.

use std::{path::Path, process::ExitCode};

use crate::{
    app::{checked, descriptors, surroundings},
    call::machine,
    config::{self, Config},
    policy,
};

use super::{
    fix,
    output::{complain, is_coloured, say, show, warn},
};

#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// Fail on warnings, too: a variable that is not set, a program that is not in PATH, a section
    /// that nothing uses
    #[arg(long)]
    strict: bool,
    /// Write into the configuration what it lacks and what can be found out: `issuer` beside a
    /// secret that an upstream could have sent to anybody
    #[arg(long)]
    fix: bool,
}

/// Checks the configuration and prints what is wrong with it; fails on every error.
///
/// # Errors
/// What was to be written (`--fix`) cannot be. Problems of the configuration are printed, and told
/// by the exit code.
pub fn run(path: &Path, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut read = config::load(path, &config::environment);
    if arguments.fix
        && let Ok(config) = &read
        && fix::fix(path, config)?
    {
        read = config::load(path, &config::environment);
    }
    match read.and_then(|config| policy::compile(&config).map(|_| config)) {
        Ok(config) => Ok(report(path, &config, arguments.strict)),
        Err(problems) => {
            show(&problems.render(is_coloured()));
            complain(&format!("{} problem(s) in {}", problems.len(), path.display()));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Prints what is found of a configuration that can be read.
fn report(path: &Path, config: &Config, strict: bool) -> ExitCode {
    let surroundings::Inspection { errors, mut warnings } = surroundings::check(config);
    machine::raise_descriptors();
    warnings.extend(descriptors::shortage(config));
    warnings.extend(checked::warnings(config));
    errors.iter().for_each(|error| complain(error));
    warnings.iter().for_each(|warning| warn(warning));
    if config.server.origins.is_empty() {
        say("pages in browsers: only the gate's own; for the MCP Inspector's write origins = \
             [\"http://localhost:6274\"] into [server]");
    }
    if !errors.is_empty() {
        complain(&format!("{} problem(s) in {}", errors.len(), path.display()));
        return ExitCode::FAILURE;
    }
    if strict && !warnings.is_empty() {
        complain(&format!("{} warning(s) in {} (--strict)", warnings.len(), path.display()));
        return ExitCode::FAILURE;
    }
    let routes = config.routes.len();
    let upstreams = config.upstreams.len();
    say(&format!("{}: in order, {routes} route(s) and {upstreams} upstream(s)", path.display()));
    ExitCode::SUCCESS
}
