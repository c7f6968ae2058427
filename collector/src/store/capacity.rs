//! What `capacity` reads: the present of all hosts, and what each namespace used by the hour (`usage_hour`), streamed.
//!
//! A month of ten thousand hosts is millions of rows, so what a row costs decides. Numbers travel as PostgreSQL's binary
//! `numeric`, which the server sends for less than a cast and a bigint, and are read here by position; what is not asked for
//! is not sent, nor are the limits of a host's own namespace, which `host_status` has.

use highwater_ipc::limits::Resource;
use sqlx::postgres::PgRow;
use sqlx::{Row as _, ValueRef as _};
use tokio_stream::StreamExt as _;

use super::StoreError;
use super::fleet::{HostName, labels_json, read_labels};
use super::history::Reading;
use super::usage::Used;
use crate::host::HostId;

const HOSTS_SQL: &str =
    "SELECT h.host_id, h.name, h.labels::text AS labels, s.skew_ms, s.last_seen_ms, s.sampled_wall_ms,
        s.interval_ms, s.session = 0 AS imported, s.namespace, s.sem_arrays, s.semmni, s.semaphores, s.semmns,
        s.shm_segments, s.shmmni, s.shm_pages, s.shmall, s.msg_queues, s.msgmni
    FROM host_status s JOIN host h ON h.host_id = s.host_id WHERE h.labels @> $1::text::jsonb ORDER BY s.host_id";

macro_rules! semaphores {
    () => {
        ", u.sem_arrays, u.sem_arrays_max, CASE WHEN NOT u.own THEN u.semmni END,
            u.semaphores, u.semaphores_max, CASE WHEN NOT u.own THEN u.semmns END"
    };
}
macro_rules! segments {
    () => {
        ", u.shm_segments, u.shm_segments_max, CASE WHEN NOT u.own THEN u.shmmni END,
            u.shm_pages, u.shm_pages_max, CASE WHEN NOT u.own THEN u.shmall END"
    };
}
macro_rules! queues {
    () => {
        ", u.msg_queues, u.msg_queues_max, CASE WHEN NOT u.own THEN u.msgmni END"
    };
}
macro_rules! hours {
    ($($columns:ident)*) => {
        concat!(
            "SELECT u.host_id, u.namespace, CASE WHEN NOT u.own THEN u.instance END, u.slot_ms",
            $($columns!(),)*
            " FROM usage_hour u WHERE u.slot_ms >= $1 AND ($2::bigint[] IS NULL OR u.host_id = ANY ($2))"
        )
    };
}
const ALL_HOURS_SQL: &str = hours!(semaphores segments queues);
const SEMAPHORE_HOURS_SQL: &str = hours!(semaphores);
const SEGMENT_HOURS_SQL: &str = hours!(segments);
const QUEUE_HOURS_SQL: &str = hours!(queues);

macro_rules! before {
    ($rest:literal) => {
        concat!(
            "SELECT DISTINCT ON (u.host_id, u.namespace, u.instance) u.host_id, u.namespace,
                CASE WHEN NOT u.own THEN u.instance END, u.slot_ms",
            semaphores!(),
            segments!(),
            queues!(),
            " FROM usage_hour u WHERE u.slot_ms < $1 AND ",
            $rest,
            " ORDER BY u.host_id, u.namespace, u.instance, u.slot_ms DESC"
        )
    };
}
/// The last row before the span of the own namespaces of some hosts ...
const OWN_BEFORE_SQL: &str = before!("u.own AND u.host_id = ANY ($2)");
/// ... and of every other one: which there are is known from their rows alone, and these have an index.
const OTHERS_BEFORE_SQL: &str = before!("NOT u.own AND ($2::bigint[] IS NULL OR u.host_id = ANY ($2))");

