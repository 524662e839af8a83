//! Holds the documents to the binary: what they show can be written, run and found.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that starts processes")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const README: &str = include_str!("../README.md");
const CONFIGURATION: &str = include_str!("../docs/configuration.md");
const SHIPPED: &str = include_str!("../routes.toml");
/// How the documents call the binary.
const CALLS: [&str; 3] = ["tollgate", "target/debug/tollgate", "cargo run --"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tollgate(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let command = command.args(arguments).current_dir(folder).env_remove("TOLLGATE_CONFIG");
    // What the documents refer to.
    command.env("GATE_SECRET", "s3cret").output().unwrap()
}

#[track_caller]
fn succeeds(arguments: &[&str], folder: &Path) -> String {
    let done = tollgate(arguments, folder);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "tollgate {}: {said}", arguments.join(" "));
    String::from_utf8(done.stdout).unwrap()
}

/// What `tollgate check` says of a `routes.toml`: whether it is right, and its standard error.
fn checked(text: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("routes.toml"), text).unwrap();
    let done = tollgate(&["check"], folder.path());
    (done.status.success(), String::from_utf8(done.stderr).unwrap())
}

/// The fenced blocks of a document whose language is one of these.
fn blocks<'a>(document: &'a str, languages: &[&str]) -> Vec<&'a str> {
    let fences: Vec<_> = document.split("\n```").collect();
    assert_eq!(fences.len() % 2, 1, "a block without an end");
    let blocks = fences.iter().skip(1).step_by(2).map(|block| block.split_once('\n').unwrap());
    blocks.filter(|(language, _)| languages.contains(language)).map(|(_, text)| text).collect()
}

/// The `code` within a document's lines.
fn inline(document: &str) -> Vec<String> {
    let fences = document.split("\n```").step_by(2);
    let code = |text: &str| -> Vec<String> {
        text.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")).collect()
    };
    fences.flat_map(|text| code(text.split_once('\n').map_or("", |(_, text)| text))).collect()
}

/// Every document for people, by its path: the README, all that lies beside it, and the book.
fn documents() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["", "docs", "tests", "tests/attack", "benches", "src/pipeline"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|kind| kind == "md") {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The README and the pages of the book.
fn pages() -> Vec<(String, String)> {
    let page = |name: &str| name == "README.md" || name.starts_with("docs/");
    documents().into_iter().filter(|(name, _)| page(name)).collect()
}

/// Every command line for Tollgate that a document shows, without the program's name.
fn command_lines(document: &str) -> Vec<String> {
    let scripts = blocks(document, &["sh"]).into_iter().flat_map(str::lines);
    let shown = blocks(document, &["console"]).into_iter().flat_map(str::lines);
    let typed = shown.filter(|line| line.starts_with("$ "));
    let lines = scripts.chain(typed).map(str::to_owned).chain(inline(document));
    let arguments = |line: String| {
        let line = line.trim_start_matches("$ ").split(" #").next().unwrap().trim().to_owned();
        let found = CALLS.iter().find_map(|call| line.strip_prefix(call)).map(str::to_owned);
        found.filter(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    lines.filter_map(arguments).collect()
}

/// What is wrong with a command line: its subcommand does not exist, or a flag of it.
fn fault(line: &str) -> Option<String> {
    // What follows `--` is another program's.
    let words: Vec<_> = line.split_whitespace().take_while(|word| *word != "--").collect();
    // Of these a command has a command of its own.
    let depth =
        if matches!(words.first(), Some(&"key" | &"cache" | &"names" | &"audit")) { 2 } else { 1 };
    let named = words.iter().take(depth).filter(|word| !word.starts_with('-'));
    let asked: Vec<_> = named.copied().chain(["--help"]).collect();
    let help = tollgate(&asked, root());
    if !help.status.success() {
        return Some(format!("`tollgate{line}`: there is no such command"));
    }
    let help = String::from_utf8(help.stdout).unwrap();
    let known: Vec<_> = help.split([' ', ',', '\n']).collect();
    let flags = words.iter().filter(|word| word.starts_with('-'));
    let mut flags = flags.filter_map(|flag| flag.split('=').next());
    let unknown = flags.find(|flag| !known.contains(flag))?;
    Some(format!("`tollgate{line}`: there is no `{unknown}`"))
}

#[test]
fn every_command_line_of_the_documents_exists() {
    let pages = pages();
    let lines = pages.iter().flat_map(|(page, text)| {
        command_lines(text).into_iter().map(move |line| (page.as_str(), line))
    });
    let lines: Vec<_> = lines.collect();
    for wanted in ["call", "tools", "schema", "import", "check", "run", "stdio", "sidecar"] {
        let named = |(_, line): &(&str, String)| line.split_whitespace().next() == Some(wanted);
        assert!(lines.iter().any(named), "no page shows `tollgate {wanted}`: {lines:?}");
    }
    let found = lines.iter().filter_map(|(page, line)| Some(format!("{page}: {}", fault(line)?)));
    let faults: Vec<_> = found.collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(fault(" nonsense").is_some() && fault(" call --nonsense").is_some());
}

#[test]
fn a_key_is_shown_once_and_only_its_hash_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.toml");
    fs::write(&file, SHIPPED).unwrap();
    let more = ["--caller", "c\"i", "--label", "nightly", "--group", "build", "--days", "90"];
    let new = ["key", "new", "--auth", "agents"];
    let keys = [&more[..], &more[..2]]
        .map(|more| succeeds(&[&new[..], more].concat(), folder.path()).trim_end().to_owned());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(SHIPPED), "what was there is left alone");
    assert_eq!((text.matches("[auth.agents]").count(), text.matches("sha256:").count()), (1, 2));
    assert!(keys.iter().all(|key| key.starts_with("tg_") && !text.contains(key)), "{keys:?}");
    assert!(checked(&text).0, "{text}");
    fs::write(&file, "nonsense").unwrap();
    assert!(!tollgate(&[&new[..], &more[..]].concat(), folder.path()).status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), "nonsense");
}

