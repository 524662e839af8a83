//! Every client's file with all that its documentation says it may have.
//!
//! `UPDATE=1` rewrites what is expected, to be read in the difference.

use std::{collections::HashSet, path::Path};

use serde_json::{Value, json};

use crate::config::{HttpTransport, Start, Transport, environment};

use super::tests::{data, names, one, read, source};
use super::{command::import, write::OutputFile};

/// Each file of `tests/data/import`, and where its client keeps it.
const FILES: [(&str, &str); 24] = [
    ("claude-desktop.json", "/home/ann/.config/Claude/claude_desktop_config.json"),
    ("claude-code.json", "/home/ann/shop/.mcp.json"),
    ("claude-code-user.json", "/home/ann/.claude.json"),
    ("plugin.json", "/home/ann/plugin/.mcp.json"),
    ("cursor.json", "/home/ann/shop/.cursor/mcp.json"),
    ("vscode.json", "/home/ann/shop/.vscode/mcp.json"),
    ("vscode-settings.json", "/home/ann/.config/Code/User/settings.json"),
    ("windsurf.json", "/home/ann/.codeium/windsurf/mcp_config.json"),
    ("cline.json", "/home/ann/settings/cline_mcp_settings.json"),
    ("roo.json", "/home/ann/shop/.roo/mcp.json"),
    ("kiro.json", "/home/ann/shop/.kiro/settings/mcp.json"),
    ("zed.json", "/home/ann/.config/zed/settings.json"),
    ("gemini.json", "/home/ann/.gemini/settings.json"),
    ("copilot.json", "/home/ann/.copilot/mcp-config.json"),
    ("codex.toml", "/home/ann/.codex/config.toml"),
    ("goose.yaml", "/home/ann/.config/goose/config.yaml"),
    ("continue.yaml", "/home/ann/.continue/config.yaml"),
    ("continue.json", "/home/ann/.continue/config.json"),
    ("librechat.yaml", "/home/ann/librechat.yaml"),
    ("opencode.jsonc", "/home/ann/.config/opencode/opencode.jsonc"),
    ("opencode-2.jsonc", "/home/ann/.config/opencode/opencode.jsonc"),
    ("amp.json", "/home/ann/.config/amp/settings.json"),
    ("registry.json", "server.json"),
    ("registry-older.json", "-"),
];

