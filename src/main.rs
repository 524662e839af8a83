//! The binary: hands over to the command line.

use std::process::ExitCode;

use tollgate::upstream::child;

fn main() -> ExitCode {
    if let Some(code) = child::entry(std::env::args_os().skip(1)) {
        return code;
    }
    ExitCode::SUCCESS
}
