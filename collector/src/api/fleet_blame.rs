//! `/blame`: who grew, of all hosts.

use axum::Json;
use axum::extract::{Query, State, rejection::QueryRejection};
use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::text::HostText;
use highwater_ipc::time::format_rfc3339_ms;
use serde::Deserialize;

use super::ask;
use super::json::{FleetBlameJson, FleetOwnerJson, FleetUnknownJson};
use super::problem::Problem;
use super::router::Shared;
use crate::host::HostId;
use crate::query::Reading;
use crate::query::as_of::Instant;
use crate::query::fleet_blame::{FleetBlame, Growth, MOST_UNKNOWN, OwnerKey, Question, Rank, fleet_blame as rank};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Parameters of `/blame`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FleetBlameParams {
    since: Option<String>,
    until: Option<String>,
    kind: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// Who grew.
pub(super) async fn fleet_blame(
    State(shared): State<Shared>,
    params: Result<Query<FleetBlameParams>, QueryRejection>,
) -> Result<Json<FleetBlameJson>, Problem> {
    let Query(params) = params?;
    let now_ms = shared.clock.now_ms();
    let (kinds, most) = (ask::kinds(params.kind.as_deref())?, ask::limit(params.limit.as_deref())?);
    let (span_ms, after) = match read_cursor(params.cursor.as_deref())? {
        // `now` of the first page: else the pages would be of several answers.
        Some((span_ms, after)) => (span_ms, Some(after)),
        None => (span(&params, now_ms)?, None),
    };
    let mut reading = Reading::begin(&shared.db).await?;
    let question = Question { span_ms, kinds, most, after };
    Ok(Json(write(&rank(&mut reading, &question).await?, span_ms, now_ms)))
}

/// The instants, by the collector's clock.
fn span(params: &FleetBlameParams, now_ms: i64) -> Result<(i64, i64), Problem> {
    let instant = |name, text: Option<&str>| {
        let at = |instant| if let Instant::At(at_ms) = instant { at_ms } else { now_ms };
        ask::instant(name, text).map(at)
    };
    let until_ms = instant("until", params.until.as_deref())?;
    let since_ms = match params.since.as_deref() {
        None => until_ms.saturating_sub(DAY_MS),
        since => instant("since", since)?,
    };
    if until_ms > now_ms {
        return Err(Problem::future(&format!(
            "{} has not come yet: the collector's clock shows {}",
            format_rfc3339_ms(until_ms),
            format_rfc3339_ms(now_ms)
        )));
    }
    if since_ms > until_ms {
        return Err(Problem::bad_request("since is later than until"));
    }
    Ok((since_ms, until_ms))
}

fn write(blame: &FleetBlame, (since_ms, until_ms): (i64, i64), now_ms: i64) -> FleetBlameJson {
    // A row tells of the end of its hour.
    let compared = |ms: i64| {
        let end = ms.div_euclid(HOUR_MS).saturating_add(1).saturating_mul(HOUR_MS).min(now_ms);
        format_rfc3339_ms(end)
    };
    let mut notes = vec![
        "owners are kept by the hour: each instant stands for the end of its hour, or for now; the last ten minutes \
         may not be in yet"
            .to_owned(),
    ];
    if blame.first_rows > 0 {
        let first_rows = blame.first_rows;
        notes.push(format!("{first_rows} of {} hosts have no row that old: their first is the base", blame.hosts));
    }
    if blame.cut > 0 {
        notes.push(format!("{} hosts have more owners than are kept: of those only the biggest are told", blame.cut));
    }
    if blame.unknown.len() >= MOST_UNKNOWN {
        notes.push(format!("of the lists that are not compared only the first {MOST_UNKNOWN} are told"));
    }
    FleetBlameJson {
        since: format_rfc3339_ms(since_ms),
        until: format_rfc3339_ms(until_ms),
        compared_since: compared(since_ms),
        compared_until: compared(until_ms),
        hosts: blame.hosts,
        owners: blame.owners.iter().map(owner).collect(),
        unknown: blame
            .unknown
            .iter()
            .map(|(host, namespace, kind)| FleetUnknownJson {
                host: host.name.clone(),
                host_id: host.id.to_string(),
                namespace: namespace.inode,
                kind: kind.name().to_owned(),
            })
            .collect(),
        next_cursor: blame.next.as_ref().map(|rank| cursor((since_ms, until_ms), rank)),
        notes,
    }
}

fn owner(growth: &Growth) -> FleetOwnerJson {
    FleetOwnerJson {
        host: growth.host.name.clone(),
        host_id: growth.host.id.to_string(),
        namespace: growth.key.namespace.inode,
        kind: growth.key.kind.name().to_owned(),
        uid: growth.key.uid,
        user: growth.user.as_ref().map(HostText::escaped),
        comm: growth.key.comm.as_ref().map(HostText::escaped),
        arrays_before: growth.before.objects,
        arrays_after: growth.after.objects,
        net: growth.net(),
        semaphores_net: growth.semaphores_net(),
        bytes_net_u64: growth.bytes_net().to_string(),
        orphans: growth.after.orphans,
        orphans_certain: growth.after.certain,
        base_at: format_rfc3339_ms(growth.base_ms),
        since_is: if growth.from_first { "first_row" } else { "asked" }.to_owned(),
    }
}

/// The end of a page: the instants, then the last owner's place.
fn cursor((since_ms, until_ms): (i64, i64), rank: &Rank) -> String {
    let Rank { net, bytes_net, orphans, objects, host, key } = rank;
    let OwnerKey { namespace, kind, uid, comm } = key;
    let (inode, instance, kind) = (namespace.inode, namespace.instance, kind.name());
    let comm = comm.as_ref().map_or_else(|| "n".to_owned(), |comm| format!("t{}", ask::hex(comm.as_bytes())));
    format!(
        "b{since_ms}.{until_ms}.{net}.{bytes_net}.{orphans}.{objects}.{host}.{inode}.{instance}.{kind}.{uid}.{comm}"
    )
}

type Mark = ((i64, i64), Rank);

/// Reads [`cursor`].
fn read_cursor(text: Option<&str>) -> Result<Option<Mark>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let read = || {
        let mut parts = text.strip_prefix('b')?.split('.');
        let span_ms = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (net, bytes_net) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (orphans, objects) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let host = HostId::parse(parts.next()?)?;
        let namespace = NamespaceId { inode: parts.next()?.parse().ok()?, instance: parts.next()?.parse().ok()? };
        let word = parts.next()?;
        let kind = Kind::ALL.into_iter().find(|k| k.name() == word)?;
        let uid = parts.next()?.parse().ok()?;
        let comm = match parts.next()? {
            "n" => None,
            comm => Some(HostText::cut(&ask::unhex(comm.strip_prefix('t')?)?)),
        };
        let key = OwnerKey { namespace, kind, uid, comm };
        parts.next().is_none().then_some((span_ms, Rank { net, bytes_net, orphans, objects, host, key }))
    };
    read().map(Some).ok_or_else(|| ask::foreign_cursor(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_of_the_fleets_owners_reads_back_and_a_made_up_one_is_refused() {
        for comm in [None, Some(HostText::from("a.b")), Some(HostText::cut(&[0xff; 256]))] {
            let namespace = NamespaceId { inode: u64::MAX, instance: 0 };
            let key = OwnerKey { namespace, kind: Kind::Shm, uid: u32::MAX, comm };
            let (net, bytes_net) = (i64::MIN, -(1_i128 << 70));
            let rank = Rank { net, bytes_net, orphans: 1, objects: u64::MAX, host: HostId(77), key };
            let text = cursor((i64::MIN, 5), &rank);
            assert_eq!(read_cursor(Some(&text)).unwrap(), Some(((i64::MIN, 5), rank)));
            assert!(read_cursor(Some(&text[..text.len() - 1])).is_err() || text.ends_with('n'), "{text}");
            assert!(read_cursor(Some(&format!("{text}.0"))).is_err());
        }
        for other in ["", "b", "h1.00", "e1.2.3.4", "b1.2.3.4.5.6.7.8.9.sem.1.n", "é"] {
            assert!(read_cursor(Some(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn an_instant_stands_for_the_end_of_its_hour() {
        let json = write(&FleetBlame { hosts: 3, first_rows: 2, ..FleetBlame::default() }, (0, 5_000_000), 6_000_000);
        assert_eq!(json.compared_since, "1970-01-01T01:00:00.000Z");
        assert_eq!(json.compared_until, "1970-01-01T01:40:00.000Z", "now: that hour is not over");
        assert!(json.notes.iter().any(|n| n == "2 of 3 hosts have no row that old: their first is the base"));
    }
}