#[test]
fn every_client_s_file_becomes_what_is_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import");
    let mut faults = Vec::new();
    for (file, path) in FILES {
        let imported = one(path, &data(&format!("import/{file}"))).expect(file);
        read(&imported);
        let notes = imported.notes.iter().map(|note| format!("# note: {note}\n"));
        let made = format!("{}\n{}", imported.toml, notes.collect::<String>());
        let expected = folder.join("expected").join(format!("{file}.toml"));
        if environment("UPDATE").is_some() {
            std::fs::write(&expected, &made).expect("a file");
        }
        if std::fs::read_to_string(&expected).ok().as_deref() != Some(&made) {
            faults.push(format!("{file} is expected otherwise than:\n{made}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_file_of_the_folder_is_imported() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import");
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file"));
    let files = files.filter(|file| file.path().is_file());
    let files: HashSet<_> = files.map(|file| file.file_name().into_string().unwrap()).collect();
    assert_eq!(files, FILES.iter().map(|(file, _)| (*file).to_owned()).collect());
}

/// Each key that a client's section has is carried over, or a note says of it, by its name.
#[test]
fn no_key_is_lost_without_a_word() {
    // What a name, a look or a way of transport is, and what a switch says, is in the section.
    const TOLD: [&str; 28] = [
        "command",
        "cmd",
        "args",
        "env",
        "envs",
        "environment",
        "env_keys",
        "cwd",
        "url",
        "serverUrl",
        "httpUrl",
        "uri",
        "headers",
        "type",
        "name",
        "source",
        "enabled",
        "disabled",
        "bundled",
        "description",
        "display_name",
        "faviconUrl",
        "iconPath",
        "gallery",
        "transport",
        "available_tools",
        "transportType",
        "disabledPrompts",
    ];
    for (file, path) in FILES.iter().filter(|(file, _)| file.ends_with("json")) {
        let text = data(&format!("import/{file}"));
        let Ok((root, format)) = super::document::read(None, &text) else {
            panic!("{file} is JSON")
        };
        let imported = one(path, &text).expect(file);
        let notes = imported.notes.join("\n");
        for server in super::places::find(&root, format).servers {
            let keys = server.value.as_object().expect("a section").iter();
            for (key, value) in keys.filter(|(key, _)| !TOLD.contains(&key.as_str())) {
                let carried = ["timeout", "tools.", "start = ", "Authorization"];
                let carried = carried.iter().any(|word| imported.toml.contains(word))
                    && ["timeout", "Tools", "tools"].iter().any(|word| key.contains(word));
                let nothing = [json!(false), json!([]), json!({}), Value::Null].contains(value);
                assert!(
                    carried || nothing || notes.contains(&format!("`{key}`")),
                    "{file}: {}.{key}\n{notes}",
                    server.name
                );
            }
        }
    }
}

#[test]
fn a_file_with_eighteen_servers_is_imported_whole() {
    let text = data("import-18.json");
    let imported = one("mcp.json", &text).expect("servers");
    let config = read(&imported);
    assert_eq!(config.upstreams.len(), 18);
    assert_eq!(config.routes[0].upstreams, names(&config));

    let file: Value = serde_json::from_str(&text).expect("JSON");
    for (name, server) in file["mcpServers"].as_object().expect("servers") {
        let upstream = config.upstreams.iter().find(|one| *one.name == **name).expect("imported");
        let Transport::Stdio { command, args, env, .. } = &upstream.transport else {
            panic!("{name} is a process");
        };
        assert_eq!((&json!(command), &json!(args)), (&server["command"], &server["args"]));
        let wanted = server["env"].as_object().expect("variables");
        assert!(env.keys().eq(wanted.keys().collect::<std::collections::BTreeSet<_>>()), "{name}");
    }
    assert!(imported.notes.is_empty(), "{:?}", imported.notes);
}

/// A variable that the entry's own `env` has is the process's to replace, where clients leave it.
#[test]
fn a_variable_of_the_entry_s_own_stays_the_child_s() {
    for (argument, wanted) in [
        ("Authorization: Bearer ${TOKEN}", "Authorization: Bearer ${TOKEN}"),
        ("${TOKEN}", "${TOKEN}"),
        ("${TOKEN}${TOKEN}", "${TOKEN}${TOKEN}"),
        ("echo ${TOKEN:-none}", "echo ${TOKEN:-none}"),
        ("echo $TOKEN", "echo $TOKEN"),
        ("${OTHER}", "v"),
        ("${OTHER}${TOKEN}", "v${TOKEN}"),
        ("${env:TOKEN}", "v"),
        ("$${TOKEN}", "$${TOKEN}"),
        ("a${b", "a${b"),
    ] {
        let server = json!({ "command": "sh", "args": [argument], "env": { "TOKEN": "x" } });
        let file = json!({ "mcpServers": { "a": server } }).to_string();
        let config = read(&one("mcp.json", &file).expect("a server"));
        let Transport::Stdio { args, env, .. } = &config.upstreams[0].transport else {
            panic!("a process")
        };
        assert_eq!((args[0].as_str(), env["TOKEN"].expose()), (wanted, "x"), "{argument}");
    }
}

#[test]
fn lists_of_tools_become_filters() {
    for (server, allow, deny) in [
        (json!({ "disabledTools": ["a", "b"] }), vec![], vec!["a", "b"]),
        (json!({ "excludeTools": ["a"], "includeTools": ["b(x)"] }), vec!["b"], vec!["a"]),
        (json!({ "includeTools": ["read_*"] }), vec!["read_*"], vec![]),
        (json!({ "enabled_tools": ["a"], "disabled_tools": ["b"] }), vec!["a"], vec!["b"]),
        (json!({ "tools": ["a", "a"] }), vec!["a"], vec![]),
        (json!({ "tools": ["*"] }), vec![], vec![]),
        (json!({ "tools": [] }), vec![], vec!["*"]),
        (json!({ "tools": { "a": false, "b": true } }), vec![], vec!["a"]),
        (json!({ "tools": { "a": { "enabled": false } } }), vec![], vec!["a"]),
        (json!({ "allowedTools": ["a", "b"] }), vec!["a", "b"], vec![]),
        (json!({ "disabledTools": ["a", 7, null] }), vec![], vec!["a"]),
        (json!({ "disabledTools": "a" }), vec![], vec!["a"]),
        (json!({ "excludeTools": ["a${b}"] }), vec![], vec!["a${b}"]),
        (json!({ "enabledTools": ["a"], "excludedTools": ["c"] }), vec!["a"], vec!["c"]),
    ] {
        let mut server = server;
        server["command"] = "x".into();
        let file = json!({ "mcpServers": { "a": server } }).to_string();
        let config = read(&one("mcp.json", &file).expect("a server"));
        let tools = &config.upstreams[0].tools;
        let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!((&tools.allow, &tools.deny), (&owned(allow), &owned(deny)), "{file}");
    }
}

/// Rules that stand elsewhere in a file, by the names that clients have for tools.
#[test]
fn rules_of_a_whole_file_become_filters() {
    for (server, rules, deny) in [
        ("git", json!({ "tools": { "git_push": false } }), vec!["push"]),
        ("git", json!({ "tools": { "git_*": false } }), vec!["*"]),
        ("git", json!({ "tools": { "git*": false, "write": false } }), vec!["*"]),
        ("git", json!({ "tools": { "*": false } }), vec!["*"]),
        ("git", json!({ "tools": { "git_delete_*": false } }), vec!["delete_*"]),
        ("git", json!({ "tools": { "git_push": true, "other_x": false } }), vec![]),
        ("my git", json!({ "tools": { "my_git_push": false } }), vec!["push"]),
        ("git", json!({ "permissions": { "deny": ["mcp__git__push", "Bash"] } }), vec!["push"]),
        ("git", json!({ "permissions": { "deny": ["mcp__git"] } }), vec!["*"]),
        ("git", json!({ "permissions": { "deny": ["mcp__gitlab__push"] } }), vec![]),
        ("my git", json!({ "permissions": { "deny": ["mcp__my_git__push"] } }), vec!["push"]),
        ("git", json!({ "amp.tools.disable": ["mcp__git__push", "x"] }), vec!["push"]),
    ] {
        let mut file = rules;
        file["mcp"] = json!({ server: { "type": "local", "command": ["x"] } });
        let config = read(&one("opencode.json", &file.to_string()).expect("a server"));
        assert_eq!(config.upstreams[0].tools.deny, deny, "{file}");
    }
    let file = json!({
        "mcp": { "git": { "type": "local", "command": ["x"] } }, "tools": { "*_push": false },
    });
    let notes = one("opencode.json", &file.to_string()).expect("a server").notes;
    assert!(notes[0].contains("`tools.*_push` is not carried over"), "{notes:?}");
}

#[test]
fn what_is_switched_off_is_a_comment() {
    for (key, value, on) in [
        ("disabled", json!(true), false),
        ("disabled", json!("true"), false),
        ("disabled", json!(false), true),
        ("disabled", json!("false"), true),
        ("disabled", json!(null), true),
        ("enabled", json!(false), false),
        ("enabled", json!("false"), false),
        ("enabled", json!(true), true),
        ("isActive", json!(false), false),
        ("active", json!(true), true),
    ] {
        let off = json!({ "command": "x", key: value });
        let file = json!({ "mcpServers": { "a": off, "b": { "command": "y" } } });
        let imported = one("mcp.json", &file.to_string()).expect("servers");
        let wanted = if on { vec!["a", "b"] } else { vec!["b"] };
        assert_eq!(names(&read(&imported)), wanted, "{file}");
        assert_eq!(imported.toml.contains("# [upstreams.a]"), !on, "{file}");
    }
}

#[test]
fn times_are_read_in_the_unit_of_their_client() {
    for (file, text, open, idle, total) in [
        ("a.json", r#"{"mcpServers":{"a":{"command":"x","timeout":60}}}"#, 30, 60, 600),
        ("a.json", r#"{"mcpServers":{"a":{"command":"x","timeout":60000}}}"#, 30, 60, 600),
        ("a.json", r#"{"mcpServers":{"a":{"command":"x","timeout":1500000}}}"#, 30, 1500, 1500),
        ("a.json", r#"{"mcp":{"a":{"command":["x"],"timeout":5000}}}"#, 30, 5, 600),
        ("a.toml", "[mcp_servers.a]\ncommand='x'\ntool_timeout_sec=90", 30, 90, 600),
        ("a.toml", "[mcp_servers.a]\ncommand='x'\nstartup_timeout_sec=20.0", 20, 60, 600),
        ("a.toml", "[mcp_servers.a]\ncommand='x'\nstartup_timeout_ms=9000", 9, 60, 600),
        ("a.yml", "extensions: {a: {type: stdio, cmd: x, timeout: 2000}}", 30, 2000, 2000),
        ("a.yml", "mcpServers: {a: {command: x, timeout: 2000}}", 30, 2, 600),
        ("a.yml", "mcpServers: {a: {command: x, initTimeout: 9999999000}}", 3600, 60, 600),
        ("a.yml", "mcpServers: [{name: a, command: x, connectionTimeout: 4000}]", 4, 60, 600),
    ] {
        let config = read(&one(file, text).expect("a server"));
        let timeout = &config.upstreams[0].timeout;
        let found = [timeout.open, timeout.idle, timeout.total].map(|time| time.as_secs());
        assert_eq!(found, [open, idle, total], "{text}");
    }
}

#[test]
fn what_a_client_calls_a_transport_is_known() {
    let transport = |key: &str, kind: &str| {
        let server = json!({ key: kind, "url": "https://example.com/sse" });
        let file = json!({ "mcpServers": { "a": server, "b": { key: kind, "command": "x" } } });
        let imported = one("mcp.json", &file.to_string()).expect("servers");
        assert!(imported.notes.is_empty(), "{:?}", imported.notes);
        read(&imported).upstreams[0].transport.over_http().expect("over HTTP")
    };
    for key in ["type", "transport", "transportType"] {
        assert_eq!(transport(key, "sse"), HttpTransport::Sse);
        for kind in ["http", "streamable-http", "streamableHttp", "streamable_http"] {
            assert_eq!(transport(key, kind), HttpTransport::Auto);
        }
    }
    let lazy = one("a.yml", "mcpServers: {a: {command: x, startup: false}}").expect("a server");
    assert_eq!(read(&lazy).upstreams[0].start, Start::Lazy);
}

#[test]
fn secrets_in_plain_are_kept_and_noted() {
    let text = r#"{ "mcpServers": { "a": { "command": "x", "env": {
        "API_KEY": "hunter2", "OTHER_KEY": "${OTHER_KEY}", "DATABASE": "file:./dev.db" } } } }"#;
    let imported = one("mcp.json", text).expect("servers");
    let config = read(&imported);
    let Transport::Stdio { env, .. } = &config.upstreams[0].transport else { panic!("a process") };
    assert_eq!((env["API_KEY"].expose(), env["OTHER_KEY"].expose()), ("hunter2", "v"));
    assert_eq!(env["DATABASE"].expose(), "file:./dev.db");
    let [note] = imported.notes.as_slice() else { panic!("one note: {:?}", imported.notes) };
    assert!(note.starts_with("mcp.json: a: `env.API_KEY`: stands in the file in plain"), "{note}");
    assert!(!note.contains("hunter2"), "{note}");
}

#[test]
fn what_has_no_servers_is_refused() {
    let fault = |text| one("-", text).expect_err("no servers");
    assert!(fault("{").starts_with("-: this is not JSON: "), "{}", fault("{"));
    assert!(fault("{}").starts_with("no server in any file"));
    assert!(fault("[1]").starts_with("no server in any file"));
    assert!(fault("").starts_with("no server in any file"), "{}", fault(""));
    let sources = [
        source("empty.json", "{ \"mcpServers\": {} }"),
        source("a.json", "{ \"mcpServers\": { \"a\": { \"command\": \"x\" } } }"),
    ];
    let imported = import(&sources, &OutputFile::default()).expect("a server");
    assert_eq!(imported.notes, ["empty.json: has no servers"]);
    assert_eq!(names(&read(&imported)), ["a"]);
}

#[test]
fn a_project_s_file_says_which_folder_is_meant() {
    let text = r#"{ "servers": { "a": { "command": "x", "args": ["${workspaceFolder}"] } } }"#;
    let argument = |path: &str| {
        let config = read(&one(path, text).expect("a server"));
        let Transport::Stdio { args, .. } = &config.upstreams[0].transport else {
            panic!("a process")
        };
        args[0].clone()
    };
    assert_eq!(argument("/srv/shop/.vscode/mcp.json"), "/srv/shop");
    assert_eq!(argument("/srv/shop/.kiro/settings/mcp.json"), "/srv/shop");
    assert_eq!(argument("/srv/${x}/.cursor/mcp.json"), "/srv/${x}");
    assert_eq!(argument("-"), "v");
    assert_eq!(argument("/srv/mcp.json"), "v");
}
