//! Table `usage`: ten-minute slots of one namespace, side by side in a row a half day.
//!
//! A slot can come in parts, and an import can come to the same half day as compaction does: a row is read under its lock,
//! merged here and written again.

use std::collections::BTreeMap;

use highwater_ipc::limits::Resource;
use highwater_ipc::snapshot::NamespaceId;
use sqlx::FromRow;

use super::StoreError;
use super::day::Day;
use super::tx::Write;
use super::usage::{Order, Row, Step, UsageRow, Used, whole};
use crate::host::HostId;

/// How long a row is, milliseconds.
pub(super) const LENGTH_MS: i64 = 43_200_000;

macro_rules! select {
    ($columns:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $columns,
            "u.namespace, u.instance::text, u.from_ms + s.slot * 600000::bigint AS slot_ms, u.own,
                s.a::text AS sem_arrays, COALESCE(s.a_max, s.a)::text AS sem_arrays_max, s.a_limit::text AS semmni,
                s.s::text AS semaphores, COALESCE(s.s_max, s.s)::text AS semaphores_max, s.s_limit::text AS semmns,
                s.m::text AS shm_segments, COALESCE(s.m_max, s.m)::text AS shm_segments_max, s.m_limit::text AS shmmni,
                s.p::text AS shm_pages, COALESCE(s.p_max, s.p)::text AS shm_pages_max, s.p_limit::text AS shmall,
                s.q::text AS msg_queues, COALESCE(s.q_max, s.q)::text AS msg_queues_max, s.q_limit::text AS msgmni
            FROM usage u CROSS JOIN LATERAL unnest(u.slots, u.sem_arrays, u.sem_arrays_max, u.semmni, u.semaphores,
                u.semaphores_max, u.semmns, u.shm_segments, u.shm_segments_max, u.shmmni, u.shm_pages, u.shm_pages_max,
                u.shmall, u.msg_queues, u.msg_queues_max, u.msgmni)
                AS s (slot, a, a_max, a_limit, s, s_max, s_limit, m, m_max, m_limit, p, p_max, p_limit, q, q_max, q_limit)
            WHERE u.host_id = $1 AND ",
            $rest
        )
    };
}

/// The slots that begin between $4 and $5, in rows that begin between $2 and $3.
pub(super) const BETWEEN_SQL: &str = select!(
    "",
    "u.from_ms BETWEEN $2 AND $3 AND u.from_ms + s.slot * 600000::bigint BETWEEN $4 AND $5
    ORDER BY slot_ms, u.namespace, u.instance LIMIT $6"
);
/// Read once they are locked: what a lock waited for is seen only by the next statement.
const READ_SQL: &str = select!(
    "u.from_ms, u.month - DATE '1970-01-01' AS part, ",
    "u.from_ms = ANY ($2) AND u.month BETWEEN DATE '1970-01-01' + $3::int AND DATE '1970-01-01' + $4::int"
);
const LOCK_SQL: &str = "SELECT namespace, instance::text, from_ms, month - DATE '1970-01-01' AS part, own
    FROM usage WHERE host_id = $1 AND from_ms = ANY ($2)
        AND month BETWEEN DATE '1970-01-01' + $3::int AND DATE '1970-01-01' + $4::int
    ORDER BY from_ms, namespace, instance, month FOR UPDATE";
/// Both take the same parameters. Nothing comes back where somebody else was sooner, and has committed.
const INSERT_SQL: &str = "INSERT INTO usage (host_id, namespace, instance, from_ms, month, own, slots,
        sem_arrays, sem_arrays_max, semmni, semaphores, semaphores_max, semmns, shm_segments, shm_segments_max, shmmni,
        shm_pages, shm_pages_max, shmall, msg_queues, msg_queues_max, msgmni)
    VALUES ($1, $2, $3::text::numeric, $4, DATE '1970-01-01' + $5::int, $6, $7, $8::text[]::numeric[],
        $9::text[]::numeric[], $10::text[]::numeric[], $11::text[]::numeric[], $12::text[]::numeric[],
        $13::text[]::numeric[], $14::text[]::numeric[], $15::text[]::numeric[], $16::text[]::numeric[],
        $17::text[]::numeric[], $18::text[]::numeric[], $19::text[]::numeric[], $20::text[]::numeric[],
        $21::text[]::numeric[], $22::text[]::numeric[])
    ON CONFLICT (host_id, namespace, instance, from_ms, month) DO NOTHING RETURNING host_id";