/// Writes the certificates, keys and secrets that a block names, as `check` wants them to be there.
fn write_named_files(block: &str, folder: &Path) {
    let (certificate, key) = certificate(None);
    for name in block.split('"') {
        let (name, text) = match name.strip_prefix("file:") {
            Some(secret) => (secret, "a-secret"),
            None if ![".pem", ".key"].iter().any(|end| name.ends_with(end)) => continue,
            None if name.contains("key") => (name, &*key),
            None => (name, &*certificate),
        };
        // What is named by its whole path is not of this folder.
        if Path::new(name).is_relative() {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
}

/// Each is checked by itself, with a route and an upstream where it has none.
#[test]
fn every_configuration_of_the_documents_is_right() {
    let route = "[routes.\"/mcp\"]\nupstreams = [\"*\"]\n";
    let gate = "[upstreams.gate]\nbuiltin = \"gate\"\n";
    let mut count = 0;
    for (page, text) in pages() {
        // What policies say is tried with the files that the page shows.
        for block in blocks(&text, &["toml"]).iter().filter(|_| page != "docs/policies.md") {
            let route = if block.contains("[routes.") { "" } else { route };
            let gate = if block.contains("[upstreams.") { "" } else { gate };
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("names.toml"), "").unwrap();
            write_named_files(block, folder.path());
            let whole = format!("{route}{block}\n{gate}");
            fs::write(folder.path().join("routes.toml"), whole).unwrap();
            let done = tollgate(&["check"], folder.path());
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{page}:\n{block}\n{said}");
            count += 1;
        }
    }
    assert!(15 < count, "{count}");
}

/// A block of another kind would be tried by nothing.
#[test]
fn every_block_of_the_documents_is_of_a_kind_that_is_tried() {
    for (page, text) in pages() {
        let fences = text.split("\n```").skip(1).step_by(2);
        let languages = fences.map(|block| block.split('\n').next().unwrap());
        for language in languages {
            let known = ["toml", "json", "sh", "console", "cedar", "yaml"];
            // Programs of clients: tests/real runs such ones; "" is what is printed.
            assert!(
                [&known[..], &["js", "python", ""]].concat().contains(&language),
                "{page}: {language}"
            );
        }
    }
}

#[test]
fn every_page_is_in_the_index_and_has_a_title() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    for (page, text) in pages() {
        assert!(text.starts_with("# "), "{page}");
        let name = page.trim_start_matches("docs/");
        let known = page == "README.md" || name == "README.md";
        assert!(known || index.contains(&format!("]({name})")), "docs/README.md: {page}");
    }
    let lines = README.lines().count();
    assert!(lines <= 200, "the README is read in ten minutes: {lines} lines");
}

