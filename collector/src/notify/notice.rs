//! What is told: one transition of one flag. Pure; no database row and no JSON.

use std::collections::BTreeMap;

use crate::host::HostId;

/// What happened to a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transition {
    /// It is new, or it was open before anybody could be told.
    Raised,
    /// A warning became critical, or its limit comes sooner.
    Worsened,
    /// The other way round.
    Eased,
    /// It is over.
    Cleared,
    /// Nothing: somebody tries the receivers.
    Test,
}

impl Transition {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Raised, Self::Worsened, Self::Eased, Self::Cleared, Self::Test];

    /// Its word in payloads and in the outbox.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Worsened => "worsened",
            Self::Eased => "eased",
            Self::Cleared => "cleared",
            Self::Test => "test",
        }
    }

    /// Reads what [`Transition::name`] said.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody should look at it.
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Severity {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Warning, Self::Critical];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Reads what [`Severity::name`] said.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// One transition of one flag.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Number of the transition within its flag, from 1 on.
    pub number: u32,
    /// What happened.
    pub transition: Transition,
    /// The flag after it.
    pub flag: Flag,
}

impl Notice {
    /// What a receiver tells repetitions by: the same however often it is sent.
    pub fn id(&self) -> String {
        format!("{}-{}", self.flag.id(), self.number)
    }
}

/// A flag as it is told. Texts from hosts are escaped already (`\xHH` for what is not printable); times are milliseconds
/// since 1970 of the host's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Flag {
    /// The flag, positive.
    pub flag_id: i64,
    /// Its host.
    pub host_id: HostId,
    /// That host's name.
    pub host: String,
    /// That host's labels: what receivers choose by.
    pub labels: BTreeMap<String, String>,
    /// Inode of the IPC namespace.
    pub namespace: u64,
    /// Which limit, e.g. `SEMMNI`.
    pub resource: String,
    /// `trend`, `tight` or `refusing`.
    pub kind: String,
    /// How bad it is.
    pub severity: Severity,
    /// `open`, `acknowledged`, `silenced` or `cleared`.
    pub state: String,
    /// When it was raised.
    pub raised_ms: i64,
    /// When it was cleared; `None` = it is not.
    pub cleared_ms: Option<i64>,
    /// In use as it was judged last.
    pub used: Option<u64>,
    /// The limit then.
    pub limit: Option<u64>,
    /// How fast `used` grows; `None` = that is not said.
    pub growth_per_hour: Option<f64>,
    /// When the limit is reached; `None` = not in sight.
    pub eta_ms: Option<i64>,
    /// At the soonest.
    pub eta_low_ms: Option<i64>,
    /// At the latest.
    pub eta_high_ms: Option<i64>,
    /// Who holds most of it; `None` = not known.
    pub owner: Option<Owner>,
    /// The reason in words.
    pub why: String,
    /// What to do, in order.
    pub remedy: Vec<Step>,
}

impl Flag {
    /// The flag's id in answers and payloads: what a receiver groups by.
    pub fn id(&self) -> String {
        format!("{:016x}", self.flag_id)
    }
}

/// Who holds most of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Whose.
    pub uid: u32,
    /// That uid's name; `None` = it has none.
    pub user: Option<String>,
    /// The program; `None` = not known, or several.
    pub comm: Option<String>,
    /// How many it holds.
    pub arrays: u64,
    /// How many of them nobody seems to hold any more.
    pub orphans: u64,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub step: String,
    /// The command; `None` = there is none.
    pub command: Option<String>,
    /// What can go wrong.
    pub risk: String,
}

/// What a receiver is shown when somebody tries it. `salt` tells two tests apart; it is not 0.
pub fn test(salt: u32, now_ms: i64) -> Notice {
    Notice {
        number: 0,
        transition: Transition::Test,
        flag: Flag {
            flag_id: i64::from(salt),
            host_id: HostId(0),
            host: "test".to_owned(),
            labels: BTreeMap::new(),
            namespace: 0,
            resource: "SEMMNI".to_owned(),
            kind: "tight".to_owned(),
            severity: Severity::Warning,
            state: "open".to_owned(),
            raised_ms: now_ms,
            cleared_ms: None,
            used: Some(120),
            limit: Some(128),
            growth_per_hour: None,
            eta_ms: None,
            eta_low_ms: None,
            eta_high_ms: None,
            owner: None,
            why: "this is a test of the notifications; no host is in trouble".to_owned(),
            remedy: vec![Step {
                step: "nothing: whoever reads this is reached".to_owned(),
                command: None,
                risk: "none".to_owned(),
            }],
        },
    }
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;

    /// One that has everything, with what a host may send in it.
    pub(crate) fn full(number: u32, transition: Transition) -> Notice {
        let cleared_ms = (transition == Transition::Cleared).then_some(1_795_560_000_000);
        Notice {
            number,
            transition,
            flag: Flag {
                flag_id: 0x1234_abcd,
                host_id: HostId(0x77),
                host: "web-17<!channel>".to_owned(),
                labels: [("team".to_owned(), "db".to_owned())].into(),
                namespace: 4_026_531_839,
                resource: "SEMMNI".to_owned(),
                kind: "trend".to_owned(),
                severity: Severity::Critical,
                state: if cleared_ms.is_some() { "cleared" } else { "open" }.to_owned(),
                raised_ms: 1_795_558_800_000,
                cleared_ms,
                used: Some(121),
                limit: Some(128),
                growth_per_hour: Some(2.5),
                eta_ms: Some(1_795_568_880_000),
                eta_low_ms: Some(1_795_566_000_000),
                eta_high_ms: Some(1_795_574_000_000),
                owner: Some(Owner {
                    uid: 48,
                    user: Some("apache".to_owned()),
                    comm: Some("http&d\\x0d\\x0aBcc: x".to_owned()),
                    arrays: 117,
                    orphans: 96,
                }),
                why: "semaphore arrays grow by 2.5 an hour, \"née\" <httpd>".to_owned(),
                remedy: vec![
                    Step {
                        step: "remove the 96 certain orphans".to_owned(),
                        command: Some("ipcrm -s 98304 -s 98305".to_owned()),
                        risk: "none: each is looked at again first".to_owned(),
                    },
                    Step { step: "raise the limit".to_owned(), command: None, risk: "the kernel's memory".to_owned() },
                ],
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_the_flag_and_the_transition() {
        assert_eq!(samples::full(3, Transition::Worsened).id(), "000000001234abcd-3");
        assert_eq!(test(7, 0).id(), "0000000000000007-0");
    }

    #[test]
    fn words_read_back() {
        assert!(Transition::ALL.into_iter().all(|t| Transition::from_name(t.name()) == Some(t)));
        assert!(Severity::ALL.into_iter().all(|s| Severity::from_name(s.name()) == Some(s)));
        assert_eq!(Transition::from_name("gone"), None);
    }
}