const UPDATE_SQL: &str = "UPDATE usage SET own = $6, slots = $7, sem_arrays = $8::text[]::numeric[],
        sem_arrays_max = $9::text[]::numeric[], semmni = $10::text[]::numeric[], semaphores = $11::text[]::numeric[],
        semaphores_max = $12::text[]::numeric[], semmns = $13::text[]::numeric[],
        shm_segments = $14::text[]::numeric[], shm_segments_max = $15::text[]::numeric[],
        shmmni = $16::text[]::numeric[], shm_pages = $17::text[]::numeric[], shm_pages_max = $18::text[]::numeric[],
        shmall = $19::text[]::numeric[], msg_queues = $20::text[]::numeric[], msg_queues_max = $21::text[]::numeric[],
        msgmni = $22::text[]::numeric[]
    WHERE host_id = $1 AND namespace = $2 AND instance = $3::text::numeric AND from_ms = $4
        AND month = DATE '1970-01-01' + $5::int RETURNING host_id";

/// Which row of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    from_ms: i64,
    namespace: NamespaceId,
    part: Day,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Half {
    own: bool,
    /// By when the slot begins, in slots after the row's beginning.
    slots: BTreeMap<i16, [Used; 5]>,
}

impl Half {
    /// Takes in what comes to the same row.
    fn merge(&mut self, other: Self, order: Order) {
        if order == Order::Newest {
            self.own = other.own;
        }
        for (slot, used) in other.slots {
            let Some(there) = self.slots.get_mut(&slot) else {
                self.slots.insert(slot, used);
                continue;
            };
            for (there, comes) in there.iter_mut().zip(used) {
                let last = if order == Order::Newest { comes } else { *there };
                *there = Used { most: there.most.max(comes.most), ..last };
            }
        }
    }
}

/// When the row of a slot begins. At the end of what can be counted a slot has a row of its own.
pub(super) fn half_of(slot_ms: i64) -> i64 {
    slot_ms.checked_sub(slot_ms.rem_euclid(LENGTH_MS)).unwrap_or(slot_ms)
}

fn by_half(rows: &[UsageRow], place: &(dyn Fn(i64) -> Day + Sync)) -> BTreeMap<Key, Half> {
    let mut halves: BTreeMap<Key, Half> = BTreeMap::new();
    for row in rows {
        let from_ms = half_of(row.slot_ms);
        let part = Step::TenMinutes.part(place(row.slot_ms));
        let key = Key { from_ms, namespace: row.namespace, part };
        let half = halves.entry(key).or_insert_with(|| Half { own: row.own, slots: BTreeMap::new() });
        half.own = row.own;
        half.slots.insert(slot_of(from_ms, row.slot_ms), row.used);
    }
    halves
}

/// How many slots after the beginning of its row a slot begins.
fn slot_of(from_ms: i64, slot_ms: i64) -> i16 {
    let slots = slot_ms.saturating_sub(from_ms).div_euclid(Step::TenMinutes.length_ms());
    i16::try_from(slots).unwrap_or_default()
}

/// Adds slots of one host, or merges them into what is there.
pub(super) async fn upsert(
    tx: &mut Write<'_>,
    rows: &[UsageRow],
    order: Order,
    place: &(dyn Fn(i64) -> Day + Sync),
) -> Result<(), StoreError> {
    let Some(host) = rows.first().map(|row| row.host) else { return Ok(()) };
    let mut waiting = by_half(rows, place);
    while !waiting.is_empty() {
        let mut there = locked(tx, host, waiting.keys()).await?;
        let mut again = BTreeMap::new();
        for (key, half) in waiting {
            if let Some(mut merged) = there.remove(&key) {
                merged.merge(half, order);
                write(tx, UPDATE_SQL, host, key, &merged).await?;
            } else if !write(tx, INSERT_SQL, host, key, &half).await? {
                again.insert(key, half);
            }
        }
        waiting = again;
    }
    Ok(())
}

