//! What a right file means.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use toml::{Spanned, de::DeValue};

use super::{of_upstream, read, upstream};
use crate::config::{
    AuthKind, HttpTransport, Isolation, Names, Start, Transport,
    toml::{
        reader::Reader,
        value::{BoundedDuration, FromToml, Size, duration, size},
    },
};

/// Any number of bytes.
type AnySize = Size<0, { usize::MAX }>;

/// Any time.
type AnyDuration = BoundedDuration<0, { u64::MAX }>;

#[test]
fn a_small_file_has_the_rest_by_default() {
    let config =
        read("[routes.\"/mcp\"]\nupstreams = [\"*\"]\n[upstreams.gate]\nbuiltin = \"gate\"\n");

    let server = &config.server;
    assert_eq!(server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(server.state, PathBuf::from("/srv/state"));
    assert_eq!((&server.tls, &server.session_key), (&None, &None));
    assert_eq!(server.limits.body_bytes_max, 4 << 20);
    assert_eq!(server.limits.answer_bytes_max, 64 << 20);
    assert_eq!(server.limits.session_idle, Duration::from_mins(30));
    assert_eq!(server.limits.session_age, Duration::from_hours(24));
    assert_eq!(server.limits.depth_max, 64);

    let [route] = config.routes.as_slice() else { panic!("one route") };
    assert_eq!((route.path.as_str(), route.names, route.page_size), ("/mcp", Names::Auto, 1_000));
    assert_eq!(route.upstreams, ["gate"]);

    let [gate] = config.upstreams.as_slice() else { panic!("one upstream") };
    assert_eq!(gate.transport, Transport::Builtin { server: "gate".to_owned() });
    assert_eq!((gate.start, gate.isolation), (Start::Eager, Isolation::Auto));
    assert_eq!(
        (gate.timeout.open, gate.timeout.idle),
        (Duration::from_secs(30), Duration::from_secs(60))
    );
    assert_eq!((gate.processes_max, gate.problem.as_deref()), (8, None));
}

#[test]
fn every_key_is_taken() {
    let config = read(
        r#"
[server]
listen = "[::]:443"
hosts = ["gate.example.com"]
origins = ["*"]
state = "/var/lib/tollgate"
tls = { certificate = "tls/cert.pem", key = "/etc/key.pem" }
limits.body_bytes_max = 65_536
limits.answer_bytes_max = "1.5MiB"
limits.keep_alive = "1m 30s"

[routes."/a"]
upstreams = ["two", "*"]
auth = "none"
names = "always"
page_size = 10
tools = { allow = ["*"], deny = ["x*"], hide = ["y"], rename = { "one" = "uno" } }

[upstreams.one]
command = "npx"
args = ["-y", "it"]
env = { A = "b" }
cwd = "work"
start = "lazy"
isolation = "session"
timeout = { open = "1s", idle = "2s", total = "3s" }
restart = { delay = "1s", delay_max = "2s" }
processes_max = 2
idle = "1h"
refresh = "2h"
resources.deny = ["file:*"]

[upstreams.two]
url = "http://127.0.0.1:9000/mcp"
headers = { Authorization = "Bearer ${HOME_TOKEN}" }
h2c = true
transport = "sse"
"#,
    );
    let server = &config.server;
    let tls = server.tls.as_ref().expect("TLS");
    assert_eq!(tls.certificate, PathBuf::from("/srv/tls/cert.pem"));
    assert_eq!(tls.key, PathBuf::from("/etc/key.pem"));
    assert_eq!(server.state, PathBuf::from("/var/lib/tollgate"));
    assert_eq!(server.limits.body_bytes_max, 65_536);
    assert_eq!(server.limits.answer_bytes_max, 3 << 19);
    assert_eq!(server.limits.keep_alive, Duration::from_secs(90));

    let route = &config.routes[0];
    assert_eq!(route.upstreams, ["two", "one"], "`*` is all the others");
    assert_eq!(route.tools.rename, BTreeMap::from([("one".to_owned(), "uno".to_owned())]));
    assert_eq!(
        (&route.tools.deny[..], &route.tools.hide[..]),
        (&["x*".into()][..], &["y".into()][..])
    );

    let [one, two] = config.upstreams.as_slice() else { panic!("two upstreams") };
    let Transport::Stdio { command, args, env, cwd } = &one.transport else { panic!("a process") };
    assert_eq!((command.as_str(), args.join(" ")), ("npx", "-y it".to_owned()));
    assert_eq!((env["A"].expose(), cwd), ("b", &Some(PathBuf::from("/srv/work"))));
    assert_eq!((one.start, one.isolation), (Start::Lazy, Isolation::Session));
    assert_eq!(one.timeout.total, Duration::from_secs(3));
    assert_eq!(one.restart.delay_max, Duration::from_secs(2));
    assert_eq!((one.idle, one.refresh), (Duration::from_hours(1), Duration::from_hours(2)));
    assert_eq!(one.resources.deny, ["file:*"]);
    let Transport::Http { url, headers, h2c, http, .. } = &two.transport else {
        panic!("over HTTP")
    };
    assert_eq!((url.as_str(), *h2c), ("http://127.0.0.1:9000/mcp", true));
    assert_eq!(*http, HttpTransport::Sse);
    assert_eq!(headers["authorization"].expose(), "Bearer s3cret");
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn every_key_of_authorities_is_taken() {
    let config = read(
        r#"
[server]
listen = "[::]:443"
tls = { certificate = "cert.pem", key = "key.pem" }

[routes."/a"]
upstreams = ["gate"]
auth = ["corp", "agents"]
scopes = ["use"]

[upstreams.gate]
builtin = "gate"

[auth.corp]
kind = "jwt"
issuer = "https://idp.example.com/"
jwks_url = "https://idp.example.com/keys"
audience = ["api"]
algorithms = ["ES256"]
leeway = "1s"
refresh = "1m"
stale = "2m"
fetch_pause = "3s"
subject_claim = "oid"
groups_claim = "realm.roles"
keys_max = 4
token_bytes_max = "2KiB"
tokens_max = 5

[auth.agents]
kind = "keys"
[auth.agents.keys.a1]
hash = "sha256:00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff"
caller = "ci"
label = "nightly"
groups = ["build"]
scopes = ["use"]
expires = "1970-01-01T01:00:00+01:00"
"#,
    );
    let route = &config.routes[0];
    assert_eq!(
        (&route.auth.join(" "), &route.scopes.join(" ")),
        (&"corp agents".into(), &"use".into())
    );
    assert_eq!(route.resource, "https://[::]:443/a");
    let [corp, agents] = config.auth.as_slice() else { panic!("two authorities") };
    let AuthKind::Jwt(jwt) = &corp.kind else { panic!("an issuer") };
    let seconds = [jwt.tokens.leeway, jwt.refresh, jwt.stale, jwt.pause].map(|time| time.as_secs());
    assert_eq!(seconds, [1, 60, 120, 3]);
    assert_eq!((jwt.keys_max, jwt.tokens.token_bytes_max, jwt.tokens.tokens_max), (4, 2 << 10, 5));
    assert_eq!((&*jwt.issuer, &*jwt.tokens.subject_claim), ("https://idp.example.com/", "oid"));
    assert_eq!(
        (&jwt.algorithms[..], &jwt.tokens.audiences[..]),
        (&["ES256".into()][..], &["api".into()][..])
    );
    assert_eq!((jwt.jwks_url.is_some(), &*jwt.tokens.groups_claim), (true, "realm.roles"));
    let AuthKind::Keys(keys) = &agents.kind else { panic!("keys") };
    assert_eq!((&*keys[0].id, &*keys[0].caller, keys[0].expires), ("a1", "ci", Some(0)));
    assert_eq!(
        (keys[0].hash[..2].to_vec(), keys[0].label.as_deref()),
        (vec![0, 255], Some("nightly"))
    );
    assert_eq!((keys[0].groups.len(), keys[0].scopes.len()), (1, 1));
}

#[test]
fn the_order_is_that_of_the_file() {
    let config = read(
        "[routes.\"/z\"]\nupstreams = [\"*\"]\n[routes.\"/a\"]\nupstreams = [\"b\"]\n\
         [upstreams.z]\ncommand = \"z\"\n[upstreams.b]\ncommand = \"b\"\n",
    );
    assert_eq!(config.routes.iter().map(|r| r.path.as_str()).collect::<Vec<_>>(), ["/z", "/a"]);
    assert_eq!(config.routes[0].upstreams, ["z", "b"]);
}

#[test]
fn what_an_upstream_lacks_is_its_own_problem() {
    let lame = upstream("command = \"${A}\"\nargs = [\"${B}\"]\nenv.C = \"file:secrets/c\"\n");
    let problem = lame.problem.expect("a problem");
    assert!(
        problem.contains("variable A is not set; set it where Tollgate is started"),
        "{problem}"
    );
    assert!(problem.contains("variable B is not set"), "{problem}");
    assert!(problem.contains("secret file /srv/secrets/c cannot be read"), "{problem}");

    let text = of_upstream("url = \"${A}\"\ntimeout.open = \"${B}\"\n")
        + "[upstreams.other]\ncommand = \"a\"\nargs = [\"${HOME_TOKEN}\"]\n";
    let config = read(&text);
    assert!(config.upstreams[0].problem.is_some());
    assert_eq!(config.upstreams[1].problem, None);
}

#[test]
fn a_header_that_cannot_be_sent_is_a_problem_of_its_upstream() {
    let lame = upstream("url = \"http://a/\"\nheaders.x = \"a\\nb\"\n");
    assert!(lame.problem.expect("a problem").contains("the value of header x"));
}

#[test]
fn texts_stand_for_themselves_variables_or_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("pass"), "from a file\n").expect("a file");
    let text = of_upstream(
        r#"
command = "a"
args = ["$${HOME_TOKEN}", "a${HOME_TOKEN}b${HOME_TOKEN}", "$5", "env:HOME_TOKEN", "$$${X}"]
env = { A = "env:HOME_TOKEN", B = "file:pass", C = "text:file:pass", D = "x:${HOME_TOKEN}" }
"#,
    );
    let name = folder.path().join("routes.toml");
    std::fs::write(&name, text).expect("a file");
    let config = crate::config::load(&name, &super::variables).expect("a right file");
    let Transport::Stdio { args, env, .. } = &config.upstreams[0].transport else {
        panic!("a process");
    };
    assert_eq!(args, &["${HOME_TOKEN}", "as3cretbs3cret", "$5", "env:HOME_TOKEN", "$${X}"]);
    let env = |name: &str| env[name].expose();
    assert_eq!([env("A"), env("B")], ["s3cret", "from a file"]);
    assert_eq!([env("C"), env("D")], ["file:pass", "x:s3cret"]);
}

