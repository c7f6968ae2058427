//! How sure it is that nobody holds an object: pure, from what was found.
//!
//! A mistake here destroys live data, so whatever is not known speaks for the object being held. A semaphore array is
//! *certain* only if all of this is so in every scan of the waiting period:
//! - at least one process is recorded as the last at one of its semaphores, and every one so recorded is dead: there is
//!   no process of that pid, or one that provably started after the operation. Pid 0 says nothing;
//! - nobody waits for one of its semaphores;
//! - no process, zombies included, has the array's uid as real, effective, saved or file system uid;
//! - its maker is known, is dead, and left nobody behind (see [`super::maker`]);
//! - the agent sees all processes (see [`super::sight`]).
//!
//! A segment without attachments is *unattached*, and never more; a queue holds data and is never graded.

use highwater_ipc::who::{Doubt, Grade};

/// Whether processes that are recorded with an object live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// None is recorded, or they could not be asked.
    Unknown,
    /// One lives.
    Live,
    /// None is seen to live, but the pid of one is in use by a process that seems to have started after the operation;
    /// a clock that was set could make it seem so.
    Unsure,
    /// All are dead.
    Dead,
}

/// What was found about a semaphore array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Those who used it last.
    pub users: Users,
    /// Whether every semaphore was asked for its last process, twice with one answer.
    pub asked: bool,
    /// Whether somebody waits for one of its semaphores.
    pub awaited: bool,
    /// Whether a process has its uid; `None` = this scan could not tell.
    pub owner: Option<bool>,
    /// Whether its maker or somebody it may have left behind lives; `None` = its maker is not known.
    pub maker: Option<bool>,
    /// Whether the agent sees all processes.
    pub all_seen: bool,
}

/// What that means for the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody holds it, or nothing is known.
    Held,
    /// It looks abandoned but for this doubt.
    Doubted(Doubt),
    /// It looks abandoned as far as this scan looked, which was not everywhere.
    Open,
    /// All that can be asked says that it is abandoned.
    Abandoned,
}

/// Judges a semaphore array by one scan.
pub fn judge(found: &Found) -> Verdict {
    let Found { users, asked, awaited, owner, maker, all_seen } = *found;
    match users {
        _ if awaited => return Verdict::Held,
        Users::Unknown | Users::Live => return Verdict::Held,
        Users::Unsure | Users::Dead => {}
    }
    let doubt = match (owner, maker) {
        (Some(true), _) => Doubt::OwnerLives,
        (_, Some(true)) => Doubt::MakerLives,
        (_, None) => Doubt::MakerUnknown,
        _ if users == Users::Unsure => Doubt::PidInUse,
        _ if !all_seen => Doubt::NotAllSeen,
        _ if !asked => Doubt::Waiting,
        (None, _) => return Verdict::Open,
        _ => return Verdict::Abandoned,
    };
    Verdict::Doubted(doubt)
}

/// How long an array has looked abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Run {
    /// Time between the scans that said so, microseconds, each pause counted up to a bound: a host that was suspended
    /// did not look.
    lasted_us: u64,
    /// When the latest of them was.
    latest_us: Option<u64>,
    /// Whether there were two.
    again: bool,
}

impl Run {
    /// Takes the verdict of a scan and says the grade; `pause_us` is the most that one pause between scans counts.
    pub fn take(&mut self, verdict: Verdict, at_us: u64, pause_us: u64, wait_us: u64) -> Option<(Grade, Doubt)> {
        match verdict {
            Verdict::Held => {
                *self = Run::default();
                None
            }
            Verdict::Doubted(doubt) => {
                *self = Run::default();
                Some((Grade::Likely, doubt))
            }
            Verdict::Open => Some(self.grade(wait_us)),
            Verdict::Abandoned => {
                if let Some(before) = self.latest_us {
                    self.lasted_us = self.lasted_us.saturating_add(at_us.saturating_sub(before).min(pause_us));
                    self.again = true;
                }
                self.latest_us = Some(at_us);
                Some(self.grade(wait_us))
            }
        }
    }

    fn grade(&self, wait_us: u64) -> (Grade, Doubt) {
        if self.again && self.lasted_us >= wait_us {
            (Grade::Certain, Doubt::None)
        } else {
            (Grade::Likely, Doubt::Waiting)
        }
    }
}

