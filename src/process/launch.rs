//! Prepares the start of a child: its program, its environment, and the launcher that starts it.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use thiserror::Error;

use super::reaper::Reaper;
use crate::{call::machine, config::Secret};

/// The exit code of a shell when a command was found but could not be run.
const CANNOT_RUN: u8 = 126;
/// The path where programs are looked for when no `PATH` is set, as POSIX' `confstr` has it.
const PATH_DEFAULT: &str = "/usr/bin:/bin";

/// Variables of the gate's own that a child inherits by name. The first six are what the official
/// SDKs hand down; the rest is what programs need to reach the network and their own files.
const INHERITED: &[&str] = &[
    "HOME",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "USER",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "NODE_EXTRA_CA_CERTS",
    "NO_PROXY",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
/// Beginnings of names, and the ends that are known to say nothing secret: locales (POSIX), folders
/// (XDG Base Directory Specification), and npm's configuration, of which any other may be a key.
const INHERITED_OF: &[(&str, &[&str])] = &[
    (
        "LC_",
        &[
            "ADDRESS",
            "ALL",
            "COLLATE",
            "CTYPE",
            "IDENTIFICATION",
            "MEASUREMENT",
            "MESSAGES",
            "MONETARY",
            "NAME",
            "NUMERIC",
            "PAPER",
            "TELEPHONE",
            "TIME",
        ],
    ),
    (
        "XDG_",
        &[
            "CACHE_HOME",
            "CONFIG_DIRS",
            "CONFIG_HOME",
            "DATA_DIRS",
            "DATA_HOME",
            "RUNTIME_DIR",
            "STATE_HOME",
        ],
    ),
    (
        "npm_config_",
        &[
            "audit",
            "cache",
            "cafile",
            "fund",
            "globalconfig",
            "https_proxy",
            "loglevel",
            "noproxy",
            "offline",
            "prefer_offline",
            "prefix",
            "proxy",
            "registry",
            "strict_ssl",
            "update_notifier",
            "userconfig",
        ],
    ),
];

/// A variable: its name and its value.
pub type Variable = (OsString, OsString);

/// The gate's own environment: never all of it is a child's, since it holds the gate's secrets.
#[derive(Clone, Default)]
pub struct Environment {
    /// Variables that every child inherits.
    passed: Vec<Variable>,
    /// Names of proxies, registries and the like that are not passed: their URLs hold a password.
    withheld: Vec<String>,
    all: Vec<Variable>,
}

impl Environment {
    /// Chooses what children inherit by name; a value that begins with `()` is a function exported
    /// by a shell, and code.
    pub fn new(own: impl IntoIterator<Item = Variable>) -> Self {
        let all: Vec<Variable> = own.into_iter().collect();
        let mut passed = Vec::new();
        let mut withheld = Vec::new();
        for (name, value) in &all {
            let known = name.to_str().filter(|name| is_inherited(name));
            let Some(known) = known.filter(|_| !value.as_encoded_bytes().starts_with(b"()")) else {
                continue;
            };
            match has_user_info(known, &value.to_string_lossy()) {
                true => withheld.push(known.to_owned()),
                false => passed.push((name.clone(), value.clone())),
            }
        }
        Self { passed, withheld, all }
    }

    /// All of it, for a command that the operator could as well have started without the gate.
    pub fn whole(own: impl IntoIterator<Item = Variable>) -> Self {
        let all: Vec<Variable> = own.into_iter().collect();
        Self { passed: all.clone(), withheld: Vec::new(), all }
    }

    /// Returns what a child inherits whose section names these variables besides.
    pub fn of_child(&self, named: &[String]) -> Vec<Variable> {
        let is_named = |name: &OsString| named.iter().any(|known| name == known.as_str());
        let more = self.all.iter().filter(|(name, _)| is_named(name));
        self.passed.iter().chain(more).cloned().collect()
    }

    /// Returns what to think of where a child failed that may have needed what is not passed; none
    /// where nothing is withheld that its section does not name or set.
    pub fn remark(&self, has: impl Fn(&str) -> bool) -> Option<String> {
        let withheld: Vec<_> = self.withheld.iter().filter(|name| !has(name)).collect();
        let first = withheld.first()?;
        let names: Vec<&str> = withheld.iter().map(|name| name.as_str()).collect();
        Some(format!(
            "{} withheld, since the URL holds a password; where it needs that: inherit = \
             [\"{first}\"]",
            names.join(", ")
        ))
    }
}

/// The values are left out: they may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("withheld", &self.withheld).finish_non_exhaustive()
    }
}

