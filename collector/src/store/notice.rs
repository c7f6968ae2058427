//! Table `notice`: the outbox of notifications. Times are the collector's clock, milliseconds, handed in.
//!
//! A row waits until it is told (`waiting`), and then is `sent`; while `due_ms` is set there, it is told again at that time,
//! unless a later one of its flag is there. Nothing here decides when: [`crate::notify`] does.

use sqlx::FromRow;

use super::StoreError;
use super::history::Reading;
use super::number::int;
use super::tx::Write;
use crate::host::HostId;

/// The most notices of one host that may wait for one receiver; beyond it the oldest are given up.
pub const MOST_WAITING: i64 = 500;

/// A row that is there already stays as it is: whoever evaluates again tells nobody twice.
const INSERT_SQL: &str = "INSERT INTO notice (host_id, flag_id, number, receiver, transition, body, state, queued_ms,
        due_ms, tries)
    SELECT n.host_id, n.flag_id, n.number, n.receiver, n.transition, n.body, 'waiting', n.queued_ms, n.queued_ms, 0
    FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[], $7::bigint[])
        AS n (host_id, flag_id, number, receiver, transition, body, queued_ms)
    ON CONFLICT DO NOTHING RETURNING host_id";

const TOLD_SQL: &str = "SELECT DISTINCT receiver FROM notice WHERE host_id = $1 AND flag_id = $2";

const BOUND_SQL: &str = "UPDATE notice SET state = 'given_up', due_ms = NULL, failing_ms = NULL, failed_ms = $4,
        error = 'too many notices of this host wait for this receiver'
    WHERE host_id = $1 AND receiver = $2 AND state = 'waiting' AND (flag_id, number) IN (SELECT o.flag_id, o.number
        FROM notice o WHERE o.host_id = $1 AND o.receiver = $2 AND o.state = 'waiting'
        ORDER BY o.queued_ms DESC, o.number DESC, o.flag_id OFFSET $3)";

/// The first of each flag that waits, or if none does the newest that is told again. Fewer than all only by `LIMIT`.
const DUE_SQL: &str = "SELECT n.host_id, n.flag_id, n.number, n.body, n.state = 'sent' AS again, n.tries, n.queued_ms
    FROM notice n WHERE n.receiver = $1 AND n.due_ms <= $2 AND n.state IN ('waiting', 'sent')
        AND NOT EXISTS (SELECT 1 FROM notice o WHERE o.host_id = n.host_id AND o.flag_id = n.flag_id
            AND o.receiver = n.receiver AND CASE n.state WHEN 'waiting' THEN o.number < n.number AND o.state = 'waiting'
                ELSE o.number > n.number END)
    ORDER BY n.due_ms, n.host_id, n.flag_id LIMIT $3";

const SENT_SQL: &str = "UPDATE notice SET state = 'sent', due_ms = $6, tries = 0, failing_ms = NULL, sent_ms = $5
    WHERE host_id = $1 AND flag_id = $2 AND number = $3 AND receiver = $4";
/// What came before is told no more.
const SUPERSEDED_SQL: &str = "UPDATE notice SET due_ms = NULL WHERE host_id = $1 AND flag_id = $2 AND number < $3
    AND receiver = $4 AND state = 'sent' AND due_ms IS NOT NULL";
const FAILED_SQL: &str = "UPDATE notice SET tries = tries + 1, due_ms = $6, failed_ms = $5, error = $7,
        failing_ms = COALESCE(failing_ms, $5)
    WHERE host_id = $1 AND flag_id = $2 AND number = $3 AND receiver = $4 AND due_ms IS NOT NULL";
const GIVE_UP_SQL: &str = "UPDATE notice SET state = 'given_up', due_ms = NULL, failing_ms = NULL, failed_ms = $5,
        error = $6
    WHERE host_id = $1 AND flag_id = $2 AND number = $3 AND receiver = $4 AND due_ms IS NOT NULL";

/// Whoever is no receiver any more is told nothing: its rows get old.
const OLD_SQL: &str = "SELECT n.host_id, n.flag_id, n.number, n.receiver FROM notice n
    WHERE n.state = 'waiting' AND n.queued_ms <= $1 ORDER BY n.host_id, n.flag_id, n.number, n.receiver LIMIT $2";
