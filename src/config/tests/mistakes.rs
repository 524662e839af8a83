//! What a wrong file is told.

use super::{of_upstream, problems, told};

#[test]
fn a_problem_is_printed_as_rustc_prints_it() {
    let text = "[server]\nlisten = 8080\n[routes.\"/mcp\"]\nupstreams = [\"gate\"]\n\
                [upstreams.gate]\nbuiltin = \"gat\"\n";
    let want = r#"error: expected an address and port, found an integer
 --> routes.toml:2:10
  |
2 | listen = 8080
  |          ^^^^
  |
  = help: put it in quotes: "…"

error: `gat` is not a word known here
 --> routes.toml:6:11
  |
6 | builtin = "gat"
  |           ^^^^^
  |
  = help: did you mean `gate`?"#;
    assert_eq!(problems(text), want);
}

#[test]
fn colours_are_for_terminals() {
    let wrong = || crate::config::parse("routes.toml", "x = 1", &|_| None).expect_err("wrong");
    assert!(wrong().render(true).contains('\u{1b}'));
    assert!(!wrong().to_string().contains('\u{1b}'));
    assert!(!format!("{:?}", wrong()).contains("x = 1"), "the text may hold secrets");
}

#[test]
fn all_problems_of_the_file_are_told_at_once() {
    let text = r#"
[server]
lisen = "127.0.0.1:1"
hosts = "a"
limits = { depth_max = 0, body_bytes_max = "4Mb!", drain = 5, batch_max = -1, session_idle = "x" }

[routes."mcp"]
upstreams = ["file", "files", "files"]
names = "sometimes"
tools = { rename = { a = "c", b = "c" } }

[upstreams.files]
command = "npx"
url = "ftp://example.com"
"#;
    told(
        text,
        &[
            "error: unknown key `lisen`",
            "did you mean `listen`?",
            "error: expected an array, found a text",
            "error: this number is not between 4 and 1000",
            "error: `4Mb!` is not a size",
            "error: expected a duration, found an integer",
            "error: this number is not between 1 and 10000",
            "error: `x` is not a duration",
            "error: `mcp` is not a path",
            "error: there is no upstream `file`",
            "did you mean `files`?",
            "error: `files` is named twice",
            "error: `sometimes` is not a word known here",
            "known here: `auto`, `always`, `never`",
            "error: `c` is already the new name of `a`",
            "error: `ftp://example.com` is not an http or https URL",
            "error: `url` besides `command`",
        ],
    );
}

#[test]
fn an_open_route_that_others_could_reach_is_told() {
    let file = |auth: &str| {
        format!(
            "[server]\nlisten = \"0.0.0.0:80\"\n[routes.\"/mcp\"]\nupstreams = [\"gate\"]\n{auth}\n\
             [upstreams.gate]\nbuiltin = \"gate\"\n"
        )
    };
    told(&file(""), &["error: everybody who reaches 0.0.0.0:80 can use `/mcp`", "auth = \"none\""]);
    told(&file("auth = []"), &["error: this route names nobody"]);
    told(&file("auth = \"all\""), &["error: expected an array, or \"none\", found a text"]);
    assert!(crate::config::parse("routes.toml", &file("auth = \"none\""), &|_| None).is_ok());
    let jwt = "auth = [\"a\"]\n[auth.a]\nkind = \"jwt\"\nissuer = \"https://a.example\"";
    told(&file(jwt), &["error: the audience of these tokens would be an address that no client"]);
}