/// Those of these rows that are there; nobody else writes them until the transaction ends.
async fn locked(
    tx: &mut Write<'_>,
    host: HostId,
    keys: impl Iterator<Item = &Key> + Clone,
) -> Result<BTreeMap<Key, Half>, StoreError> {
    let parts = keys.clone().map(|key| key.part.0);
    let (first, last) = (parts.clone().min().unwrap_or_default(), parts.max().unwrap_or_default());
    let from: Vec<i64> = keys.map(|key| key.from_ms).collect();
    let query = sqlx::query_as(LOCK_SQL).bind(host.0).bind(&from).bind(first).bind(last);
    let locked: Vec<(i64, String, i64, i32, bool)> = query.fetch_all(tx.connection()).await?;
    let mut halves = BTreeMap::new();
    for (inode, instance, from_ms, part, own) in locked {
        let instance = whole(Some(instance))?.unwrap_or_default();
        let namespace = NamespaceId { inode: inode.cast_unsigned(), instance };
        halves.insert(Key { from_ms, namespace, part: Day(part) }, Half { own, slots: BTreeMap::new() });
    }
    if halves.is_empty() {
        return Ok(halves);
    }
    let query = sqlx::query_as(READ_SQL).bind(host.0).bind(&from).bind(first).bind(last);
    let slots: Vec<InHalf> = query.fetch_all(tx.connection()).await?;
    for InHalf { from_ms, part, row } in slots {
        let UsageRow { namespace, slot_ms, used, .. } = row.domain(host)?;
        if let Some(half) = halves.get_mut(&Key { from_ms, namespace, part: Day(part) }) {
            half.slots.insert(slot_of(from_ms, slot_ms), used);
        }
    }
    Ok(halves)
}

/// Whether a row was written.
async fn write(
    tx: &mut Write<'_>,
    statement: &'static str,
    host: HostId,
    key: Key,
    half: &Half,
) -> Result<bool, StoreError> {
    let mut query = sqlx::query(statement)
        .bind(host.0)
        .bind(key.namespace.inode.cast_signed())
        .bind(key.namespace.instance.to_string())
        .bind(key.from_ms)
        .bind(key.part.0)
        .bind(half.own)
        .bind(half.slots.keys().copied().collect::<Vec<_>>());
    for resource in 0..Resource::ALL.len() {
        // A highest value that is the last one goes without saying.
        for number in [|u: &Used| u.last, |u: &Used| u.most.filter(|most| u.last != Some(*most)), |u: &Used| u.limit] {
            let text = |used: &[Used; 5]| used.get(resource).and_then(number).map(|n| n.to_string());
            query = query.bind(half.slots.values().map(text).collect::<Vec<_>>());
        }
    }
    Ok(query.fetch_optional(tx.connection()).await?.is_some())
}

#[derive(FromRow)]
struct InHalf {
    from_ms: i64,
    part: i32,
    #[sqlx(flatten)]
    row: Row,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_its_place_in_its_half_day() {
        let length_ms = Step::TenMinutes.length_ms();
        for from_ms in [-LENGTH_MS, 0, 1_780_272_000_000] {
            for slot in 0..72 {
                let slot_ms = from_ms + i64::from(slot) * length_ms;
                assert_eq!((half_of(slot_ms), slot_of(from_ms, slot_ms)), (from_ms, slot));
            }
        }
        for slot_ms in [i64::MIN, i64::MIN + 1_000, i64::MAX, i64::MAX / length_ms * length_ms] {
            let from_ms = half_of(slot_ms);
            let again_ms = from_ms + i64::from(slot_of(from_ms, slot_ms)) * length_ms;
            assert!((0..length_ms).contains(&(slot_ms - again_ms)), "{slot_ms}");
        }
    }

    #[test]
    fn what_comes_later_is_last_what_fills_a_gap_is_not_and_the_highest_is_kept() {
        let used = |last, most| [Used { last: Some(last), most: Some(most), limit: Some(last + 100) }; 5];
        let half = |own, slots: &[(i16, [Used; 5])]| Half { own, slots: slots.iter().copied().collect() };
        let there = half(true, &[(3, used(5, 9)), (4, used(6, 6))]);
        let comes = half(false, &[(4, used(1, 7)), (70, used(2, 2))]);
        let merged = |order| {
            let mut merged = there.clone();
            merged.merge(comes.clone(), order);
            merged
        };
        let newest = half(false, &[(3, used(5, 9)), (4, used(1, 7)), (70, used(2, 2))]);
        assert_eq!(merged(Order::Newest), newest);
        let [mut filled, ..] = used(6, 6);
        filled.most = Some(7);
        let filling = half(true, &[(3, used(5, 9)), (4, [filled; 5]), (70, used(2, 2))]);
        assert_eq!(merged(Order::Filling), filling);
    }
}
