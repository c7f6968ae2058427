//! Table `stream`: what is stored of each epoch, and the guard that keeps it so.

use highwater_ipc::record::{Chain, Epoch, EpochId, EpochNo, GapReason, Seq};
use highwater_ipc::snapshot::BootId;
use highwater_ipc::time::At;

use super::StoreError;
use super::day::Day;
use super::number::{bigint, fixed, int, unsigned};
use super::tx::Write;
use crate::host::HostId;

// Imported epochs (from 2^62 on) are no agent's: no session sees or moves them.
const OF_HOST_SQL: &str = "SELECT epoch_no, epoch_id, boot_id, next_seq, chain, covered_wall_ms, covered_boot_us,
        interval_ms, stretch, base_seq, base_day - DATE '1970-01-01' AS base_day, pending_reason, pending_detail, session,
        framed_to
    FROM stream WHERE host_id = $1 AND epoch_no < 4611686018427387904 ORDER BY epoch_no";

/// `next_seq = from_seq` makes a resend change nothing; `session = mine` makes a session that another one has followed
/// change nothing. A backup that takes the database's place under a session that it knows can lack records of the epoch
/// before and agree with everything else: so the first step of an epoch also asks where that one stands.
const ADVANCE_SQL: &str = "UPDATE stream AS s
    SET next_seq = g.next_seq, chain = g.chain, covered_wall_ms = g.covered_wall_ms,
        covered_boot_us = g.covered_boot_us, interval_ms = g.interval_ms, stretch = g.stretch, base_seq = g.base_seq,
        base_day = DATE '1970-01-01' + g.base_day, pending_reason = g.pending_reason,
        pending_detail = g.pending_detail, framed_to = g.framed_to
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bigint[],
                $8::bigint[], $9::int[], $10::int[], $11::bigint[], $12::int[], $13::smallint[], $14::text[],
                $15::bigint[], $16::bigint[], $17::bigint[])
        AS g (host_id, epoch_no, session, from_seq, next_seq, chain, covered_wall_ms, covered_boot_us, interval_ms,
              stretch, base_seq, base_day, pending_reason, pending_detail, before_epoch_no, before_next_seq,
              framed_to)
    WHERE s.host_id = g.host_id AND s.epoch_no = g.epoch_no AND s.session = g.session AND s.next_seq = g.from_seq
        AND (g.before_epoch_no IS NULL OR EXISTS (SELECT 1 FROM stream b WHERE b.host_id = s.host_id
            AND b.epoch_no = g.before_epoch_no AND b.next_seq = g.before_next_seq))
    RETURNING s.host_id";

const END_SQL: &str = "UPDATE stream AS s SET end_reason = e.reason
    FROM unnest($1::bigint[], $2::bigint[], $3::smallint[]) AS e (host_id, epoch_no, reason)
    WHERE s.host_id = e.host_id AND s.epoch_no = e.epoch_no";

const INSERT_SQL: &str =
    "INSERT INTO stream (host_id, epoch_no, epoch_id, boot_id, next_seq, chain, interval_ms, stretch,
        pending_detail, compacted_to, session, opened_ms)
    SELECT $1, e.epoch_no, e.epoch_id, e.boot_id, 0, '\\x0000000000000000', 0, -1, '', 0, $5, $6
    FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS e (epoch_no, epoch_id, boot_id)
    ON CONFLICT (host_id, epoch_no) DO NOTHING";

const SET_SESSION_SQL: &str = "UPDATE stream SET session = $2
    WHERE host_id = $1 AND epoch_no < 4611686018427387904
    RETURNING epoch_no, epoch_id, boot_id, next_seq, chain, covered_wall_ms, covered_boot_us, interval_ms, stretch,
        base_seq, base_day - DATE '1970-01-01' AS base_day, pending_reason, pending_detail, session, framed_to";

const OPENED_SQL: &str = "SELECT min(opened_ms), max(opened_ms) FROM stream
    WHERE host_id = $1 AND next_seq > 0 AND epoch_no < 4611686018427387904";

/// An epoch of which nothing is stored has no row elsewhere. A commit that stores its first record at this moment is
/// waited for, and then it stays.
const DROP_EMPTY_SQL: &str = "DELETE FROM stream WHERE host_id = $1 AND next_seq = 0 AND epoch_no = ANY ($2)";

/// Number of a session: random, positive. Only the host's newest may commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub i64);