/// The present of a host, as `capacity` needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapacityHost {
    /// Which one.
    pub host: HostName,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Its clock minus the collector's, milliseconds.
    pub skew_ms: i64,
    /// Collector's clock when it was last heard of, milliseconds.
    pub last_seen_ms: i64,
    /// Its clock at its newest sample, milliseconds.
    pub sampled_wall_ms: i64,
    /// Time between its samples, milliseconds.
    pub interval_ms: i64,
    /// It has no agent: all that is known of it was imported.
    pub imported: bool,
    /// Inode of its own IPC namespace.
    pub namespace: Option<u64>,
    /// What its own namespace uses, in order of [`Resource::ALL`]; `most` is not said.
    pub used: [Used; 5],
}

/// One namespace in one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourRow {
    /// The host.
    pub host: HostId,
    /// Inode.
    pub namespace: u64,
    /// Tells two of one inode apart; `None` = the host's own, which stays the same place across boots.
    pub instance: Option<u64>,
    /// When the hour begins, host's clock, milliseconds.
    pub slot_ms: i64,
    /// In order of [`Resource::ALL`]. Limits only of namespaces that are not the host's own. What is not asked for is `None`.
    pub used: [Used; 5],
}

/// Which columns are read: a family at a time, because how many semaphores an array has needs both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// SEMMNI and SEMMNS.
    Semaphores,
    /// SHMMNI and SHMALL.
    Segments,
    /// MSGMNI.
    Queues,
    /// All of them.
    All,
}

impl Family {
    /// The smallest that holds these resources; none = all.
    pub fn of(resources: &[Resource]) -> Self {
        let family = |resource: &Resource| match resource {
            Resource::Semmni | Resource::Semmns => Family::Semaphores,
            Resource::Shmmni | Resource::Shmall => Family::Segments,
            Resource::Msgmni => Family::Queues,
        };
        let mut families = resources.iter().map(family);
        let Some(first) = families.next() else { return Family::All };
        if families.all(|next| next == first) { first } else { Family::All }
    }

    /// The place in [`Resource::ALL`] of its first resource, and how many there are.
    fn columns(self) -> (usize, usize) {
        match self {
            Family::Semaphores => (0, 2),
            Family::Segments => (2, 2),
            Family::Queues => (4, 1),
            Family::All => (0, 5),
        }
    }

    fn statement(self) -> &'static str {
        match self {
            Family::Semaphores => SEMAPHORE_HOURS_SQL,
            Family::Segments => SEGMENT_HOURS_SQL,
            Family::Queues => QUEUE_HOURS_SQL,
            Family::All => ALL_HOURS_SQL,
        }
    }
}

impl Reading {
    /// Every host that has reported and has all these labels, by id.
    pub async fn capacity_hosts(&mut self, labels: &[(String, String)]) -> Result<Vec<CapacityHost>, StoreError> {
        let rows = sqlx::query(HOSTS_SQL).bind(labels_json(labels)).fetch_all(&mut *self.tx).await?;
        rows.iter().map(capacity_host).collect()
    }