#[test]
fn every_client_file_of_the_documents_can_be_imported() {
    let clients = fs::read_to_string(root().join("docs/clients.md")).unwrap();
    let blocks = blocks(&clients, &["json"]);
    assert!(!blocks.is_empty());
    for block in blocks {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("client.json"), block).unwrap();
        let made = succeeds(&["import", "client.json"], folder.path());
        let leads = ["url = \"http://127.0.0.1:8080/mcp\"", "command = \"tollgate\""];
        assert!(leads.iter().any(|lead| made.contains(lead)), "{made}");
    }
}

#[test]
fn a_wrong_edit_is_told_as_the_documents_show() {
    let edited =
        SHIPPED.replace("\nlisten =", "\nlisen =").replace("\"everything\"", "\"everythin\"");
    let (right, said) = checked(&edited);
    let shown = blocks(CONFIGURATION, &[""]).into_iter().find_map(|block| {
        let (_, problems) = block.split_once("the edit is not applied, 2 problem(s):\n")?;
        Some(problems.trim().to_owned())
    });
    assert!(!right);
    assert!(said.contains(&shown.expect("the page shows it")), "{said}");
}

/// What is known of upstreams once a command has opened them is enough to say who may do what.
#[test]
fn explain_says_which_policies_decide() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "routes.toml",
        "[server]\nlisten = \"127.0.0.1:9\"\n[routes.\"/mcp\"]\nupstreams = [\"gate\"]\n\
         policy = [\"base.cedar\"]\n[upstreams.gate]\nbuiltin = \"gate\"\n",
    );
    write(
        "base.cedar",
        "@id(\"admins\")\npermit(principal in Group::\"admins\", action, resource);\n\
         @id(\"few counters\")\nforbid(principal, action == Action::\"call\", resource)\n\
         when { context.texts.hasTag(\"name\") && context.texts.getTag(\"name\") == \"x\" };\n",
    );
    let explain = |arguments: &[&str]| {
        let all: Vec<_> =
            ["explain", "--as", "corp/ann"].iter().chain(arguments).copied().collect();
        let done = tollgate(&all, folder.path());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.success(), text(&done.stdout), text(&done.stderr))
    };
    let (allowed, _, said) = explain(&["status"]);
    assert!(!allowed && said.contains("nothing is known yet of what these have: gate"), "{said}");
    let listed = succeeds(&["tools", "--json"], folder.path());
    assert_eq!(listed.trim(), "[]", "nobody vouches for this client");
    let entry = fs::read_to_string(folder.path().join("state/catalog-gate.json")).unwrap();
    let catalog: serde_json::Value = serde_json::from_str(&entry).unwrap();
    let tool = catalog["listing"]["tools"][0]["key"].as_str().unwrap().to_owned();
    let (allowed, said, _) = explain(&[&tool]);
    assert!(!allowed && said.contains("list: denied: no policy permits it"), "{said}");
    assert!(said.contains("reads as unknown"), "{said}");
    let (allowed, said, _) = explain(&["--groups", "admins,others", &tool]);
    assert!(allowed && said.contains("call: allowed by `admins` (base.cedar:1:1)"), "{said}");
    let (allowed, said, _) = explain(&["--groups", "admins", &tool, "name=x"]);
    assert!(!allowed && said.contains("call: denied by `few counters` (base.cedar:3:1)"), "{said}");
    let (allowed, _, said) = explain(&["nothing"]);
    assert!(!allowed && said.contains("has no tool `nothing`"), "{said}");
    write("base.cedar", "permit(principal, action, resourc);");
    let done = tollgate(&["check"], folder.path());
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("--> base.cedar:1:27"), "{said}");
}

/// A folder of policies and cases as it is shipped.
#[test]
fn check_tries_the_cases_of_the_shipped_policies() {
    let folder = tempfile::tempdir().unwrap();
    let routes = "[routes.\"/mcp\"]\nupstreams = [\"files\", \"bank\"]\npolicy = [\"policies\"]\n\
        cases = [\"policies/cases.toml\"]\n[upstreams.files]\nurl = \"http://127.0.0.1:9\"\n\
        [upstreams.bank]\nurl = \"http://127.0.0.1:9\"\n";
    fs::write(folder.path().join("routes.toml"), routes).unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    for entry in fs::read_dir(root().join("policies")).unwrap() {
        let entry = entry.unwrap();
        let copy = folder.path().join("policies").join(entry.file_name());
        fs::copy(entry.path(), copy).unwrap();
    }
    succeeds(&["check"], folder.path());
    let teams = folder.path().join("policies/teams.cedar");
    let text = fs::read_to_string(&teams).unwrap();
    fs::write(&teams, text.replace("\"finance\"", "\"sales\"")).unwrap();
    let done = tollgate(&["check"], folder.path());
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success(), "{said}");
    assert!(said.contains("the policies say `unseen`"), "{said}");
    assert!(said.contains("denied by `payroll is for finance` (policies/teams.cedar:"), "{said}");
}

