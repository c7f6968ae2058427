//! One stream after its welcome: does a record follow? Pure.
//!
//! Order is (epoch, seq, chain) alone; deltas are never applied here. What was stored before is left out, merged
//! heartbeats that overlap it are trimmed, a jump in seq is taken at a keyframe only. Anything else ends the stream
//! with what is wrong; the agent still holds it.

use std::collections::BTreeMap;

use highwater_ipc::codec::{self, CodecError};
use highwater_ipc::record::{Chain, EpochNo, Record, RecordKind, Seq};
use highwater_ipc::session::{StoredEpoch, Verdict};
use highwater_proto::bounds;

use crate::writer::Arrival;

/// Where each epoch of the stream stands.
#[derive(Debug)]
pub struct Session {
    /// Epochs that may go on: the next record's place and what it must carry.
    epochs: BTreeMap<EpochNo, Expected>,
    current: Option<EpochNo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    next: Seq,
    chain: Chain,
    /// A gap reason came last: it stands in for records that are gone, so what follows chains to those.
    after_gap_reason: bool,
}

/// Why a record is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Its epoch was not in the hello, or may not go on.
    #[error("epoch {epoch} may not be written in this session: say hello again with it")]
    UnknownEpoch {
        /// The epoch.
        epoch: u64,
    },
    /// Its epoch comes before one that was sent already.
    #[error("epoch {epoch} was sent after epoch {current}")]
    EpochBack {
        /// Its epoch.
        epoch: u64,
        /// The epoch sent before.
        current: u64,
    },
    /// Its seq is beyond the next, and it is no keyframe.
    #[error("record {seq} of epoch {epoch} jumps from {next}, and is no keyframe")]
    Jump {
        /// Its epoch.
        epoch: u64,
        /// Its position.
        seq: u64,
        /// The next position.
        next: u64,
    },
    /// An epoch must begin with a whole state, or with why its beginning is gone.
    #[error("epoch {epoch} does not begin with a keyframe")]
    NoBase {
        /// Its epoch.
        epoch: u64,
    },
    /// It carries another chain than its predecessors amount to.
    #[error("record {seq} of epoch {epoch} chains to other predecessors than those stored: the stream has forked")]
    Chain {
        /// Its epoch.
        epoch: u64,
        /// Its position.
        seq: u64,
    },
    /// Its body is none.
    #[error("the body of record {seq} of epoch {epoch} cannot be read: {error}")]
    Body {
        /// Its epoch.
        epoch: u64,
        /// Its position.
        seq: u64,
        /// What is wrong.
        error: CodecError,
    },
    /// Its boot time is beyond every boot.
    #[error("record {seq} of epoch {epoch} says {boot_us} microseconds since boot; the bound is {}", bounds::NUMBER)]
    BootTime {
        /// Its epoch.
        epoch: u64,
        /// Its position.
        seq: u64,
        /// What it says.
        boot_us: u64,
    },
}

impl Session {
    /// After a welcome with these answers.
    pub fn new(answers: &[StoredEpoch]) -> Self {
        let may_go_on = answers.iter().filter(|a| a.verdict == Verdict::Continue);
        let epochs =
            may_go_on.map(|a| (a.no, Expected { next: a.next, chain: a.chain, after_gap_reason: false })).collect();
        Self { epochs, current: None }
    }

    /// Takes the next record. `None`: it is stored already, or was queued before.
    pub fn take(&mut self, epoch: EpochNo, mut record: Record) -> Result<Option<Arrival>, SessionError> {
        if let Some(current) = self.current.filter(|current| epoch < *current) {
            return Err(SessionError::EpochBack { epoch: epoch.0, current: current.0 });
        }
        let expected = self.epochs.get_mut(&epoch).ok_or(SessionError::UnknownEpoch { epoch: epoch.0 })?;
        if record.seq < expected.next {
            return Ok(None);
        }
        record.first_seq = record.first_seq.max(expected.next);
        check(epoch, &record, *expected)?;
        let (no, seq) = (epoch.0, record.seq.0);
        let body = codec::decode_body(record.kind, &record.body).map_err(|error| SessionError::Body {
            epoch: no,
            seq,
            error,
        })?;
        let boot_us = body.at.boot_us;
        if boot_us >= bounds::NUMBER {
            return Err(SessionError::BootTime { epoch: no, seq, boot_us });
        }
        let arrival = Arrival::new(record, &body);
        let after_gap_reason = arrival.kind == RecordKind::GapReason;
        *expected = Expected { next: arrival.seq.next(), chain: arrival.next_chain, after_gap_reason };
        self.current = Some(epoch);
        Ok(Some(arrival))
    }
}

