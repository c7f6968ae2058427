//! What an import reads and writes beside chunks: on which ground it stands, its epochs, its host, the gaps it fills.
//!
//! An imported epoch is a row of `stream` and one of `stretch` whose number is 2^62 or more; it is whole when it is written,
//! and no session ever moves it.

use highwater_ipc::record::{Epoch, EpochNo, GapReason, Seq};
use highwater_ipc::snapshot::BootId;
use highwater_ipc::time::At;
use sqlx::PgConnection;

use super::history::{ClosedGap, Reading, Stretch};
use super::number::{bigint, int, unsigned};
use super::tx::Write;
use super::{StoreError, audit};
use crate::host::HostId;

const OWN_SQL: &str = "SELECT EXISTS (SELECT 1 FROM stream WHERE host_id = $1 AND epoch_no < 4611686018427387904
        AND next_seq > 0) AS has_history,
    (SELECT covered_wall_ms FROM stream WHERE host_id = $1 AND epoch_no < 4611686018427387904
        AND covered_wall_ms IS NOT NULL ORDER BY epoch_no DESC LIMIT 1) AS newest_ms,
    (SELECT count(*) FROM stream WHERE host_id = $1 AND epoch_no >= 4611686018427387904) AS imports,
    (SELECT max(opened_ms) FROM stream WHERE host_id = $1 AND epoch_no >= 4611686018427387904) AS imported_ms";
const CERTIFIED_SQL: &str = "SELECT EXISTS (SELECT 1 FROM certificate WHERE host_id = $1)";

const OWN_BEFORE_SQL: &str = "SELECT s.epoch_no, s.stretch FROM stretch s
    JOIN stream st ON st.host_id = s.host_id AND st.epoch_no = s.epoch_no
    WHERE s.host_id = $1 AND s.epoch_no < 4611686018427387904
        AND COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) < $2
    ORDER BY COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) DESC, s.epoch_no DESC, s.stretch DESC LIMIT 1";
const FIRST_SEQ_SQL: &str = "SELECT from_seq FROM stretch WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3";

/// Imports of one host go one after the other: each has been planned for what it found.
const LOCK_HOST_SQL: &str = "SELECT host_id FROM host WHERE host_id = $1 FOR UPDATE";
const ADD_HOST_SQL: &str = "INSERT INTO host (host_id, name, labels, enrolled_ms) VALUES ($1, $2, '{}', $3)
    ON CONFLICT (host_id) DO NOTHING RETURNING host_id";
const TAKEN_SQL: &str = "SELECT epoch_no FROM stream WHERE host_id = $1 AND epoch_no = ANY ($2)";
const INSERT_STREAM_SQL: &str = "INSERT INTO stream (host_id, epoch_no, epoch_id, boot_id, next_seq, chain,
        covered_wall_ms, covered_boot_us, interval_ms, stretch, pending_detail, compacted_to, framed_to, merged_to,
        session, opened_ms, end_reason, after_epoch_no, after_stretch)
    SELECT $1, e.epoch_no, e.epoch_id, e.boot_id, e.records, '\\x0000000000000000', e.end_wall_ms, e.end_boot_us,
        e.interval_ms, 0, '', e.records, e.records, e.records, 0, $2, e.end_reason, e.after_epoch_no, e.after_stretch
    FROM unnest($3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bigint[], $9::int[],
                $10::smallint[], $11::bigint[], $12::int[])
        AS e (epoch_no, epoch_id, boot_id, records, end_wall_ms, end_boot_us, interval_ms, end_reason, after_epoch_no,
              after_stretch)";
const INSERT_STRETCH_SQL: &str =
    "INSERT INTO stretch (host_id, epoch_no, stretch, from_seq, from_wall_ms, from_boot_us)
    SELECT $1, e.epoch_no, 0, 0, e.from_wall_ms, e.from_boot_us
    FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS e (epoch_no, from_wall_ms, from_boot_us)";
const DELETE_GAPS_SQL: &str = "DELETE FROM gap AS g USING unnest($2::bigint[], $3::bigint[]) AS k (epoch_no, seq)
    WHERE g.host_id = $1 AND g.epoch_no = k.epoch_no AND g.seq = k.seq";

/// What an import depends on beside the instants it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ground {
    /// Whether an agent of its own writes this host's history, or may.
    pub has_agent: bool,
    /// That agent's newest sample that is stored or covered, host's wall clock, milliseconds.
    pub newest_own_ms: Option<i64>,
    /// How many epochs were imported, and the collector's clock at the latest import.
    pub imports: (i64, Option<i64>),
}

impl Ground {
    /// Whether nothing has changed but that the agent went on.
    pub fn bears(&self, earlier: &Ground) -> bool {
        self.has_agent == earlier.has_agent && self.imports == earlier.imports
    }
}

async fn ground_on(connection: &mut PgConnection, host: HostId) -> Result<Ground, StoreError> {
    let certified: bool = sqlx::query_scalar(CERTIFIED_SQL).bind(host.0).fetch_one(&mut *connection).await?;
    let own: (bool, Option<i64>, i64, Option<i64>) = sqlx::query_as(OWN_SQL).bind(host.0).fetch_one(connection).await?;
    let (has_history, newest_own_ms, imports, imported_ms) = own;
    Ok(Ground { has_agent: certified || has_history, newest_own_ms, imports: (imports, imported_ms) })
}

