//! Table `owner_usage`: who held what on a host at the end of an hour of its clock, and the most in that hour.
//!
//! All owners of a row stand side by side in arrays. Three sorts of entries: an owner; a list (namespace and kind, uid
//! null) that could not be read whole, of whose owners only the most is known; and one of nulls alone, last, where there
//! are more owners than a row tells. What goes without saying is null, which costs a bit: the host's own namespace (where
//! the kind is not null), counts of 0 beside known objects, and a highest value that is the last one. An array of nulls is
//! null itself.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{BootId, NamespaceId};
use highwater_ipc::text::HostText;
use sqlx::FromRow;

use super::StoreError;
use super::day::Day;
use super::fleet::HostName;
use super::gap_part::{code, kind};
use super::history::Reading;
use super::number::{bigint, fixed};
use super::tx::Write;
use crate::host::HostId;

const UPSERT_SQL: &str = "INSERT INTO owner_usage (host_id, slot_ms, month, wall_ms, boot_id, own, own_instance,
        namespaces, instances, kinds, uids, users, comms, objects, objects_max, semaphores, bytes, orphans, certain)
    VALUES ($1, $2, DATE '1970-01-01' + $3::int, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
        $17::text[]::numeric[], $18, $19)
    ON CONFLICT (host_id, slot_ms, month) DO UPDATE SET wall_ms = excluded.wall_ms, boot_id = excluded.boot_id,
        own = excluded.own, own_instance = excluded.own_instance, namespaces = excluded.namespaces,
        instances = excluded.instances, kinds = excluded.kinds, uids = excluded.uids, users = excluded.users,
        comms = excluded.comms, objects = excluded.objects, objects_max = excluded.objects_max,
        semaphores = excluded.semaphores, bytes = excluded.bytes, orphans = excluded.orphans,
        certain = excluded.certain
    WHERE $20 RETURNING host_id";

macro_rules! columns {
    ($rest:literal) => {
        concat!(
            "SELECT o.host_id, o.slot_ms, o.wall_ms, o.boot_id, o.own, o.own_instance, o.kinds, o.uids, o.objects,
                COALESCE(o.namespaces, '{}') AS namespaces, COALESCE(o.instances, '{}') AS instances,
                COALESCE(o.users, '{}') AS users, COALESCE(o.comms, '{}') AS comms,
                COALESCE(o.objects_max, '{}') AS objects_max, COALESCE(o.semaphores, '{}') AS semaphores,
                COALESCE(o.bytes::text[], '{}') AS bytes, COALESCE(o.orphans, '{}') AS orphans,
                COALESCE(o.certain, '{}') AS certain ",
            $rest
        )
    };
}

const OF_SLOTS_SQL: &str =
    columns!("FROM owner_usage o WHERE o.host_id = $1 AND o.slot_ms = ANY ($2) ORDER BY o.slot_ms, o.month FOR UPDATE");
const AT_SQL: &str = columns!(
    ", h.name, s.skew_ms FROM host_status s JOIN host h ON h.host_id = s.host_id
    CROSS JOIN LATERAL (SELECT * FROM owner_usage u WHERE u.host_id = s.host_id AND u.slot_ms <= $1 + s.skew_ms
        ORDER BY u.slot_ms DESC LIMIT 1) o
    WHERE s.host_id > $2 AND s.host_id <= $3 ORDER BY s.host_id LIMIT $4"
);
const FIRST_SQL: &str = columns!(
    ", h.name, s.skew_ms FROM host_status s JOIN host h ON h.host_id = s.host_id
    CROSS JOIN LATERAL (SELECT * FROM owner_usage u WHERE u.host_id = s.host_id ORDER BY u.slot_ms LIMIT 1) o
    WHERE s.host_id = ANY ($1) ORDER BY s.host_id"
);