fn check(epoch: EpochNo, record: &Record, expected: Expected) -> Result<(), SessionError> {
    let (no, seq, next) = (epoch.0, record.seq.0, expected.next.0);
    let keyframe = record.kind == RecordKind::Keyframe;
    if record.first_seq > expected.next {
        // What its predecessors amount to is not known here: they never came.
        return if keyframe { Ok(()) } else { Err(SessionError::Jump { epoch: no, seq: record.first_seq.0, next }) };
    }
    if next == 0 && !matches!(record.kind, RecordKind::Keyframe | RecordKind::GapReason) {
        return Err(SessionError::NoBase { epoch: no });
    }
    let stands_alone = keyframe && expected.after_gap_reason;
    if stands_alone || record.chain == expected.chain { Ok(()) } else { Err(SessionError::Chain { epoch: no, seq }) }
}

#[cfg(test)]
mod tests {
    use highwater_ipc::availability::{Availability, SysvipcState};
    use highwater_ipc::record::{Body, Content, GapReason, Keyframe};
    use highwater_ipc::snapshot::{BootId, State};
    use highwater_ipc::time::At;
    use highwater_proto::chain;
    use proptest::prelude::*;

    use super::*;

    const EPOCH: EpochNo = EpochNo(3);

    fn answer(no: u64, next: u64, chain: Chain, verdict: Verdict) -> StoredEpoch {
        StoredEpoch { no: EpochNo(no), next: Seq(next), chain, verdict }
    }

    fn body(content: Content, boot_us: u64) -> Vec<u8> {
        codec::encode_body(&Body { at: At { wall_ms: 5, boot_us }, content })
    }

    fn heartbeat(first: u64, seq: u64, chain: Chain) -> Record {
        let body = body(Content::Heartbeat, seq);
        Record { kind: RecordKind::Heartbeat, first_seq: Seq(first), seq: Seq(seq), chain, missing: None, body }
    }

    fn word(seq: u64, chain: Chain) -> Record {
        let body = body(Content::GapReason(GapReason::AgentStopped), seq);
        Record { kind: RecordKind::GapReason, first_seq: Seq(seq), seq: Seq(seq), chain, missing: None, body }
    }

    fn going_on_at(next: u64) -> Session {
        Session::new(&[answer(3, next, Chain([7; 8]), Verdict::Continue)])
    }

    #[test]
    fn takes_what_follows_and_chains_on() {
        let mut session = going_on_at(10);
        let first = word(10, Chain([7; 8]));
        let after = chain::after(first.chain, first.kind, &first.body);
        assert_eq!(session.take(EPOCH, first).unwrap().unwrap().next_chain, after);
        assert_eq!(session.take(EPOCH, heartbeat(11, 13, after)).unwrap().unwrap().seq, Seq(13));
        assert!(session.take(EPOCH, word(14, after)).unwrap().is_some());
    }

    #[test]
    fn leaves_out_a_resend_and_trims_merged_heartbeats() {
        let mut session = going_on_at(10);
        assert_eq!(session.take(EPOCH, word(9, Chain([1; 8]))), Ok(None));
        let trimmed = session.take(EPOCH, heartbeat(4, 12, Chain([7; 8]))).unwrap().unwrap();
        assert_eq!((trimmed.first, trimmed.seq), (Seq(10), Seq(12)));
        assert_eq!(session.take(EPOCH, heartbeat(4, 12, Chain([7; 8]))), Ok(None));
    }

    #[test]
    fn refuses_a_jump_a_fork_and_epochs_out_of_order() {
        let jump = SessionError::Jump { epoch: 3, seq: 11, next: 10 };
        assert_eq!(going_on_at(10).take(EPOCH, word(11, Chain([7; 8]))), Err(jump));
        let forked = SessionError::Chain { epoch: 3, seq: 10 };
        assert_eq!(going_on_at(10).take(EPOCH, word(10, Chain([8; 8]))), Err(forked));
        let base = SessionError::NoBase { epoch: 3 };
        assert_eq!(going_on_at(0).take(EPOCH, heartbeat(0, 0, Chain([7; 8]))), Err(base));
        let two = [answer(3, 1, Chain([7; 8]), Verdict::Continue), answer(4, 1, Chain([7; 8]), Verdict::Continue)];
        let mut session = Session::new(&two);
        assert!(session.take(EpochNo(4), word(1, Chain([7; 8]))).is_ok());
        let back = SessionError::EpochBack { epoch: 3, current: 4 };
        assert_eq!(session.take(EPOCH, word(1, Chain([7; 8]))), Err(back));
    }

