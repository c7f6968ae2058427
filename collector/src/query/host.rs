//! Which host a name means.

use super::AskError;
use crate::host::HostId;
use crate::store::fleet::HostName;
use crate::store::history::Reading;

/// The host that was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Which one.
    pub host: HostName,
    /// What a person should know about the choice.
    pub notes: Vec<String>,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// One host.
    One(Resolved),
    /// Nothing.
    None,
    /// Several begin so.
    Several {
        /// At most [`MOST_LISTED`] of them.
        hosts: Vec<HostName>,
        /// Whether there are more.
        more: bool,
    },
}

/// The most hosts that an answer about a name lists.
pub const MOST_LISTED: usize = 20;

/// The most hosts of one name among which the newest live one is looked for, those enrolled last.
const MOST_NAMESAKES: i64 = 1_000;

/// Looks for an id, then who bore exactly that name at `at_ms` (a past instant, by each host's own clock), then who bears
/// it now, then who bore it ever, then a unique prefix of name or id. Of several hosts with one name the newest live one
/// is meant, with a note: the last enrolled of those in sight, else the last enrolled. `now_ms` is the collector's clock.
pub async fn resolve(reading: &mut Reading, text: &str, at_ms: Option<i64>, now_ms: i64) -> Result<Meaning, AskError> {
    if let Some(id) = HostId::parse(text)
        && let Some(host) = reading.host_by_id(id).await?
    {
        return Ok(Meaning::One(Resolved { host, notes: Vec::new() }));
    }
    let bearers = reading.hosts_named(text, MOST_NAMESAKES).await?;
    let mut meant = match at_ms {
        Some(at_ms) => reading.hosts_named_at(text, at_ms, MOST_NAMESAKES).await?,
        None => Vec::new(),
    };
    if meant.is_empty() {
        meant.clone_from(&bearers);
    }
    if meant.is_empty() {
        meant = reading.hosts_once_named(text, MOST_NAMESAKES).await?;
    }
    if !meant.is_empty() {
        let ids: Vec<HostId> = meant.iter().map(|h| h.id).collect();
        let live = reading.live(&ids, now_ms).await?;
        return Ok(newest_live(text, &meant, &bearers, &live).map_or(Meaning::None, Meaning::One));
    }
    let most = i64::try_from(MOST_LISTED).unwrap_or(0).saturating_add(1);
    let mut hosts = reading.hosts_by_prefix(text, most).await?;
    let more = hosts.len() > MOST_LISTED;
    hosts.truncate(MOST_LISTED);
    Ok(match hosts.len() {
        0 => Meaning::None,
        1 => hosts.pop().map_or(Meaning::None, |host| Meaning::One(Resolved { host, notes: Vec::new() })),
        _ => Meaning::Several { hosts, more },
    })
}

/// The one that is meant of those that bear or bore the name, the last enrolled first; `bearers` bear it now.
fn newest_live(text: &str, meant: &[HostName], bearers: &[HostName], live: &[HostId]) -> Option<Resolved> {
    let host = meant.iter().find(|h| live.contains(&h.id)).or(meant.first())?.clone();
    let mut notes = Vec::new();
    if host.name != text {
        notes.push(format!("{text} is called {} now", host.name));
    }
    let more = bearers.iter().filter(|h| !meant.contains(h));
    let others: Vec<String> = meant.iter().chain(more).filter(|h| h.id != host.id).map(|h| h.id.to_string()).collect();
    if !others.is_empty() {
        let listed = others.iter().take(MOST_LISTED).cloned().collect::<Vec<_>>().join(", ");
        let rest = others.len().saturating_sub(MOST_LISTED);
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        notes.push(format!(
            "{text} means {} here; other hosts are or were called so: {listed}{rest}. Ask by id for another",
            host.id
        ));
    }
    Some(Resolved { host, notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(ids: &[i64]) -> Vec<HostName> {
        ids.iter().map(|id| HostName { name: "web".into(), id: HostId(*id) }).collect()
    }

    #[test]
    fn of_two_live_hosts_with_one_name_the_last_enrolled_is_meant_whichever_was_heard_last() {
        let all = hosts(&[3, 2, 1]);
        for live in [[HostId(1), HostId(2)], [HostId(2), HostId(1)]] {
            let one = newest_live("web", &all, &all, &live).unwrap();
            assert_eq!(one.host.id, HostId(2), "3 is not live");
            let ids = "0000000000000003, 0000000000000001";
            assert!(one.notes[0].contains(ids) && one.notes.len() == 1, "{:?}", one.notes);
        }
        assert_eq!(newest_live("web", &all, &all, &[]).unwrap().host.id, HostId(3));
    }

    #[test]
    fn who_bore_the_name_then_is_meant_and_who_bears_it_now_is_noted() {
        let then = [HostName { name: "old-web".into(), id: HostId(1) }];
        let one = newest_live("web", &then, &hosts(&[2]), &[]).unwrap();
        assert_eq!(one.host, then[0]);
        assert_eq!(one.notes[0], "web is called old-web now");
        assert!(one.notes[1].contains("0000000000000002"), "{:?}", one.notes);
        assert!(newest_live("web", &hosts(&[2]), &hosts(&[2]), &[]).unwrap().notes.is_empty());
    }

    #[test]
    fn a_note_says_how_many_namesakes_it_does_not_list() {
        let all = hosts(&(1..=30).collect::<Vec<_>>());
        let one = newest_live("web", &all, &all, &[]).unwrap();
        assert!(one.notes[0].contains(" and 9 more. "), "{:?}", one.notes);
    }
}
