//! The `highwater-agent` binary; everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use highwater_agent::cli::args::Cli;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(refused) => {
            // Help and version arrive here as well, and a closed pipe is no reason to complain.
            let _ = refused.print();
            if refused.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
        }
    }
}