#[test]
fn all_problems_of_authorities_are_told() {
    let text = r#"
[routes."/mcp"]
upstreams = ["gate"]
auth = ["corp", "key", "empty"]

[upstreams.gate]
builtin = "gate"

[auth.corp]
kind = "jwt"
algorithms = ["RS256", "HS256", "none"]
stale = "1m"
keys = {}

[auth.keys]
kind = "keys"
leeway = "1s"
keys.a = { hash = "sha256:00", caller = "", expires = "tomorrow" }
keys.b = { label = "x" }

[auth.empty]
kind = "keys"

[auth."No One"]
"#;
    told(
        text,
        &[
            "error: this authority has no `issuer`",
            "error: `HS256` is not an algorithm that is taken here",
            "error: `none` is not an algorithm that is taken here",
            "error: `stale` is 1m, but `refresh` is 10m",
            "error: `keys` means nothing for an authority of kind \"jwt\"",
            "error: `leeway` means nothing for an authority of kind \"keys\"",
            "error: `sha256:00` is not the hash of a key",
            "error: a caller's name is empty",
            "error: `tomorrow` is not a moment",
            "error: this key has no `hash`",
            "error: this key has no `caller`",
            "error: this authority has no key",
            "error: `No One` is not a name for an authority",
            "error: this authority has no `kind`",
            "error: there is no [auth.key]",
            "did you mean `keys`?",
        ],
    );
}

#[test]
fn all_problems_of_a_credential_are_told() {
    let of =
        |keys: &str| of_upstream(&format!("url = \"http://a/mcp\"\ncredential = {{ {keys} }}\n"));
    told(&of(""), &["error: this credential has no `kind`"]);
    told(
        &of("kind = \"client_credentials\""),
        &[
            "error: this credential has no `client_id`",
            "error: this credential has no secret",
            "error: this credential has no `token_url`",
        ],
    );
    let known = "kind = \"client_credentials\", client_id = \"a\", discover = true";
    told(
        &of(&format!("{known}, client_secret = \"in the file\"")),
        &["error: this secret must not stand in the file itself"],
    );
    let secrets = "client_secret = \"env:HOME_TOKEN\", private_key = \"env:HOME_TOKEN\"";
    told(
        &of(&format!("{known}, {secrets}, algorithm = \"HS256\", method = \"post\"")),
        &[
            "error: `client_secret` besides `private_key`",
            "error: `method` means nothing with `private_key`",
            "error: `HS256` is not an algorithm that is taken here",
        ],
    );
    told(
        &of(&format!("{known}, private_key = \"env:HOME_TOKEN\"")),
        &["error: this private key has no `algorithm`", "choose of RS256"],
    );
    told(
        &of(&format!("{known}, client_secret = \"env:HOME_TOKEN\", key_id = \"k\"")),
        &["error: `key_id` means nothing with `client_secret`"],
    );
    let twice = "headers = { authorization = \"x\" }\n";
    told(
        &format!("{}{twice}", of(&format!("{known}, client_secret = \"env:HOME_TOKEN\""))),
        &["error: `credential` besides a header `Authorization`"],
    );
}

#[test]
fn a_file_without_routes_is_told_what_to_write() {
    told("", &["error: there is no route", "--> routes.toml\n", "[routes.\"/mcp\"]"]);
    told("[routes]\n", &["error: there is no route"]);
    told(
        "[routes.\"/mcp\"]\nupstreams = [\"*\"]\n",
        &["error: there is no upstream", "[upstreams.NAME]"],
    );
    told("routes = 1\n", &["error: expected a table, found an integer"]);
    told("routes.\"/a\".upstreams = 1\n", &["error: expected an array, found an integer"]);
    told("[routes.\"/mcp\"]\n", &["error: this route has no `upstreams`", "routes.toml:1:9"]);
    told("[routes.\"/mcp\"]\nupstreams = []\n", &["error: this route names no upstream"]);
}

#[test]
fn a_route_leaves_the_gates_own_paths_alone() {
    for path in ["/livez", "/readyz", "/metrics", "/.well-known", "/.well-known/x"] {
        let text = format!(
            "[routes.\"{path}\"]\nupstreams = [\"g\"]\n[upstreams.g]\nbuiltin = \"gate\"\n"
        );
        told(&text, &[&format!("error: `{path}` is answered by the gate itself")]);
    }
    for path in ["/a b", "/a//b", "/mcp/", "/mcp?x"] {
        let text = format!(
            "[routes.\"{path}\"]\nupstreams = [\"g\"]\n[upstreams.g]\nbuiltin = \"gate\"\n"
        );
        told(&text, &[&format!("error: `{path}` can never be asked for")]);
    }
}

