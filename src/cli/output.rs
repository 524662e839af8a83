//! Prints the results and remarks of commands, for people and for programs.

use std::io::Write as _;

use crate::{
    app,
    telemetry::{self, printable::printable},
};

/// Prints what is wrong with a configuration in whole; any other reason is one line.
pub fn start_failed(error: app::StartError) -> anyhow::Error {
    if let app::StartError::Config(problems) = &error {
        show(&problems.render(is_coloured()));
        return anyhow::anyhow!("{} problem(s) in the configuration", problems.len());
    }
    anyhow::Error::new(error)
}

/// Prints the result of a command to standard output, without what would move a cursor: it may be a
/// server's. A reader that went away (`| head`) is no error.
pub fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{}", printable(text)).ok();
}

/// Prints a remark to standard error; as a line of the log where that is JSON.
pub fn show(text: &str) {
    telemetry::remark("INFO", text);
}

/// Prints a warning to standard error.
pub fn warn(text: &str) {
    use owo_colors::{OwoColorize as _, Stream};
    if telemetry::is_json() {
        return telemetry::remark("WARN", text);
    }
    let mark = "warning:".if_supports_color(Stream::Stderr, |text| text.yellow().to_string());
    show(&format!("{mark} {}", printable(text)));
}

/// Prints an error to standard error.
pub fn complain(text: &str) {
    use owo_colors::{OwoColorize as _, Stream};
    if telemetry::is_json() {
        return telemetry::remark("ERROR", text);
    }
    let mark = "error:".if_supports_color(Stream::Stderr, |text| text.red().bold().to_string());
    show(&format!("{mark} {}", printable(text)));
}

/// Whether standard error shows colours.
pub fn is_coloured() -> bool {
    telemetry::is_coloured()
}
