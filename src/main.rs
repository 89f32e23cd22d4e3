//! The `headwater` program: arguments, command, exit code. Everything else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    headwater::cli::main()
}