    /// Hands over the rows with slots that begin at or after `from_ms`, in no order; `hosts` = only of these.
    pub async fn hours(
        &mut self,
        family: Family,
        from_ms: i64,
        hosts: Option<&[HostId]>,
        mut each: impl FnMut(HourRow),
    ) -> Result<(), StoreError> {
        // EXPERIMENT
        let variant = VARIANT.load(std::sync::atomic::Ordering::SeqCst).to_string();
        if variant == "1" {
            let q = sqlx::query("SELECT u.host_id, u.namespace, u.slot_ms, u.sem_arrays, u.sem_arrays_max, u.semaphores, u.semaphores_max, u.shm_segments, u.shm_segments_max, u.shm_pages, u.shm_pages_max, u.msg_queues, u.msg_queues_max FROM usage_hour u WHERE u.own AND u.slot_ms >= $1").persistent(false).bind(from_ms);
            let mut rows = q.fetch(&mut *self.tx);
            while let Some(row) = rows.try_next().await? {
                let mut used = [Used::default(); 5];
                let mut at = 3;
                for used in &mut used {
                    *used = Used { last: whole(&row, at)?, most: whole(&row, at + 1)?, limit: None };
                    at += 2;
                }
                each(HourRow { host: HostId(bigint(&row, 0)?), namespace: bigint(&row, 1)?.cast_unsigned(), instance: None, slot_ms: bigint(&row, 2)?, used });
            }
            return Ok(());
        }
        if variant == "5" || variant == "6" {
            if variant == "6" {
                sqlx::raw_sql("SET LOCAL parallel_tuple_cost=0; SET LOCAL max_parallel_workers_per_gather=2").execute(&mut *self.tx).await?;
            }
            let q = sqlx::query("SELECT CASE WHEN num_nulls(u.sem_arrays, u.sem_arrays_max, u.semaphores, u.semaphores_max, u.shm_segments, u.shm_segments_max, u.shm_pages, u.shm_pages_max, u.msg_queues, u.msg_queues_max)=0 THEN concat_ws(' ',u.host_id, u.namespace, u.slot_ms, u.sem_arrays, u.sem_arrays_max, u.semaphores, u.semaphores_max, u.shm_segments, u.shm_segments_max, u.shm_pages, u.shm_pages_max, u.msg_queues, u.msg_queues_max) END FROM usage_hour u WHERE u.own AND u.slot_ms >= $1").persistent(false).bind(from_ms);
            let mut rows = q.fetch(&mut *self.tx);
            while let Some(row) = rows.try_next().await? {
                let value = row.try_get_raw(0)?;
                let bytes = value.as_bytes().map_err(|e| corrupt(&e.to_string()))?;
                if let Some(row) = text_row(bytes) { each(row) }
            }
            return Ok(());
        }
        if variant == "2" || variant == "3" || variant == "4" {
            let f = if variant == "3" { "binary" } else { "text" };
            let text = format!("COPY (SELECT u.host_id, u.namespace, u.slot_ms, u.sem_arrays, u.sem_arrays_max, u.semaphores, u.semaphores_max, u.shm_segments, u.shm_segments_max, u.shm_pages, u.shm_pages_max, u.msg_queues, u.msg_queues_max FROM usage_hour u WHERE u.own AND u.slot_ms >= {from_ms}) TO STDOUT (FORMAT {f})");
            let mut rows = self.tx.copy_out_raw(&text).await?;
            let mut n = 0;
            while let Some(bytes) = rows.try_next().await? {
                n += 1;
                if variant == "4" { continue }
                let row = if variant == "2" { text_row(&bytes) } else { binary_row(if n == 1 { &bytes[19..] } else { &bytes }) };
                if let Some(row) = row { each(row) }
            }
            return Ok(());
        }
        // Planned anew each time: how much of the table the span is decides how it is read.
        let query = sqlx::query(family.statement()).persistent(false).bind(from_ms).bind(ids(hosts));
        let mut rows = query.fetch(&mut *self.tx);
        while let Some(row) = rows.try_next().await? {
            each(hour_row(&row, family)?);
        }
        Ok(())
    }

    /// Hands over the last row before `before_ms` of the own namespaces of these hosts.
    pub async fn own_hours_before(
        &mut self,
        before_ms: i64,
        hosts: &[HostId],
        each: impl FnMut(HourRow),
    ) -> Result<(), StoreError> {
        self.before(OWN_BEFORE_SQL, before_ms, Some(hosts), each).await
    }

    /// Hands over the last row before `before_ms` of each namespace that is no host's own; `hosts` = only of these.
    pub async fn other_hours_before(
        &mut self,
        before_ms: i64,
        hosts: Option<&[HostId]>,
        each: impl FnMut(HourRow),
    ) -> Result<(), StoreError> {
        self.before(OTHERS_BEFORE_SQL, before_ms, hosts, each).await
    }

    async fn before(
        &mut self,
        statement: &'static str,
        before_ms: i64,
        hosts: Option<&[HostId]>,
        mut each: impl FnMut(HourRow),
    ) -> Result<(), StoreError> {
        let query = sqlx::query(statement).persistent(false).bind(before_ms).bind(ids(hosts));
        let mut rows = query.fetch(&mut *self.tx);
        while let Some(row) = rows.try_next().await? {
            each(hour_row(&row, Family::All)?);
        }
        Ok(())
    }
}

