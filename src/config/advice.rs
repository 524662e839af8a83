//! What is allowed in a configuration, and yet hardly meant.

use super::{file::Config, filter::Names, stateful, upstream::Isolation};

/// What stands between an upstream's name and that of its tool.
const SEPARATOR: &str = "__";

/// What to think of, a line each.
pub fn advice(config: &Config) -> Vec<String> {
    let mut advice = Vec::new();
    for upstream in config.upstreams.iter().filter(|one| one.name.contains(SEPARATOR)) {
        advice.push(format!(
            "upstreams.{name}: `{SEPARATOR}` in a name will be an error in the next release, since \
             names of tools are made with it; call it `{}`, which keeps the names of its tools",
            upstream.name.replace(SEPARATOR, "-"),
            name = upstream.name,
        ));
    }
    for upstream in config.upstreams.iter().filter(|one| one.isolation == Isolation::Auto) {
        if let Some(kept) = stateful::kept_by(&upstream.transport) {
            advice.push(format!(
                "upstreams.{}: this server keeps {kept} between calls, and one process serves all \
                 clients; write isolation = \"session\" for one per client session, or isolation \
                 = \"shared\" where they may share it",
                upstream.name
            ));
        }
    }
    // A key of sessions is given for other gates to have the same.
    if config.server.session_key.is_some() && config.limit_store.is_none() {
        let merged = config.routes.iter().filter(|route| 1 < route.upstreams.len());
        for route in merged.filter(|route| route.names == Names::Auto) {
            advice.push(format!(
                "routes.\"{}\": gates that share `session_key` and no `store` of [limit] may give \
                 one name to different upstreams; write names = \"always\", a `store`, or a \
                 `names_file` made by `tollgate names export`",
                route.path
            ));
        }
    }
    advice
}