const EXPIRE_SQL: &str = "UPDATE notice AS n SET state = 'given_up', due_ms = NULL, failing_ms = NULL,
        failed_ms = COALESCE(n.failed_ms, $5), error = COALESCE(n.error, 'no collector told this receiver in time')
    FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[]) AS o (host_id, flag_id, number, receiver)
    WHERE n.host_id = o.host_id AND n.flag_id = o.flag_id AND n.number = o.number AND n.receiver = o.receiver
        AND n.state = 'waiting'";

/// What is told of a flag that is still open stays: it says who is told of its end.
const DONE_SQL: &str = "SELECT n.host_id, n.flag_id, n.number, n.receiver FROM notice n
    WHERE (n.due_ms IS NULL OR n.due_ms <= $1) AND GREATEST(n.queued_ms, n.sent_ms, n.failed_ms) <= $1 AND (n.state = 'tested'
        OR EXISTS (SELECT 1 FROM notice c WHERE c.host_id = n.host_id AND c.flag_id = n.flag_id
            AND c.receiver = n.receiver AND c.transition = 'cleared' AND c.state <> 'waiting')
        OR GREATEST(n.queued_ms, n.sent_ms, n.failed_ms) <= $2)
    ORDER BY n.host_id, n.flag_id, n.number, n.receiver LIMIT $3";
const FORGET_SQL: &str = "DELETE FROM notice AS n
    USING unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[]) AS o (host_id, flag_id, number, receiver)
    WHERE n.host_id = o.host_id AND n.flag_id = o.flag_id AND n.number = o.number AND n.receiver = o.receiver";

const TESTED_SQL: &str = "INSERT INTO notice (host_id, flag_id, number, receiver, transition, body, state, queued_ms,
        tries, failed_ms, error, sent_ms)
    VALUES (0, $1, 0, $2, 'test', '', 'tested', $3, 0, $4, $5, $6) ON CONFLICT DO NOTHING";

const STANDINGS_SQL: &str = "SELECT receiver, count(*) FILTER (WHERE state = 'waiting') AS waiting,
        count(*) FILTER (WHERE state = 'given_up' AND failed_ms > $1) AS given_up,
        min(failing_ms) FILTER (WHERE due_ms > $2) AS failing_ms,
        max(sent_ms) AS sent_ms, max(failed_ms) AS failed_ms,
        (array_agg(error ORDER BY failed_ms DESC NULLS LAST))[1] AS error
    FROM notice GROUP BY receiver ORDER BY receiver";

/// What the evaluator wants told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    /// Of which host.
    pub host: HostId,
    /// Of which flag.
    pub flag_id: i64,
    /// Number of the transition within its flag.
    pub number: u32,
    /// Whom.
    pub receiver: String,
    /// Its word.
    pub transition: &'static str,
    /// The notice, as the sender reads it.
    pub body: String,
    /// Since when it waits.
    pub queued_ms: i64,
    /// Only if that receiver was to be told something of that flag before.
    pub only_after_another: bool,
}

/// Which row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Of which host.
    pub host: HostId,
    /// Of which flag.
    pub flag_id: i64,
    /// Number of the transition.
    pub number: i32,
    /// For whom.
    pub receiver: String,
}

/// A row that is to be told now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub key: Key,
    /// The notice.
    pub body: String,
    /// Whether it was told before, and lasts.
    pub again: bool,
    /// How often it failed since.
    pub tries: u32,
    /// Since when it waits.
    pub queued_ms: i64,
}

/// How a receiver fares.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Standing {
    /// Its name.
    pub receiver: String,
    /// Notices that wait for it.
    pub waiting: i64,
    /// Notices given up lately.
    pub given_up: i64,
    /// Since when it fails; `None` = it does not, for all anybody knows.
    pub failing_ms: Option<i64>,
    /// When it was told something last.
    pub sent_ms: Option<i64>,
    /// When it failed last.
    pub failed_ms: Option<i64>,
    /// And how.
    pub error: Option<String>,
}

