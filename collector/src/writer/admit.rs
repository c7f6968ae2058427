//! What becomes of a hello: go on, begin anew, or quarantine. Pure.
//!
//! The signs of a clone, each decided before the welcome, so that the incumbent is not touched:
//! 1. A boot comes back that another one has superseded ([`judge`]).
//! 2. Another boot or another epoch says hello while the incumbent lives: it answers a ping if its stream is here
//!    (`ingest::registry`), or moves if another collector holds it ([`is_newcomer`], [`watch`](super::watch)).
//! 3. A new boot on another machine-id ([`is_other_machine`]).
//!
//! Two agents of one epoch, as after a memory snapshot, are no clones but a fork: [`judge`] says so to the one that is
//! behind, which goes on in a new epoch and is then a newcomer like any other.

use std::collections::BTreeSet;

use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::session::{Hello, HostFacts, SpooledEpoch, StoredEpoch, Verdict};

use crate::host::Quarantine;
use crate::store::stream::Stream;

/// The answer to each epoch of the hello. `stored` holds all of the host's epochs, ascending; it may lack the hello's.
pub fn judge(hello: &Hello, stored: &[Stream]) -> Result<Vec<StoredEpoch>, Quarantine> {
    let boot = hello.facts.boot_id;
    let written = || stored.iter().filter(|s| s.next > Seq(0));
    let seen = written().position(|s| s.boot_id == boot);
    if seen.is_some_and(|first| written().skip(first).any(|s| s.boot_id != boot)) {
        return Err(Quarantine::BootReturned);
    }
    let latest = written().next_back().map(|s| s.epoch.no);
    let current = hello.epochs.last().map(|e| e.epoch.no);
    let answers = hello.epochs.iter().map(|spooled| {
        let no = spooled.epoch.no;
        // History goes forward only: once a later epoch has records, an earlier one takes no more.
        let overtaken = latest.is_some_and(|latest| latest > no);
        answer(spooled, row(stored, no), overtaken, current == Some(no))
    });
    Ok(answers.collect())
}

/// Whether this may be another agent than the one that opened the host's latest epoch. That one's own reconnect is not,
/// whatever it finds: it waits for nothing.
pub fn is_newcomer(hello: &Hello, stored: &[Stream]) -> bool {
    let current = hello.epochs.last().map(|e| e.epoch.id);
    stored.last().is_some_and(|last| last.boot_id != hello.facts.boot_id || Some(last.epoch.id) != current)
}

/// Whether the machine-id says that this is another machine than the one whose facts are `known`.
///
/// A machine-id is a fact and never unique: containers and clones share one, many have none. So the same one proves
/// nothing, and an empty one says nothing. A differing one alone says little too: a container that is made anew can get
/// another while the kernel, whose the boot id is, runs on; within one boot it is passed over. With another boot as
/// well, nothing that a machine keeps is left of the one that wrote before: a disk or a state directory was copied to
/// another machine and the first one just happens to be away. To take it in would merge two machines into one history.
///
/// Where it is meant (the machine was replaced or installed anew with its state directory kept), an operator says so:
/// a certificate that was signed after the host's latest epoch was opened, which takes a token made with `token create
/// --host`, passes. `enrolled_since` says that the hello came with such a one ([`is_enrolled_since`]); any other
/// certificate of the host will not do, for the copy holds those.
pub fn is_other_machine(says: &HostFacts, known: &HostFacts, enrolled_since: bool) -> bool {
    let (says_id, known_id) = (says.machine_id.as_bytes(), known.machine_id.as_bytes());
    let differs = !says_id.is_empty() && !known_id.is_empty() && says_id != known_id;
    differs && says.boot_id != known.boot_id && !enrolled_since
}

/// Whether a certificate was signed after the host's latest epoch with records was opened; `opened_ms`: when the first
/// and the latest of them were. Certificates count seconds. Within one second the order is not known, and is taken to
/// be this, but for the second of the host's first epoch: there it is the certificate that the host began with, which a
/// copy holds.
pub fn is_enrolled_since(enrolled_ms: i64, opened_ms: Option<(i64, i64)>) -> bool {
    let second = |ms: i64| ms.div_euclid(1000);
    let enrolled = second(enrolled_ms);
    opened_ms.is_none_or(|(first, last)| enrolled >= second(last) && enrolled > second(first))
}

