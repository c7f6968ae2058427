//! `/capacity`: how near to its limits the fleet is, was and will be.

use axum::Json;
use axum::extract::{Query, State, rejection::QueryRejection};
use highwater_ipc::limits::Resource;
use highwater_ipc::time::format_rfc3339_ms;
use serde::Deserialize;

use super::ask;
use super::json::{
    CapacityCeilingJson, CapacityEntryJson, CapacityFleetJson, CapacityGroupJson, CapacityJson, CapacitySumsJson,
    CapacityWhatIfJson,
};
use super::problem::Problem;
use super::router::Shared;
use crate::host::HostId;
use crate::query::Reading;
use crate::query::as_of::Instant;
use crate::query::capacity::growth::two_digits;
use crate::query::capacity::summary::{Group, Sums};
use crate::query::capacity::what_if::MOST_GROWTH;
use crate::query::capacity::{Capacity, Entry, GroupBy, Question, Rank, Summary, WhatIf, gather, tell};

const DAY_MS: i64 = 86_400_000;
/// How far back, unless told.
const SINCE_MS: i64 = 30 * DAY_MS;

/// Parameters of `/capacity`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CapacityParams {
    resource: Option<String>,
    since: Option<String>,
    label: Option<String>,
    group_by: Option<String>,
    what_if: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// How near the fleet is.
pub(super) async fn capacity(
    State(shared): State<Shared>,
    params: Result<Query<CapacityParams>, QueryRejection>,
) -> Result<Json<CapacityJson>, Problem> {
    let Query(params) = params?;
    let (question, now_ms) = question(&params, shared.clock.now_ms())?;
    let gathered = {
        let mut reading = Reading::begin(&shared.db).await?;
        gather(&mut reading, &question, now_ms).await?
    };
    // Some tenths of a second of arithmetic, in which other requests are answered.
    let told = tokio::task::spawn_blocking(move || {
        let told = tell(&gathered, &question);
        write(&told, question.since_ms, now_ms)
    });
    told.await.map(Json).map_err(|ended| Problem::internal(&format!("the arithmetic of capacity: {ended}")))
}

/// What is asked, and the present of its first page: else the pages would be of several answers.
fn question(params: &CapacityParams, now_ms: i64) -> Result<(Question, i64), Problem> {
    let mark = read_cursor(params.cursor.as_deref())?;
    let now_ms = mark.map_or(now_ms, |((_, now_ms), _)| now_ms);
    let since_ms = match (mark, ask::instant("since", params.since.as_deref())?) {
        (Some(((since_ms, _), _)), _) => since_ms,
        (None, Instant::At(since_ms)) => since_ms,
        (None, _) => now_ms.saturating_sub(SINCE_MS),
    };
    if since_ms > now_ms {
        return Err(Problem::future(&format!(
            "{} has not come yet: the collector's clock shows {}",
            format_rfc3339_ms(since_ms),
            format_rfc3339_ms(now_ms)
        )));
    }
    let resources = ask::list("resource", params.resource.as_deref(), &resource_names(), resource)?;
    let question = Question {
        since_ms,
        resources,
        labels: ask::list("label", params.label.as_deref(), "KEY=VALUE", ask::label)?,
        group_by: params.group_by.as_deref().map(|by| match by {
            "namespace" => GroupBy::Namespace,
            key => GroupBy::Label(key.to_owned()),
        }),
        what_if: what_if(params.what_if.as_deref())?,
        most: ask::limit(params.limit.as_deref())?,
        after: mark.map(|(_, rank)| rank),
    };
    Ok((question, now_ms))
}

fn resource(name: &str) -> Option<Resource> {
    Resource::ALL.into_iter().find(|r| r.name().eq_ignore_ascii_case(name))
}

fn resource_names() -> String {
    Resource::ALL.map(Resource::name).join(", ")
}