/// Experiment.
pub static VARIANT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
fn text_row(bytes: &[u8]) -> Option<HourRow> {
    let mut rest = bytes;
    let host = text_number(&mut rest)??;
    let namespace = text_number(&mut rest)??;
    let slot = text_number(&mut rest)??;
    let mut used = [Used::default(); 5];
    for used in &mut used {
        *used = Used { last: text_number(&mut rest)?, most: text_number(&mut rest)?, limit: None };
    }
    Some(HourRow { host: HostId(host.cast_signed()), namespace, instance: None, slot_ms: slot.cast_signed(), used })
}
fn text_number(rest: &mut &[u8]) -> Option<Option<u64>> {
    let mut number = 0_u64;
    let mut null = false;
    loop {
        let Some((first, left)) = rest.split_first() else { return Some((!null).then_some(number)) };
        *rest = left;
        match first {
            b'0'..=b'9' => number = number.checked_mul(10)?.checked_add(u64::from(first - b'0'))?,
            b'\\' => null = true,
            b'N' => {}
            b'\t' | b'\n' | b' ' => return Some((!null).then_some(number)),
            _ => return None,
        }
    }
}
fn binary_row(bytes: &[u8]) -> Option<HourRow> {
    let mut rest = bytes.get(2..)?;
    fn field<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
        let (len, left) = rest.split_first_chunk::<4>()?;
        let len = i32::from_be_bytes(*len);
        if len < 0 { *rest = left; return Some(None) }
        let (field, left) = left.split_at_checked(len as usize)?;
        *rest = left;
        Some(Some(field))
    }
    let big = |f: Option<&[u8]>| Some(i64::from_be_bytes(f?.try_into().ok()?));
    let host = big(field(&mut rest)?)?;
    let namespace = big(field(&mut rest)?)?;
    let slot = big(field(&mut rest)?)?;
    let mut used = [Used::default(); 5];
    for used in &mut used {
        *used = Used { last: field(&mut rest)?.and_then(read_numeric), most: field(&mut rest)?.and_then(read_numeric), limit: None };
    }
    Some(HourRow { host: HostId(host), namespace: namespace.cast_unsigned(), instance: None, slot_ms: slot, used })
}

fn ids(hosts: Option<&[HostId]>) -> Option<Vec<i64>> {
    hosts.map(|hosts| hosts.iter().map(|h| h.0).collect())
}

fn capacity_host(row: &PgRow) -> Result<CapacityHost, StoreError> {
    let mut used = [Used::default(); 5];
    // Behind the nine columns before them.
    let mut at = 9;
    for used in &mut used {
        *used = Used { last: whole(row, at)?, most: None, limit: whole(row, at + 1)? };
        at += 2;
    }
    Ok(CapacityHost {
        host: HostName { name: row.try_get("name")?, id: HostId(row.try_get("host_id")?) },
        labels: read_labels(row.try_get("labels")?)?,
        skew_ms: row.try_get("skew_ms")?,
        last_seen_ms: row.try_get("last_seen_ms")?,
        sampled_wall_ms: row.try_get("sampled_wall_ms")?,
        interval_ms: i64::from(row.try_get::<i32, _>("interval_ms")?),
        imported: row.try_get("imported")?,
        namespace: row.try_get::<Option<i64>, _>("namespace")?.map(i64::cast_unsigned),
        used,
    })
}

fn hour_row(row: &PgRow, family: Family) -> Result<HourRow, StoreError> {
    let mut used = [Used::default(); 5];
    let (first, count) = family.columns();
    let mut at = 4;
    for used in used.iter_mut().skip(first).take(count) {
        *used = Used { last: whole(row, at)?, most: whole(row, at + 1)?, limit: whole(row, at + 2)? };
        at += 3;
    }
    Ok(HourRow {
        host: HostId(bigint(row, 0)?),
        namespace: bigint(row, 1)?.cast_unsigned(),
        instance: whole(row, 2)?,
        slot_ms: bigint(row, 3)?,
        used,
    })
}

