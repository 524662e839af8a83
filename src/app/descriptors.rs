//! Descriptors of files: whether the system gives as many as the configuration promises.

use crate::{
    call::machine,
    config::{Config, Transport},
};

/// Descriptors of the gate's own: listeners, files, the runtime.
const OWN: u64 = 64;
/// Descriptors of an upstream over HTTP: connections that wait for the next call, and streams.
const OVER_HTTP: u64 = 128;
/// Descriptors of a process: its three standard streams.
const OF_PROCESS: u64 = 3;

/// Tells the operator that the system gives too few descriptors; none where there are enough.
pub fn shortage(config: &Config) -> Option<String> {
    let given = machine::descriptors()?;
    let needed = needed(config);
    let connections = config.server.limits.connections_max;
    (given < needed).then(|| {
        format!(
            "`connections_max` = {connections} and the upstreams need {needed} open files, and \
             the system allows {given}: raise that (`ulimit -Hn`, `LimitNOFILE` of systemd), or \
             lower `connections_max`; until then fewer connections are taken"
        )
    })
}

fn needed(config: &Config) -> u64 {
    let of = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let upstreams = config.upstreams.iter().map(|upstream| match &upstream.transport {
        Transport::Stdio { .. } => of(upstream.processes_max).saturating_mul(OF_PROCESS),
        Transport::Http { .. } => OVER_HTTP,
        Transport::Builtin { .. } => 0,
    });
    let connections = of(config.server.limits.connections_max);
    upstreams.fold(OWN.saturating_add(connections), u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_counted() {
        for (keys, upstream, want) in [
            ("", "url = \"http://127.0.0.1:9\"", 10_000 + 64 + 128),
            ("limits.connections_max = 10", "url = \"http://127.0.0.1:9\"", 10 + 64 + 128),
            ("limits.connections_max = 10", "command = \"x\"", 10 + 64 + 24),
            ("limits.connections_max = 10", "command = \"x\"\nprocesses_max = 100", 374),
            ("limits.connections_max = 10", "builtin = \"gate\"", 74),
            ("limits.connections_max = 1", "builtin = \"gate\"", 65),
            ("limits.connections_max = 1_000", "command = \"x\"\nprocesses_max = 1", 1_067),
            (
                "limits.connections_max = 10",
                "url = [\"http://127.0.0.1:9\", \"http://127.0.0.1:8\"]",
                202,
            ),
            (
                "limits.connections_max = 10",
                "url = \"http://127.0.0.1:9/sse\"\ntransport = \"sse\"",
                202,
            ),
            ("limits.connections_max = 65_000", "command = \"x\"", 65_088),
        ] {
            let text = format!(
                "[server]\n{keys}\n[routes.\"/mcp\"]\nupstreams = [\"a\"]\n\
                 [upstreams.a]\n{upstream}"
            );
            let config = crate::config::parse("routes.toml", &text, &|_| None).unwrap();
            assert_eq!(needed(&config), want, "{keys} {upstream}");
        }
    }
}