/// One hour of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRow {
    /// The host.
    pub host: HostId,
    /// When the hour begins, host's clock, milliseconds.
    pub slot_ms: i64,
    /// The sample that what is held now is of, likewise.
    pub wall_ms: i64,
    /// Its boot.
    pub boot_id: BootId,
    /// The host's own namespace; `None` = none was read.
    pub own: Option<NamespaceId>,
    /// Who held something in that hour.
    pub owners: BTreeMap<OwnerKey, OwnerHeld>,
    /// Lists that could not be read whole at its end: what is there is not known.
    pub unknown: BTreeSet<(NamespaceId, Kind)>,
    /// There are more owners, or lists, than are told.
    pub cut: bool,
}

impl OwnerRow {
    /// The most owners a row tells, the biggest first.
    pub const MAX_OWNERS: usize = 1_024;
    /// The most lists of which it tells that they could not be read.
    pub const MAX_UNKNOWN: usize = 64;
}

/// Who: as [`crate::query::owners`] tells owners apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerKey {
    /// Where.
    pub namespace: NamespaceId,
    /// Of which kind.
    pub kind: Kind,
    /// Whose.
    pub uid: u32,
    /// The program's comm; `None` = not known, or the uid runs several.
    pub comm: Option<HostText>,
}

/// What an owner held in an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerHeld {
    /// The uid's name.
    pub user: Option<HostText>,
    /// At the hour's end; `None` = its list could not be read whole then.
    pub now: Option<Held>,
    /// The most objects at once.
    pub most: u64,
}

/// What an owner holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Held {
    /// Objects.
    pub objects: u64,
    /// Semaphores in them; 0 for other kinds.
    pub semaphores: u64,
    /// Sizes of segments, or bytes in queues; 0 for semaphores.
    pub bytes: u64,
    /// Objects that nobody seems to hold any more, of all grades.
    pub orphans: u64,
    /// Of those the certain ones.
    pub certain: u64,
}

/// The row that tells of a host at an instant.
#[derive(Clone, Debug)]
pub struct HostOwners {
    /// The host.
    pub host: HostName,
    /// Its clock minus the collector's, milliseconds.
    pub skew_ms: i64,
    /// The row.
    pub row: OwnerRow,
}

/// Which hosts, by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRange {
    /// Those after this one; id 0 = from the first on.
    pub after: HostId,
    /// Up to this one.
    pub to: HostId,
    /// The most of them.
    pub most: i64,
}

/// The rows of a host's slots, each there at most once; nobody else writes them until the transaction ends.
pub async fn of_slots(tx: &mut Write<'_>, host: HostId, slots: &[i64]) -> Result<Vec<OwnerRow>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(OF_SLOTS_SQL).bind(host.0).bind(slots).fetch_all(tx.connection()).await?;
    rows.into_iter().map(Row::domain).collect()
}

/// Whether the row was written: one that is there is overwritten only where the caller has it from [`of_slots`], or
/// somebody else was sooner. `place` gives the day of a slot's partition, of which the month is taken: the believed day,
/// or [`Day::FALLBACK`].
pub async fn put(
    tx: &mut Write<'_>,
    row: &OwnerRow,
    has: bool,
    place: &(dyn Fn(i64) -> Day + Sync),
) -> Result<bool, StoreError> {
    let entries = Entries::of(row);
    let written = sqlx::query(UPSERT_SQL)
        .bind(row.host.0)
        .bind(row.slot_ms)
        .bind(place(row.slot_ms).month().0)
        .bind(row.wall_ms)
        .bind(row.boot_id.0.as_slice())
        .bind(row.own.map(|own| own.inode.cast_signed()))
        .bind(row.own.map(|own| own.instance.cast_signed()))
        .bind(told(entries.namespaces))
        .bind(told(entries.instances))
        .bind(entries.kinds)
        .bind(entries.uids)
        .bind(told(entries.users))
        .bind(told(entries.comms))
        .bind(entries.objects)
        .bind(told(entries.objects_max))
        .bind(told(entries.semaphores))
        .bind(told(entries.bytes))
        .bind(told(entries.orphans))
        .bind(told(entries.certain))
        .bind(has)
        .fetch_optional(tx.connection())
        .await?;
    Ok(written.is_some())
}

