//! The arguments of `up`, and its life from them to the exit code.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use highwater_agent::config::Interval;
use tokio_util::sync::CancellationToken;

use super::files::TOKEN_FILE;
use super::listen::Address;
use super::signals;
use super::stack::{Ready, Settings, Stack};
use crate::cli::args::Global;
use crate::cli::data_dir::default_data_dir;
use crate::cli::exit::Exit;
use crate::cli::migrate::DatabaseUrl;
use crate::evaluate::config::Watched;
use crate::notify;
use crate::store::keep::{Days, Keep};

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  highwater up\n  highwater up --interval 250ms --data-dir ~/hw\n  \
    highwater up --keep-chunks 30d --keep-usage 400d --keep-rollups 3y\n  \
    highwater up --notify-config /etc/highwater/notify.toml --flags-config /etc/highwater/flags.toml\n  \
    HIGHWATER_DATABASE_URL=postgres://highwater:SECRET@db/highwater highwater up")]
pub struct UpArgs {
    /// Where everything is kept [default: /var/lib/highwater as root, else $XDG_DATA_HOME/highwater or
    /// ~/.local/share/highwater]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// An existing PostgreSQL database instead of a private server, as postgres://USER@HOST:PORT/NAME;
    /// HIGHWATER_DATABASE_URL names one as well. Not with a password: arguments are seen by every user of this machine;
    /// it belongs into that variable or ~/.pgpass
    // The raw text: clap's own errors would quote it.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<OsString>,
    /// Time between two samples of this host, 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub interval: Interval,
    /// Address for agents (gRPC, mutual TLS) [default: 127.0.0.1:8443, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS")]
    pub grpc: Option<Address>,
    /// Address of the API (HTTP), on loopback only; port 0 = any free one [default: 127.0.0.1:8080, or a free port if
    /// that is taken]
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<Address>,
    /// How long exact history is kept, e.g. 90d, 13w, 2y; the present is kept however old it is
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub keep_chunks: Days,
    /// How long the use of limits is kept in ten minutes, and that of owners; and flags from their end on
    #[arg(long, value_name = "TIME", default_value = "400d")]
    pub keep_usage: Days,
    /// How long the use of limits is kept by the hour
    #[arg(long, value_name = "TIME", default_value = "3y")]
    pub keep_rollups: Days,
    /// Whom to tell of flags: a TOML file with receivers (webhook, alertmanager, slack, smtp); the README shows one
    #[arg(long, value_name = "FILE")]
    pub notify_config: Option<PathBuf>,
    /// How far ahead hosts are flagged, and of which nobody is told: a TOML file with a default and policies by label; the
    /// README shows one
    #[arg(long, value_name = "FILE")]
    pub flags_config: Option<PathBuf>,
    /// Run no agent for this host
    #[arg(long)]
    pub no_agent: bool,
    /// When ready, write {"http","grpc","token","host"} to this file (0600)
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// The longest that the runtime's last tasks may take.
const LAST_TASKS: Duration = Duration::from_millis(500);

/// Runs until Ctrl-C or SIGTERM.
pub fn run(args: UpArgs, global: &Global) -> anyhow::Result<Exit> {
    let data_dir = args.data_dir.or_else(default_data_dir).context(
        "no home directory is known (HOME and XDG_DATA_HOME are not set): say where to keep data with --data-dir",
    )?;
    let receivers = args.notify_config.as_deref().map(notify::config::load).transpose()?.unwrap_or_default();
    let rules = args.flags_config.as_deref().map(Watched::new).transpose()?.unwrap_or_default();
    let settings = Settings {
        receivers: Arc::new(receivers),
        rules,
        data_dir,
        database_url: DatabaseUrl::named(args.database_url.as_deref())?,
        interval: args.interval,
        http: args.http,
        grpc: args.grpc,
        agent: !args.no_agent,
        ready_file: args.ready_file,
        keep: Keep { chunks: args.keep_chunks, usage: args.keep_usage, rollups: args.keep_rollups },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(live(settings, global.wants_json()));
    runtime.shutdown_timeout(LAST_TASKS);
    ended
}

async fn live(settings: Settings, json: bool) -> anyhow::Result<Exit> {
    let stopping = CancellationToken::new();
    signals::watch(&stopping).context("watching for signals")?;
    let mut stack = match Stack::start(settings, &stopping).await {
        Ok(stack) => stack,
        // Ctrl-C before it was ready is what somebody wanted, not an error.
        Err(_) if stopping.is_cancelled() => return Ok(Exit::Answered),
        Err(e) => return Err(e),
    };
    // Nobody may be reading any more (`| head`); that is no reason to stop.
    let _ = std::io::stdout().write_all(announcement(&stack.ready, json).as_bytes());
    // After the announcement: whoever waits for the file finds both.
    let ran = match stack.say_ready() {
        Ok(()) => stack.run(&stopping).await,
        Err(e) => Err(e),
    };
    eprintln!("highwater: stopping");
    let stopped = stack.stop().await;
    ran.and(stopped).map(|()| Exit::Answered)
}

/// What to type for this program: its name where PATH finds it, else its path.
fn own_name() -> String {
    let Ok(own) = std::env::current_exe() else { return NAME.to_owned() };
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|dir| dir.join(NAME)).find_map(|file| file.canonicalize().ok())
    });
    if found.as_deref() == Some(own.as_path()) { NAME.to_owned() } else { own.display().to_string() }
}

const NAME: &str = "highwater";

fn announcement(ready: &Ready, json: bool) -> String {
    if json {
        let value = serde_json::json!({ "http": ready.http, "grpc": ready.grpc, "host": ready.host });
        return format!("{value}\n");
    }
    let mut text = format!(
        "ready\n  API           {}\n  agents        {}\n  data          {}\n",
        ready.http,
        ready.grpc,
        ready.data_dir.display()
    );
    if let (Some(host), Some(name)) = (&ready.host, &ready.host_name) {
        text.push_str(&format!("  this host     {name} (id {host})\n"));
    }
    if let Some(own) = &ready.own_segment {
        text.push_str(&format!(
            "  PostgreSQL's own shared memory segment: shmid {}, owner {} (uid {})\n",
            own.segment.shmid, own.user, own.uid
        ));
    }
    let name = own_name();
    text.push_str(&format!("In another terminal: {name} hosts, {name} ipcs. Ctrl-C stops everything.\n"));
    if default_data_dir().as_deref() != Some(ready.data_dir.as_path()) {
        let token = ready.data_dir.join(TOKEN_FILE);
        text.push_str(&format!(
            "There first: export HIGHWATER_URL={} HIGHWATER_TOKEN_FILE={}\n",
            ready.http,
            token.display()
        ));
    }
    text
}
