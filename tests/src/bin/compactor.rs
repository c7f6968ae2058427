//! Compacts, merges and drops in a database until nothing is due, as a collector at that time of its
//! clock would: `compactor DATABASE-URL NOW-MS [DAYS]`; with DAYS it also forgets exact history that is older. The campaign
//! of kills ends it anywhere.

#![allow(clippy::print_stderr, reason = "what goes wrong is for the test that started it")]

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use highwater::cli::migrate::DatabaseUrl;
use highwater::compact::Held;
use highwater::compact::job::{Compactor, Config, LEASE, Round};
use highwater::compact::lease::{Keeper, Now};
use highwater::compact::retention::Retention;
use highwater::compact::upkeep;
use highwater::store::Db;
use highwater::store::keep::{Days, Keep};

/// Everything is due at once.
const CONFIG: Config = Config {
    tail_age_ms: 0,
    urgent_age_ms: 0,
    tail_positions: 1,
    merge_after_ms: 0,
    partitions_every_ms: 0,
    round_ms: 0,
};

fn main() -> ExitCode {
    let run = || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(compact())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compactor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn compact() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let url = DatabaseUrl::named(arguments.next().as_deref())?.context("a database")?;
    let mut number = || arguments.next().and_then(|n| n.into_string().ok()).and_then(|n| n.parse::<i64>().ok());
    let (now_ms, days) = (number().context("a time")?, number());
    let db = Db::connect(url.options(), 2).await?;
    let now = Now { wall_ms: now_ms, steady_ms: 0 };
    let holder = format!("compactor {}", std::process::id());
    let mut connection = db.dedicated().await?;
    let mut keeper = Keeper::new(LEASE, holder.clone());
    let fence = keeper.hold(&db, now).await?.context("the lease is somebody else's")?;
    let mut compactor = Compactor::new(db.clone(), CONFIG, Held { name: LEASE.to_owned(), fence });
    loop {
        let round = compactor.round(now_ms).await?;
        ensure!(round.failed == 0, "history that does not compact: {round:?}");
        if round == Round::default() {
            break;
        }
    }
    keeper.release(&db).await;
    if let Some(days) = days {
        let keep = Keep { chunks: Days(u32::try_from(days)?), ..Keep::default() };
        let mut keeper = Keeper::new(upkeep::LEASE, holder);
        let fence = keeper.hold(&db, now).await?.context("the lease is somebody else's")?;
        let retention = Retention { keep, lease: upkeep::LEASE.to_owned(), fence };
        retention.run(&mut connection, now_ms).await?;
        keeper.release(&db).await;
    }
    Ok(())
}