impl Reading {
    /// By host, the last row whose hour began at or before this instant of the collector's clock, milliseconds; hosts
    /// that have none are left out.
    pub async fn owners_at(&mut self, at_ms: i64, hosts: HostRange) -> Result<Vec<HostOwners>, StoreError> {
        let query = sqlx::query_as(AT_SQL).bind(at_ms).bind(hosts.after.0).bind(hosts.to.0).bind(hosts.most);
        let rows: Vec<HostRow> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(HostRow::domain).collect()
    }

    /// The first row of each of these hosts.
    pub async fn first_owners(&mut self, hosts: &[HostId]) -> Result<Vec<HostOwners>, StoreError> {
        let ids: Vec<i64> = hosts.iter().map(|h| h.0).collect();
        let rows: Vec<HostRow> = sqlx::query_as(FIRST_SQL).bind(ids).fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(HostRow::domain).collect()
    }
}

/// An array, unless there is nothing in it but nulls.
fn told<T>(column: Vec<Option<T>>) -> Option<Vec<Option<T>>> {
    column.iter().any(Option::is_some).then_some(column)
}

/// The arrays, each of one length, or empty where it says nothing.
#[derive(Default, FromRow)]
struct Entries {
    namespaces: Vec<Option<i64>>,
    instances: Vec<Option<i64>>,
    kinds: Vec<Option<i16>>,
    uids: Vec<Option<i64>>,
    users: Vec<Option<String>>,
    comms: Vec<Option<String>>,
    objects: Vec<Option<i32>>,
    objects_max: Vec<Option<i32>>,
    semaphores: Vec<Option<i64>>,
    bytes: Vec<Option<String>>,
    orphans: Vec<Option<i32>>,
    certain: Vec<Option<i32>>,
}

impl Entries {
    fn of(row: &OwnerRow) -> Self {
        let mut entries = Self::default();
        for list in &row.unknown {
            entries.push(row.own, Some(*list), None);
        }
        let mut owners: Vec<_> = row.owners.iter().collect();
        owners.sort_by_key(|(_, held)| std::cmp::Reverse((held.now.map(|now| now.objects), held.most)));
        for (key, held) in owners {
            entries.push(row.own, Some((key.namespace, key.kind)), Some((key, held)));
        }
        if row.cut {
            entries.push(row.own, None, None);
        }
        entries
    }

    fn push(
        &mut self,
        own: Option<NamespaceId>,
        list: Option<(NamespaceId, Kind)>,
        owner: Option<(&OwnerKey, &OwnerHeld)>,
    ) {
        let now = owner.and_then(|(_, held)| held.now);
        let number = |of: fn(&Held) -> u64| now.as_ref().map(of).filter(|n| *n > 0);
        let other = list.map(|(namespace, _)| namespace).filter(|namespace| Some(*namespace) != own);
        self.namespaces.push(other.map(|namespace| namespace.inode.cast_signed()));
        self.instances.push(other.map(|namespace| namespace.instance.cast_signed()));
        self.kinds.push(list.map(|(_, kind)| code(kind)));
        self.uids.push(owner.map(|(key, _)| i64::from(key.uid)));
        self.users.push(owner.and_then(|(_, held)| held.user.as_ref()).map(HostText::escaped));
        self.comms.push(owner.and_then(|(key, _)| key.comm.as_ref()).map(HostText::escaped));
        self.objects.push(now.map(|now| count(now.objects)));
        let most = owner.map(|(_, held)| held.most).filter(|most| now.is_none_or(|now| now.objects != *most));
        self.objects_max.push(most.map(count));
        self.semaphores.push(number(|now| now.semaphores).map(bigint));
        self.bytes.push(now.filter(|now| now.bytes > 0).map(|now| now.bytes.to_string()));
        self.orphans.push(number(|now| now.orphans).map(count));
        self.certain.push(number(|now| now.certain).map(count));
    }