/// `SEMMNI=250,growth=1.5`.
fn what_if(text: Option<&str>) -> Result<WhatIf, Problem> {
    enum Term {
        Limit(Resource, u64),
        Growth(f64),
    }
    let term = |word: &str| {
        let (name, value) = word.split_once('=')?;
        if name == "growth" {
            let factor: f64 = value.parse().ok()?;
            return (factor > 0.0 && factor <= MOST_GROWTH).then_some(Term::Growth(factor));
        }
        Some(Term::Limit(resource(name)?, value.parse().ok()?))
    };
    let values = format!("NAME=NUMBER, NAME one of {}; growth=FACTOR, up to {MOST_GROWTH}", resource_names());
    let mut what_if = WhatIf::default();
    for term in ask::list("what_if", text, &values, term)? {
        match term {
            Term::Limit(resource, limit) => what_if.limits.push((resource, limit)),
            Term::Growth(factor) => what_if.growth = Some(factor),
        }
    }
    Ok(what_if)
}

fn write(told: &Capacity, since_ms: i64, now_ms: i64) -> CapacityJson {
    CapacityJson {
        since: format_rfc3339_ms(since_ms),
        now: format_rfc3339_ms(now_ms),
        hosts: told.entries.iter().map(entry).collect(),
        fleet: fleet(&told.fleet),
        next_cursor: told.next.as_ref().map(|rank| cursor((since_ms, now_ms), rank)),
    }
}

fn digits(number: Option<u64>) -> Option<String> {
    number.map(|number| number.to_string())
}

#[allow(clippy::cast_precision_loss, reason = "a ratio is shown with few digits")]
fn entry(entry: &Entry) -> CapacityEntryJson {
    let days = |days: Option<f64>| days.map(two_digits);
    let left = entry.days_left;
    let asked = entry.asked.as_ref();
    let ratio = entry.used.zip(entry.limit).filter(|(_, limit)| *limit > 0);
    CapacityEntryJson {
        host: entry.host.name.clone(),
        host_id: entry.host.id.to_string(),
        namespace: entry.namespace,
        own: entry.instance.is_none(),
        resource: entry.resource.name().to_owned(),
        used_u64: digits(entry.used),
        limit_u64: digits(entry.limit),
        ratio: ratio.map(|(used, limit)| used as f64 / limit as f64),
        peak_u64: digits(entry.peak),
        p95_u64: digits(entry.p95),
        known_hours: entry.hours,
        growth_per_week: entry.growth.a_day.map(|a_day| three_digits(a_day * 7.0)),
        trend: entry.growth.trend.name().to_owned(),
        days_left: days(left.map(|left| left.days)),
        days_left_low: days(left.map(|left| left.soonest)),
        days_left_high: days(left.and_then(|left| left.latest)),
        ceiling: entry.ceiling.map(|ceiling| CapacityCeilingJson {
            binds: ceiling.binds.name().to_owned(),
            arrays_u64: ceiling.arrays.to_string(),
            semaphores_u64: ceiling.semaphores.to_string(),
        }),
        would_refuse_at: entry.refused_ms().map(format_rfc3339_ms),
        would_refuse_is: asked
            .filter(|asked| asked.refused_ms.is_some())
            .map(|asked| if asked.foreseen { "ahead" } else { "past" }.to_owned()),
        what_if: asked.map(|asked| CapacityWhatIfJson {
            limit_u64: digits(asked.limit),
            used_u64: digits(asked.used),
            days_left: days(asked.days_left.map(|left| left.days)),
        }),
    }
}

/// A pace is not known more precisely.
fn three_digits(number: f64) -> f64 {
    format!("{number:.2e}").parse().unwrap_or(number)
}

fn fleet(summary: &Summary) -> CapacityFleetJson {
    let of_resource = |(resource, sums): &(Resource, Sums)| CapacityGroupJson {
        group: None,
        resource: resource.name().to_owned(),
        limit_u64: None,
        sums: sums_json(sums),
    };
    let of_group = |(group, sums): &(Group, Sums)| CapacityGroupJson {
        group: group.name.clone(),
        resource: group.resource.name().to_owned(),
        limit_u64: digits(group.limit),
        sums: sums_json(sums),
    };
    CapacityFleetJson {
        sums: sums_json(&summary.all),
        hosts_without_data: summary.without_data,
        hosts_gone: summary.gone,
        resources: summary.resources.iter().map(of_resource).collect(),
        groups: summary.groups.iter().map(of_group).collect(),
    }
}