impl Reading {
    /// On which ground an import into this host would stand.
    pub async fn ground(&mut self, host: HostId) -> Result<Ground, StoreError> {
        ground_on(&mut self.tx, host).await
    }

    /// The agent's own stretch that ended last before this wall time: behind it stands what is imported for that time.
    pub async fn own_before(&mut self, host: HostId, wall_ms: i64) -> Result<Option<(EpochNo, i32)>, StoreError> {
        let query = sqlx::query_as(OWN_BEFORE_SQL).bind(host.0).bind(wall_ms);
        let row: Option<(i64, i32)> = query.fetch_optional(&mut *self.tx).await?;
        row.map(|(epoch, number)| Ok((EpochNo(unsigned("stretch.epoch_no", epoch)?), number))).transpose()
    }

    /// Position of a stretch's first record.
    pub async fn first_seq(&mut self, host: HostId, stretch: &Stretch) -> Result<Seq, StoreError> {
        let (epoch, number) = (bigint(stretch.place.epoch().0), stretch.place.number());
        let query = sqlx::query_scalar(FIRST_SEQ_SQL).bind(host.0).bind(epoch).bind(number);
        let seq: i64 = query.fetch_one(&mut *self.tx).await?;
        Ok(Seq(unsigned("stretch.from_seq", seq)?))
    }

    /// The gap that a stretch's first record closed.
    pub async fn gap_before(&mut self, host: HostId, stretch: &Stretch) -> Result<Option<ClosedGap>, StoreError> {
        let seq = self.first_seq(host, stretch).await?;
        self.gap_closed_by(host, (stretch.place.epoch(), seq)).await
    }
}

/// One run of imported samples, whole: an epoch of one stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Number (2^62 or more) and id.
    pub epoch: Epoch,
    /// The boot it was sampled in.
    pub boot_id: BootId,
    /// Records it has, from 0 on.
    pub records: u64,
    /// Its first sample, as stored.
    pub from: At,
    /// The last instant it speaks for.
    pub end: At,
    /// Time between two samples, milliseconds.
    pub interval_ms: u32,
    /// The agent's own stretch it stands behind; (0, -1) = before all.
    pub after: (EpochNo, i32),
    /// Why nothing follows.
    pub end_reason: GapReason,
}

/// Waits for another import into this host; `false` = there is no such host.
pub async fn lock(tx: &mut Write<'_>, host: HostId) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar(LOCK_HOST_SQL).bind(host.0).fetch_optional(tx.connection()).await?;
    Ok(found.is_some())
}

/// Adds a host that has no agent, unless the id is taken. `name` is escaped text.
pub async fn add_host(tx: &mut Write<'_>, host: HostId, name: &str, now_ms: i64) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar(ADD_HOST_SQL).bind(host.0).bind(name).bind(now_ms);
    let added: Option<i64> = query.fetch_optional(tx.connection()).await?;
    Ok(added.is_some())
}

/// On which ground an import into this host stands now.
pub async fn ground(tx: &mut Write<'_>, host: HostId) -> Result<Ground, StoreError> {
    ground_on(tx.connection(), host).await
}

/// Those of these numbers that an epoch of the host has.
pub async fn taken(tx: &mut Write<'_>, host: HostId, numbers: &[EpochNo]) -> Result<Vec<EpochNo>, StoreError> {
    let numbers: Vec<i64> = numbers.iter().map(|no| bigint(no.0)).collect();
    let taken: Vec<i64> = sqlx::query_scalar(TAKEN_SQL).bind(host.0).bind(numbers).fetch_all(tx.connection()).await?;
    taken.into_iter().map(|no| unsigned("stream.epoch_no", no).map(EpochNo)).collect()
}

/// Adds imported epochs, each with its stretch; `now_ms` is the collector's clock.
pub async fn insert(tx: &mut Write<'_>, host: HostId, rows: &[Imported], now_ms: i64) -> Result<(), StoreError> {
    sqlx::query(INSERT_STREAM_SQL)
        .bind(host.0)
        .bind(now_ms)
        .bind(rows.iter().map(|r| bigint(r.epoch.no.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.epoch.id.0.cast_signed()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.boot_id.0.as_slice()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.records)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.end.wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.end.boot_us)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| int(r.interval_ms)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| i16::from(r.end_reason.code())).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.after.0.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.after.1).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    sqlx::query(INSERT_STRETCH_SQL)
        .bind(host.0)
        .bind(rows.iter().map(|r| bigint(r.epoch.no.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.from.wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.from.boot_us)).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Takes away the gaps that these records closed; what remains of them is added anew.
pub async fn delete_gaps(tx: &mut Write<'_>, host: HostId, keys: &[(EpochNo, Seq)]) -> Result<(), StoreError> {
    sqlx::query(DELETE_GAPS_SQL)
        .bind(host.0)
        .bind(keys.iter().map(|(epoch, _)| bigint(epoch.0)).collect::<Vec<_>>())
        .bind(keys.iter().map(|(_, seq)| bigint(seq.0)).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Says who imported; last, because `audit` is a local table.
pub async fn tell(tx: &mut Write<'_>, host: HostId, who: &str, now_ms: i64) -> Result<(), StoreError> {
    let subject = host.to_string();
    audit::insert(tx.connection(), audit::Entry { at_ms: now_ms, who, what: "import", subject: &subject }).await
}
