//! Tables `flag`, `flag_event`, `flag_state` and `silence`: what goes wrong on a host, or went, what people said of it, and
//! what the evaluator remembers.

mod row;

use std::collections::BTreeMap;

use highwater_ipc::record::{EpochNo, Seq};

use super::StoreError;
use super::history::Reading;
use super::number::{bigint, unsigned};
use super::tx::{Connection, Write};
use crate::flag::{Flag, FlagEvent, FlagFilter, FlagId, FlagTold, Note, Severity, StoredEvent, StoredFlag};
use crate::host::HostId;
use row::{FlagRow, ToldRow, UntoldRow};

/// What people said of a flag stays; what is cleared stays cleared.
const UPSERT_SQL: &str = "INSERT INTO flag AS f (host_id, flag_id, namespace, instance, resource, kind, severity, state,
        raised_ms, cleared_ms, used, limit_, growth_per_hour, eta_ms, eta_low_ms, eta_high_ms, owner_uid, owner_user,
        owner_comm, owner_arrays, owner_orphans, why, remedy, own, cause, follows, audible)
    VALUES ($1, $2, $3, $4::text::numeric, $5, $6, $7, $8, $9, $10, $11::text::numeric, $12::text::numeric, $13, $14, $15,
        $16, $17, $18, $19, $20, $21, $22, $23::text::jsonb, $24, $25::text::jsonb, $26, $27)
    ON CONFLICT (host_id, flag_id) DO UPDATE SET kind = excluded.kind, severity = excluded.severity,
        state = CASE WHEN excluded.state = 'open' THEN f.state ELSE excluded.state END,
        cleared_ms = excluded.cleared_ms, used = excluded.used, limit_ = excluded.limit_,
        growth_per_hour = excluded.growth_per_hour, eta_ms = excluded.eta_ms, eta_low_ms = excluded.eta_low_ms,
        eta_high_ms = excluded.eta_high_ms,
        owner_uid = COALESCE(excluded.owner_uid, f.owner_uid), owner_user = COALESCE(excluded.owner_user, f.owner_user),
        owner_comm = COALESCE(excluded.owner_comm, f.owner_comm),
        owner_arrays = COALESCE(excluded.owner_arrays, f.owner_arrays),
        owner_orphans = COALESCE(excluded.owner_orphans, f.owner_orphans), cause = excluded.cause,
        follows = excluded.follows, audible = excluded.audible, why = excluded.why,
        remedy = CASE WHEN excluded.state = 'open' AND excluded.remedy = '[]' THEN f.remedy ELSE excluded.remedy END
    WHERE f.state <> 'cleared'";

const EVENT_SQL: &str = "INSERT INTO flag_event (host_id, flag_id, no, at_ms, epoch_no, seq, what, severity)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";

const STATE_SQL: &str = "SELECT h.labels::text, s.body FROM host h LEFT JOIN flag_state s ON s.host_id = h.host_id
    WHERE h.host_id = $1";
const KEEP_SQL: &str = "INSERT INTO flag_state (host_id, near, body) VALUES ($1, $2, $3)
    ON CONFLICT (host_id) DO UPDATE SET near = excluded.near, body = excluded.body";

const KEEP_BODY_SQL: &str = "UPDATE flag_state SET body = $2 WHERE host_id = $1";

/// Whose flags are up, and nothing of theirs waits to be moved; with their newest epoch and until when that is covered.
const IDLE_SQL: &str = "SELECT f.host_id, s.epoch_no, s.covered_wall_ms FROM flag f
    JOIN stream s ON s.host_id = f.host_id AND s.after_epoch_no IS NULL AND s.covered_wall_ms IS NOT NULL
        AND NOT EXISTS (SELECT FROM stream n WHERE n.host_id = s.host_id AND n.after_epoch_no IS NULL
            AND n.epoch_no > s.epoch_no AND n.next_seq > 0)
    WHERE f.state <> 'cleared' AND f.host_id > $1
        AND NOT EXISTS (SELECT FROM stream t WHERE t.host_id = f.host_id AND t.framed_to > t.compacted_to)
    GROUP BY f.host_id, s.epoch_no, s.covered_wall_ms ORDER BY f.host_id LIMIT $2";

