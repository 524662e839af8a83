//! Advice on settings that are allowed in a configuration, and yet hardly meant.

use super::{
    credential::{Credential, Grant},
    file::Config,
    filter::Names,
    oauth::ClientSecret,
    stateful,
    transport::Transport,
    upstream::Isolation,
};

/// The separator between an upstream's name and that of its tool.
const SEPARATOR: &str = "__";

/// Returns what an operator should think of, a line each.
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
    for upstream in &config.upstreams {
        if grant_without_issuer(&upstream.transport).is_some() {
            advice.push(format!(
                "upstreams.{}.credential: `discover` without `issuer` sends the client's secret to \
                 whomever this server names, and will be an error in the next release; write \
                 issuer = \"https://…\", the authorization server that it must be (`tollgate \
                 check --fix` writes the one that it names now), or a `private_key` in place of \
                 the secret",
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

/// The grant of an upstream where the server itself says who is sent the secret by which the gate
/// logs in.
pub fn grant_without_issuer(transport: &Transport) -> Option<&Grant> {
    let Transport::Http { credential: Some(credential), .. } = transport else { return None };
    let grant: &Grant = match credential {
        Credential::Client(grant) => grant,
        Credential::Exchange(exchange) => &exchange.grant,
        Credential::Pass | Credential::Aws(_) => return None,
    };
    let is_signed = matches!(grant.client.secret, ClientSecret::PrivateKey { .. });
    let is_open = grant.token_url.is_none() && grant.issuer.is_none() && !is_signed;
    is_open.then_some(grant)
}

#[cfg(test)]
mod tests {
    use super::advice;

    /// The advice on a file with these sections and two upstreams.
    fn on(server: &str, route: &str, more: &str, names: [&str; 2]) -> Vec<String> {
        let [a, b] = names;
        let text = format!(
            "[server]\n{server}\n[routes.\"/mcp\"]\nupstreams = [\"{a}\", \"{b}\"]\n\
             {route}\n{more}\n\
             [upstreams.{a}]\nurl = \"http://127.0.0.1:9\"\n\
             [upstreams.{b}]\nurl = \"http://127.0.0.1:9\"\n"
        );
        let config = crate::config::parse("routes.toml", &text, &|_| Some("s".repeat(64)));
        advice(&config.expect("a right file"))
    }

    #[test]
    fn several_gates_without_a_store_are_told_how_names_stay_the_same() {
        let key = "session_key = \"env:KEY\"";
        let store = "[limit]\nstore = \"redis://127.0.0.1\"";
        let other = "[routes.\"/one\"]\nupstreams = [\"a\"]";
        let both = "[routes.\"/both\"]\nupstreams = [\"a\", \"b\"]";
        let always = "names = \"always\"";
        for (server, route, more, want) in [
            (key, "", "", 1),
            (key, "names = \"auto\"", "", 1),
            (key, "names = \"always\"", "", 0),
            (key, "names = \"never\"", "", 0),
            (key, "", store, 0),
            (key, always, store, 0),
            (key, "", other, 1),
            (key, "", both, 2),
            (key, always, both, 1),
            ("", "", "", 0),
            ("", "", both, 0),
            ("", "", store, 0),
        ] {
            let advice = on(server, route, more, ["a", "b"]);
            let told = advice.iter().filter(|line| line.contains("names = \"always\""));
            assert_eq!(told.count(), want, "{server} {route} {more}: {advice:?}");
            assert_eq!(advice.len(), want, "nothing else: {advice:?}");
        }
    }

    #[test]
    fn a_name_with_the_separator_is_told_another_that_fits() {
        for (name, want) in [
            ("a__b", "a-b"),
            ("a__b__c", "a-b-c"),
            ("a___b", "a-_b"),
            ("a____b", "a--b"),
            ("x_y__z", "x_y-z"),
            ("ab__cd", "ab-cd"),
            ("a__1", "a-1"),
            ("a-b__c", "a-b-c"),
            ("git__hub_2", "git-hub_2"),
            ("a__b_c__d", "a-b_c-d"),
        ] {
            let advice = on("", "", "", [name, "other"]);
            let [line] = &*advice else { panic!("one line: {advice:?}") };
            assert!(line.starts_with(&format!("upstreams.{name}: ")), "{line}");
            assert!(line.contains(&format!("call it `{want}`")), "{line}");
            assert!(on("", "", "", [want, "other"]).is_empty(), "that is right");
        }
        for name in ["a_b", "a-b", "a", "ab_", "a_b_c"] {
            assert!(on("", "", "", [name, "other"]).is_empty(), "{name}");
        }
    }
}