fn is_inherited(name: &str) -> bool {
    let known = |(prefix, ends): &(&str, &[&str])| {
        // npm reads its own in either case, with `-` as `_`.
        let end = name.strip_prefix(prefix).map(str::to_owned).or_else(|| {
            let upper = name.strip_prefix(&prefix.to_ascii_uppercase())?;
            prefix.starts_with("npm").then(|| upper.to_ascii_lowercase())
        });
        end.is_some_and(|end| ends.contains(&&*end.replace('-', "_")))
    };
    INHERITED.contains(&name) || INHERITED_OF.iter().any(known)
}

/// Whether the value of a variable has a URL with user info in it, or what programs take for one:
/// that of a proxy or a registry may be written without a scheme, and its password with a slash. A
/// locale or a user's name may have an `@`, too, and is no URL.
fn has_user_info(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_url = ["proxy", "registry"].iter().any(|kind| name.contains(kind));
    let rest = match value.split_once("://") {
        Some((_, rest)) => rest,
        None if is_url => value,
        None => return false,
    };
    let authority = if is_url { rest } else { rest.split('/').next().unwrap_or_default() };
    authority.rsplit_once('@').is_some_and(|(user, _)| !user.is_empty())
}

/// The value of `PATH` that a child will have.
pub fn search_path<'a>(
    inherited: &'a [Variable],
    configured: impl IntoIterator<Item = (&'a String, &'a Secret)>,
) -> &'a OsStr {
    let own = inherited.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_os_str());
    let configured = configured.into_iter().find(|(name, _)| *name == "PATH");
    configured
        .map(|(_, path)| OsStr::new(path.expose()))
        .or(own)
        .unwrap_or_else(|| OsStr::new(PATH_DEFAULT))
}

/// The file that `command` stands for: itself if it has a `/` (seen from `cwd`), else the first
/// executable file of that name in the folders of `path`.
///
/// # Errors
/// [`NotFound`], worded for the operator.
pub fn find_program(command: &str, path: &OsStr, cwd: Option<&Path>) -> Result<PathBuf, NotFound> {
    let from_cwd = |file: &Path| cwd.map_or_else(|| file.to_path_buf(), |cwd| cwd.join(file));
    if command.is_empty() {
        return Err(NotFound::Empty);
    }
    if command.contains('/') {
        let file = from_cwd(Path::new(command));
        return match file.metadata() {
            Err(source) => Err(NotFound::NoFile { file, source }),
            Ok(_) if is_executable(&file) => Ok(file),
            Ok(_) => Err(NotFound::NotExecutable { file }),
        };
    }
    let files = std::env::split_paths(path).map(|folder| from_cwd(&folder).join(command));
    let mut unfit = None;
    for file in files {
        if is_executable(&file) {
            return Ok(file);
        }
        unfit = unfit.or_else(|| file.is_file().then_some(file));
    }
    Err(unfit.map_or_else(
        || NotFound::NotInPath { command: command.to_owned(), path: path.to_owned() },
        |file| NotFound::NotExecutable { file },
    ))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// `tollgate __exec PARENT DESCRIPTORS PROGRAM ARGS…`: starts PROGRAM once the gate says so, and
/// stays as its parent until it and all that it started have ended.
///
/// Runs in the new process, before any thread: asks the kernel for a signal when its parent ends,
/// makes sure that the parent is still the gate, waits for the gate's one byte on standard input
/// (which says that the watchdog knows this group), and starts PROGRAM with the bound on open files
/// that the gate itself was given. It ends as PROGRAM did.
pub fn exec_entry(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let parent = args.next().and_then(|pid| Pid::from_raw(pid.to_str()?.parse().ok()?));
    let descriptors = args.next().and_then(|count| count.to_str()?.parse::<u64>().ok());
    let (Some(parent), Some(descriptors), Some(program)) = (parent, descriptors, args.next())
    else {
        return fail("`__exec` is for Tollgate itself: it needs a parent, a bound and a program");
    };
    // Before the signal below, which also comes with the end of the *thread* that started this.
    let reaper = match Reaper::new(parent) {
        Ok(reaper) => reaper,
        Err(error) => return fail(&format!("cannot look after {}: {error}", program.display())),
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return fail(&format!("no parent-death signal: {error}"));
    }
    // The parent may have died before the line above; nobody would tell us any more.
    let orphan = getppid() != Some(parent);
    if orphan || !told_to_go() {
        return ExitCode::from(CANNOT_RUN);
    }
    machine::lower_descriptors(descriptors);
    // std resets the signal mask and SIGPIPE of the new process.
    #[allow(clippy::disallowed_methods, reason = "the launcher has no runtime to block")]
    let started = std::process::Command::new(&program).args(args).spawn();
    match started {
        Ok(child) => reaper.watch(child.id()),
        Err(error) => fail(&cannot_run(&program, &error)),
    }
}

/// Reads one byte of standard input, and not a byte more: the next one belongs to the program.
fn told_to_go() -> bool {
    let mut go = [0; 1];
    matches!(rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut go)), Ok(1))
}