fn sums_json(sums: &Sums) -> CapacitySumsJson {
    let ([above_50, above_80, above_90], [under_7, under_30, under_90]) = (sums.above, sums.days_left);
    CapacitySumsJson {
        hosts: sums.hosts,
        namespaces: sums.namespaces,
        above_50,
        above_80,
        above_90,
        peak_above_90: sums.peaked,
        days_left_under_7: under_7,
        days_left_under_30: under_30,
        days_left_under_90: under_90,
        would_refuse: sums.refused,
    }
}

/// The end of a page: the span, then the last entry's place.
fn cursor((since_ms, now_ms): (i64, i64), rank: &Rank) -> String {
    let Rank { refused_ms, millionths, host, instance, namespace, resource } = rank;
    let (instance, resource) = (instance.map_or_else(|| "o".to_owned(), |n| n.to_string()), resource.name());
    format!("c{since_ms}.{now_ms}.{refused_ms}.{millionths}.{host}.{instance}.{namespace}.{resource}")
}

type Mark = ((i64, i64), Rank);

/// Reads [`cursor`].
fn read_cursor(text: Option<&str>) -> Result<Option<Mark>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let read = || {
        let mut parts = text.strip_prefix('c')?.split('.');
        let span_ms = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (refused_ms, millionths) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let host = HostId::parse(parts.next()?)?;
        let instance = match parts.next()? {
            "o" => None,
            instance => Some(instance.parse().ok()?),
        };
        let (namespace, resource) = (parts.next()?.parse().ok()?, resource(parts.next()?)?);
        let rank = Rank { refused_ms, millionths, host, instance, namespace, resource };
        parts.next().is_none().then_some((span_ms, rank))
    };
    read().map(Some).ok_or_else(|| ask::foreign_cursor(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_of_the_fleets_capacity_reads_back_and_a_made_up_one_is_refused() {
        for instance in [None, Some(0), Some(u64::MAX)] {
            let rank = Rank {
                refused_ms: i64::MAX,
                millionths: 7,
                host: HostId(77),
                instance,
                namespace: u64::MAX,
                resource: Resource::Shmall,
            };
            let text = cursor((i64::MIN, 5), &rank);
            assert_eq!(read_cursor(Some(&text)).unwrap(), Some(((i64::MIN, 5), rank)));
            assert!(read_cursor(Some(&format!("{text}.0"))).is_err());
        }
        for other in ["", "c", "c1.2.3.4.5.o.6.SEMMNI", "b1.2", "c1.2.3.4.000000000000004d.x.6.SEMMNI", "é"] {
            assert!(read_cursor(Some(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn what_if_names_limits_and_a_factor_and_nothing_else() {
        let read = what_if(Some("SEMMNI=250,semmns=32000,growth=1.5")).unwrap();
        assert_eq!(read.limits, [(Resource::Semmni, 250), (Resource::Semmns, 32_000)]);
        assert_eq!(read.growth, Some(1.5));
        for other in ["SEMMSL=250", "SEMMNI", "SEMMNI=-1", "growth=0", "growth=nan", "growth=inf", "growth=1e9"] {
            assert!(what_if(Some(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn a_pace_is_told_with_three_digits() {
        assert_eq!([0.0, 1.0, 6.999_9, 123_456.0, -0.012_345].map(three_digits), [0.0, 1.0, 7.0, 123_000.0, -0.0123]);
    }

    #[test]
    fn the_span_is_the_last_thirty_days_and_none_that_is_still_to_come() {
        let asked = |since: Option<&str>| {
            let params = CapacityParams { since: since.map(str::to_owned), ..CapacityParams::default() };
            question(&params, 40 * DAY_MS).map(|(question, _)| question.since_ms)
        };
        assert_eq!(asked(None).unwrap(), 10 * DAY_MS);
        assert_eq!(asked(Some("1970-01-02T00:00:00Z")).unwrap(), DAY_MS);
        assert!(asked(Some("1970-03-01T00:00:00Z")).is_err());
    }
}