/// What is stored of one epoch. Everything before `next` is stored, covered or in a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Which epoch.
    pub epoch: Epoch,
    /// The boot it was sampled in.
    pub boot_id: BootId,
    /// Position after the last record stored.
    pub next: Seq,
    /// What the record there must carry.
    pub chain: Chain,
    /// The last sample stored or covered, its wall time as in `frame.wall_ms`.
    pub covered: Option<At>,
    /// Planned time between samples, milliseconds; 0 = not said yet.
    pub interval_ms: u32,
    /// The current stretch; `None` = no sample yet.
    pub stretch: Option<u32>,
    /// The keyframe that the next delta builds on; `None` = a keyframe is wanted, what comes before it is not stored.
    pub base: Option<Base>,
    /// Why the next keyframe closes a gap, as far as it is known.
    pub pending: Option<Pending>,
    /// The only session that may commit.
    pub session: Session,
    /// One past the newest record that is stored as a frame.
    pub framed: Seq,
}

/// A keyframe's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its position.
    pub seq: Seq,
    /// Its partition.
    pub day: Day,
}

/// A reason waiting for the keyframe that closes its gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The reason.
    pub reason: GapReason,
    /// More words, escaped; may be empty.
    pub detail: String,
}

impl Stream {
    /// An epoch of which nothing is stored.
    pub fn new(epoch: Epoch, boot_id: BootId, session: Session) -> Self {
        Self {
            epoch,
            boot_id,
            next: Seq(0),
            chain: Chain::default(),
            covered: None,
            interval_ms: 0,
            stretch: None,
            base: None,
            pending: None,
            session,
            framed: Seq(0),
        }
    }
}

/// One host's step from a position to what `after` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The host.
    pub host: HostId,
    /// Where the stream must stand, else nothing changes.
    pub from: Seq,
    /// Where it stands afterwards; its session must be the row's.
    pub after: Stream,
    /// Where the epoch before it must stand, else nothing changes; `None` = that does not matter.
    pub before: Option<(EpochNo, Seq)>,
}

/// All epochs of a host's own agent, ascending.
pub async fn of_host(tx: &mut Write<'_>, host: HostId) -> Result<Vec<Stream>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(OF_HOST_SQL).bind(host.0).fetch_all(tx.connection()).await?;
    rows.into_iter().map(Row::into_domain).collect()
}

/// Collector's clock when the first and the latest of the host's epochs that have records were opened, milliseconds
/// since 1970.
pub async fn opened_ms(tx: &mut Write<'_>, host: HostId) -> Result<Option<(i64, i64)>, StoreError> {
    let (first, last): (Option<i64>, Option<i64>) =
        sqlx::query_as(OPENED_SQL).bind(host.0).fetch_one(tx.connection()).await?;
    Ok(first.zip(last))
}

/// Drops those of these epochs of which nothing is stored.
pub async fn drop_empty(tx: &mut Write<'_>, host: HostId, epochs: &[EpochNo]) -> Result<(), StoreError> {
    let epochs: Vec<i64> = epochs.iter().map(|no| bigint(no.0)).collect();
    sqlx::query(DROP_EMPTY_SQL).bind(host.0).bind(epochs).execute(tx.connection()).await?;
    Ok(())
}

/// The guard: moves each stream on and says for which hosts it did. A transaction stores nothing of a host that is not
/// in the answer. At most one step a host.
pub async fn advance(tx: &mut Write<'_>, steps: &[Advance]) -> Result<Vec<HostId>, StoreError> {
    let column = |f: fn(&Advance) -> i64| steps.iter().map(f).collect::<Vec<_>>();
    let optional = |f: fn(&Stream) -> Option<i64>| steps.iter().map(|s| f(&s.after)).collect::<Vec<_>>();
    let moved: Vec<i64> = sqlx::query_scalar(ADVANCE_SQL)
        .bind(column(|s| s.host.0))
        .bind(column(|s| bigint(s.after.epoch.no.0)))
        .bind(column(|s| s.after.session.0))
        .bind(column(|s| bigint(s.from.0)))
        .bind(column(|s| bigint(s.after.next.0)))
        .bind(steps.iter().map(|s| s.after.chain.0.as_slice()).collect::<Vec<_>>())
        .bind(optional(|s| s.covered.map(|at| at.wall_ms)))
        .bind(optional(|s| s.covered.map(|at| bigint(at.boot_us))))
        .bind(steps.iter().map(|s| int(s.after.interval_ms)).collect::<Vec<_>>())
        .bind(steps.iter().map(|s| s.after.stretch.map_or(-1, int)).collect::<Vec<_>>())
        .bind(optional(|s| s.base.map(|b| bigint(b.seq.0))))
        .bind(steps.iter().map(|s| s.after.base.map(|b| b.day.0)).collect::<Vec<_>>())
        .bind(steps.iter().map(|s| s.after.pending.as_ref().map(|p| i16::from(p.reason.code()))).collect::<Vec<_>>())
        .bind(steps.iter().map(|s| s.after.pending.as_ref().map_or("", |p| p.detail.as_str())).collect::<Vec<_>>())
        .bind(steps.iter().map(|s| s.before.map(|(no, _)| bigint(no.0))).collect::<Vec<_>>())
        .bind(steps.iter().map(|s| s.before.map(|(_, next)| bigint(next.0))).collect::<Vec<_>>())
        .bind(column(|s| bigint(s.after.framed.0)))
        .fetch_all(tx.connection())
        .await?;
    Ok(moved.into_iter().map(HostId).collect())
}