/// What `docs/policies.md` shows is right together.
#[test]
fn the_policies_of_the_document_are_right() {
    let document = fs::read_to_string(root().join("docs/policies.md")).unwrap();
    let toml = blocks(&document, &["toml"]);
    let (routes, cases) = (toml[0], toml[1]);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    let files = "\n[upstreams.files]\nurl = \"http://127.0.0.1:9\"\n";
    write("routes.toml", &format!("{routes}{files}"));
    write("policies/base.cedar", blocks(&document, &["cedar"])[0]);
    write("policies/cases.toml", cases);
    succeeds(&["check"], folder.path());
    write("policies/cases.toml", &cases.replace("5000", "500"));
    assert!(!tollgate(&["check"], folder.path()).status.success());
}

#[test]
fn the_version_has_the_commit_or_says_that_there_is_none() {
    let said = succeeds(&["--version"], root());
    let rest = said.strip_prefix(concat!("tollgate ", env!("CARGO_PKG_VERSION"), " (")).unwrap();
    assert!(rest.ends_with(")\n") && rest.len() > 3, "{said}");
}

#[test]
fn the_shipped_file_is_right_by_check_and_by_the_printed_schema() {
    let (right, said) = checked(SHIPPED);
    assert!(right, "{said}");
    let schema = succeeds(&["schema"], root());
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let file: serde_json::Value = toml::from_str(SHIPPED).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<_> = validator.iter_errors(&file).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The anchors of a document, as GitHub makes them of its headings.
fn anchors(document: &str) -> Vec<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let words = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let anchor = |text: String| {
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    words.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for (document, text) in documents() {
        let path = root().join(&document);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let led: PathBuf = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(led.exists(), "{document} links to {target}, which is not there");
            let known = anchor.is_empty()
                || anchors(&fs::read_to_string(&led).unwrap()).iter().any(|one| one == anchor);
            assert!(known, "{document} links to {target}: there is no such heading");
        }
    }
}

/// Keys are said once: in the schema, with the shipped file as the example.
#[test]
fn no_document_repeats_the_keys_of_the_configuration() {
    let schema: serde_json::Value = serde_json::from_str(&succeeds(&["schema"], root())).unwrap();
    let limits = schema["$defs"]["Limits"]["properties"].as_object().unwrap();
    let named = [README, CONFIGURATION].concat();
    let named = limits.keys().filter(|key| named.contains(&format!("{key} ="))).count();
    assert_eq!(named, 0, "the pages list limits: point to `tollgate schema`");
}

