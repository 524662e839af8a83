//! `tollgate run`: serves, and says what it serves.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    app::{self, Options},
    builtin::report::UpstreamState,
};

use super::{
    output::{is_coloured, show, start_failed},
    table,
};

/// The pause between two looks at the progress of opening.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Default, clap::Args)]
pub struct Arguments {
    /// The configuration, as --config names it
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Listen here instead of where the configuration says
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Take the listening socket over from the tollgate that runs, once that gets SIGQUIT (only
    /// where built with the feature `pingora`)
    #[arg(long)]
    upgrade: bool,
}

/// Serves until a signal ends it.
///
/// # Errors
/// The gate does not start.
pub fn run(config: &Path, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let options = Options {
        config: config.to_owned(),
        listen: arguments.listen,
        watch: true,
        launcher: Some("/proc/self/exe".into()),
        upgrade: arguments.upgrade,
        ..Options::default()
    };
    let tell = |gate: &app::RunningGate| {
        let base = base(gate);
        show(&format!("tollgate {} serves on {base}", env!("CARGO_PKG_VERSION")));
        let viewer = gate.viewer();
        async move {
            tell(&viewer, &base).await;
            Ok(())
        }
    };
    app::serve(options, tell).map_err(start_failed)?;
    Ok(ExitCode::SUCCESS)
}

/// The URL by which clients reach it, without the path of a route.
pub fn base(gate: &app::RunningGate) -> String {
    let scheme = if gate.is_tls() { "https" } else { "http" };
    format!("{scheme}://{}", gate.address())
}

/// Progress while the upstreams open, then the table.
pub async fn tell(gate: &app::Viewer, base: &str) {
    if is_coloured() {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} opening {msg}") {
            bar.set_style(style);
        }
        let spinning = async {
            loop {
                bar.set_message(opening(gate));
                bar.tick();
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::select! {
            // The address is only shown.
            () = gate.settled() => (),
            () = spinning => (),
        }
        bar.finish_and_clear();
    } else {
        gate.settled().await;
    }
    show(&format!("\n{}\n", table::report(&gate.report(), base)));
}

/// The names of those that are not there yet.
fn opening(gate: &app::Viewer) -> String {
    let report = gate.report();
    let open = |state: UpstreamState| {
        matches!(state, UpstreamState::Idle | UpstreamState::Opening | UpstreamState::Degraded)
    };
    let names: Vec<_> = report.upstreams.iter().filter(|upstream| open(upstream.state)).collect();
    names.iter().map(|upstream| upstream.name.as_str()).collect::<Vec<_>>().join(", ")
}
