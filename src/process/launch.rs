//! Prepares the start of a child: its program, its environment, and the step before its `exec`.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use thiserror::Error;

use crate::{call::machine, config::Secret};

/// The exit code of a shell when a command was found but could not be run.
const CANNOT_RUN: u8 = 126;
/// Where programs are looked for when no `PATH` is set, as POSIX' `confstr` has it.
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
/// Variables that are inherited by the beginning of their name.
const INHERITED_PREFIXES: &[&str] = &["LC_", "XDG_", "npm_config_", "NPM_CONFIG_"];
/// A name that contains one of these, in any case, is a credential and stays with the gate.
const CREDENTIALS: &[&str] = &["auth", "password", "token", "secret", "otp"];

/// A variable: its name and its value.
pub type Variable = (OsString, OsString);

/// Which of the gate's own variables a child inherits: never the whole environment, which holds the
/// gate's secrets. A value that begins with `()` is a function exported by a shell, and code.
pub fn inherited(own: impl IntoIterator<Item = Variable>) -> Vec<Variable> {
    let passes = |name: &str| {
        let lower = name.to_ascii_lowercase();
        INHERITED.contains(&name)
            || INHERITED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                && !CREDENTIALS.iter().any(|word| lower.contains(word))
    };
    own.into_iter()
        .filter(|(name, value)| {
            name.to_str().is_some_and(passes) && !value.as_encoded_bytes().starts_with(b"()")
        })
        .collect()
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

/// `tollgate __exec PARENT DESCRIPTORS PROGRAM ARGS…`: becomes PROGRAM once the gate says so.
///
/// Runs in the new process, before any thread: asks the kernel to be killed with its parent, makes
/// sure that the parent is still the gate, waits for the gate's one byte on standard input (which
/// says that the watchdog knows this group), and executes PROGRAM with the bound on open files that
/// the gate itself was given. Returns only if that failed.
pub fn exec_entry(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let parent = args.next().and_then(|pid| pid.to_str()?.parse::<i32>().ok());
    let descriptors = args.next().and_then(|count| count.to_str()?.parse::<u64>().ok());
    let (Some(parent), Some(descriptors), Some(program)) = (parent, descriptors, args.next())
    else {
        return fail("`__exec` is for Tollgate itself: it needs a parent, a bound and a program");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return fail(&format!("no parent-death signal: {error}"));
    }
    // The parent may have died before the line above; nobody would tell us any more.
    let orphan = getppid().is_none_or(|pid| pid.as_raw_pid() != parent);
    if orphan || !told_to_go() {
        return ExitCode::from(CANNOT_RUN);
    }
    machine::lower_descriptors(descriptors);
    // std resets the signal mask and SIGPIPE on the way into `exec`.
    #[allow(
        clippy::disallowed_methods,
        reason = "does not start a process: it becomes the program"
    )]
    let error = std::process::Command::new(&program).args(args).exec();
    fail(&cannot_run(&program, &error))
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
    // There is nobody left to tell when this fails.
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
        inherited(own).into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
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