#[test]
fn syntax_errors_are_told_together_with_the_rest() {
    let text = "[server]\nlisten = \n[routes.\"/mcp\"]\nupstreams = [\"*\"]\nnmes = \"auto\"\n\
                [upstreams.gate]\nbuiltin = gate\n";
    let printed = problems(text);
    for place in ["routes.toml:2:", "routes.toml:5:1", "routes.toml:7:"] {
        assert!(printed.contains(place), "no {place} in:\n{printed}");
    }
    assert!(!printed.contains("is not a word"), "follows from the missing quotes:\n{printed}");
}

#[test]
fn an_upstream_is_exactly_one_kind() {
    told(&of_upstream("start = \"lazy\"\n"), &["error: this upstream is nothing yet"]);
    told(
        &of_upstream("command = \"a\"\nbuiltin = \"gate\"\n"),
        &["error: `builtin` besides `command`"],
    );
    told(
        &of_upstream("url = \"http://a/\"\nargs = []\nmemory = \"1GiB\"\ncwd = \"x\"\n"),
        &[
            "error: `args` means nothing for an upstream with `url`",
            "error: `memory` means nothing for an upstream with `url`",
            "error: `cwd` means nothing for an upstream with `url`",
        ],
    );
    told(
        &of_upstream("command = \"a\"\ntransport = \"sse\"\nheaders = {}\nh2c = true\n"),
        &[
            "error: `transport` means nothing for an upstream with `command`",
            "error: `headers` means nothing for an upstream with `command`",
            "error: `h2c` means nothing for an upstream with `command`",
        ],
    );
    told(
        &of_upstream("builtin = \"gate\"\nprocesses_max = 2\ntransport = \"auto\"\n"),
        &[
            "error: `processes_max` means nothing for an upstream with `builtin`",
            "error: `transport` means nothing for an upstream with `builtin`",
        ],
    );
    told(
        &of_upstream("url = \"http://a/\"\ntransport = \"stdio\"\n"),
        &["error: `stdio` is not a word known here"],
    );
}

#[test]
fn keys_of_an_upstream_are_checked_together() {
    told(
        &of_upstream("url = \"https://a/\"\nh2c = true\n"),
        &["error: `h2c` is for http: URLs only"],
    );
    told(
        &of_upstream("command = \"\"\nenv = { \"A=B\" = \"c\" }\n"),
        &["error: a command is empty", "error: no variable can be called `A=B`"],
    );
    told(
        &of_upstream("url = \"http://a/\"\nheaders = { \"a b\" = \"c\", X = \"1\", x = \"2\" }\n"),
        &["error: `a b` is not a header's name", "error: header x is given twice"],
    );
    told(
        &of_upstream("command = \"a\"\ntimeout = { total = \"5s\" }\n"),
        &["error: `idle` is 1m, but `total` is 5s"],
    );
    told(
        &of_upstream("command = \"a\"\nrestart = { delay = \"2m\" }\n"),
        &["error: `delay` is 2m, but `delay_max` is 30s"],
    );
    told(
        &of_upstream("command = \"a\"\ntools = { rename = { a = \"b c\", d = \"\" } }\n"),
        &["error: `b c` is not a name for a tool", "error: a name is empty"],
    );
}

#[test]
fn an_upstreams_name_is_checked() {
    for name in ["A", "a.b", "", "é", "a23456789012345678901234567890123"] {
        let text = format!(
            "[routes.\"/mcp\"]\nupstreams = [\"*\"]\n[upstreams.\"{name}\"]\ncommand = \"a\"\n"
        );
        told(&text, &[&format!("error: `{name}` is not a name for an upstream")]);
    }
}

