//! What differs between two configurations, for people: names of sections, and never a value.

use super::{auth::Auth, file::Config, guard::Detector, route::Route, upstream::Upstream};

/// A section that has a name of its own.
trait Named: PartialEq {
    const KIND: &str;

    fn name(&self) -> &str;
}

impl Named for Route {
    const KIND: &str = "route";

    fn name(&self) -> &str {
        &self.path
    }
}

impl Named for Upstream {
    const KIND: &str = "upstream";

    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Auth {
    const KIND: &str = "auth";

    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Detector {
    const KIND: &str = "detector";

    fn name(&self) -> &str {
        &self.name
    }
}

impl Config {
    /// Says what an edit to `after` added, removed and changed, a line for each section.
    pub fn changes(&self, after: &Self) -> Vec<String> {
        let sections = [
            ("server.limits", self.server.limits != after.server.limits),
            ("server", !self.server.is_same_but_limits(&after.server)),
            ("cache", self.cache != after.cache),
            ("limit", self.limit_store != after.limit_store),
            ("log", self.log != after.log),
            ("telemetry", self.telemetry != after.telemetry),
            ("audit", self.audit != after.audit),
        ];
        let sections = sections.into_iter().filter(|(_, differs)| *differs);
        let mut all: Vec<_> = sections.map(|(name, _)| format!("[{name}] changed")).collect();
        all.extend(differences(&self.auth, &after.auth));
        all.extend(differences(&self.detectors, &after.detectors));
        all.extend(differences(&self.routes, &after.routes));
        all.extend(differences(&self.upstreams, &after.upstreams));
        all
    }
}

fn differences<T: Named>(before: &[T], after: &[T]) -> Vec<String> {
    let find = |all: &[T], name: &str| all.iter().position(|one| one.name() == name);
    let line = |one: &T, what| format!("{} `{}` {what}", T::KIND, one.name());
    let gone = before.iter().filter(|one| find(after, one.name()).is_none());
    let mut all: Vec<_> = gone.map(|one| line(one, "removed")).collect();
    for one in after {
        match find(before, one.name()).and_then(|at| before.get(at)) {
            None => all.push(line(one, "added")),
            Some(other) if other != one => all.push(line(one, "changed")),
            Some(_) => (),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use crate::config;

    const BEFORE: &str = r#"
[server]
[auth.keys]
kind = "keys"
keys.a.caller = "a"
keys.a.hash = "sha256:00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff"
[detectors.ticket]
pattern = "T-[0-9]+"
[upstreams.a]
url = "http://127.0.0.1:1/"
[upstreams.b]
url = "http://127.0.0.1:2/"
[routes."/mcp"]
upstreams = ["a"]
"#;

    #[test]
    fn each_section_that_an_edit_touches_has_a_line() {
        let parse = |text: &str| config::parse("routes.toml", text, &|_| None).unwrap();
        let before = parse(BEFORE);
        for (from, to, lines) in [
            ("", "", &[][..]),
            ("[server]", "[server]\nlimits.drain = \"3s\"", &["[server.limits] changed"]),
            ("[server]", "[server]\nhosts = [\"x\"]", &["[server] changed"]),
            ("[server]", "[log]\naccess = true", &["[log] changed"]),
            ("[server]", "[audit]", &["[audit] changed"]),
            ("[server]", "[cache]\nbytes_max = \"1MiB\"", &["[cache] changed"]),
            ("127.0.0.1:2", "127.0.0.1:3", &["upstream `b` changed"]),
            ("[upstreams.b]", "[upstreams.c]", &["upstream `b` removed", "upstream `c` added"]),
            ("\"/mcp\"", "\"/two\"", &["route `/mcp` removed", "route `/two` added"]),
            ("upstreams = [\"a\"]", "upstreams = [\"a\", \"b\"]", &["route `/mcp` changed"]),
            ("T-[0-9]+", "T-[0-9]", &["detector `custom:ticket` changed"]),
            ("caller = \"a\"", "caller = \"x\"", &["auth `keys` changed"]),
        ] {
            let after = parse(&BEFORE.replace(from, to));
            assert_eq!(before.changes(&after), lines, "{from} {to}");
        }
    }
}
