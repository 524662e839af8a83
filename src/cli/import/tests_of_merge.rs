//! What is added to a file that is there, and how files are written.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

use super::tests::{names, one, read, source};
use super::{
    command::{Arguments, Imported, import, run},
    write::OutputFile,
};

const BEFORE: &str = r#"# My gate.
[server]
listen = "127.0.0.1:7000" # not the usual one

[routes."/mcp"]
upstreams = [
    "files", # always first
    # The tracker comes from elsewhere.
    "tracker", # last
]
tools = { deny = ["x"] }

# Files.
[upstreams.files]
command = "npx"
args = ["-y", "server-filesystem", "/tmp"]

[upstreams.tracker]
url = "https://tracker.example.com/mcp"
"#;

fn merged(before: &str, file: &str) -> Imported {
    let target = OutputFile { before: Some(before), ..OutputFile::default() };
    import(&[source("mcp.json", file)], &target).expect("a file that can be added to")
}

#[test]
fn what_is_there_stays_with_its_comments_and_its_order() {
    let file = r#"{ "mcpServers": {
        "github": { "url": "https://github.example.com/mcp" },
        "off": { "command": "x", "disabled": true } } }"#;
    let imported = merged(BEFORE, file);
    let wanted = BEFORE
        .replace("    \"tracker\", # last\n", "    \"tracker\", # last\n    \"github\",\n")
        + "\n[upstreams.github]\nurl = \"https://github.example.com/mcp\"\n\
         \n# Off: `disabled = true`.\n# [upstreams.off]\n# command = \"x\"\n";
    assert_eq!(imported.toml, wanted);
    assert_eq!(names(&read(&imported)), ["files", "tracker", "github"]);
}

#[test]
fn a_name_that_is_there_is_never_overwritten() {
    let file = r#"{ "mcpServers": {
        "files": { "command": "other" },
        "tracker": { "url": "https://tracker.example.com/mcp" } } }"#;
    let imported = merged(BEFORE, file);
    assert_eq!(names(&read(&imported)), ["files", "tracker", "files-2"]);
    assert_eq!(
        imported.notes,
        [
            "mcp.json: files-2: was called \"files\"",
            "mcp.json: tracker: is there already, with the same keys",
        ]
    );
    // Once more, nothing changes.
    let again = merged(&imported.toml, r#"{"mcpServers":{"files-2":{"command":"other"}}}"#);
    assert_eq!(again.toml, imported.toml);
}

#[test]
fn lists_of_every_form_are_added_to() {
    let file = r#"{ "mcpServers": { "b": { "command": "x" } } }"#;
    let upstreams = "[upstreams.a]\ncommand = \"x\"\n";
    for (before, wanted) in [
        ("[\"a\"]", "[\"a\", \"b\"]"),
        ("[ \"a\" ]", "[ \"a\", \"b\" ]"),
        ("[\"a\",]", "[\"a\", \"b\",]"),
        ("[\n  \"a\"\n]", "[\n  \"a\",\n  \"b\",\n]"),
        ("[\n\t\"a\",\n]", "[\n\t\"a\",\n\t\"b\",\n]"),
        ("[\n  \"a\", # of\n]", "[\n  \"a\", # of\n  \"b\",\n]"),
        ("[\n  \"a\",\n  # end\n]", "[\n  \"a\",\n  # end\n  \"b\",\n]"),
        ("[\"*\"]", "[\"*\"]"),
        ("[]", "[\n    \"b\",\n]"),
        ("[ # none\n]", "[ # none\n    \"b\",\n]"),
    ] {
        let text = format!("[routes.\"/mcp\"]\nupstreams = {before}\n\n{upstreams}");
        let imported = merged(&text, file);
        let line = format!("upstreams = {wanted}\n");
        assert!(imported.toml.contains(&line), "{before}\n{}", imported.toml);
        let config = read(&imported);
        assert!(config.routes[0].upstreams.contains(&"b".into()), "{before}");
    }
}

#[test]
fn sections_of_every_form_are_added_to() {
    let file = r#"{ "mcpServers": { "b": { "command": "x" } } }"#;
    for before in [
        "upstreams = { a = { command = \"x\" } }\nroutes = { \"/mcp\" = { upstreams = [\"a\"] } }",
        "upstreams.a.command = \"x\"\nroutes.\"/mcp\".upstreams = [\"a\"]",
        "[upstreams]\na.command = \"x\"\n[routes]\n\"/mcp\".upstreams = [\"a\"]",
        "[upstreams]\na = { command = \"x\" }\n[routes.\"/other\"]\nupstreams = [\"a\"]\n",
        "[upstreams.a]\ncommand = \"x\"",
        "",
    ] {
        let imported = merged(before, file);
        let config = read(&imported);
        assert!(config.routes[0].upstreams.contains(&"b".into()), "{}", imported.toml);
    }
}

