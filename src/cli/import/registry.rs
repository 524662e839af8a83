//! `server.json` of the MCP registry: the packages and the remote addresses of one server.
//!
//! The format is described in docs/reference/server-json of modelcontextprotocol/registry; its
//! earlier versions have the same keys in snake case.

use serde_json::{Map, Value, json};

use super::{
    server::{ClientKind, FoundServer, FoundServers, text},
    text::variable_of,
};

/// Adds the server of a `server.json`, also where it is wrapped as the registry's API answers.
pub fn read(root: &Value, places: &mut FoundServers) {
    let server = root.get("server").filter(|server| is_server(server)).unwrap_or(root);
    if is_server(server) {
        add(server, places);
    }
    if let Some(list) = root.get("servers") {
        self::list(list, places);
    }
}

/// Adds those of a list, such as a page of the registry.
pub fn list(list: &Value, places: &mut FoundServers) {
    for entry in list.as_array().into_iter().flatten() {
        let server = entry.get("server").unwrap_or(entry);
        if is_server(server) {
            add(server, places);
        }
    }
}

fn is_server(value: &Value) -> bool {
    let has = |key| value.get(key).is_some_and(Value::is_array);
    value.get("name").is_some_and(Value::is_string) && (has("packages") || has("remotes"))
}

/// The first way to reach the server is used: an address needs nothing installed, so it is before
/// packages, and Streamable HTTP is before what it took the place of. The others are off.
fn add(server: &Value, places: &mut FoundServers) {
    let full = text(server, "name").unwrap_or("server");
    let name = full.rsplit('/').next().unwrap_or(full);
    let of = |key: &str| server.get(key).and_then(Value::as_array).into_iter().flatten();
    let is_sse = |remote: &&Value| kind(remote) == Some("sse");
    let remotes = of("remotes").filter(|one| !is_sse(one)).chain(of("remotes").filter(is_sse));
    let mut ways: Vec<Way> = remotes.map(remote).chain(of("packages").map(package)).collect();
    if let Some(first) = ways.iter().position(|way| way.off.is_none()) {
        ways.swap(0, first);
    }
    for (at, way) in ways.into_iter().enumerate() {
        let another = (at > 0).then(|| "it is another way to reach the same server".to_owned());
        places.servers.push(FoundServer {
            client: ClientKind::Registry,
            name: name.to_owned(),
            value: way.value,
            denied: Vec::new(),
            off: way.off.or(another),
            notes: way.notes,
        });
    }
}

/// A way to reach a server, in the words that clients have for it.
struct Way {
    value: Value,
    off: Option<String>,
    notes: Vec<String>,
}

fn kind(value: &Value) -> Option<&str> {
    text(value, "type").or(text(value, "transport_type"))
}

/// A key, in either spelling.
fn either<'a>(value: &'a Value, camel: &str, snake: &str) -> Option<&'a Value> {
    value.get(camel).or_else(|| value.get(snake))
}

fn remote(remote: &Value) -> Way {
    let mut notes = Vec::new();
    let url = text(remote, "url").unwrap_or_default();
    let url = filled(url, remote.get("variables"), "url", &mut notes);
    let headers = pairs(remote.get("headers"), "headers", &mut notes);
    let kind = if kind(remote) == Some("sse") { "sse" } else { "http" };
    Way { value: json!({ "type": kind, "url": url, "headers": headers }), off: None, notes }
}

fn package(package: &Value) -> Way {
    let mut notes = Vec::new();
    let registry = either(package, "registryType", "registry_type").and_then(Value::as_str);
    let identifier = text(package, "identifier").unwrap_or_default();
    let version = text(package, "version").filter(|version| *version != "latest");
    let versioned = |mark: &str| match version {
        Some(version) if !identifier.ends_with(version) => format!("{identifier}{mark}{version}"),
        _ => identifier.to_owned(),
    };
    let list = |camel, snake, notes: &mut Vec<String>| {
        let list = either(package, camel, snake).and_then(Value::as_array);
        let list = list.into_iter().flatten();
        list.flat_map(|input| argument(input, camel, notes)).collect::<Vec<_>>()
    };
    let runtime = list("runtimeArguments", "runtime_arguments", &mut notes);
    let own = list("packageArguments", "package_arguments", &mut notes);
    let env = either(package, "environmentVariables", "environment_variables");
    let env = pairs(env, "environmentVariables", &mut notes);
    let fixed = |words: &[&str]| words.iter().map(|&word| escaped(word)).collect::<Vec<_>>();
    let hint = either(package, "runtimeHint", "runtime_hint").and_then(Value::as_str);
    let (command, before, name, after) = match registry {
        Some("npm") => ("npx", fixed(&["-y"]), versioned("@"), vec![]),
        Some("pypi") => ("uvx", vec![], versioned("@"), vec![]),
        Some("nuget") => ("dnx", vec![], versioned("@"), fixed(&["--yes", "--"])),
        Some("oci" | "docker") => {
            let mut words = fixed(&["run", "-i", "--rm"]);
            words.extend(env.keys().flat_map(|name| [escaped("-e"), escaped(name)]));
            ("docker", words, versioned(":"), vec![])
        }
        other => {
            let kind = other.unwrap_or("unknown");
            let off = format!("a package of kind {kind} must be installed first: {identifier}");
            return Way {
                value: json!({ "command": escaped(identifier), "env": env }),
                off: Some(off),
                notes,
            };
        }
    };
    // The runtime's own arguments may say so already.
    let before = before.into_iter().filter(|word| !runtime.contains(word) || word == "-e");
    let mut args: Vec<String> = before.chain(runtime.iter().cloned()).collect();
    args.push(escaped(&name));
    if !own.is_empty() || registry != Some("nuget") {
        args.extend(after);
    }
    args.extend(own);
    let transport = package.get("transport").and_then(kind_of_transport);
    let off = transport.map(|kind| {
        format!("it serves {kind} itself: start it, and write its `url` in place of `command`")
    });
    let command = hint.filter(|_| registry != Some("oci")).unwrap_or(command);
    let value = json!({ "command": escaped(command), "args": args, "env": env });
    Way { value, off, notes }
}