#[test]
fn tls_needs_both_files_and_a_session_key_a_place_and_a_length() {
    let gate = "[routes.\"/mcp\"]\nupstreams = [\"g\"]\n[upstreams.g]\nbuiltin = \"gate\"\n";
    let server = |keys: &str| format!("[server]\n{keys}\n{gate}");
    told(&server("tls = { key = \"k.pem\" }"), &["error: `certificate` is missing"]);
    told(
        &server("session_key = \"0123456789abcdef0123456789abcdef\""),
        &["error: this secret must not stand in the file itself"],
    );
    told(&server("session_key = \"env:HOME_TOKEN\""), &["error: the session key has 6 bytes"]);
    told(
        &server("session_key = \"file:/nowhere/key\""),
        &["error: secret file /nowhere/key cannot be read"],
    );
}

#[test]
fn a_variable_that_is_missing_outside_of_an_upstream_is_a_problem() {
    let text = "[server]\nlisten = \"${ADDRESS}\"\n[routes.\"/mcp\"]\nupstreams = [\"g\"]\n\
                [upstreams.g]\nbuiltin = \"gate\"\n";
    told(text, &["error: variable ADDRESS is not set", "routes.toml:2:10"]);
}

#[test]
fn variables_are_written_rightly_or_told() {
    told(&of_upstream("command = \"${A\"\n"), &["error: `${` without `}`"]);
    told(&of_upstream("command = \"${A-B}\"\n"), &["error: `A-B` is not the name of a variable"]);
    told(
        &of_upstream("command = \"a\"\nenv = { A = \"env:\" }\n"),
        &["error: `` is not the name of a variable"],
    );
}

#[test]
fn a_variables_value_is_not_printed() {
    let printed = problems(&of_upstream("url = \"${HOME_TOKEN}\"\n"));
    assert!(printed.contains("`${HOME_TOKEN}` is not an http or https URL"), "{printed}");
    assert!(!printed.contains("s3cret"), "{printed}");
}

#[test]
fn a_file_that_is_not_there_is_a_problem() {
    let path = std::path::Path::new("/nowhere/routes.toml");
    let printed = crate::config::load(path, &|_| None).expect_err("no file").to_string();
    assert!(printed.contains("cannot be read: "), "{printed}");
    assert!(printed.contains("--> /nowhere/routes.toml"), "{printed}");
}

#[test]
fn what_follows_from_a_syntax_error_is_not_told() {
    let gate = "[routes.\"/mcp\"]\nupstreams = [\"*\"]\n";
    let later = "[server]\nlisen = \"\"\n";
    told(
        &format!("{gate}[upstreams.gate\nbuiltin = \"gate\"\nh2c = true\n{later}"),
        &["error: unclosed table", "routes.toml:3:16", "error: unknown key `lisen`"],
    );
    told(
        &format!(
            "nmes = 1\n{gate}[upstreams.a]\nargs = [\"a\"\ncwd = \"b\"\n\nidle = \"1\"\n{later}"
        ),
        &["error: unknown key `nmes`", "error: missing comma", "routes.toml:6:"],
    );
    told(
        "[upstreams.a]\nargs = [a b c]\n[upstreams.a]\n",
        &["error: string values must be quoted", "error: duplicate key", "routes.toml:3:"],
    );
}

#[test]
fn operators_are_not_served_to_strangers_by_oversight() {
    let text = |keys: &str| {
        format!(
            "[server]\n{keys}\n[routes.\"/mcp\"]\nupstreams = [\"gate\"]\n\
             [upstreams.gate]\nbuiltin = \"gate\"\n"
        )
    };
    let told = problems(&text("admin = \"0.0.0.0:9090\""));
    assert!(told.contains("whoever reaches 0.0.0.0:9090") && told.contains("admin_open = true"));
    for keys in ["admin = \"127.0.0.1:9090\"", "admin = \"0.0.0.0:9090\"\nadmin_open = true"] {
        let read = crate::config::parse("routes.toml", &text(keys), &|_| None);
        assert!(read.expect("said on purpose, or loopback").server.admin.is_some());
    }
}