/// Whether this boot has been let in: that it is another machine's was looked at then, and facts may still be those of
/// the machine before, until its first keyframe is stored.
pub fn was_let_in(hello: &Hello, stored: &[Stream]) -> bool {
    stored.iter().any(|s| s.boot_id == hello.facts.boot_id)
}

/// The epochs whose rows nobody needs: nothing is stored of them, and the agent that is let in does not hold them. One
/// that is started again and again, or hellos of a copy, would leave rows without end.
pub fn abandoned(hello: &Hello, stored: &[Stream]) -> Vec<EpochNo> {
    let held: BTreeSet<EpochNo> = hello.epochs.iter().map(|e| e.epoch.no).collect();
    stored.iter().filter(|s| s.next == Seq(0)).map(|s| s.epoch.no).filter(|no| !held.contains(no)).collect()
}

/// Whether the current epoch is a fork: then no session begins, and whoever writes as this host is not touched. The
/// agent comes back with a new epoch.
pub fn is_forked(answers: &[StoredEpoch]) -> bool {
    answers.last().is_some_and(|current| current.verdict == Verdict::Forked)
}

/// The row of an epoch among a host's, which ascend: a host can have thousands, and so can its hello.
pub fn row(stored: &[Stream], no: EpochNo) -> Option<&Stream> {
    stored.binary_search_by_key(&no, |s| s.epoch.no).ok().and_then(|at| stored.get(at))
}

/// The epochs that a session may write after these answers, and before each the latest one that has samples: there the
/// gap before it begins. That one may be over (its tail was lost with its machine), and so not be written any more.
pub fn writable(answers: &[StoredEpoch], stored: &[Stream]) -> Vec<Stream> {
    let wanted: BTreeSet<_> = answers.iter().filter(|e| e.verdict == Verdict::Continue).map(|e| e.no).collect();
    let mut kept: Vec<Stream> = Vec::new();
    let mut before: Option<&Stream> = None;
    for stream in stored {
        if wanted.contains(&stream.epoch.no) {
            kept.extend(before.take().cloned());
            kept.push(stream.clone());
        } else if stream.covered.is_some() {
            before = Some(stream);
        }
    }
    kept
}

/// Whether the current epoch goes on where nothing but a keyframe can be stored.
pub fn wants_keyframe(answers: &[StoredEpoch], stored: &[Stream]) -> bool {
    answers.last().is_some_and(|last| {
        let stream = row(stored, last.no);
        last.verdict == Verdict::Continue && stream.is_some_and(|s| s.next > Seq(0) && s.base.is_none())
    })
}

fn answer(spooled: &SpooledEpoch, row: Option<&Stream>, overtaken: bool, is_current: bool) -> StoredEpoch {
    let next = row.map_or(Seq(0), |s| s.next);
    let chain = row.map(|s| s.chain).unwrap_or_default();
    let spool_is_empty = spooled.first == spooled.next;
    let verdict = if row.is_some_and(|s| s.epoch.id != spooled.epoch.id) || next > spooled.next {
        Verdict::Forked
    } else if next == spooled.next {
        // An agent that is about to go on behind a later epoch is one of two that woke from the same image.
        let goes_on_behind = is_current && overtaken;
        let chains_otherwise = row.is_some() && chain != spooled.chain;
        if chains_otherwise || goes_on_behind { Verdict::Forked } else { Verdict::Continue }
    } else if spool_is_empty {
        // The agent drops a record for good only when it was acked, or when it must make room, and then it holds others.
        Verdict::HistoryRestored
    } else if overtaken {
        Verdict::Forked
    } else {
        Verdict::Continue
    };
    // An epoch without a row that is overtaken cannot get one, even if it holds nothing yet.
    let verdict = if row.is_none() && overtaken { Verdict::Forked } else { verdict };
    StoredEpoch { no: spooled.epoch.no, next, chain, verdict }
}

#[cfg(test)]
mod tests {
    use highwater_ipc::record::{Chain, Epoch, EpochId, EpochNo};
    use highwater_ipc::session::HostFacts;
    use highwater_ipc::snapshot::BootId;
    use highwater_ipc::time::At;

    use super::*;
    use crate::store::stream::Session;

    const BOOT: BootId = BootId([1; 16]);

    fn spooled(no: u64, first: u64, next: u64) -> SpooledEpoch {
        SpooledEpoch {
            epoch: Epoch { no: EpochNo(no), id: EpochId(no) },
            boot_id: BOOT,
            first: Seq(first),
            next: Seq(next),
            chain: Chain([9; 8]),
        }
    }

