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
    /// Several; at most [`MOST_CANDIDATES`] of them.
    Several(Vec<HostName>),
}

/// The most candidates of an ambiguous name that are listed.
pub const MOST_CANDIDATES: usize = 20;

/// Looks for an id, then an exact name, then a former name, then a unique prefix of name or id. Of several hosts with
/// exactly that name the one seen last is meant, with a note.
pub async fn resolve(reading: &mut Reading, text: &str) -> Result<Meaning, AskError> {
    let most = i64::try_from(MOST_CANDIDATES).unwrap_or(0).saturating_add(1);
    if let Some(id) = HostId::parse(text)
        && let Some(host) = reading.host_by_id(id).await?
    {
        return Ok(Meaning::One(Resolved { host, notes: Vec::new() }));
    }
    let mut exact = reading.hosts_named(text, most).await?;
    let mut notes = Vec::new();
    if exact.is_empty() && !text.is_empty() {
        exact = reading.hosts_once_named(text, most).await?;
        if let [host] = exact.as_slice() {
            notes.push(format!("{text} is called {} now", host.name));
        }
    }
    if !exact.is_empty() {
        let ids: Vec<HostId> = exact.iter().map(|h| h.id).collect();
        let seen = reading.last_seen(&ids).await?;
        return Ok(newest_of(text, exact, &seen, notes));
    }
    let mut by_prefix = reading.hosts_by_prefix(text, most).await?;
    by_prefix.truncate(MOST_CANDIDATES);
    Ok(match by_prefix.len() {
        0 => Meaning::None,
        1 => by_prefix.pop().map_or(Meaning::None, |host| Meaning::One(Resolved { host, notes })),
        _ => Meaning::Several(by_prefix),
    })
}

fn newest_of(text: &str, hosts: Vec<HostName>, seen: &[(HostId, i64)], mut notes: Vec<String>) -> Meaning {
    let last_seen = |host: &HostName| seen.iter().find(|(id, _)| *id == host.id).map(|(_, at)| *at);
    let others = hosts.len().saturating_sub(1);
    match hosts.into_iter().max_by_key(|h| (last_seen(h), h.id)) {
        None => Meaning::None,
        Some(host) => {
            if others > 0 {
                notes.push(format!(
                    "{others} other host(s) are or were called {text}; this is {}, seen last. Ask by id for another",
                    host.id
                ));
            }
            Meaning::One(Resolved { host, notes })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_hosts_with_one_name_the_one_seen_last_is_meant_with_a_note() {
        let host = |id| HostName { name: "web".into(), id: HostId(id) };
        let meaning = newest_of("web", vec![host(1), host(2), host(3)], &[(HostId(1), 50), (HostId(2), 90)], vec![]);
        let Meaning::One(one) = meaning else { panic!("{meaning:?}") };
        assert_eq!(one.host, host(2));
        assert_eq!(one.notes.len(), 1);
    }
}