#[test]
fn the_folder_of_the_file_is_a_variable() {
    let one = upstream("command = \"${TOLLGATE_FOLDER}/bin/it\"\n");
    let Transport::Stdio { command, .. } = &one.transport else { panic!("a process") };
    assert_eq!(command, "/srv/bin/it");
}

#[test]
fn the_same_section_is_equal_and_another_is_not() {
    let keys = "command = \"a\"\nenv.A = \"${HOME_TOKEN}\"\n";
    assert_eq!(upstream(keys), upstream(keys));
    assert_ne!(upstream(keys), upstream("command = \"a\"\nenv.A = \"other\"\n"));
}

/// What the text reads as.
fn kind<K: FromToml>(text: &str) -> Option<K::Value> {
    let node = Spanned::new(0..0, DeValue::String(text.into()));
    K::read(&node, &mut Reader::new("".as_ref(), &|_| None))
}

proptest! {
    #[test]
    fn a_size_is_read_as_it_is_shown(bytes in any::<usize>(), shift in 0..63) {
        let bytes = bytes >> shift << (shift / 2);
        prop_assert_eq!(kind::<AnySize>(&size(bytes)), Some(bytes));
    }

    #[test]
    fn a_duration_is_read_as_it_is_shown(millis in any::<u64>(), shift in 0..64) {
        let time = Duration::from_millis(millis >> shift);
        prop_assert_eq!(kind::<AnyDuration>(&duration(time)), Some(time));
    }

    #[test]
    fn no_edit_is_too_strange(at in 0usize..2_000, out in 0usize..40, text in "[ -~é\n]{0,6}") {
        let mut file: Vec<char> = include_str!("../../../routes.toml").chars().collect();
        let at = at.min(file.len());
        let end = (at + out).min(file.len());
        file.splice(at..end, text.chars());
        let file: String = file.into_iter().collect();
        if let Err(problems) = crate::config::parse("routes.toml", &file, &|_| None) {
            prop_assert!(problems.to_string().starts_with("error: "));
        }
    }

    #[test]
    fn no_text_is_too_strange(text in ".{0,200}") {
        if let Err(problems) = crate::config::parse("routes.toml", &text, &|_| None) {
            prop_assert!(problems.to_string().starts_with("error: "));
        }
    }
}