    fn stored(no: u64, next: u64) -> Stream {
        let mut stream = Stream::new(Epoch { no: EpochNo(no), id: EpochId(no) }, BOOT, Session(1));
        (stream.next, stream.chain) = (Seq(next), Chain([9; 8]));
        stream
    }

    fn hello(epochs: Vec<SpooledEpoch>) -> Hello {
        Hello { facts: HostFacts { boot_id: BOOT, ..HostFacts::default() }, now: At::default(), epochs }
    }

    fn verdict(epoch: SpooledEpoch, rows: &[Stream]) -> Verdict {
        judge(&hello(vec![epoch]), rows).unwrap()[0].verdict
    }

    #[test]
    fn a_new_host_and_a_reconnect_go_on() {
        assert_eq!(verdict(spooled(1, 0, 0), &[]), Verdict::Continue);
        assert_eq!(verdict(spooled(1, 0, 7), &[]), Verdict::Continue);
        assert_eq!(verdict(spooled(1, 3, 7), &[stored(1, 5)]), Verdict::Continue);
        assert_eq!(verdict(spooled(1, 7, 7), &[stored(1, 7)]), Verdict::Continue);
    }

    #[test]
    fn a_spool_that_overflowed_goes_on_after_a_jump() {
        assert_eq!(verdict(spooled(1, 40, 70), &[stored(1, 5)]), Verdict::Continue);
    }

    #[test]
    fn what_was_never_made_or_chains_otherwise_is_a_fork() {
        assert_eq!(verdict(spooled(1, 3, 7), &[stored(1, 8)]), Verdict::Forked);
        let other_chain = SpooledEpoch { chain: Chain([8; 8]), ..spooled(1, 3, 7) };
        assert_eq!(verdict(other_chain, &[stored(1, 7)]), Verdict::Forked);
        let other_id = SpooledEpoch { epoch: Epoch { no: EpochNo(1), id: EpochId(77) }, ..spooled(1, 3, 7) };
        assert_eq!(verdict(other_id, &[stored(1, 5)]), Verdict::Forked);
    }

    #[test]
    fn acked_records_that_nobody_holds_any_more_mean_a_restored_history() {
        assert_eq!(verdict(spooled(1, 7, 7), &[stored(1, 5)]), Verdict::HistoryRestored);
        assert_eq!(verdict(spooled(1, 7, 7), &[]), Verdict::HistoryRestored);
    }

    #[test]
    fn history_never_grows_behind_a_later_epoch() {
        assert_eq!(verdict(spooled(3, 0, 7), &[stored(4, 1)]), Verdict::Forked);
        assert_eq!(verdict(spooled(3, 0, 0), &[stored(4, 1)]), Verdict::Forked);
        assert_eq!(verdict(spooled(3, 0, 7), &[stored(3, 5), stored(4, 1)]), Verdict::Forked);
        // Acked whole and over: nothing more comes of it.
        let rows = [stored(3, 7), stored(4, 1)];
        let past = judge(&hello(vec![spooled(3, 0, 7), spooled(4, 0, 1)]), &rows).unwrap();
        assert_eq!(past.iter().map(|e| e.verdict).collect::<Vec<_>>(), [Verdict::Continue, Verdict::Continue]);
        // Acked whole, but the agent's present epoch: its next sample would come behind the other machine's.
        assert_eq!(verdict(spooled(3, 0, 7), &rows), Verdict::Forked);
    }

    #[test]
    fn the_gap_before_an_epoch_begins_where_the_one_before_ended_though_its_tail_was_lost_with_the_machine() {
        let sampled = |no, next| Stream { covered: Some(At::default()), ..stored(no, next) };
        let rows = [sampled(1, 9), sampled(2, 9), sampled(3, 7), sampled(4, 8), stored(5, 0)];
        let hello = hello(vec![spooled(3, 0, 7), spooled(4, 0, 6), spooled(5, 0, 1)]);
        let answers = judge(&hello, &rows).unwrap();
        let kept: Vec<_> = writable(&answers, &rows).iter().map(|s| s.epoch.no.0).collect();
        assert_eq!((answers[1].verdict, kept), (Verdict::Forked, vec![2, 3, 4, 5]));
    }

