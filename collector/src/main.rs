//! The `highwater` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    highwater::cli::run::run()
}
