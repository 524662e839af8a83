//! `tollgate check`: every problem of the configuration, and what is right in it and hardly meant.

use std::{io::IsTerminal as _, path::Path, process::ExitCode};

use crate::{
    app::{checked, descriptors},
    call::machine,
    config, policy,
};

use super::output::{complain, say, show, warn};

/// Checks the configuration and prints what is wrong with it.
///
/// # Errors
/// None so far: problems of the configuration are printed, and told by the exit code.
pub fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let read = config::load(path, &config::environment);
    match read.and_then(|config| policy::compile(&config).map(|_| config)) {
        Ok(config) => {
            for upstream in &config.upstreams {
                if let Some(problem) = &upstream.problem {
                    complain(&format!("upstream `{}` cannot be opened: {problem}", upstream.name));
                }
            }
            machine::raise_descriptors();
            let shortage = descriptors::shortage(&config);
            for warning in shortage.into_iter().chain(checked::warnings(&config)) {
                warn(&warning);
            }
            let routes = config.routes.len();
            let upstreams = config.upstreams.len();
            say(&format!(
                "{}: in order, {routes} route(s) and {upstreams} upstream(s)",
                path.display()
            ));
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            show(&problems.render(std::io::stderr().is_terminal()));
            complain(&format!("{} problem(s) in {}", problems.len(), path.display()));
            Ok(ExitCode::FAILURE)
        }
    }
}