    #[test]
    fn a_hello_of_thousands_of_epochs_is_judged_by_their_own_rows() {
        let rows: Vec<Stream> = (1..=20_000).map(|no| stored(no, no % 7)).collect();
        let epochs: Vec<SpooledEpoch> = (1..=20_001).map(|no| spooled(no, 0, no % 7)).collect();
        let answers = judge(&hello(epochs), &rows).unwrap();
        for (answer, row) in answers.iter().zip(&rows) {
            assert_eq!((answer.no, answer.next), (row.epoch.no, row.next));
        }
        assert_eq!((answers.len(), answers[20_000].verdict), (20_001, Verdict::Continue));
    }

    #[test]
    fn a_superseded_boot_is_quarantined_and_a_new_one_is_not() {
        let later = Stream { boot_id: BootId([2; 16]), ..stored(2, 4) };
        let rows = [stored(1, 5), later.clone()];
        assert_eq!(judge(&hello(vec![spooled(3, 0, 0)]), &rows), Err(Quarantine::BootReturned));
        let fresh = Hello {
            facts: HostFacts { boot_id: BootId([3; 16]), ..HostFacts::default() },
            ..hello(vec![SpooledEpoch { boot_id: BootId([3; 16]), ..spooled(3, 0, 0) }])
        };
        assert!(judge(&fresh, &rows).is_ok());
        assert!(judge(&hello(vec![spooled(1, 0, 5)]), &rows[..1]).is_ok());
    }

    #[test]
    fn another_boot_or_another_epoch_is_a_newcomer_and_a_reconnect_is_not() {
        let rows = [stored(1, 5), stored(2, 0)];
        assert!(!is_newcomer(&hello(vec![spooled(1, 0, 5), spooled(2, 0, 0)]), &rows));
        assert!(is_newcomer(&hello(vec![spooled(1, 0, 5)]), &rows));
        assert!(is_newcomer(&hello(vec![spooled(2, 0, 0), spooled(3, 0, 0)]), &rows));
        let rebooted = Hello {
            facts: HostFacts { boot_id: BootId([3; 16]), ..HostFacts::default() },
            ..hello(vec![spooled(2, 0, 0)])
        };
        assert!(is_newcomer(&rebooted, &rows));
        assert!(!is_newcomer(&rebooted, &[]));
    }

    #[test]
    fn a_certificate_of_the_second_in_which_the_host_wrote_last_is_newer_and_the_one_it_began_with_never() {
        assert!(is_enrolled_since(5_000, None));
        assert!(is_enrolled_since(5_000, Some((1_900, 4_999))));
        assert!(is_enrolled_since(5_000, Some((1_900, 5_999))));
        assert!(!is_enrolled_since(5_000, Some((1_900, 6_000))));
        assert!(!is_enrolled_since(5_000, Some((5_300, 5_300))), "a copy has it");
        assert!(!is_enrolled_since(5_000, Some((5_300, 5_900))));
    }

    #[test]
    fn a_boot_with_a_row_was_let_in_before() {
        let known = [stored(1, 5), Stream { boot_id: BootId([2; 16]), ..stored(2, 1) }];
        let says = |boot| {
            let facts = HostFacts { boot_id: BootId([boot; 16]), ..HostFacts::default() };
            Hello { facts, ..hello(vec![spooled(3, 0, 0)]) }
        };
        assert!(was_let_in(&says(2), &known) && !was_let_in(&says(3), &known) && !was_let_in(&says(2), &known[..1]));
    }

    #[test]
    fn empty_epochs_that_the_agent_does_not_hold_are_abandoned_and_written_ones_never() {
        let rows = [stored(1, 5), stored(2, 0), stored(3, 0), stored(4, 1)];
        assert_eq!(abandoned(&hello(vec![spooled(3, 0, 0), spooled(5, 0, 0)]), &rows), [EpochNo(2)]);
    }

    #[test]
    fn a_new_boot_on_another_machine_id_is_another_machine_unless_it_was_enrolled_since() {
        let facts = |boot: u8, machine: &str| HostFacts {
            boot_id: BootId([boot; 16]),
            machine_id: machine.into(),
            ..HostFacts::default()
        };
        let known = facts(1, "aa");
        assert!(is_other_machine(&facts(2, "bb"), &known, false));
        assert!(!is_other_machine(&facts(2, "bb"), &known, true), "re-enrolled");
        assert!(!is_other_machine(&facts(2, "aa"), &known, false), "a reboot");
        assert!(!is_other_machine(&facts(1, "bb"), &known, false), "a container made anew");
        assert!(!is_other_machine(&facts(2, ""), &known, false), "no machine-id now");
        assert!(!is_other_machine(&facts(2, "bb"), &facts(1, ""), false), "none before");
    }
}