/// Names are listed, released, pinned and exported, and `check` says what is hardly meant.
#[test]
fn names_are_looked_at_and_changed_by_command() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let file = |more: &str| {
        format!(
            "[server]\nlisten = \"127.0.0.1:9\"\n[routes.\"/mcp\"]\nupstreams = [\"gate\", \
             \"a__b\"]\n{more}\n[upstreams.gate]\nbuiltin = \"gate\"\n[upstreams.a__b]\nbuiltin = \
             \"gate\"\n"
        )
    };
    write("routes.toml", &file(""));
    let run = |arguments: &[&str]| succeeds(arguments, folder.path());
    let listed = run(&["tools"]);
    let line = |name: &str| {
        let mut lines = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find(|words| words.first() == Some(&name)).unwrap()[1].to_owned()
    };
    assert_eq!(line("gateway_status"), "gate");
    assert_eq!(line("a__b__gateway_status"), "a__b");
    let names: serde_json::Value = serde_json::from_str(&run(&["names", "--json"])).unwrap();
    let leads = |names: &serde_json::Value, name: &str| {
        let found = names.as_array().unwrap().iter().find(|one| one["name"] == name).cloned();
        found.map(|one| (one["upstream"].clone(), one["free"].clone()))
    };
    let (owner, free) = leads(&names, "gateway_status").unwrap();
    assert_eq!((owner, free), ("gate".into(), false.into()));
    run(&["names", "release", "gateway_upstream"]);
    let names = serde_json::from_str(&run(&["names", "list", "--json"])).unwrap();
    assert_eq!(leads(&names, "gateway_upstream").unwrap().1, true);
    assert!(!tollgate(&["names", "release", "nobody"], folder.path()).status.success());
    run(&["names", "pin", "gateway_status", "a__b"]);
    assert!(!tollgate(&["names", "pin", "x", "nobody"], folder.path()).status.success());
    let listed = run(&["tools", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let shown: Vec<_> = listed.as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert!(shown.contains(&&"gate__gateway_status".into()), "{shown:?}");
    let exported = run(&["names", "export"]);
    assert!(exported.contains("\n\"gateway_status\" = { upstream = \"a__b\""), "{exported}");

    let said = String::from_utf8(tollgate(&["check"], folder.path()).stderr).unwrap();
    assert!(
        said.contains("`gateway_status` of `gate` is shown as `gate__gateway_status`"),
        "{said}"
    );

    // Another state folder, and the same names.
    write("names.toml", &exported);
    fs::remove_dir_all(folder.path().join("state")).unwrap();
    let patterns = "names_file = \"names.toml\"\ntools = { deny = [\"wipe*\"], allow = \
                    [\"gate*\", \"a__b*\"], rename = { nothing = \"x\" } }";
    write("routes.toml", &file(patterns));
    let again: serde_json::Value = serde_json::from_str(&run(&["tools", "--json"])).unwrap();
    assert_eq!(again, listed);
    let said = tollgate(&["check"], folder.path());
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.success(), "{text}");
    for warning in [
        "tools.deny: `wipe*` fits nothing that is known",
        "tools.rename: `nothing` fits nothing that is known",
        "upstreams.a__b: `__` in a name will be an error",
    ] {
        assert!(text.contains(warning), "{warning}: {text}");
    }
    assert!(!text.contains("`gate*` fits nothing"), "{text}");
    assert!(text.contains("call it `a-b`, which keeps the names of its tools"), "{text}");
    write("names.toml", "[tools]\nx = { upstream = 7 }\n");
    assert!(!tollgate(&["check"], folder.path()).status.success());
}

/// Patterns and names in every place that takes them: `check` names those that fit nothing that is
/// known, and no others.
#[test]
fn check_names_each_pattern_that_fits_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let write = |route: &str, upstream: &str| {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:9\"\n[routes.\"/mcp\"]\n\
             upstreams = [\"gate\"]\n{route}\n\
             [upstreams.gate]\nbuiltin = \"gate\"\n{upstream}"
        );
        fs::write(folder.path().join("routes.toml"), text).unwrap();
    };
    write("", "");
    // What is listed is known from then on.
    let listed = succeeds(&["tools"], folder.path());
    assert!(listed.contains("gateway_status"), "{listed}");
    let list = |good: &str| format!("[\"gone*\", \"lost\"{good}]");
    let filter = |[allow, deny, hide]: [&str; 3]| {
        let [allow, deny, hide] = [allow, deny, hide].map(list);
        format!("allow = {allow}, deny = {deny}, hide = {hide}")
    };
    let good = [", \"gateway_*\"", ", \"gateway_upstream\"", ", \"gateway_upstreams\""];
    let keys = format!(
        "tools = {{ {}, rename = {{ gone_too = \"x\", gateway_status = \"status\" }} }}\n\
         prompts = {{ {other} }}\nresources = {{ {other} }}\n",
        filter(good),
        other = filter([", \"gateway_*\""; 3]),
    );
    let tags = format!("tags.often = {}\n", list(good[0]));
    for (place, route, upstream) in [
        ("routes.\"/mcp\"", &keys, &String::new()),
        ("upstreams.gate", &String::new(), &(keys.clone() + &tags)),
    ] {
        write(route, upstream);
        let done = tollgate(&["check"], folder.path());
        let text = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.success(), "{text}");
        let mut wanted = vec![format!("{place}.tools.rename: `gone_too` fits nothing")];
        for key in ["allow", "deny", "hide"] {
            for (kind, patterns) in [
                ("tools", &["gone*", "lost"][..]),
                ("prompts", &["gone*", "lost", "gateway_*"]),
                ("resources", &["gone*", "lost", "gateway_*"]),
            ] {
                let each = patterns.iter();
                wanted.extend(each.map(|it| format!("{place}.{kind}.{key}: `{it}` fits nothing")));
            }
        }
        if !upstream.is_empty() {
            let each = ["gone*", "lost"].iter();
            wanted.extend(each.map(|it| format!("{place}.tags.often: `{it}` fits nothing")));
        }
        let missing: Vec<_> = wanted.iter().filter(|line| !text.contains(*line)).collect();
        assert!(missing.is_empty(), "{missing:#?} of:\n{text}");
        assert_eq!(text.matches("fits nothing").count(), wanted.len(), "nothing else: {text}");
    }
}