#[test]
fn a_secret_of_vault_has_a_path_and_a_field() {
    let header =
        |value: &str| of_upstream(&format!("url = \"http://a\"\nheaders.X = \"{value}\"\n"));
    for wrong in [
        "vault:",
        "vault:secret/data/a",
        "vault:a#b",
        "vault:secret/data/../x#b",
        "vault:secret/data/a?version=1#b",
        "vault:/secret/data/a#b",
        "vault:secret/data/a#",
    ] {
        let reference = wrong.trim_start_matches("vault:");
        told(&header(wrong), &[&format!("error: `{reference}` is not the place of a secret")]);
    }
    let variables =
        |name: &str| (name == "vault:secret/data/team/jobs#key").then(|| "s3cret".to_owned());
    let right = header("vault:secret/data/team/jobs#key");
    let config = crate::config::parse("routes.toml", &right, &variables).expect("a right file");
    assert_eq!(config.upstreams[0].problem, None);
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn a_misspelt_key_is_told_once() {
    let credential = "kind = \"client_credentials\", client_secret = \"env:HOME_TOKEN\", \
                      token_url = \"https://a.example\"";
    let aws = "service = \"a\", access_key_id = \"env:HOME_TOKEN\", \
               secret_access_key = \"env:HOME_TOKEN\"";
    let hash = format!("hash = \"sha256:{}\"", "00ff".repeat(16));
    for (keys, meant) in [
        ("in_flight = { mx = 1 }", "max"),
        ("tools.t.cache = { tll = \"1s\" }", "ttl"),
        ("tools.t.cost = { argumnt = \"/a\" }", "argument"),
        ("canary = { upstream = \"other\", weigth = 1 }", "weight"),
        ("shadow = { upstrem = \"other\" }", "upstream"),
        ("guard.detect = [{ fnd = [\"secrets\"], in = [\"results\"], then = \"flag\" }]", "find"),
        (&format!("credential = {{ cliend_id = \"a\", {credential} }}"), "client_id"),
        (&format!("credential = {{ kind = \"aws_sigv4\", regon = \"a\", {aws} }}"), "region"),
        ("[auth.a]\nkind = \"jwt\"\nisuer = \"https://a.example\"", "issuer"),
        (&format!("[auth.a]\nkind = \"keys\"\nkeys.a = {{ caler = \"a\", {hash} }}"), "caller"),
        ("[detectors.a]\npatern = \"a\"", "pattern"),
        ("[server]\ntls = { certificat = \"a\", key = \"b\" }", "certificate"),
    ] {
        let text = of_upstream(&format!("url = \"http://a\"\n{keys}\n"));
        let text = format!(
            "{text}[upstreams.other]\nurl = \"http://b\"\n[routes.\"/other\"]\n\
                            upstreams = [\"other\"]\nauth = \"none\"\n"
        );
        told(&text, &["error: unknown key", &format!("did you mean `{meant}`?")]);
    }
    let text = of_upstream("url = \"http://a\"\n[auth.a]\nkin = \"jwt\"\n");
    told(
        &text,
        &["error: unknown key `kin`", "did you mean `kind`?", "error: this authority has no"],
    );
}

#[test]
fn a_variable_that_is_not_set_is_told_once() {
    let hash = format!("hash = \"sha256:{}\"", "00ff".repeat(16));
    let key = format!("keys.a = {{ {hash}, caller = \"${{NOBODY}}\" }}");
    let text = of_upstream(&format!("url = \"http://a\"\n[auth.a]\nkind = \"keys\"\n{key}\n"));
    told(&text, &["error: variable NOBODY is not set"]);
}
