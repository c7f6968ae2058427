//! `/status`, `/storage` and `/retention`: the collector's own health.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::Extensions;
use highwater_ipc::time::format_rfc3339_ms;
use tokio::time::timeout;

use super::auth::{Away, note};
use super::json::{
    AwayJson, CheckJson, DatabaseJson, DiskJson, DroppingJson, IngestJson, LeaseJson, RetainedJson, RetentionJson,
    StatusJson, StorageJson, TableJson,
};
use super::problem::Problem;
use super::router::Shared;
use crate::health::Part;
use crate::query::Reading;
use crate::query::status::{self, Check, Database, Retained, Status};
use crate::store::StoreError;

/// How long the database is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the collector is; that the database does not answer is an answer.
pub(super) async fn status(State(shared): State<Shared>, extensions: Extensions) -> Json<StatusJson> {
    let now_ms = shared.clock.now_ms();
    let disk = shared.disk.as_ref().and_then(|ask| ask());
    let database = match extensions.get::<Away>() {
        Some(away) => Err(away.0.clone()),
        None => ask(&shared, now_ms).await,
    };
    let known = shared.health.known(now_ms);
    Json(write(&Status { now_ms, database, disk, known }))
}

async fn ask(shared: &Shared, now_ms: i64) -> Result<Database, String> {
    let unanswered = StoreError::Unanswered { seconds: PATIENCE.as_secs() };
    match timeout(PATIENCE, status::database(&shared.db, now_ms)).await.unwrap_or(Err(unanswered)) {
        Ok(database) => {
            shared.health.works(Part::Database);
            Ok(database)
        }
        Err(error) => {
            note(shared, &error);
            Err(error.to_string())
        }
    }
}

/// What is stored.
pub(super) async fn storage(State(shared): State<Shared>) -> Result<Json<StorageJson>, Problem> {
    let mut reading = Reading::begin(&shared.db).await?;
    let storage = status::storage(&mut reading).await?;
    let bytes_per_host_day = storage.bytes_per_host_day();
    let table = |t: status::TableSize| TableJson { name: t.name, rows: t.rows, bytes: t.bytes };
    Ok(Json(StorageJson {
        find_index_bytes: storage.find_index_bytes,
        host_days: storage.host_days,
        bytes_per_host_day,
        tables: storage.tables.into_iter().map(table).collect(),
    }))
}

/// What retention would do now.
pub(super) async fn retention(State(shared): State<Shared>) -> Result<Json<RetentionJson>, Problem> {
    let now_ms = shared.clock.now_ms();
    let mut reading = Reading::begin(&shared.db).await?;
    let retained = status::retention(&mut reading, &shared.keep, now_ms).await?;
    Ok(Json(RetentionJson { now: format_rfc3339_ms(now_ms), tables: retained.iter().map(table).collect() }))
}

fn write(status: &Status) -> StatusJson {
    let trouble = status.known.unacked();
    let per_second = f64::from(u32::try_from(status.known.records_10s).unwrap_or(u32::MAX)) / 10.0;
    StatusJson {
        now: format_rfc3339_ms(status.now_ms),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        database: status.database.as_ref().ok().map(database),
        database_away: status.database.as_ref().err().map(|why| AwayJson {
            since: format_rfc3339_ms(status.away_since_ms().unwrap_or(status.now_ms)),
            why: why.clone(),
        }),
        disk: status.disk.as_ref().map(|disk| DiskJson {
            path: disk.path.clone(),
            free_bytes: disk.free,
            bytes: disk.size,
        }),
        ingest: IngestJson {
            acking: status.is_acking(),
            since: trouble.map(|t| format_rfc3339_ms(t.since_ms)),
            why: trouble.map(|t| t.what.clone()),
            last_commit: status.known.committed_ms.map(format_rfc3339_ms),
            records_per_second: per_second,
        },
        checks: status.checks().into_iter().map(check).collect(),
    }
}

fn database(database: &Database) -> DatabaseJson {
    let (live, all) = database.hosts;
    DatabaseJson {
        version: database.version.clone(),
        bytes: database.bytes,
        hosts_live: live,
        hosts_silent: all.saturating_sub(live),
        oldest_uncompacted: database.uncompacted_ms.map(format_rfc3339_ms),
        oldest_unmerged_day: database.unmerged.map(|day| format_rfc3339_ms(day.start_ms())),
        leases: database
            .leases
            .iter()
            .map(|lease| LeaseJson {
                name: lease.name.clone(),
                holder: lease.holder.clone(),
                until: (lease.until_ms > 0).then(|| format_rfc3339_ms(lease.until_ms)),
            })
            .collect(),
    }
}

fn check(check: Check) -> CheckJson {
    let remedy = (!check.remedy.is_empty()).then_some(check.remedy);
    CheckJson { name: check.name.to_owned(), ok: check.ok, what: check.what, remedy }
}

fn table(retained: &Retained) -> RetainedJson {
    let drops = retained.drops.iter().map(|drop| DroppingJson {
        from: format_rfc3339_ms(drop.span.0.start_ms()),
        to: format_rfc3339_ms(drop.span.1.start_ms()),
        rows: drop.rows,
        bytes: drop.bytes,
        baselines: drop.baselines,
    });
    RetainedJson {
        name: retained.table.name().to_owned(),
        keep_days: retained.keep.0,
        horizon: format_rfc3339_ms(retained.horizon_ms),
        kept_from: retained.kept_from.map(|day| format_rfc3339_ms(day.start_ms())),
        drops: drops.collect(),
    }
}