/// The kind of a package's transport, where that is not standard input and output.
fn kind_of_transport(transport: &Value) -> Option<String> {
    kind(transport).filter(|kind| *kind != "stdio").map(str::to_owned)
}

/// Named texts: variables of a process, or headers. What is optional and has no default is left to
/// who knows whether it is wanted.
fn pairs(list: Option<&Value>, key: &str, notes: &mut Vec<String>) -> Map<String, Value> {
    let mut pairs = Map::new();
    for input in list.and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = text(input, "name") else { continue };
        if let Some(value) = value(input, name, &format!("{key}.{name}"), notes) {
            pairs.insert(name.to_owned(), value.into());
        }
    }
    pairs
}

/// An argument of a command line: `--name value`, or a value alone.
fn argument(input: &Value, key: &str, notes: &mut Vec<String>) -> Vec<String> {
    let name = text(input, "name");
    let hint = either(input, "valueHint", "value_hint").and_then(Value::as_str);
    let called = name.or(hint).unwrap_or("argument");
    let place = format!("{key}.{called}");
    let is_flag =
        name.is_some() && !["value", "default"].iter().any(|key| input.get(key).is_some());
    let required = is_required(input);
    if either(input, "isRepeated", "is_repeated") == Some(&true.into()) {
        notes.push(format!("`{place}`: may stand there several times; it stands there once"));
    }
    // A flag may be all there is of it.
    if is_flag && required && input.get("description").is_none() {
        return vec![escaped(called)];
    }
    let Some(value) = value(input, called, &place, notes) else { return Vec::new() };
    name.map(escaped).into_iter().chain([value]).collect()
}

fn is_required(input: &Value) -> bool {
    either(input, "isRequired", "is_required") == Some(&true.into())
}

/// The value of an input, in the language of `routes.toml`.
fn value(input: &Value, name: &str, place: &str, notes: &mut Vec<String>) -> Option<String> {
    if let Some(value) = input.get("value").and_then(Value::as_str) {
        return Some(filled(value, input.get("variables"), place, notes));
    }
    let about = text(input, "description").map(|text| format!(" ({text})")).unwrap_or_default();
    let variable = variable_of(name.trim_start_matches('-'));
    if let Some(default) = text(input, "default") {
        return Some(match default.contains('}') || default.contains("${") {
            true => escaped(default),
            false => format!("${{{variable}:-{default}}}"),
        });
    }
    if !is_required(input) {
        notes.push(format!("`{place}`: is optional, and left out{about}"));
        return None;
    }
    notes.push(format!("`{place}`: set the variable {variable}{about}"));
    Some(format!("${{{variable}}}"))
}

/// The text with what stands in braces replaced by the variables of that name.
fn filled(text: &str, variables: Option<&Value>, place: &str, notes: &mut Vec<String>) -> String {
    let mut full = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        full.push_str(&escaped(before));
        let found = after.split_once('}').and_then(|(name, after)| {
            let input = variables?.get(name)?;
            Some((value(input, name, place, notes).unwrap_or_default(), after))
        });
        match found {
            Some((value, after)) => {
                full.push_str(&value);
                rest = after;
            }
            None => {
                // `${` that is none of the registry's stands for itself.
                if full.ends_with('$') {
                    full.push('$');
                }
                full.push('{');
                rest = after;
            }
        }
    }
    full + &escaped(rest)
}

/// The text as one in which nothing stands for a variable.
fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}