/// The same name is one thing as a tool and another as a prompt: each kind is pinned, listed, freed
/// and exported by itself.
#[test]
fn names_of_each_kind_are_looked_at_and_changed_by_command() {
    const KINDS: [&str; 4] = ["tool", "prompt", "resource", "template"];
    let folder = tempfile::tempdir().unwrap();
    let file = |more: &str| {
        format!(
            "[server]\nlisten = \"127.0.0.1:9\"\n[routes.\"/mcp\"]\n\
             upstreams = [\"a\", \"b\"]\n{more}\n\
             [upstreams.a]\nbuiltin = \"gate\"\n[upstreams.b]\nbuiltin = \"gate\"\n"
        )
    };
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("routes.toml", &file(""));
    let run = |arguments: &[&str]| succeeds(arguments, folder.path());
    let names =
        || -> Vec<serde_json::Value> { serde_json::from_str(&run(&["names", "--json"])).unwrap() };
    let state = |name: &str| -> Vec<(String, String, bool)> {
        let of = names().into_iter().filter(|one| one["name"] == name);
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let each = of.map(|one| (text(&one["upstream"]), text(&one["own"]), one["free"] == true));
        let mut all: Vec<_> = each.collect();
        all.sort();
        all
    };
    for kind in KINDS {
        // One name for all, one of its own, and one with another name than its upstream gives.
        run(&["names", "pin", "x://same", "a", &format!("x://{kind}"), "--kind", kind]);
        run(&["names", "pin", &format!("x://own-{kind}"), "b", "--kind", kind]);
        assert!(
            !tollgate(&["names", "pin", "x", "nobody", "--kind", kind], folder.path())
                .status
                .success()
        );
    }
    let own = |free: &[&str]| -> Vec<_> {
        let each =
            KINDS.iter().map(|kind| ("a".to_owned(), format!("x://{kind}"), free.contains(kind)));
        let mut all: Vec<_> = each.collect();
        all.sort();
        all
    };
    assert_eq!(state("x://same"), own(&[]));
    let exported = run(&["names", "export"]);
    let table = run(&["names"]);
    for (at, kind) in KINDS.iter().enumerate() {
        let name = format!("x://own-{kind}");
        assert_eq!(state(&name), [("b".to_owned(), name.clone(), false)]);
        assert_eq!(exported.matches(&format!("\n\"{name}\" = ")).count(), 1, "{exported}");
        let line = table.lines().find(|line| line.contains(&name)).unwrap();
        assert!(line.contains(kind) && line.contains("pinned"), "{line}");
        run(&["names", "release", "x://same", "--kind", kind]);
        assert_eq!(state("x://same"), own(&KINDS[..=at]), "{kind} alone is free");
        // It is free already, and of this name there is no other.
        for gone in ["x://same", "x://none"] {
            let release = ["names", "release", gone, "--kind", kind];
            assert!(!tollgate(&release, folder.path()).status.success(), "{gone} of {kind}");
        }
    }
    // What was exported is given for good, also where nothing is known.
    write("names.toml", &exported);
    fs::remove_dir_all(folder.path().join("state")).unwrap();
    write("routes.toml", &file("names_file = \"names.toml\""));
    assert!(tollgate(&["check"], folder.path()).status.success());
}