#[test]
fn a_variable_may_have_a_default() {
    let environment = |name: &str| match name {
        "SET" => Some("value".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    for (text, wanted) in [
        ("${SET:-other}", "value"),
        ("${EMPTY:-other}", "other"),
        ("${UNSET:-other}", "other"),
        ("${UNSET:-}", ""),
        ("${UNSET:--}", "-"),
        ("${UNSET:-a:-b}", "a:-b"),
        ("${UNSET:-https://example.com:8443/a b?c=$d}", "https://example.com:8443/a b?c=$d"),
        ("a${UNSET:-b}c${SET}d${EMPTY:-e}", "abcvaluede"),
        ("$${UNSET:-other}", "${UNSET:-other}"),
        ("${UNSET:-{x}", "{x"),
        ("${UNSET:-other}}", "other}"),
    ] {
        let upstream = format!("command = \"x\"\nenv.A = '{text}'\nargs = ['{text}']");
        let file = format!("routes.\"/\".upstreams = [\"*\"]\n[upstreams.a]\n{upstream}");
        let config = crate::config::parse("routes.toml", &file, &environment).unwrap();
        let Transport::Stdio { args, env, .. } = &config.upstreams[0].transport else {
            panic!("a process")
        };
        let (argument, variable) = (args[0].as_str(), env["A"].expose());
        assert_eq!((argument, variable), (wanted, wanted), "{text}");
        assert_eq!(config.upstreams[0].problem, None, "{text}");
    }
    let file = "[upstreams.a]\ncommand = \"x\"\nargs = ['${A-B:-c}', '${D:-${E}}']";
    let problems = crate::config::parse("routes.toml", file, &environment).unwrap_err().to_string();
    assert!(problems.contains("`A-B` is not the name of a variable"), "{problems}");
    assert!(problems.contains("a default cannot have a variable in it"), "{problems}");
}

#[test]
fn a_process_that_keeps_state_and_is_shared_is_told() {
    let config = |keys: &str| {
        let text = format!(
            "[routes.\"/mcp\"]\nupstreams = [\"*\"]\n[upstreams.web]\ncommand = \"npx\"\n\
             args = [\"-y\", \"@playwright/mcp@latest\"]\n{keys}\n"
        );
        crate::config::advice(&read(&text))
    };
    let [line] = &config("")[..] else { panic!("{:?}", config("")) };
    assert!(line.starts_with("upstreams.web: this server keeps a browser between calls"), "{line}");
    for set in ["session", "shared"] {
        assert_eq!(config(&format!("isolation = \"{set}\"")), [""; 0], "{set}");
    }
}
