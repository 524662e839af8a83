//! The configuration of a sidecar: one server, told on the command line.

use std::path::Path;

use super::Layers;

/// The one server.
#[derive(Debug, Clone, PartialEq)]
pub enum Sidecar {
    /// A program and its arguments, each taken as it is.
    Command(Vec<String>),
    /// An address, and headers as `routes.toml` has them.
    Url { url: String, headers: Vec<(String, String)> },
}

/// The settings that are laid over and under a sidecar's file: the server over it, what suits a
/// sidecar under it. `state` is under it, too, unless it `wins`. `alone` is a client that starts
/// the sidecar for itself: a process of its server is its own then, and keeps what it is told.
pub fn sidecar(server: &Sidecar, state: &Path, wins: bool, alone: bool) -> Layers {
    let process = matches!(server, Sidecar::Command(_));
    let server = match server {
        Sidecar::Command(words) => {
            let mut words = words.iter().map(|word| quote(&literal(word)));
            let command = words.next().unwrap_or_else(|| quote(""));
            let args = words.collect::<Vec<_>>().join(", ");
            format!("command = {command}\nargs = [{args}]\n")
        }
        Sidecar::Url { url, headers } => {
            let pair = |(name, value): &(String, String)| {
                format!("headers.{} = {}\n", quote(name), quote(value))
            };
            let headers: String = headers.iter().map(pair).collect();
            format!("url = {}\n{headers}", quote(url))
        }
    };
    let state = format!("[server]\nstate = {}\n", quote(&literal(&state.to_string_lossy())));
    let (above, below) = if wins { (&*state, "[server]\n") } else { ("", &*state) };
    let over = format!(
        "# the command line\n{above}[routes.\"/mcp\"]\nupstreams = [\"sidecar\"]\n\
         [upstreams.sidecar]\n{server}"
    );
    // A client that greets while the server is still being opened is to meet the server itself.
    let own = if alone && process { "[upstreams.sidecar]\nisolation = \"session\"\n" } else { "" };
    let under = format!(
        "# what a sidecar has unless its file says otherwise\n{below}\
         limits.settle = \"10s\"\n[routes.\"/mcp\"]\nnames = \"never\"\n{own}"
    );
    Layers { over, under }
}

/// The text in TOML.
fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// The text as one in which nothing stands for a variable.
fn literal(text: &str) -> String {
    text.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Names, Problems, Transport, parse_layered};

    use super::*;

    fn read(file: &str, server: &Sidecar) -> Result<Config, Problems> {
        let layers = sidecar(server, Path::new("/state"), false, true);
        parse_layered("/etc/side.toml", file, &layers, &|name| {
            (name == "TOKEN").then(|| "secret".to_owned())
        })
    }

    #[test]
    fn arguments_are_what_they_are() {
        let words =
            ["a b", "\"q\"", "${HOME}", "$${x", "$", "\\n", "\n\t\u{7f}\u{1}", "", "env:X", "ü"];
        let words: Vec<_> = ["sh"].iter().chain(&words).map(|&word| word.to_owned()).collect();
        let config = read("", &Sidecar::Command(words.clone())).unwrap();
        let Transport::Stdio { command, args, .. } = &config.upstreams[0].transport else {
            panic!("a command")
        };
        assert_eq!((command, &args[..]), (&words[0], &words[1..]));
        assert_eq!(config.routes[0].names, Names::Never);
        assert_eq!(config.server.state, Path::new("/state"));
    }

    #[test]
    fn a_file_adds_what_the_command_line_does_not_say() {
        let file = r#"
            [server]
            state = "here"
            limits.drain = "3s"
            [routes."/mcp"]
            page_size = 7
            names = "always"
            [upstreams.sidecar]
            timeout.idle = "7s"
            headers = { b = "2" }
        "#;
        let headers = vec![("A".to_owned(), "Bearer ${TOKEN}".to_owned())];
        let url = "http://127.0.0.1:1/mcp".to_owned();
        let config = read(file, &Sidecar::Url { url, headers }).unwrap();
        assert_eq!(config.server.state, Path::new("/etc/here"));
        let server = Sidecar::Command(vec!["sh".to_owned()]);
        let layers = sidecar(&server, Path::new("/state"), true, true);
        let winning =
            parse_layered("/etc/side.toml", "server.state = \"here\"", &layers, &|_| None);
        assert_eq!(winning.unwrap().server.state, Path::new("/state"));
        assert_eq!(config.server.limits.drain.as_secs(), 3);
        assert_eq!(config.server.limits.settle.as_secs(), 10);
        assert_eq!((config.routes[0].page_size, config.routes[0].names), (7, Names::Always));
        let upstream = &config.upstreams[0];
        assert_eq!(upstream.timeout.idle.as_secs(), 7);
        let Transport::Http { headers, .. } = &upstream.transport else { panic!("a URL") };
        let shown: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(shown, [("a", "Bearer secret"), ("b", "2")]);
    }

    #[test]
    fn problems_are_shown_where_they_are() {
        let file = "\n[server]\nlisten = 7\n[upstreams.sidecar]\nurl = \"http://x\"\n";
        let problems = read(file, &Sidecar::Command(vec!["sh".to_owned()])).unwrap_err();
        let text = problems.render(false);
        assert!(text.contains("/etc/side.toml:3:10"), "{text}");
        assert!(
            text.contains("/etc/side.toml:5:7") && text.contains("besides `command`"),
            "{text}"
        );
        let problems = read("[server\n", &Sidecar::Command(vec!["sh".to_owned()])).unwrap_err();
        assert!(problems.render(false).contains("/etc/side.toml:1:"), "{problems}");
        let url = Sidecar::Url { url: "ftp://x".to_owned(), headers: Vec::new() };
        let text = read("", &url).unwrap_err().render(false);
        assert!(text.contains("url = \"ftp://x\""), "{text}");
    }
}
