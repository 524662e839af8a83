//! Files of any content: none may stop the import, and what it writes is always right.

use proptest::{
    collection::{btree_map, vec},
    prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest},
};
use serde_json::{Map, Value, json};

use crate::{
    cli::import::{
        command::{Imported, import},
        write::OutputFile,
    },
    config::{Transport, parse},
};

use super::tests::{names, one, read, source};

/// A text of the strangest kind, often with a variable.
fn text() -> impl Strategy<Value = String> {
    const PIECES: [&str; 22] = [
        "${A}",
        "${env:B}",
        "${input:c-d}",
        "${",
        "${x:y}",
        "${E:-f}",
        "${G:-${H}}",
        "$",
        "$I",
        "%J%",
        "{env:K}",
        "{file:./l}",
        "${file:~/m}",
        "${{ secrets.N }}",
        "{{O}}",
        "${workspaceFolder}",
        "${userHome}",
        "~/p",
        "env:",
        "file:",
        "https://a/",
        "",
    ];
    let piece = || prop::sample::select(&PIECES[..]);
    let strange = || {
        prop_oneof![
            "[ -~]{0,8}",
            vec(any::<char>(), 0..6).prop_map(|chars| chars.into_iter().collect::<String>())
        ]
    };
    (piece(), strange(), piece(), strange()).prop_map(|(a, b, c, d)| format!("{a}{b}{c}{d}"))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        text().prop_map(Value::String),
        Just(Value::Null),
        Just(json!(true)),
        Just(json!(false)),
        any::<f64>().prop_map(|number| json!(number)),
        any::<i64>().prop_map(|number| json!(number)),
        Just(json!(30)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((key(), inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// The keys of all clients' servers, and others.
fn key() -> impl Strategy<Value = String> {
    const KEYS: &[&str] = &[
        "command",
        "args",
        "env",
        "cwd",
        "url",
        "headers",
        "type",
        "disabled",
        "other",
        "cmd",
        "envs",
        "environment",
        "env_keys",
        "env_vars",
        "serverUrl",
        "httpUrl",
        "uri",
        "transport",
        "tools",
        "disabledTools",
        "includeTools",
        "timeout",
        "initTimeout",
        "startup_timeout_sec",
        "requestOptions",
        "bearer_token_env_var",
        "apiKey",
        "http_headers",
        "env_http_headers",
        "proxy",
        "caBundlePath",
        "path",
        "name",
        "enabled",
        "startup",
        "customUserVars",
        "oauth",
        "envFile",
        "value",
        "default",
        "variables",
        "identifier",
        "registryType",
        "isRequired",
        "headersHelper",
        "autoApprove",
    ];
    prop_oneof![4 => prop::sample::select(KEYS).prop_map(str::to_owned), 1 => text()]
}

fn server() -> impl Strategy<Value = Map<String, Value>> {
    vec((key(), value()), 0..7).prop_map(|pairs| pairs.into_iter().collect())
}

/// A file in which some client would keep these servers.
fn file() -> impl Strategy<Value = Value> {
    const PLACES: &[&str] = &[
        "mcpServers",
        "servers",
        "context_servers",
        "mcp_servers",
        "amp.mcpServers",
        "mcp",
        "extensions",
        "packages",
        "remotes",
    ];
    let servers = || btree_map(text(), server(), 0..4).prop_map(|servers| json!(servers));
    let list = vec(server(), 0..4).prop_map(|servers| json!(servers));
    let place = prop::sample::select(PLACES);
    let input = (key(), value()).prop_map(|(key, value)| json!([{ "id": "c-d", key: value }]));
    (vec((place, prop_oneof![servers(), list]), 1..3), input, servers()).prop_map(
        |(places, inputs, project)| {
            let mut file = json!({
                "name": "a/b", "inputs": inputs, "projects": { "/p": { "mcpServers": project } },
            });
            places.into_iter().for_each(|(key, value)| file[key] = value);
            file
        },
    )
}

/// Of a command that is none, what is left is an address: nothing of a process goes with it.
#[test]
fn an_address_beside_what_is_no_command_is_one() {
    for command in [
        json!({}),
        json!({ "path": "" }),
        json!({ "path": {} }),
        json!([]),
        json!([""]),
        json!([{}]),
        json!(""),
        json!(null),
        json!(5),
        json!(true),
    ] {
        let server = json!({
            "command": command, "url": "https://a/", "args": ["x"], "cwd": "/c",
            "headers": { "A": "b" },
        });
        let file = json!({ "mcpServers": { "a": server } });
        let text = one("a.json", &file.to_string()).unwrap().toml;
        let config = parse("routes.toml", &text, &|_| None).expect(&text);
        assert_eq!(config.upstreams.len(), 1, "{command}\n{text}");
        assert!(text.contains("headers.A") && text.contains("# not carried over: args"), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_imported_is_always_right(file in file(), name in "[a-z/.]{1,9}") {
        let name = name.trim_end_matches(['.', '/']).to_owned() + ".json";
        if let Ok(imported) = one(&name, &file.to_string())
            && let Err(problems) = parse("routes.toml", &imported.toml, &|_| None)
        {
            prop_assert!(false, "{problems}\n{}", imported.toml);
        }
    }

    #[test]
    fn any_value_is_imported_or_refused(value in value()) {
        if let Ok(imported) = one("-", &value.to_string()) {
            prop_assert!(parse("routes.toml", &imported.toml, &|_| None).is_ok());
        }
    }

    #[test]
    fn any_text_is_imported_or_refused(text in text(), lines in "[\\[\\]{}a-z:=\n -]{0,60}") {
        one("-", &text).ok();
        one("-", &lines).ok();
    }

    /// What is added to a file of any servers is right as well, and what was there stays.
    #[test]
    fn what_is_added_is_always_right(before in file(), more in file()) {
        let Ok(before) = one("a.json", &before.to_string()) else { return Ok(()) };
        let target = OutputFile { before: Some(&before.toml), route: None, gate: true };
        let Ok(after) = import(&[source("b.json", &more.to_string())], &target) else {
            return Ok(())
        };
        let of = |imported: &Imported| parse("routes.toml", &imported.toml, &|_| None);
        let old = of(&before).expect("it was right");
        let new = of(&after);
        let Ok(new) = new else {
            prop_assert!(false, "{}\n{}", new.unwrap_err(), after.toml);
            return Ok(())
        };
        let kept = names(&new).into_iter().take(old.upstreams.len()).collect::<Vec<_>>();
        prop_assert_eq!(kept, names(&old));
    }

    #[test]
    fn texts_arrive_as_they_were(args in vec("[^$]{0,20}", 0..4), secret in "[^$]{0,20}") {
        let server = json!({ "command": "x", "args": args, "env": { "A": secret } });
        let imported = one("a.json", &json!({ "mcpServers": { "a": server } }).to_string());
        let config = read(&imported.expect("servers"));
        let Transport::Stdio { args: read, env, .. } = &config.upstreams[0].transport else {
            panic!("a process");
        };
        prop_assert_eq!(read, &args);
        prop_assert_eq!(env["A"].expose(), secret);
    }
}