// A silence is the collector's matter: $now is its clock.
macro_rules! flags {
    ($columns:literal, $rest:literal) => {
        concat!(
            "SELECT f.host_id, h.name, f.flag_id, f.namespace, f.instance::text, f.resource, f.kind, f.severity, f.state,
                f.raised_ms, f.cleared_ms, f.used::text, f.limit_::text, f.growth_per_hour, f.eta_ms, f.eta_low_ms,
                f.eta_high_ms, f.owner_uid, f.owner_user, f.owner_comm, f.owner_arrays, f.owner_orphans,
                f.cause::text AS cause, f.follows, f.audible, f.why, f.remedy::text AS remedy, f.own, f.note, f.noted_by, f.noted_ms, s.until_ms, s.note AS silence_note",
            $columns,
            " FROM flag f JOIN host h ON h.host_id = f.host_id
            LEFT JOIN silence s ON s.host_id = f.host_id AND s.until_ms > $1 ",
            $rest
        )
    };
}

const LIST_SQL: &str = flags!(
    "",
    "WHERE ($2::bigint IS NULL OR f.host_id = $2) AND ($3 OR f.state <> 'cleared')
        AND ($4::bigint IS NULL OR (f.raised_ms, f.flag_id) < ($4, $5))
    ORDER BY f.raised_ms DESC, f.flag_id DESC LIMIT $6"
);
const ONE_SQL: &str = flags!("", "WHERE f.flag_id = $2");
const EVENTS_SQL: &str =
    "SELECT no, at_ms, what, severity FROM flag_event WHERE host_id = $1 AND flag_id = $2 ORDER BY no";

/// What made it worse or better is a matter of the flag; a timeline tells that it went up and down.
const TOLD_SQL: &str =
    "SELECT e.flag_id, e.at_ms, e.epoch_no, e.seq, e.what, e.severity, f.namespace, f.instance::text,
        f.own, f.resource, f.kind, f.why
    FROM flag_event e JOIN flag f ON f.host_id = e.host_id AND f.flag_id = e.flag_id
    WHERE e.host_id = $1 AND e.at_ms >= $2 AND e.at_ms <= $3 AND e.what IN ('raised', 'cleared')
    ORDER BY e.epoch_no, e.seq, e.at_ms, e.flag_id, e.no LIMIT $4";

/// Of which receivers know less than is so. While records of a host are on their way nothing of it is told: what is open
/// in the end is told once, and what came and went in between never. Nor is what is silenced, nor what follows another
/// flag or is kept quiet by its host's policy, but for its end where it was told of before.
const UNTOLD_SQL: &str = flags!(
    ", h.labels::text AS labels, f.told, f.notices",
    "JOIN host_status st ON st.host_id = f.host_id AND st.backlog_from_ms IS NULL
    WHERE s.host_id IS NULL AND CASE WHEN f.state = 'cleared' THEN f.told IN (1, 2) AND f.notices > 0
        WHEN f.follows IS NOT NULL OR NOT f.audible THEN false
            ELSE f.told <> CASE f.severity WHEN 'critical' THEN 2 ELSE 1 END END
    ORDER BY f.raised_ms, f.flag_id LIMIT $2"
);
const MARK_SQL: &str = "UPDATE flag SET told = $3, notices = notices + 1
    WHERE host_id = $1 AND flag_id = $2 AND told = $4 AND notices = $5 RETURNING notices";

const AUDIBLE_SQL: &str = "UPDATE flag SET audible = $2 WHERE host_id = $1 AND state <> 'cleared' AND audible <> $2";
const HUSH_SQL: &str = "UPDATE flag SET told = CASE severity WHEN 'critical' THEN 2 ELSE 1 END
    WHERE host_id = $1 AND state <> 'cleared'";

const ACKNOWLEDGE_SQL: &str = "UPDATE flag SET state = 'acknowledged', note = $3, noted_by = $4, noted_ms = $5
    WHERE host_id = $1 AND flag_id = $2 AND state IN ('open', 'acknowledged') RETURNING flag_id";
const SILENCE_SQL: &str = "INSERT INTO silence (host_id, until_ms, note, made_by, made_ms) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (host_id) DO UPDATE SET until_ms = excluded.until_ms, note = excluded.note, made_by = excluded.made_by,
        made_ms = excluded.made_ms";

