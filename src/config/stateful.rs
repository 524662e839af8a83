//! Processes that are known to keep state between calls, by the names of their packages.

use super::transport::Transport;

/// The state that a server keeps, and words of packages by which such a server is known.
const KNOWN: [(&str, &[&str]); 2] = [
    (
        "a browser",
        &[
            "browser",
            "browserbase",
            "browsermcp",
            "camoufox",
            "chrome",
            "chromium",
            "devtools",
            "firefox",
            "hyperbrowser",
            "playwright",
            "puppeteer",
            "selenium",
            "stagehand",
            "webdriver",
        ],
    ),
    (
        "a shell",
        &[
            "cli-mcp-server",
            "server-win-cli",
            "commander",
            "commands",
            "ipython",
            "iterm",
            "jupyter",
            "powershell",
            "pty",
            "repl",
            "shell",
            "ssh",
            "terminal",
            "tmux",
        ],
    ),
];

/// Programs that start another one, and the words by which they are told to.
const LAUNCHERS: [&str; 32] = [
    "bash",
    "bun",
    "bunx",
    "call",
    "cmd",
    "cmd.exe",
    "deno",
    "dlx",
    "docker",
    "env",
    "exec",
    "node",
    "npm",
    "npx",
    "npx.cmd",
    "pipx",
    "pnpm",
    "pnpx",
    "podman",
    "powershell",
    "powershell.exe",
    "pwsh",
    "python",
    "python3",
    "run",
    "sh",
    "ssh",
    "start",
    "tool",
    "uv",
    "uvx",
    "yarn",
];

/// Returns what a process keeps between calls, as far as its package is known: a browser, a shell.
pub fn kept_by(transport: &Transport) -> Option<&'static str> {
    let Transport::Stdio { command, args, .. } = transport else { return None };
    let words = [command].into_iter().chain(args).flat_map(|arg| arg.split_ascii_whitespace());
    let mut names = words.filter_map(package);
    // The first name is the program's; what follows are its own arguments. Those of a container
    // stand before its image, too.
    let first = names.next()?;
    let is_container = |word: &str| matches!(name_of(word), "docker" | "podman");
    let rest = is_container(command).then_some(names).into_iter().flatten();
    [first].into_iter().chain(rest).find_map(known)
}

/// The name of a package or program in a word of a command; none where the word is a flag, a
/// launcher, a variable or a volume.
fn package(word: &str) -> Option<&str> {
    let word = match word.split_once('=') {
        Some(("--package" | "--from" | "-p", package)) => package,
        Some(_) => return None,
        None => word,
    };
    let is_flag = word.starts_with('-') || matches!(word, "/c" | "/C" | "/s");
    let is_volume = word.contains(":/");
    let is_launcher = LAUNCHERS.contains(&name_of(word).to_ascii_lowercase().as_str());
    (!is_flag && !is_volume && !is_launcher && !word.is_empty()).then_some(word)
}

fn name_of(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn known(package: &str) -> Option<&'static str> {
    let package = package.to_ascii_lowercase();
    let words: Vec<&str> = package.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is_meant = |known: &str| match known.split_once('-') {
        Some(_) => package.contains(known),
        None => words.contains(&known),
    };
    KNOWN
        .into_iter()
        .find(|(_, names)| names.iter().any(|name| is_meant(name)))
        .map(|(kept, _)| kept)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn of(line: &str) -> Option<&'static str> {
        let mut words = line.split('|').map(str::to_owned);
        let command = words.next().unwrap();
        let args = words.collect();
        kept_by(&Transport::Stdio { command, args, env: BTreeMap::new(), cwd: None })
    }

    #[test]
    fn servers_that_keep_a_browser_or_a_shell_are_known_by_their_packages() {
        for line in [
            "npx|-y|@playwright/mcp@latest|--headless",
            "npx|@executeautomation/playwright-mcp-server",
            "bunx|@modelcontextprotocol/server-puppeteer",
            "npx|-y|chrome-devtools-mcp@1.2.3",
            "pnpm|dlx|@browsermcp/mcp",
            "cmd|/c|npx|-y|@angiejones/mcp-selenium",
            "npx|--package=@playwright/mcp|mcp",
            "sh|-c|npx -y @playwright/mcp@latest",
            "docker|run|-i|--rm|-e|KEY=shell|-v|/srv/x:/x|mcr.microsoft.com/playwright/mcp",
            "node|/opt/mcp-playwright/dist/index.js",
            "/usr/local/bin/browser-use-mcp",
        ] {
            assert_eq!(of(line), Some("a browser"), "{line}");
        }
        for line in [
            "npx|-y|@wonderwhy-er/desktop-commander",
            "uvx|mcp-shell-server",
            "npx|mcp-server-commands",
            "npx|iterm-mcp",
            "npx|-y|tmux-mcp",
            "uvx|--from=terminal-controller|mcp",
            "npx|-y|ssh-mcp|--host=example.com",
            "npx|@simonb97/server-win-cli|win-cli-mcp-server",
            "uvx|jupyter-mcp-server",
            "mcp-shell",
        ] {
            assert_eq!(of(line), Some("a shell"), "{line}");
        }
    }

    #[test]
    fn a_server_is_not_known_by_its_arguments_or_its_launcher() {
        for line in [
            "npx|-y|@modelcontextprotocol/server-filesystem|/home/ada/shell",
            "uvx|mcp-server-git|--repository|/srv/browser",
            "bash|-c|exec my-server",
            "sh|-c|uvx mcp-server-fetch",
            "powershell.exe|/srv/fetch.ps1",
            "node|server.js|playwright",
            "npx|-y|@modelcontextprotocol/server-memory",
            "docker|run|--rm|-v|/srv/chrome:/data|mcp/git",
            "docker|run|-e|BROWSER=chrome|mcp/fetch",
            "python3|-m|mcp_server_time",
            "ssh|build.example.com|mcp-server-git",
            "uvx|mcp-seashells",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }
}
