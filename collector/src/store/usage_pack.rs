//! Table `usage_pack`: the rows of `usage_hour` again, four days of a namespace in one row, for whoever reads a fleet's
//! months at once. What the bytes are is not known here: `query::capacity::pack`.

use highwater_ipc::snapshot::NamespaceId;

use super::StoreError;
use super::day::Day;
use super::tx::Write;
use super::usage::Step;
use crate::host::HostId;

/// How long the time of a row is, milliseconds; a year's first and last one are shorter, for partitions are years.
pub const SPAN_MS: i64 = 4 * 86_400_000;

const OF_SPANS_SQL: &str = "SELECT p.namespace, p.instance::text, p.from_ms, p.year - DATE '1970-01-01', p.own, p.body
    FROM usage_pack p
    WHERE p.host_id = $1 AND (p.namespace, p.instance, p.own, p.from_ms, p.year) IN (SELECT r.namespace,
        r.instance::numeric, r.own, r.from_ms, DATE '1970-01-01' + r.year
        FROM unnest($2::bigint[], $3::text[], $4::boolean[], $5::bigint[], $6::int[])
            AS r (namespace, instance, own, from_ms, year))
    ORDER BY p.namespace, p.instance, p.own, p.from_ms, p.year FOR UPDATE OF p";

const UPSERT_SQL: &str = "INSERT INTO usage_pack (host_id, namespace, instance, from_ms, year, own, is_there, body)
    VALUES ($1, $2, $3::text::numeric, $4, DATE '1970-01-01' + $5::int, $6, $7, $8)
    ON CONFLICT (host_id, namespace, instance, own, from_ms, year)
        DO UPDATE SET is_there = excluded.is_there, body = excluded.body
    WHERE $9 RETURNING host_id";

/// Which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackKey {
    /// The namespace.
    pub namespace: NamespaceId,
    /// Whether it is the host's own.
    pub own: bool,
    /// When its time begins, host's clock, milliseconds.
    pub from_ms: i64,
    /// The partition.
    pub year: Day,
}

impl PackKey {
    /// The row that holds an hour; `place` gives the day of its partition: the believed day, or [`Day::FALLBACK`].
    pub fn of((namespace, own): (NamespaceId, bool), slot_ms: i64, place: &dyn Fn(i64) -> Day) -> Self {
        let year = Step::Hour.part(place(slot_ms));
        let from_ms = span_of(slot_ms);
        Self {
            namespace,
            own,
            from_ms: if year == Day::FALLBACK { from_ms } else { from_ms.max(year.start_ms()) },
            year,
        }
    }
}

/// When the four days that hold an instant begin, milliseconds.
pub fn span_of(ms: i64) -> i64 {
    ms.div_euclid(SPAN_MS).saturating_mul(SPAN_MS)
}

/// Four days of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackRow {
    /// Which.
    pub key: PackKey,
    /// Its hours.
    pub body: Vec<u8>,
}

/// Those rows of a host that are there; nobody else writes them until the transaction ends.
pub async fn of_keys(tx: &mut Write<'_>, host: HostId, keys: &[PackKey]) -> Result<Vec<PackRow>, StoreError> {
    let rows: Vec<(i64, String, i64, i32, bool, Vec<u8>)> = sqlx::query_as(OF_SPANS_SQL)
        .bind(host.0)
        .bind(keys.iter().map(|key| key.namespace.inode.cast_signed()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.namespace.instance.to_string()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.own).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.from_ms).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.year.0).collect::<Vec<_>>())
        .fetch_all(tx.connection())
        .await?;
    rows.into_iter()
        .map(|(inode, instance, from_ms, year, own, body)| {
            let corrupt = |_| StoreError::Corrupt { what: format!("usage_pack.instance {instance:?}") };
            let namespace = NamespaceId { inode: inode.cast_unsigned(), instance: instance.parse().map_err(corrupt)? };
            Ok(PackRow { key: PackKey { namespace, own, from_ms, year: Day(year) }, body })
        })
        .collect()
}

/// Whether the row was written: one that is there is overwritten only where the caller has it from [`of_keys`], or somebody
/// else was sooner. `is_there` = its newest hour says anything.
pub async fn put(
    tx: &mut Write<'_>,
    host: HostId,
    row: &PackRow,
    (has, is_there): (bool, bool),
) -> Result<bool, StoreError> {
    let written = sqlx::query(UPSERT_SQL)
        .bind(host.0)
        .bind(row.key.namespace.inode.cast_signed())
        .bind(row.key.namespace.instance.to_string())
        .bind(row.key.from_ms)
        .bind(row.key.year.0)
        .bind(row.key.own)
        .bind(is_there)
        .bind(&row.body)
        .bind(has)
        .fetch_optional(tx.connection())
        .await?;
    Ok(written.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_of_one_row_share_a_partition_and_what_is_not_believed_has_its_own() {
        let namespace = NamespaceId { inode: 1, instance: 0 };
        let own = |ms: i64| Day::believed(ms, i64::MAX).unwrap_or(Day::FALLBACK);
        const HOUR_MS: i64 = 3_600_000;
        // 2025-12-20 .. 2026-01-20.
        for slot_ms in (1_766_188_800_000_i64..1_768_867_200_000).step_by(3_600_000) {
            let key = PackKey::of((namespace, true), slot_ms, &own);
            assert!(key.from_ms <= slot_ms && slot_ms < key.from_ms + SPAN_MS, "{slot_ms}");
            assert_eq!(PackKey::of((namespace, true), key.from_ms, &own), key, "it holds the hour it begins with");
            let before = PackKey::of((namespace, true), slot_ms - HOUR_MS, &own);
            assert_eq!(before.year == key.year, slot_ms != 1_767_225_600_000, "years part at New Year");
        }
        let key = PackKey::of((namespace, true), -5, &|_| Day::FALLBACK);
        assert_eq!((key.from_ms, key.year), (-SPAN_MS, Day::FALLBACK));
        assert_eq!(span_of(i64::MIN), i64::MIN.div_euclid(SPAN_MS).saturating_mul(SPAN_MS), "no overflow");
    }
}
