//! The commands and their flags.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::doctor::DoctorArgs;
use super::enrol::EnrolArgs;
use super::run::RunArgs;
use super::snapshot::SnapshotArgs;
use super::spool::SpoolArgs;
use super::{doctor, enrol, run, snapshot, spool};
use crate::config::{Config, ConfigError, Overrides};

/// Reads this host's System V IPC state and streams it to a Highwater collector
#[derive(Debug, Parser)]
#[command(
    name = "highwater-agent",
    version,
    after_help = "Examples:\n  highwater-agent snapshot\n  highwater-agent enrol --collector \
                  https://collector.example.org:8443 --token-file token\n  highwater-agent run\n\nExit codes: 0 done, 1 \
                  an error (one line on stderr), 2 wrong usage, 3 trouble (doctor)."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(RunArgs),
    #[command(visible_alias = "enroll")]
    Enrol(EnrolArgs),
    Snapshot(SnapshotArgs),
    Doctor(DoctorArgs),
    Spool(SpoolArgs),
    Version(VersionArgs),
}

/// Print the agent's version
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = "Example:\n  highwater-agent version --json")]
struct VersionArgs {
    #[command(flatten)]
    output: Output,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// Print one JSON document instead of text; the same as -o json
    #[arg(long)]
    json: bool,
    /// Form of the answer
    #[arg(short = 'o', long = "output", value_enum, default_value = "text")]
    output: Format,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs: the contract's JSON.
    Json,
}

impl Output {
    /// Whether the answer is to be JSON.
    pub fn wants_json(&self) -> bool {
        self.json || self.output == Format::Json
    }
}

/// Where configuration and state are.
#[derive(Clone, Debug, Default, Args)]
pub struct Places {
    /// Configuration file [default: /etc/highwater/agent.toml, which may be missing]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of key, certificate, epoch and spool [default: /var/lib/highwater-agent]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

impl Places {
    /// The configuration that file, environment and these flags make.
    pub fn load(&self, rest: Overrides) -> Result<Config, ConfigError> {
        let flags = Overrides { file: self.config.clone(), state_dir: self.state_dir.clone(), ..rest };
        Config::load(&flags, &|name| std::env::var_os(name))
    }
}

impl Cli {
    /// Does what was asked. An error becomes one line on stderr.
    pub fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Run(args) => run::run(&args),
            Command::Enrol(args) => enrol::run(&args),
            Command::Snapshot(args) => snapshot::run(&args),
            Command::Doctor(args) => match doctor::run(&args) {
                Ok(code) => return code,
                Err(error) => Err(error),
            },
            Command::Spool(args) => spool::run(&args),
            Command::Version(VersionArgs { output }) if output.wants_json() => {
                snapshot::print(&format!("{{\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION")))
            }
            Command::Version(_) => snapshot::print(&format!("highwater-agent {}\n", env!("CARGO_PKG_VERSION"))),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("highwater-agent: {}", one_line(&error));
                ExitCode::FAILURE
            }
        }
    }
}

/// The error and its causes on one line; a cause that the line already holds is not said twice.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text: String = cause.to_string().split(['\n', '\r']).map(str::trim).collect::<Vec<_>>().join(" ");
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
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_well_formed_and_the_help_of_each_has_an_example() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{help}");
            command.get_subcommands_mut().filter(|c| c.get_name() != "help").for_each(check);
        }
        Cli::command().debug_assert();
        check(&mut Cli::command());
    }

    #[test]
    fn each_command_with_an_answer_gives_it_as_json_in_both_ways() {
        for command in ["version", "snapshot", "doctor", "spool status"] {
            for form in ["--json", "-o json"] {
                let line = format!("highwater-agent {command} {form}");
                Cli::try_parse_from(line.split(' ')).unwrap();
            }
        }
    }

    #[test]
    fn a_token_is_no_argument() {
        let refused = ["enrol", "enroll"]
            .map(|name| Cli::try_parse_from(["highwater-agent", name, "--collector", "a:1", "--token", "hw1.a.b.c"]));
        assert!(refused.iter().all(Result::is_err));
        Cli::try_parse_from(["highwater-agent", "enroll", "--collector", "a:1", "--token-file", "-"]).unwrap();
    }

    #[test]
    fn an_error_is_one_line() {
        let error = anyhow::anyhow!("disk\n  full").context("writing x: disk full").context("starting");
        assert_eq!(one_line(&error), "starting: writing x: disk full");
    }
}
