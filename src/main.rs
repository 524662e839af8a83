//! The binary: a child's launcher or watchdog where it is called as one, else the command line.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = tollgate::process::entry(std::env::args_os().skip(1)) {
        return code;
    }
    tollgate::cli::main()
}
