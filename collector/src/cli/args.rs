//! What may be typed.

use std::io::IsTerminal;

use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};

use super::{
    backtest, blame, capacity, diff, explain, export, find, flags, hosts, import, ipcs, lsipc, migrate, notify, status,
    timeline, token, up, version,
};

/// `highwater`: what System V IPC objects every host holds, now and at any past instant.
#[derive(Debug, Parser)]
#[command(name = "highwater", version, about, max_term_width = 100, after_help = AFTER)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "Examples:\n  highwater up\n  highwater hosts --lacks-sysvipc\n  highwater ipcs web-17 --at -2h\n  \
    highwater timeline web-17 --since yesterday\n\n\
    Exit codes: 0 the answer was printed, 1 an error, 2 usage, 3 yes, trouble (--exit-code), \
    4 no data for that instant.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine, without settings: database, collector, API and this host's agent
    Up(up::args::UpArgs),
    /// The fleet: who is there, System V IPC availability, what is nearest to its limit
    #[command(visible_alias = "host")]
    Hosts(hosts::HostsArgs),
    /// What `ipcs` would have printed on a host, now or at any past instant
    Ipcs(ipcs::IpcsArgs),
    /// Limits and what is used of them, as `lsipc` prints it
    Lsipc(lsipc::LsipcArgs),
    /// What a host held at two instants, compared
    Diff(diff::DiffArgs),
    /// What happened on a host, in order
    Timeline(timeline::TimelineArgs),
    /// Whose objects grew between two instants, what of them is orphaned, and what to do
    Blame(blame::BlameArgs),
    /// How near to its limits the fleet is, was and will be; who would be refused under others
    Capacity(capacity::CapacityArgs),
    /// An object across fleet and time, by key, owner, size, program or what nobody holds
    Find(find::FindArgs),
    /// What is going wrong: limits that are reached or will be, since when, who holds them, what to do
    #[command(visible_alias = "flag")]
    Flags(flags::FlagsArgs),
    /// What a program's error text came from: the limit, the moment, who holds it, who was refused, what to do
    Explain(explain::ExplainArgs),
    /// Every stored sample of a span, whole, as JSON lines
    Export(export::ExportArgs),
    /// What flags the evaluator would have raised over series in CSV files, and why
    Backtest(backtest::BacktestArgs),
    /// Fill the gaps of a host's history from a file
    Import(import::ImportArgs),
    /// Make, list and revoke the tokens with which hosts enrol
    #[command(visible_alias = "tokens")]
    Token(token::TokenArgs),
    /// Whom the collector tells of flags, and a test of it
    Notify(notify::NotifyArgs),
    /// How the collector itself is: database, ingest, work that waits; what it stores and forgets
    Status(status::StatusArgs),
    /// What is wrong with the collector, and how to mend it
    Doctor(status::DoctorArgs),
    /// Bring the database's schema up to date and say what was done
    Migrate(migrate::MigrateArgs),
    /// Print the version
    Version(version::VersionArgs),
}

/// What holds for every command.
#[derive(Clone, Copy, Debug, Args)]
pub struct Global {
    /// Print one JSON document instead of text; the same as -o json
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// Form of the answer
    #[arg(short = 'o', long = "output", value_enum, global = true, default_value = "text", help_heading = "Output")]
    pub output: Format,
    /// Colours: auto = on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, global = true, default_value = "auto", help_heading = "Output")]
    pub color: ColorChoice,
    /// Say more on stderr; twice for debugging (RUST_LOG says it more exactly)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: the contract's JSON.
    Json,
}

impl Global {
    /// Whether the answer is to be JSON.
    pub fn wants_json(&self) -> bool {
        self.json || self.output == Format::Json
    }

    /// Whether stdout gets colours.
    pub fn wants_color(&self) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::io::stdout().is_terminal()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{help}");
            command.get_subcommands_mut().filter(|c| c.get_name() != "help").for_each(check);
        }
        check(&mut Cli::command());
    }

    #[test]
    fn json_may_be_asked_for_in_both_ways_after_the_command() {
        for args in [["highwater", "version", "--json"].as_slice(), &["highwater", "version", "-o", "json"]] {
            assert!(Cli::try_parse_from(args).unwrap().global.wants_json());
        }
    }
}
