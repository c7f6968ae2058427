//! What `capacity` reads: the present of all hosts, and what each namespace used by the hour (`usage_pack`), streamed.

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

macro_rules! packs {
    ($distinct:literal, $more:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $distinct,
            " u.host_id, u.namespace, CASE WHEN NOT u.own THEN u.instance END, u.from_ms, u.body",
            $more,
            " FROM usage_pack u WHERE ",
            $rest
        )
    };
}
const HOURS_SQL: &str = packs!("", "", "u.from_ms >= $1 AND ($2::bigint[] IS NULL OR u.host_id = ANY ($2))");
/// The last row before the span of the own namespaces of some hosts; what a clock said in 1970, or before it was set, more
/// than 400 days before the span, is none ...
const OWN_BEFORE_SQL: &str = packs!(
    "DISTINCT ON (u.host_id, u.namespace, u.instance)",
    "",
    "u.from_ms < $1 AND (u.year <> DATE '1970-01-01' OR u.from_ms > $1 - 34560000000) AND u.own AND u.host_id = ANY ($2)
        ORDER BY u.host_id, u.namespace, u.instance, u.from_ms DESC"
);
/// ... and of every other one that is still there: which there are is known from their rows alone, and these have an index.
const OTHERS_BEFORE_SQL: &str = concat!(
    "SELECT * FROM (",
    packs!(
        "DISTINCT ON (u.host_id, u.namespace, u.instance)",
        ", u.is_there",
        "u.from_ms < $1 AND (u.year <> DATE '1970-01-01' OR u.from_ms > $1 - 34560000000)
        AND NOT u.own AND ($2::bigint[] IS NULL OR u.host_id = ANY ($2))
        ORDER BY u.host_id, u.namespace, u.instance, u.from_ms DESC"
    ),
    ") AS p WHERE p.is_there"
);

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
    /// What its own namespace uses, in order of [`highwater_ipc::limits::Resource::ALL`]; `most` is not said.
    pub used: [Used; 5],
}

/// Four days of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoursRow {
    /// The host.
    pub host: HostId,
    /// Inode.
    pub namespace: u64,
    /// Tells two of one inode apart; `None` = the host's own, which stays the same place across boots.
    pub instance: Option<u64>,
    /// When they begin, host's clock, milliseconds.
    pub from_ms: i64,
    /// Packed.
    pub body: Vec<u8>,
}

impl Reading {
    /// Every host that has reported and has all these labels, by id.
    pub async fn capacity_hosts(&mut self, labels: &[(String, String)]) -> Result<Vec<CapacityHost>, StoreError> {
        let rows = sqlx::query(HOSTS_SQL).bind(labels_json(labels)).fetch_all(&mut *self.tx).await?;
        rows.iter().map(capacity_host).collect()
    }

    /// Hands over the rows that begin at or after `from_ms`, in no order; `hosts` = only of these.
    pub async fn hours(
        &mut self,
        from_ms: i64,
        hosts: Option<&[HostId]>,
        each: impl FnMut(HoursRow),
    ) -> Result<(), StoreError> {
        self.packs(HOURS_SQL, (from_ms, hosts), each).await
    }

    /// Hands over the last row before `before_ms` of the own namespaces of these hosts.
    pub async fn own_hours_before(
        &mut self,
        before_ms: i64,
        hosts: &[HostId],
        each: impl FnMut(HoursRow),
    ) -> Result<(), StoreError> {
        self.packs(OWN_BEFORE_SQL, (before_ms, Some(hosts)), each).await
    }

    /// Hands over the last row before `before_ms` of each namespace that is no host's own, if it was there at its end;
    /// `hosts` = only of these.
    pub async fn other_hours_before(
        &mut self,
        before_ms: i64,
        hosts: Option<&[HostId]>,
        each: impl FnMut(HoursRow),
    ) -> Result<(), StoreError> {
        self.packs(OTHERS_BEFORE_SQL, (before_ms, hosts), each).await
    }

    async fn packs(
        &mut self,
        statement: &'static str,
        (ms, hosts): (i64, Option<&[HostId]>),
        mut each: impl FnMut(HoursRow),
    ) -> Result<(), StoreError> {
        // Planned anew each time: how much of the table the span is decides how it is read.
        let query = sqlx::query(statement).persistent(false).bind(ms).bind(ids(hosts));
        let mut rows = query.fetch(&mut *self.tx);
        while let Some(row) = rows.try_next().await? {
            each(HoursRow {
                host: HostId(row.try_get(0)?),
                namespace: row.try_get::<i64, _>(1)?.cast_unsigned(),
                instance: whole(&row, 2)?,
                from_ms: row.try_get(3)?,
                body: row.try_get(4)?,
            });
        }
        Ok(())
    }
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

fn whole(row: &PgRow, column: usize) -> Result<Option<u64>, StoreError> {
    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(None);
    }
    let bytes = value.as_bytes().map_err(|e| corrupt(&e.to_string()))?;
    read_numeric(bytes).map(Some).ok_or_else(|| corrupt(&format!("the number {bytes:02x?}")))
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt { what: format!("{what} in usage_pack or host_status") }
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
}