#[test]
fn the_route_is_named_where_there_are_several() {
    let before = "[routes.\"/a\"]\nupstreams = [\"x\"]\n[routes.\"/b\"]\nupstreams = [\"x\"]\n\
                  [upstreams.x]\ncommand = \"x\"\n";
    let file = [source("m.json", r#"{ "mcpServers": { "b": { "command": "x" } } }"#)];
    let to = |route| import(&file, &OutputFile { before: Some(before), route, gate: false });
    assert_eq!(to(None).unwrap_err(), "name the route with --route: it has /a, /b");
    assert_eq!(to(Some("b")).unwrap_err(), "`b` is no path of a route: begin with /");
    let routes = |route| {
        let config = read(&to(Some(route)).expect("a route"));
        config.routes.iter().map(|route| route.upstreams.join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(routes("/b"), ["x", "x b"]);
    assert_eq!(routes("/c"), ["x", "x", "b"]);
    let broken = OutputFile { before: Some("[routes"), ..OutputFile::default() };
    let fault = import(&file, &broken).unwrap_err();
    assert!(fault.starts_with("the file to add to is not TOML"), "{fault}");
}

#[test]
fn the_built_in_server_comes_only_where_it_is_asked_for() {
    let file = r#"{ "mcpServers": { "gate": { "command": "x" } } }"#;
    assert_eq!(names(&read(&one("m.json", file).unwrap())), ["gate"]);
    let with = |before| {
        let target = OutputFile { before, route: None, gate: true };
        names(&read(&import(&[source("m.json", file)], &target).unwrap())).join(" ")
    };
    assert_eq!(with(None), "gate gate-2");
    assert_eq!(with(Some("[upstreams.own]\nbuiltin = \"gate\"\n")), "own gate");
    assert_eq!(with(Some("[upstreams.gate]\ncommand = \"y\"\n")), "gate gate-2 gate-3");
}

#[test]
fn several_files_are_one() {
    let sources = [
        source(
            "a.json",
            r#"{ "mcpServers": { "x": { "command": "x" }, "y": { "command": "1" } } }"#,
        ),
        source("b.toml", "[mcp_servers.x]\ncommand = \"x\"\n[mcp_servers.y]\ncommand = \"2\""),
        source("-", "extensions: {z: {type: stdio, cmd: z}}"),
    ];
    let imported = import(&sources, &OutputFile::default()).unwrap();
    assert_eq!(names(&read(&imported)), ["x", "y", "y-2", "z"]);
    assert_eq!(
        imported.notes,
        ["b.toml: x: is there already, with the same keys", "b.toml: y-2: was called \"y\""]
    );
}

#[test]
fn names_are_mended_and_never_the_same() {
    let server = r#"{ "command": "COMMAND" }"#;
    let given = ["a b", "A-B", "", "ünü", "--", "x".repeat(40).as_str(), &"x".repeat(41)]
        .map(|name| format!("{name:?}: {}", server.replace("COMMAND", &name.len().to_string())));
    let file = format!("{{ \"mcpServers\": {{ {} }} }}", given.join(","));
    let imported = one("m.json", &file).unwrap();
    let long = "x".repeat(32);
    let other = "x".repeat(30) + "-2";
    let wanted = ["a-b", "a-b-2", "server", "n", "server-2", &long, &other];
    assert_eq!(names(&read(&imported)), wanted);
    assert_eq!(imported.notes.len(), 7, "{:?}", imported.notes);
}

#[test]
fn only_its_owner_may_read_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("m.json"), r#"{ "mcpServers": { "a": { "command": "x" } } }"#).unwrap();
    let mode = |name: &str| std::fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
    let arguments = Arguments {
        files: vec![path("m.json")],
        output: Some(path("new.toml")),
        merge: None,
        route: None,
        gate: false,
    };
    run(&arguments).unwrap();
    assert_eq!(mode("new.toml"), 0o600);
    let fault = format!("{:#}", run(&arguments).unwrap_err());
    assert!(fault.contains("`--merge` adds to a file that exists"), "{fault}");

    std::fs::write(path("there.toml"), BEFORE).unwrap();
    std::fs::set_permissions(path("there.toml"), Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(path("there.toml"), path("link.toml")).unwrap();
    let merge = Arguments { output: None, merge: Some(path("link.toml")), ..arguments };
    run(&merge).unwrap();
    assert_eq!(mode("there.toml"), 0o640);
    assert!(std::fs::symlink_metadata(path("link.toml")).unwrap().is_symlink());
    let text = std::fs::read_to_string(path("there.toml")).unwrap();
    assert!(text.starts_with("# My gate.") && text.contains("[upstreams.a]"), "{text}");

    // A file that would not be right is left as it was.
    let broken = BEFORE.replace("command = \"npx\"", "comand = \"npx\"");
    std::fs::write(path("there.toml"), &broken).unwrap();
    let fault = run(&merge).unwrap_err().to_string();
    assert!(fault.starts_with("nothing was written: "), "{fault}");
    assert_eq!(std::fs::read_to_string(path("there.toml")).unwrap(), broken);
    let left = std::fs::read_dir(folder.path()).unwrap();
    assert_eq!(left.count(), 4, "nothing else is left behind");
}