    #[test]
    fn a_keyframe_that_jumps_over_one_record_says_why_and_needs_no_chain() {
        let state = State {
            boot_id: BootId([1; 16]),
            interval_ms: 1000,
            page_size: 4096,
            zone: Default::default(),
            availability: Availability { state: SysvipcState::Available, evidence: vec![], remedy: Default::default() },
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            namespaces: vec![],
            risks: Vec::new(),
            unseen: Vec::new(),
        };
        let keyframe = Keyframe { gap: None, took_us: 1, state, activity: Default::default() };
        let mut record = Record { kind: RecordKind::Keyframe, ..word(11, Chain([1; 8])) };
        (record.body, record.missing) = (body(Content::Keyframe(keyframe), 5), Some(GapReason::SpoolDamaged));
        let arrival = going_on_at(10).take(EPOCH, record.clone()).unwrap().unwrap();
        assert_eq!((arrival.first, arrival.says.gap), (Seq(11), Some(GapReason::SpoolDamaged)));
        // Right behind what is stored the chain must fit, whatever it says.
        assert_eq!(going_on_at(11).take(EPOCH, record), Err(SessionError::Chain { epoch: 3, seq: 11 }));
    }

    #[test]
    fn a_gap_reason_may_stand_in_for_a_lost_beginning_and_a_keyframe_after_one_chains_to_what_is_lost() {
        let mut session = going_on_at(0);
        assert!(session.take(EPOCH, word(0, Chain([7; 8]))).unwrap().is_some());
        let keyframe = Record { kind: RecordKind::Keyframe, ..word(1, Chain([5; 8])) };
        assert_eq!(check(EPOCH, &keyframe, session.epochs[&EPOCH]), Ok(()));
        let delta = Record { kind: RecordKind::Delta, ..keyframe };
        assert!(check(EPOCH, &delta, session.epochs[&EPOCH]).is_err());
    }

    #[test]
    fn refuses_an_epoch_that_forked_or_was_not_in_the_hello() {
        let mut session = Session::new(&[answer(3, 1, Chain::default(), Verdict::Forked)]);
        assert_eq!(session.take(EPOCH, word(1, Chain::default())), Err(SessionError::UnknownEpoch { epoch: 3 }));
        assert_eq!(session.take(EpochNo(9), word(1, Chain::default())), Err(SessionError::UnknownEpoch { epoch: 9 }));
    }

    #[test]
    fn refuses_a_body_that_cannot_be_read_and_a_boot_time_beyond_every_boot() {
        let broken = Record { body: vec![0xff; 40], ..word(10, Chain([7; 8])) };
        assert!(matches!(going_on_at(10).take(EPOCH, broken), Err(SessionError::Body { seq: 10, .. })));
        let mut late = word(10, Chain([7; 8]));
        late.body = body(Content::GapReason(GapReason::AgentStopped), u64::MAX);
        let refused = going_on_at(10).take(EPOCH, late);
        assert!(matches!(refused, Err(SessionError::BootTime { .. } | SessionError::Body { .. })), "{refused:?}");
    }

    proptest! {
        /// Whatever is resent, merged or cut: what comes out is each position once, in order.
        #[test]
        fn each_position_comes_out_once(cuts in proptest::collection::vec((0..40_u64, 1..9_u64), 1..60)) {
            let mut session = going_on_at(1);
            let mut next = 1;
            for (from, len) in cuts {
                let from = from.min(next).max(1);
                let last = from + len - 1;
                if let Some(arrival) = session.take(EPOCH, heartbeat(from, last, Chain([7; 8]))).unwrap() {
                    prop_assert_eq!((arrival.first, arrival.seq), (Seq(next), Seq(last)));
                    next = last + 1;
                } else {
                    prop_assert!(last < next);
                }
            }
        }
    }
}