/// Grades a segment by its attachments and whether it goes by itself with the last of them (SHM_DEST).
pub fn segment(attached: u64, goes: bool, users: Users) -> Option<(Grade, Doubt)> {
    if attached != 0 || goes {
        return None;
    }
    let doubt = match users {
        Users::Live => Doubt::UserLives,
        Users::Unsure => Doubt::PidInUse,
        Users::Dead => Doubt::MayBeCache,
        Users::Unknown => Doubt::NotAllSeen,
    };
    Some((Grade::Unattached, doubt))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Found = Found {
        users: Users::Dead,
        asked: true,
        awaited: false,
        owner: Some(false),
        maker: Some(false),
        all_seen: true,
    };

    #[test]
    fn each_condition_alone_keeps_an_array_from_being_abandoned() {
        assert_eq!(judge(&FREE), Verdict::Abandoned);
        let doubted = |found: Found| judge(&found);
        assert_eq!(doubted(Found { users: Users::Live, ..FREE }), Verdict::Held);
        assert_eq!(doubted(Found { users: Users::Unknown, ..FREE }), Verdict::Held);
        assert_eq!(doubted(Found { awaited: true, ..FREE }), Verdict::Held);
        assert_eq!(doubted(Found { users: Users::Unsure, ..FREE }), Verdict::Doubted(Doubt::PidInUse));
        assert_eq!(doubted(Found { asked: false, ..FREE }), Verdict::Doubted(Doubt::Waiting));
        assert_eq!(doubted(Found { owner: Some(true), ..FREE }), Verdict::Doubted(Doubt::OwnerLives));
        assert_eq!(doubted(Found { owner: None, ..FREE }), Verdict::Open);
        assert_eq!(doubted(Found { maker: Some(true), ..FREE }), Verdict::Doubted(Doubt::MakerLives));
        assert_eq!(doubted(Found { maker: None, ..FREE }), Verdict::Doubted(Doubt::MakerUnknown));
        assert_eq!(doubted(Found { all_seen: false, ..FREE }), Verdict::Doubted(Doubt::NotAllSeen));
    }

    #[test]
    fn it_is_certain_after_the_whole_period_and_starts_anew_after_any_doubt() {
        let mut run = Run::default();
        let mut at = |second: u64, verdict| run.take(verdict, second * 1_000_000, 20_000_000, 30_000_000);
        let waiting = Some((Grade::Likely, Doubt::Waiting));
        assert_eq!(at(0, Verdict::Abandoned), waiting);
        assert_eq!(at(15, Verdict::Abandoned), waiting);
        assert_eq!(at(25, Verdict::Open), waiting);
        assert_eq!(at(30, Verdict::Abandoned), Some((Grade::Certain, Doubt::None)));
        assert_eq!(at(31, Verdict::Open), Some((Grade::Certain, Doubt::None)));
        assert_eq!(at(32, Verdict::Doubted(Doubt::OwnerLives)), Some((Grade::Likely, Doubt::OwnerLives)));
        assert_eq!(at(33, Verdict::Abandoned), waiting);
        assert_eq!(at(3633, Verdict::Abandoned), waiting, "an hour without a scan is no hour of looking");
        assert_eq!(at(3634, Verdict::Held), None);
        assert_eq!(at(3635, Verdict::Abandoned), waiting);
    }

    #[test]
    fn without_a_waiting_period_two_scans_must_agree() {
        let mut run = Run::default();
        assert_eq!(run.take(Verdict::Abandoned, 5, 9, 0), Some((Grade::Likely, Doubt::Waiting)));
        assert_eq!(run.take(Verdict::Abandoned, 5, 9, 0), Some((Grade::Certain, Doubt::None)));
    }

    #[test]
    fn a_segment_is_unattached_or_nothing() {
        assert_eq!(segment(1, false, Users::Dead), None);
        assert_eq!(segment(0, true, Users::Dead), None);
        for users in [Users::Unknown, Users::Live, Users::Unsure, Users::Dead] {
            assert_eq!(segment(0, false, users).map(|(grade, _)| grade), Some(Grade::Unattached));
        }
    }
}