fn cannot_run(program: &OsStr, error: &io::Error) -> String {
    let program = program.display();
    let why = if error.kind() == io::ErrorKind::NotFound {
        "the file is there, but not the interpreter that its first line names: install that"
    } else {
        &error.to_string()
    };
    format!("{program}: cannot be run: {why}")
}

fn fail(what: &str) -> ExitCode {
    // Nobody is left to tell when this fails.
    writeln!(io::stderr(), "tollgate: {what}").ok();
    ExitCode::from(CANNOT_RUN)
}

/// Why there is no program to start.
#[derive(Debug, Error)]
pub enum NotFound {
    #[error("`command` is empty: name the program that is the server")]
    Empty,
    #[error(
        "{command}: not found in PATH ({path}): install {}, or give its whole path as `command`",
        comes_with(command),
        path = path.display()
    )]
    NotInPath { command: String, path: OsString },
    #[error("{file}: {source}: correct the path in `command`", file = file.display())]
    NoFile { file: PathBuf, source: io::Error },
    #[error(
        "{file}: not an executable file: `chmod +x` it, or name its interpreter as `command`",
        file = file.display()
    )]
    NotExecutable { file: PathBuf },
}

/// Names what to install for the commands that configurations of MCP servers commonly have.
fn comes_with(command: &str) -> &str {
    match command {
        "npx" | "npm" | "node" => "Node.js (nodejs.org)",
        "uvx" | "uv" => "uv (docs.astral.sh/uv)",
        "python" | "python3" => "Python",
        "docker" => "Docker",
        "deno" => "Deno",
        "bunx" | "bun" => "Bun",
        _ => "it",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(own: &[(&str, &str)]) -> Vec<String> {
        let own = own.iter().map(|(name, value)| (name.into(), value.into()));
        let inherited = Environment::new(own).of_child(&[]).into_iter();
        inherited.map(|(name, _)| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_child_inherits_no_secret() {
        let own = [
            ("PATH", "/bin"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("GITHUB_TOKEN", "x"),
            ("LC_ALL", "C"),
            ("npm_config_registry", "x"),
            ("npm_config__authToken", "x"),
            ("NODE_OPTIONS", "--require x"),
            ("LD_PRELOAD", "x"),
            ("HOME", "() { code; }"),
            ("https_proxy", "x"),
        ];
        assert_eq!(names(&own), ["PATH", "LC_ALL", "npm_config_registry", "https_proxy"]);
    }

    #[test]
    fn nothing_is_inherited_by_the_beginning_of_its_name() {
        for name in [
            "npm_config_key",
            "npm_config_cert",
            "NPM_CONFIG_KEY",
            "npm_config__auth",
            "npm_config_otp",
            "npm_config_//registry.example/:_authToken",
            "npm_config_",
            "LC_APIKEY",
            "LC_",
            "LC_all",
            "XDG_MYKEY",
            "XDG_SESSION_COOKIE",
            "XDG_SESSION_ID",
            "PATHS",
            "HOME_PASSWORD",
            "ALL_PROXY_KEY",
        ] {
            assert!(names(&[(name, "x")]).is_empty(), "{name}");
        }
        for name in ["npm_config_strict-ssl", "NPM_CONFIG_REGISTRY", "XDG_CONFIG_HOME", "LC_TIME"] {
            assert_eq!(names(&[(name, "x")]), [name]);
        }
    }

    #[test]
    fn a_proxy_with_a_password_is_withheld_unless_it_is_named() {
        for value in [
            "http://user:pw@proxy.example:3128",
            "http://token@proxy.example",
            "user:pw@proxy.example:3128",
            "http://user:p/w@proxy.example:3128",
            "https://user:p%40w@proxy.example/x",
            "socks5://u:p@[::1]:1080",
        ] {
            for name in ["HTTPS_PROXY", "http_proxy", "npm_config_registry", "npm_config_proxy"] {
                let own = [("HOME".into(), "/".into()), (name.into(), value.into())];
                let environment = Environment::new(own);
                assert_eq!(environment.of_child(&[]).len(), 1, "{name}={value}");
                let inherited = environment.of_child(&[name.to_owned()]);
                assert!(inherited.contains(&(name.into(), value.into())), "{name}={value}");
                let remark = environment.remark(|_| false).unwrap();
                assert!(remark.contains(&format!("inherit = [\"{name}\"]")), "{remark}");
                assert!(!remark.contains("pw") && !format!("{environment:?}").contains("proxy."));
                assert_eq!(environment.remark(|known| known == name), None);
            }
        }
        for value in ["http://proxy.example:3128", "localhost,.internal", "http://h/x", ""] {
            assert_eq!(names(&[("HTTPS_PROXY", value)]).len(), 1, "{value}");
        }
        for (name, value) in [
            ("LANG", "de_DE@euro"),
            ("LC_ALL", "sr_RS.UTF-8@latin"),
            ("USER", "jo@corp.example"),
            ("LOGNAME", "jo@corp.example"),
        ] {
            assert_eq!(names(&[(name, value)]), [name], "{value}");
        }
    }

    #[test]
    fn the_configured_path_wins() {
        let own = [("PATH".into(), "/own".into())];
        let configured = std::collections::BTreeMap::from([(
            "PATH".to_owned(),
            Secret::new("/configured".to_owned()),
        )]);
        assert_eq!(search_path(&own, &configured), "/configured");
        assert_eq!(search_path(&own, []), "/own");
        assert_eq!(search_path(&[], []), PATH_DEFAULT);
    }

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, mode) in [("run", 0o755), ("data", 0o644)] {
            fs::write(at(name), "").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        let find = |command, cwd| find_program(command, &path, cwd).map_err(|e| e.to_string());

        assert_eq!(find("run", None), Ok(at("run")));
        assert_eq!(find("./run", Some(folder.path())), Ok(at("./run")));
        let shown = folder.path().display();
        assert_eq!(
            find("npx", None).unwrap_err(),
            format!(
                "npx: not found in PATH (/nowhere:{shown}): install Node.js (nodejs.org), or give \
                 its whole path as `command`"
            )
        );
        let unfit = "not an executable file: `chmod +x` it, or name its interpreter as `command`";
        assert_eq!(find("data", None).unwrap_err(), format!("{shown}/data: {unfit}"));
        assert_eq!(
            find("./data", Some(folder.path())).unwrap_err(),
            format!("{shown}/./data: {unfit}")
        );
        assert!(find("/no/such", None).unwrap_err().contains("correct the path in `command`"));
        assert!(find("", None).unwrap_err().contains("`command` is empty"));
    }
}