/// A certificate that ends on this day of 2001 or later, and its key, in PEM.
fn certificate(ends: Option<(i32, u8, u8)>) -> (String, String) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    if let Some((year, month, day)) = ends {
        params.not_after = rcgen::date_time_ymd(year, month, day);
    }
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Files with what `check` is to find in them: the words it is called by, and some of what is said.
fn files_to_check() -> Vec<(String, &'static str, &'static str)> {
    let gate = "[routes.\"/mcp\"]\nupstreams = [\"gate\"]\n[upstreams.gate]\nbuiltin = \"gate\"\n";
    let of =
        |keys: &str| format!("[routes.\"/mcp\"]\nupstreams = [\"a\"]\n[upstreams.a]\n{keys}\n");
    let tls = |certificate: &str, key: &str| {
        format!("[server]\ntls = {{ certificate = {certificate:?}, key = {key:?} }}\n{gate}")
    };
    let jwt = "[auth.corp]\nkind = \"jwt\"\nissuer = \"https://a.example\"\naudience = [\"x\"]\n";
    let http = "url = \"https://localhost:9/mcp\"\n";
    let secret = "headers = { Authorization = \"file:none\" }";
    vec![
        (gate.to_owned(), "", ""),
        (of("command = \"sh\""), "", ""),
        (tls("good.pem", "good.key"), "", ""),
        (of("command = \"no-such-program\""), "warning", "no-such-program: not found in PATH"),
        (of("command = \"./no-such\""), "warning", "no-such"),
        (of("command = \"C:\\\\x\\\\npx.cmd\""), "warning", "npx.cmd"),
        (of("command = \"sh\"\ncwd = \"nowhere\""), "warning", "nowhere: not a folder"),
        (of(&format!("{http}headers = {{ A = \"${{NO_SUCH_VARIABLE}}\" }}")), "warning", "NO_SUCH"),
        (of(&format!("{http}headers = {{ A = \"env:NO_SUCH_VARIABLE\" }}")), "warning", "NO_SUCH"),
        (format!("{gate}[upstreams.b]\nbuiltin = \"gate\"\n"), "warning", "upstreams.b: it is"),
        (format!("{gate}{jwt}"), "warning", "auth.corp: no route"),
        (
            format!("{gate}[detectors.ticket]\npattern = \"T-[0-9]+\"\n"),
            "warning",
            "detectors.ticket: no `detect`",
        ),
        (of(&format!("{http}{secret}")), "error", "secret file"),
        (
            of(&format!("{http}headers = {{ A = \"file:none\", B = \"env:NO_SUCH_VARIABLE\" }}")),
            "error",
            "secret file",
        ),
        (format!("[server]\nstate = \"plain.txt\"\n{gate}"), "error", "plain.txt is no folder"),
        (format!("[server]\nstate = \"plain.txt/x\"\n{gate}"), "error", "plain.txt is no folder"),
        (tls("none.pem", "good.key"), "error", "none.pem"),
        (tls("plain.txt", "good.key"), "error", "plain.txt"),
        (tls("good.pem", "plain.txt"), "error", "no private key"),
        (tls("good.pem", "old.key"), "error", "cannot be used"),
        (tls("old.pem", "old.key"), "error", "expired, 2001-02-03"),
        (of(&format!("{http}ca = \"old.pem\"")), "warning", "expired, 2001-02-03"),
        (
            of(&format!("{http}client_certificate = \"old.pem\"\nclient_key = \"old.key\"")),
            "error",
            "expired, 2001-02-03",
        ),
        (
            of(&format!("{http}client_certificate = \"good.pem\"\nclient_key = \"old.key\"")),
            "error",
            "client_certificate",
        ),
    ]
}

/// What is wrong with a file and the machine around it: how it is called, the words, and whether
/// `--strict` alone fails.
#[test]
fn check_fails_on_errors_and_with_strict_on_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let (good, key) = certificate(None);
    let (expired, its_key) = certificate(Some((2001, 2, 3)));
    for (name, text) in [
        ("good.pem", &good),
        ("good.key", &key),
        ("old.pem", &expired),
        ("old.key", &its_key),
        ("plain.txt", &"no certificate".to_owned()),
    ] {
        write(name, text);
    }
    for (text, called, words) in files_to_check() {
        write("routes.toml", &text);
        let plain = tollgate(&["check"], folder.path());
        let strict = tollgate(&["check", "--strict"], folder.path());
        let said = String::from_utf8(plain.stderr).unwrap();
        let line = format!("{called}: ");
        let is_said = said.lines().any(|one| one.starts_with(&line) && one.contains(words));
        assert!(called.is_empty() || is_said, "{text}\n{called} {words}: {said}");
        let fails = [&plain.status, &strict.status].map(|status| status.code());
        let want = match called {
            "" => [Some(0), Some(0)],
            "warning" => [Some(0), Some(1)],
            _ => [Some(1), Some(1)],
        };
        assert_eq!(fails, want, "{text}\n{said}");
        assert!(!folder.path().join("state").exists(), "nothing is made");
    }
}
