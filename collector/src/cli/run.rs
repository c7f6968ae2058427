//! From the arguments to the exit code.

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use super::args::{Cli, Command};
use super::exit::Exit;
use super::{
    backtest, blame, capacity, diff, explain, export, find, flags, hosts, import, ipcs, lsipc, migrate, notify, status,
    timeline, token, up, version,
};

/// Runs what the process's arguments ask for. An error is one line on stderr.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => {
            // Help and version arrive here as well, and a closed pipe is no reason to complain.
            let _ = refused.print();
            return u8::try_from(refused.exit_code()).map_or(Exit::Usage.into(), ExitCode::from);
        }
    };
    log_to_stderr(cli.global.verbose);
    match dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("highwater: {}", one_line(&error));
            Exit::Error.into()
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Up(args) => up::args::run(args, &cli.global),
        Command::Hosts(args) => hosts::run(&args, &cli.global),
        Command::Ipcs(args) => ipcs::run(&args, &cli.global),
        Command::Lsipc(args) => lsipc::run(&args, &cli.global),
        Command::Diff(args) => diff::run(&args, &cli.global),
        Command::Timeline(args) => timeline::run(&args, &cli.global),
        Command::Blame(args) => blame::run(&args, &cli.global),
        Command::Capacity(args) => capacity::run(&args, &cli.global),
        Command::Find(args) => find::run(&args, &cli.global),
        Command::Flags(args) => flags::run(&args, &cli.global),
        Command::Explain(args) => explain::run(&args, &cli.global),
        Command::Export(args) => export::run(&args, &cli.global),
        Command::Import(args) => import::run(&args, &cli.global),
        Command::Backtest(args) => backtest::run(&args, &cli.global),
        Command::Token(args) => token::run(&args, &cli.global),
        Command::Notify(args) => notify::run(&args, &cli.global),
        Command::Status(args) => status::run(&args, &cli.global),
        Command::Doctor(args) => status::doctor(&args, &cli.global),
        Command::Migrate(args) => migrate::run(&args, &cli.global),
        Command::Version(args) => version::run(&args, &cli.global),
    }
}

/// Quiet by default: warnings. `RUST_LOG` wins over `-v`.
fn log_to_stderr(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "warn,highwater=info,highwater_agent=info",
        _ => "info,highwater=debug,highwater_agent=debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
}

/// The error and its causes on one line; a cause that the line already ends with is not said twice.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().replace(['\n', '\r'], " ");
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_each_cause_once() {
        let error = anyhow::anyhow!("disk\nfull").context("writing x: disk full").context("starting");
        assert_eq!(one_line(&error), "starting: writing x: disk full");
    }
}