/// Says why epochs ended.
pub async fn end(tx: &mut Write<'_>, ends: &[(HostId, EpochNo, GapReason)]) -> Result<(), StoreError> {
    sqlx::query(END_SQL)
        .bind(ends.iter().map(|e| e.0.0).collect::<Vec<_>>())
        .bind(ends.iter().map(|e| bigint(e.1.0)).collect::<Vec<_>>())
        .bind(ends.iter().map(|e| i16::from(e.2.code())).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Adds epochs that are not there yet; those that are stay as they are.
pub async fn insert_missing(
    tx: &mut Write<'_>,
    host: HostId,
    session: Session,
    opened_ms: i64,
    epochs: &[(Epoch, BootId)],
) -> Result<(), StoreError> {
    sqlx::query(INSERT_SQL)
        .bind(host.0)
        .bind(epochs.iter().map(|(e, _)| bigint(e.no.0)).collect::<Vec<_>>())
        .bind(epochs.iter().map(|(e, _)| e.id.0.cast_signed()).collect::<Vec<_>>())
        .bind(epochs.iter().map(|(_, b)| b.0.as_slice()).collect::<Vec<_>>())
        .bind(session.0)
        .bind(opened_ms)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Makes `session` the only one that may commit for this host, and returns all epochs of its own agent, ascending.
pub async fn set_session(tx: &mut Write<'_>, host: HostId, session: Session) -> Result<Vec<Stream>, StoreError> {
    let rows: Vec<Row> =
        sqlx::query_as(SET_SESSION_SQL).bind(host.0).bind(session.0).fetch_all(tx.connection()).await?;
    let mut streams = rows.into_iter().map(Row::into_domain).collect::<Result<Vec<_>, _>>()?;
    streams.sort_by_key(|s| s.epoch.no);
    Ok(streams)
}

#[derive(sqlx::FromRow)]
struct Row {
    epoch_no: i64,
    epoch_id: i64,
    boot_id: Vec<u8>,
    next_seq: i64,
    chain: Vec<u8>,
    covered_wall_ms: Option<i64>,
    covered_boot_us: Option<i64>,
    interval_ms: i32,
    stretch: i32,
    base_seq: Option<i64>,
    base_day: Option<i32>,
    pending_reason: Option<i16>,
    pending_detail: String,
    session: i64,
    framed_to: i64,
}

impl Row {
    fn into_domain(self) -> Result<Stream, StoreError> {
        let covered = match (self.covered_wall_ms, self.covered_boot_us) {
            (Some(wall_ms), Some(boot)) => Some(At { wall_ms, boot_us: unsigned("stream.covered_boot_us", boot)? }),
            _ => None,
        };
        let base = match (self.base_seq, self.base_day) {
            (Some(seq), Some(day)) => Some(Base { seq: Seq(unsigned("stream.base_seq", seq)?), day: Day(day) }),
            _ => None,
        };
        let reason = |code: i16| {
            let known = u8::try_from(code).ok().and_then(GapReason::from_code);
            known.ok_or_else(|| StoreError::Corrupt { what: format!("stream.pending_reason = {code}") })
        };
        let pending = self.pending_reason.map(reason).transpose()?;
        Ok(Stream {
            epoch: Epoch {
                no: EpochNo(unsigned("stream.epoch_no", self.epoch_no)?),
                id: EpochId(self.epoch_id.cast_unsigned()),
            },
            boot_id: BootId(fixed("stream.boot_id", &self.boot_id)?),
            next: Seq(unsigned("stream.next_seq", self.next_seq)?),
            chain: Chain(fixed("stream.chain", &self.chain)?),
            covered,
            interval_ms: u32::try_from(self.interval_ms).unwrap_or(0),
            stretch: u32::try_from(self.stretch).ok(),
            base,
            pending: pending.map(|reason| Pending { reason, detail: self.pending_detail }),
            session: Session(self.session),
            framed: Seq(unsigned("stream.framed_to", self.framed_to)?),
        })
    }
}