/// Stores flags as they were judged.
pub async fn upsert(tx: &mut Write<'_>, flags: &[Flag]) -> Result<(), StoreError> {
    for flag in flags {
        let holder = flag.holder.as_ref();
        sqlx::query(UPSERT_SQL)
            .bind(flag.host.0)
            .bind(flag.id.0)
            .bind(flag.namespace.inode.cast_signed())
            .bind(flag.namespace.instance.to_string())
            .bind(flag.resource.name())
            .bind(flag.kind.name())
            .bind(flag.severity.name())
            .bind(if flag.cleared_ms.is_some() { "cleared" } else { "open" })
            .bind(flag.raised_ms)
            .bind(flag.cleared_ms)
            .bind(flag.used.to_string())
            .bind(flag.limit.to_string())
            .bind(flag.growth_per_hour)
            .bind(flag.eta.at_ms)
            .bind(flag.eta.low_ms)
            .bind(flag.eta.high_ms)
            .bind(holder.map(|h| i64::from(h.uid)))
            .bind(holder.and_then(|h| h.user.as_deref()))
            .bind(holder.and_then(|h| h.comm.as_deref()))
            .bind(holder.map(|h| bigint(h.objects)))
            .bind(holder.map(|h| bigint(h.orphans)))
            .bind(&flag.why)
            .bind(row::write_remedy(&flag.remedy))
            .bind(flag.own)
            .bind(flag.cause.as_ref().and_then(row::write_cause))
            .bind(flag.follows.map(|leader| leader.0))
            .bind(flag.notify)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// Stores transitions.
pub async fn tell(tx: &mut Write<'_>, events: &[FlagEvent]) -> Result<(), StoreError> {
    for event in events {
        sqlx::query(EVENT_SQL)
            .bind(event.host.0)
            .bind(event.flag.0)
            .bind(i32::try_from(event.no).unwrap_or(i32::MAX))
            .bind(event.at_ms)
            .bind(bigint(event.epoch.0))
            .bind(bigint(event.seq.0))
            .bind(event.what.name())
            .bind(event.severity.name())
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// Stores what the evaluator remembers of a host; `near` is the highest share of a limit that is in use.
pub async fn remember(tx: &mut Write<'_>, host: HostId, near: f64, body: &[u8]) -> Result<(), StoreError> {
    #[expect(clippy::cast_possible_truncation, reason = "a share; compared with two digits")]
    let near = near as f32;
    sqlx::query(KEEP_SQL).bind(host.0).bind(near).bind(body).execute(tx.connection()).await?;
    Ok(())
}

/// Stores what the evaluator remembers of a host whose use has not moved.
pub async fn keep(tx: &mut Write<'_>, host: HostId, body: &[u8]) -> Result<(), StoreError> {
    sqlx::query(KEEP_BODY_SQL).bind(host.0).bind(body).execute(tx.connection()).await?;
    Ok(())
}

/// What a host is judged with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What the evaluator remembers of it; `None` = nothing.
    pub memory: Option<Vec<u8>>,
}

/// A flag of which receivers know less than is so.
#[derive(Clone, Debug, PartialEq)]
pub struct Untold {
    /// As it is.
    pub flag: StoredFlag,
    /// Its host's labels.
    pub labels: BTreeMap<String, String>,
    /// What they were told last; `None` = nothing.
    pub told: Option<Severity>,
    /// How often they were told.
    pub notices: u32,
}

/// At most `most` flags of which receivers know less than is so; `now_ms` is the collector's clock.
pub async fn untold(tx: &mut Write<'_>, now_ms: i64, most: i64) -> Result<Vec<Untold>, StoreError> {
    let rows: Vec<UntoldRow> = sqlx::query_as(UNTOLD_SQL).bind(now_ms).bind(most).fetch_all(tx.connection()).await?;
    let untold = |row: UntoldRow| {
        Ok(Untold {
            told: match row.told {
                1 => Some(Severity::Warning),
                2 => Some(Severity::Critical),
                _ => None,
            },
            notices: u32::try_from(row.notices).unwrap_or(0),
            labels: labels_of(&row.labels),
            flag: row.flag.domain()?,
        })
    };
    rows.into_iter().map(untold).collect()
}

/// Says that receivers will be told of it as it is; the number of that notice, or `None` = somebody else was sooner.
pub async fn mark_told(tx: &mut Write<'_>, untold: &Untold) -> Result<Option<u32>, StoreError> {
    let code = |severity: Severity| if severity == Severity::Critical { 2_i16 } else { 1 };
    let flag = &untold.flag.flag;
    let now = if flag.cleared_ms.is_some() { 3 } else { code(flag.severity) };
    let query = sqlx::query_scalar(MARK_SQL).bind(flag.host.0).bind(flag.id.0).bind(now);
    let query = query.bind(untold.told.map_or(0, code)).bind(i32::try_from(untold.notices).unwrap_or(i32::MAX));
    let number: Option<i32> = query.fetch_optional(tx.connection()).await?;
    Ok(number.and_then(|number| u32::try_from(number).ok()))
}

/// Nobody is told of a host's flags as they are now: that is no news. Whoever was told of one is told when it ends.
pub async fn hush(tx: &mut Write<'_>, host: HostId) -> Result<(), StoreError> {
    sqlx::query(HUSH_SQL).bind(host.0).execute(tx.connection()).await?;
    Ok(())
}

/// Says whether receivers are told of a host's flags that are up: its policy or its labels may be others now.
pub async fn set_audible(tx: &mut Write<'_>, host: HostId, audible: bool) -> Result<(), StoreError> {
    sqlx::query(AUDIBLE_SQL).bind(host.0).bind(audible).execute(tx.connection()).await?;
    Ok(())
}

/// Labels as stored: a JSON object of strings.
fn labels_of(stored: &str) -> BTreeMap<String, String> {
    serde_json::from_str(stored).unwrap_or_default()
}

/// Says that somebody knows of a flag; `false` = it is over, or there is none such.
pub async fn acknowledge(
    connection: &mut Connection,
    (host, flag): (HostId, FlagId),
    note: &Note,
) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar(ACKNOWLEDGE_SQL).bind(host.0).bind(flag.0).bind(&note.text).bind(&note.by);
    let done: Option<i64> = query.bind(note.at_ms).fetch_optional(connection).await?;
    Ok(done.is_some())
}

/// Says that nobody is told of a host's flags until then, by the collector's clock, milliseconds.
pub async fn silence(connection: &mut Connection, host: HostId, until_ms: i64, note: &Note) -> Result<(), StoreError> {
    let query = sqlx::query(SILENCE_SQL).bind(host.0).bind(until_ms).bind(&note.text).bind(&note.by).bind(note.at_ms);
    query.execute(connection).await?;
    Ok(())
}

impl Reading {
    /// What a host is judged with; `None` = there is no such host.
    pub async fn judged(&mut self, host: HostId) -> Result<Option<Judged>, StoreError> {
        let query = sqlx::query_as(STATE_SQL).bind(host.0);
        let found: Option<(String, Option<Vec<u8>>)> = query.fetch_optional(&mut *self.tx).await?;
        Ok(found.map(|(labels, memory)| Judged { labels: labels_of(&labels), memory }))
    }

    /// Hosts whose flags are up and of which nothing waits to be moved, with their newest epoch and until when that covers
    /// their clocks, milliseconds; in order, after that host, at most `most`.
    pub async fn idle_with_flags(
        &mut self,
        after: Option<HostId>,
        most: i64,
    ) -> Result<Vec<(HostId, EpochNo, i64)>, StoreError> {
        let query = sqlx::query_as(IDLE_SQL).bind(after.map_or(i64::MIN, |host| host.0)).bind(most);
        let rows: Vec<(i64, i64, i64)> = query.fetch_all(&mut *self.tx).await?;
        let idle = |(host, epoch, covered_ms)| {
            let epoch = EpochNo(unsigned("stream.epoch_no", epoch)?);
            Ok((HostId(host), epoch, covered_ms))
        };
        rows.into_iter().map(idle).collect()
    }

    /// Flags, the newest first; `now_ms` is the collector's clock.
    pub async fn flags(&mut self, filter: &FlagFilter, now_ms: i64, most: i64) -> Result<Vec<StoredFlag>, StoreError> {
        let (raised_ms, id) = filter.after.map(|(raised_ms, id)| (raised_ms, id.0)).unzip();
        let query = sqlx::query_as(LIST_SQL).bind(now_ms).bind(filter.host.map(|h| h.0)).bind(filter.all);
        let rows: Vec<FlagRow> = query.bind(raised_ms).bind(id).bind(most).fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(FlagRow::domain).collect()
    }

    /// One flag.
    pub async fn flag(&mut self, id: FlagId, now_ms: i64) -> Result<Option<StoredFlag>, StoreError> {
        let query = sqlx::query_as(ONE_SQL).bind(now_ms).bind(id.0);
        let row: Option<FlagRow> = query.fetch_optional(&mut *self.tx).await?;
        row.map(FlagRow::domain).transpose()
    }

    /// Flags of a host that went up or down between two instants of its clock, milliseconds, in order of the records they
    /// were decided by, at most `most`.
    pub async fn flags_told(
        &mut self,
        host: HostId,
        (from_ms, to_ms): (i64, i64),
        most: i64,
    ) -> Result<Vec<((EpochNo, Seq), FlagTold)>, StoreError> {
        let query = sqlx::query_as(TOLD_SQL).bind(host.0).bind(from_ms).bind(to_ms).bind(most);
        let rows: Vec<ToldRow> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(ToldRow::domain).collect()
    }

    /// Its transitions, in order.
    pub async fn flag_events(&mut self, host: HostId, id: FlagId) -> Result<Vec<StoredEvent>, StoreError> {
        let query = sqlx::query_as(EVENTS_SQL).bind(host.0).bind(id.0);
        let rows: Vec<(i32, i64, String, String)> = query.fetch_all(&mut *self.tx).await?;
        Ok(rows.into_iter().map(|(_, at_ms, what, severity)| StoredEvent { at_ms, what, severity }).collect())
    }
}