/// Adds what is to be told, in the transaction of what it tells; says how many rows are new. More than [`MOST_WAITING`] of
/// one host do not wait for one receiver: the oldest are given up.
pub async fn insert(tx: &mut Write<'_>, new: &[New]) -> Result<usize, StoreError> {
    let mut rows: Vec<&New> = new.iter().collect();
    rows.sort_by_key(|n| (n.host, n.flag_id, n.number));
    let mut count = 0;
    // A later transition may be told only because an earlier one of the same call is, so each is a statement of its own.
    for same in rows.chunk_by(|a, b| (a.host, a.flag_id, a.number) == (b.host, b.flag_id, b.number)) {
        count += insert_one(tx, same).await?;
    }
    let mut places: Vec<(HostId, &str, i64)> = new.iter().map(|n| (n.host, &*n.receiver, n.queued_ms)).collect();
    places.sort_unstable();
    places.dedup_by_key(|(host, receiver, _)| (*host, *receiver));
    for (host, receiver, now_ms) in places {
        let query = sqlx::query(BOUND_SQL).bind(host.0).bind(receiver).bind(MOST_WAITING).bind(now_ms);
        query.execute(tx.connection()).await?;
    }
    Ok(count)
}

/// The rows of one transition.
async fn insert_one(tx: &mut Write<'_>, same: &[&New]) -> Result<usize, StoreError> {
    let Some(first) = same.first() else { return Ok(0) };
    let mut told: Vec<String> = Vec::new();
    if same.iter().any(|n| n.only_after_another) {
        let query = sqlx::query_scalar(TOLD_SQL).bind(first.host.0).bind(first.flag_id);
        told = query.fetch_all(tx.connection()).await?;
    }
    let rows: Vec<&New> =
        same.iter().copied().filter(|n| !n.only_after_another || told.contains(&n.receiver)).collect();
    let stored: Vec<i64> = sqlx::query_scalar(INSERT_SQL)
        .bind(rows.iter().map(|n| n.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|n| n.flag_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|n| int(n.number)).collect::<Vec<_>>())
        .bind(rows.iter().map(|n| n.receiver.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|n| n.transition.to_owned()).collect::<Vec<_>>())
        .bind(rows.iter().map(|n| n.body.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|n| n.queued_ms).collect::<Vec<_>>())
        .fetch_all(tx.connection())
        .await?;
    Ok(stored.len())
}

/// What is to be told a receiver now, at most `most`: of each flag the first that waits, or what is told again.
pub async fn due(tx: &mut Write<'_>, receiver: &str, now_ms: i64, most: i64) -> Result<Vec<Due>, StoreError> {
    let query = sqlx::query_as(DUE_SQL).bind(receiver).bind(now_ms).bind(most);
    let rows: Vec<DueRow> = query.fetch_all(tx.connection()).await?;
    let due = |row: DueRow| Due {
        key: Key { host: HostId(row.host_id), flag_id: row.flag_id, number: row.number, receiver: receiver.to_owned() },
        body: row.body,
        again: row.again,
        tries: u32::try_from(row.tries).unwrap_or(0),
        queued_ms: row.queued_ms,
    };
    Ok(rows.into_iter().map(due).collect())
}

/// It was told; it is told again at `again_ms`, if at all.
pub async fn sent(tx: &mut Write<'_>, key: &Key, now_ms: i64, again_ms: Option<i64>) -> Result<(), StoreError> {
    sqlx::query(SENT_SQL)
        .bind(key.host.0)
        .bind(key.flag_id)
        .bind(key.number)
        .bind(&key.receiver)
        .bind(now_ms)
        .bind(again_ms)
        .execute(tx.connection())
        .await?;
    let query = sqlx::query(SUPERSEDED_SQL).bind(key.host.0).bind(key.flag_id).bind(key.number);
    query.bind(&key.receiver).execute(tx.connection()).await?;
    Ok(())
}