fn bigint(row: &PgRow, column: usize) -> Result<i64, StoreError> {
    let value = row.try_get_raw(column)?;
    let bytes = value.as_bytes().map_err(|e| corrupt(&e.to_string()))?;
    Ok(i64::from_be_bytes(bytes.try_into().map_err(|_| corrupt("a bigint of other than 8 bytes"))?))
}

fn whole(row: &PgRow, column: usize) -> Result<Option<u64>, StoreError> {
    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(None);
    }
    let bytes = value.as_bytes().map_err(|e| corrupt(&e.to_string()))?;
    read_numeric(bytes).map(Some).ok_or_else(|| corrupt(&format!("the number {bytes:02x?}")))
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt { what: format!("{what} in usage_hour or host_status") }
}

/// PostgreSQL's binary `numeric`: how many digits of base 10,000, the power of the first, sign, decimals shown, digits.
/// `None` = it is no whole number up to 2^64-1.
fn read_numeric(bytes: &[u8]) -> Option<u64> {
    let (head, digits) = bytes.split_first_chunk::<8>()?;
    let [_, _, weight_high, weight_low, sign_high, sign_low, _, _] = *head;
    let weight = i16::from_be_bytes([weight_high, weight_low]);
    if (sign_high, sign_low) != (0, 0) {
        return None;
    }
    let digits = digits.as_chunks::<2>().0;
    if digits.is_empty() {
        return Some(0);
    }
    let mut number = 0_u64;
    // Zeros at the end are left out.
    for place in 0..=usize::try_from(weight).ok()? {
        let digit = digits.get(place).map_or(0, |digit| u16::from_be_bytes(*digit));
        number = number.checked_mul(10_000)?.checked_add(u64::from(digit))?;
    }
    let fraction = digits.iter().skip(usize::try_from(weight).ok()? + 1).any(|digit| *digit != [0, 0]);
    (!fraction).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `numeric_send` writes it.
    fn numeric(number: u64) -> Vec<u8> {
        let mut digits = Vec::new();
        let mut rest = number;
        while rest > 0 {
            digits.insert(0, u16::try_from(rest % 10_000).unwrap());
            rest /= 10_000;
        }
        let weight = i16::try_from(digits.len()).unwrap() - 1;
        while digits.last() == Some(&0) {
            digits.pop();
        }
        let count = u16::try_from(digits.len()).unwrap();
        let head = [count.to_be_bytes(), weight.max(0).to_be_bytes(), [0, 0], [0, 0]].concat();
        head.into_iter().chain(digits.into_iter().flat_map(u16::to_be_bytes)).collect()
    }

    #[test]
    fn whole_numbers_up_to_the_largest_read_back_and_no_others() {
        for number in [0, 1, 9_999, 10_000, 10_001, 320_000_000, 1_024_000_000, u64::MAX - 1, u64::MAX] {
            assert_eq!(read_numeric(&numeric(number)), Some(number), "{number}");
        }
        let negative = [0, 1, 0, 0, 0x40, 0, 0, 0, 0, 1];
        let not_a_number = [0, 0, 0, 0, 0xc0, 0, 0, 0];
        let half = [0, 1, 0xff, 0xff, 0, 0, 0, 1, 0x13, 0x88];
        let one_and_a_half = [0, 2, 0, 0, 0, 0, 0, 1, 0, 1, 0x13, 0x88];
        let huge = [0, 1, 0, 5, 0, 0, 0, 0, 0, 1];
        for bytes in [&negative[..], &not_a_number, &half, &one_and_a_half, &huge, &[0, 1], &[]] {
            assert_eq!(read_numeric(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_family_holds_the_resources_asked_for() {
        assert_eq!(Family::of(&[]), Family::All);
        assert_eq!(Family::of(&[Resource::Semmns]), Family::Semaphores);
        assert_eq!(Family::of(&[Resource::Shmall, Resource::Shmmni]), Family::Segments);
        assert_eq!(Family::of(&[Resource::Msgmni]), Family::Queues);
        assert_eq!(Family::of(&[Resource::Semmni, Resource::Msgmni]), Family::All);
    }
}
