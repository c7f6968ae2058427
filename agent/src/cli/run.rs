//! `highwater-agent run`: sample and stream until SIGTERM or SIGINT.

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::args::Places;
use crate::agent;
use crate::config::{Interval, Overrides};
use crate::sys::memory;

/// Sample this host and stream it to the collector, until SIGTERM or Ctrl-C
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  highwater-agent run\n  highwater-agent run --config /etc/highwater/agent.toml\n  \
                  highwater-agent run --state-dir ./state --interval 1s\n\nEvery key of the file can be given as \
                  HIGHWATER_<KEY>; flags win over the environment, that over the file."
)]
pub struct RunArgs {
    #[command(flatten)]
    places: Places,
    /// Time between two samples, 100ms to 1h [default: 10s]
    #[arg(long, value_name = "TIME")]
    interval: Option<Interval>,
    /// The collector's address, if it is another than at enrolment
    #[arg(long, value_name = "URL")]
    collector: Option<String>,
}

/// Runs the agent and stops it in order.
pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    memory::one_arena();
    log_to_stderr();
    let rest = Overrides { interval: args.interval, collector: args.collector.clone(), ..Overrides::default() };
    let config = args.places.load(rest)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("making a runtime")?;
    // Signals are taken before anything can need a stop in order.
    let (mut terminate, mut interrupt) = runtime
        .block_on(async {
            Ok::<_, std::io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
        })
        .context("taking signals")?;
    let mut agent = agent::spawn(config)?;
    let ended = runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            ended = agent.ended() => Some(ended),
        }
    });
    match ended {
        Some(by_itself) => by_itself?,
        None => agent.stop()?,
    }
    Ok(())
}

/// One line per change of state; RUST_LOG asks for more or less (`debug`, `warn,highwater_agent::spool=trace`). Not an
/// `EnvFilter`, which can choose by fields as well: its regular expressions would be a twentieth of this program.
fn log_to_stderr() {
    let asked = std::env::var("RUST_LOG").ok().and_then(|asked| asked.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(filter).with(layer).init();
}