    /// Adds entry `i` to a row; `None` = its columns contradict each other.
    fn read(&mut self, i: usize, row: &mut OwnerRow) -> Option<()> {
        let Some(kind_code) = *self.kinds.get(i)? else {
            row.cut = true;
            return Some(());
        };
        let namespace = match (at(&self.namespaces, i), at(&self.instances, i)) {
            (Some(inode), Some(instance)) => {
                NamespaceId { inode: inode.cast_unsigned(), instance: instance.cast_unsigned() }
            }
            _ => row.own?,
        };
        let kind = kind("owner_usage.kinds", kind_code).ok()?;
        let Some(uid) = at(&self.uids, i) else {
            row.unknown.insert((namespace, kind));
            return Some(());
        };
        let text = |column: &mut Vec<Option<String>>| match column.get_mut(i).and_then(Option::take) {
            None => Some(None),
            Some(text) => HostText::from_escaped(&text).map(Some),
        };
        let count = |column: &[Option<i32>]| u64::try_from(at(column, i).unwrap_or(0)).ok();
        let now = match at(&self.objects, i) {
            None => None,
            Some(_) => Some(Held {
                objects: count(&self.objects)?,
                semaphores: u64::try_from(at(&self.semaphores, i).unwrap_or(0)).ok()?,
                bytes: self.bytes.get(i).and_then(Option::as_ref).map_or(Some(0), |bytes| bytes.parse().ok())?,
                orphans: count(&self.orphans)?,
                certain: count(&self.certain)?,
            }),
        };
        let most = match at(&self.objects_max, i) {
            // Of an hour that begins with what could not be read nothing more is known.
            None => now.as_ref().map_or(0, |now| now.objects),
            Some(_) => count(&self.objects_max)?,
        };
        let key = OwnerKey { namespace, kind, uid: u32::try_from(uid).ok()?, comm: text(&mut self.comms)? };
        row.owners.insert(key, OwnerHeld { user: text(&mut self.users)?, now, most });
        Some(())
    }
}

fn at<T: Copy>(column: &[Option<T>], i: usize) -> Option<T> {
    column.get(i).copied().flatten()
}

/// A number of objects, which a list in memory has; saturates.
fn count(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[derive(FromRow)]
struct Row {
    host_id: i64,
    slot_ms: i64,
    wall_ms: i64,
    boot_id: Vec<u8>,
    own: Option<i64>,
    own_instance: Option<i64>,
    #[sqlx(flatten)]
    entries: Entries,
}

impl Row {
    fn domain(mut self) -> Result<OwnerRow, StoreError> {
        let own = self.own.zip(self.own_instance);
        let mut row = OwnerRow {
            host: HostId(self.host_id),
            slot_ms: self.slot_ms,
            wall_ms: self.wall_ms,
            boot_id: BootId(fixed("owner_usage.boot_id", &self.boot_id)?),
            own: own.map(|(i, n)| NamespaceId { inode: i.cast_unsigned(), instance: n.cast_unsigned() }),
            owners: BTreeMap::new(),
            unknown: BTreeSet::new(),
            cut: false,
        };
        for i in 0..self.entries.kinds.len() {
            if self.entries.read(i, &mut row).is_none() {
                return Err(StoreError::Corrupt { what: format!("owner_usage of host {}, entry {i}", row.host) });
            }
        }
        Ok(row)
    }
}

#[derive(FromRow)]
struct HostRow {
    name: String,
    skew_ms: i64,
    #[sqlx(flatten)]
    row: Row,
}

impl HostRow {
    fn domain(self) -> Result<HostOwners, StoreError> {
        let row = self.row.domain()?;
        Ok(HostOwners { host: HostName { name: self.name, id: row.host }, skew_ms: self.skew_ms, row })
    }
}