/// It was not told; it is tried again at `due_ms`.
pub async fn failed(
    tx: &mut Write<'_>,
    key: &Key,
    (now_ms, due_ms): (i64, i64),
    error: &str,
) -> Result<(), StoreError> {
    sqlx::query(FAILED_SQL)
        .bind(key.host.0)
        .bind(key.flag_id)
        .bind(key.number)
        .bind(&key.receiver)
        .bind(now_ms)
        .bind(due_ms)
        .bind(error)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// It will not be told.
pub async fn give_up(tx: &mut Write<'_>, key: &Key, now_ms: i64, error: &str) -> Result<(), StoreError> {
    sqlx::query(GIVE_UP_SQL)
        .bind(key.host.0)
        .bind(key.flag_id)
        .bind(key.number)
        .bind(&key.receiver)
        .bind(now_ms)
        .bind(error)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Gives up at most `most` that wait since `before_ms` or longer, for whomever; says how many.
pub async fn expire(tx: &mut Write<'_>, (before_ms, now_ms): (i64, i64), most: i64) -> Result<usize, StoreError> {
    let query = sqlx::query_as(OLD_SQL).bind(before_ms).bind(most);
    let keys: Vec<KeyRow> = query.fetch_all(tx.connection()).await?;
    let [hosts, flags] = [|k: &KeyRow| k.0, |k: &KeyRow| k.1].map(|f| keys.iter().map(f).collect::<Vec<_>>());
    let query = sqlx::query(EXPIRE_SQL).bind(hosts).bind(flags).bind(keys.iter().map(|k| k.2).collect::<Vec<_>>());
    let query = query.bind(keys.iter().map(|k| k.3.clone()).collect::<Vec<_>>()).bind(now_ms);
    query.execute(tx.connection()).await?;
    Ok(keys.len())
}

/// Forgets at most `most` that nothing is done about since `before_ms`, of flags whose end was told; of others since
/// `long_before_ms`; says how many.
pub async fn forget(
    tx: &mut Write<'_>,
    (before_ms, long_before_ms): (i64, i64),
    most: i64,
) -> Result<usize, StoreError> {
    let query = sqlx::query_as(DONE_SQL).bind(before_ms).bind(long_before_ms).bind(most);
    let keys: Vec<KeyRow> = query.fetch_all(tx.connection()).await?;
    let [hosts, flags] = [|k: &KeyRow| k.0, |k: &KeyRow| k.1].map(|f| keys.iter().map(f).collect::<Vec<_>>());
    let query = sqlx::query(FORGET_SQL).bind(hosts).bind(flags).bind(keys.iter().map(|k| k.2).collect::<Vec<_>>());
    query.bind(keys.iter().map(|k| k.3.clone()).collect::<Vec<_>>()).execute(tx.connection()).await?;
    Ok(keys.len())
}

/// Keeps how a test went; `error` = it failed.
pub async fn tested(
    tx: &mut Write<'_>,
    (salt, receiver): (i64, &str),
    now_ms: i64,
    error: Option<&str>,
) -> Result<(), StoreError> {
    let (failed_ms, sent_ms) = if error.is_some() { (Some(now_ms), None) } else { (None, Some(now_ms)) };
    sqlx::query(TESTED_SQL)
        .bind(salt)
        .bind(receiver)
        .bind(now_ms)
        .bind(failed_ms)
        .bind(error)
        .bind(sent_ms)
        .execute(tx.connection())
        .await?;
    Ok(())
}

impl Reading {
    /// How each receiver fares of which there is a row. Given up counts for a day; what nobody has tried for an hour is no
    /// failure of a receiver.
    pub async fn notice_standings(&mut self, now_ms: i64) -> Result<Vec<Standing>, StoreError> {
        let (day, hour) = (now_ms.saturating_sub(86_400_000), now_ms.saturating_sub(3_600_000));
        Ok(sqlx::query_as(STANDINGS_SQL).bind(day).bind(hour).fetch_all(&mut *self.tx).await?)
    }
}

type KeyRow = (i64, i64, i32, String);

#[derive(FromRow)]
struct DueRow {
    host_id: i64,
    flag_id: i64,
    number: i32,
    body: String,
    again: bool,
    tries: i32,
    queued_ms: i64,
}
