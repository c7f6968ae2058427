//! One test per way in which agent and collector can differ when they meet.

use highwater_ipc::record::{Epoch, EpochId};
use highwater_ipc::session::StoredEpoch;
use highwater_ipc::snapshot::BootId;
use proptest::prelude::*;

use super::*;

const NEXT: Chain = Chain([9; 8]);

fn ours(no: u64, first: u64, next: u64) -> SpooledEpoch {
    let epoch = Epoch { no: EpochNo(no), id: EpochId(no) };
    SpooledEpoch { epoch, boot_id: BootId([1; 16]), first: Seq(first), next: Seq(next), chain: NEXT }
}

fn theirs(no: u64, next: u64, chain: Chain, verdict: Verdict) -> StoredEpoch {
    StoredEpoch { no: EpochNo(no), next: Seq(next), chain, verdict }
}

fn welcome(epochs: Vec<StoredEpoch>) -> Welcome {
    Welcome { session: 1, server_wall_ms: 0, interval_ms: None, epochs }
}

/// The chain of our record at `seq`.
fn link(seq: u64) -> Chain {
    Chain([u8::try_from(seq).unwrap(); 8])
}

fn start(hello: &[SpooledEpoch], stored: Vec<StoredEpoch>) -> Start {
    let held = |no: EpochNo, seq: Seq| {
        let held = hello.iter().any(|e| e.epoch.no == no && (e.first.0..e.next.0).contains(&seq.0));
        held.then(|| link(seq.0))
    };
    Session::start(hello, &welcome(stored), held).unwrap()
}

fn go(hello: &[SpooledEpoch], stored: Vec<StoredEpoch>) -> Session {
    match start(hello, stored) {
        Start::Go(session) => session,
        Start::NewEpoch(reason) => panic!("{reason:?}"),
    }
}

fn record(kind: RecordKind, seq: u64) -> Record {
    Record { kind, first_seq: Seq(seq), seq: Seq(seq), chain: link(seq), missing: None, body: vec![1; 10] }
}

fn at(wall_ms: i64) -> At {
    At { wall_ms, boot_us: 0 }
}

#[test]
fn a_first_connection_sends_from_the_first_record() {
    let session = go(&[ours(1, 0, 7)], vec![theirs(1, 0, link(0), Verdict::Continue)]);
    assert_eq!(session.place(), (EpochNo(1), Seq(0)));
}

#[test]
fn an_empty_epoch_waits_for_its_first_record() {
    let mut hello = ours(4, 0, 0);
    hello.chain = Chain::default();
    let session = go(&[hello], vec![theirs(4, 0, Chain::default(), Verdict::Continue)]);
    assert_eq!(session.place(), (EpochNo(4), Seq(0)));
}

#[test]
fn after_a_lost_ack_it_goes_on_where_the_collector_is_and_frees_what_that_has() {
    let mut session = go(&[ours(1, 0, 7)], vec![theirs(1, 5, link(5), Verdict::Continue)]);
    assert_eq!(session.place(), (EpochNo(1), Seq(5)));
    assert_eq!(session.take_settled(), [(EpochNo(1), Seq(5))]);
    assert_eq!(session.take_settled(), []);
    assert_eq!(session.line_up(EpochNo(1), record(RecordKind::Delta, 4), None), []);
    assert_eq!(session.line_up(EpochNo(1), record(RecordKind::Delta, 5), None).len(), 1);
}

#[test]
fn a_collector_that_lost_acks_of_ours_is_sent_again_what_is_still_held() {
    let session = go(&[ours(1, 3, 7)], vec![theirs(1, 4, link(4), Verdict::Continue)]);
    assert_eq!(session.place(), (EpochNo(1), Seq(4)));
}

#[test]
fn all_stored_means_nothing_to_send_but_the_current_epoch_goes_on() {
    let session = go(
        &[ours(1, 0, 7), ours(2, 0, 3)],
        vec![theirs(1, 7, NEXT, Verdict::Continue), theirs(2, 3, NEXT, Verdict::Continue)],
    );
    assert_eq!(session.place(), (EpochNo(2), Seq(3)));
}

#[test]
fn earlier_epochs_are_sent_before_later_ones() {
    let mut session = go(
        &[ours(1, 0, 2), ours(2, 0, 1)],
        vec![theirs(1, 1, link(1), Verdict::Continue), theirs(2, 0, link(0), Verdict::Continue)],
    );
    assert_eq!(session.place(), (EpochNo(1), Seq(1)));
    assert_eq!(session.line_up(EpochNo(1), record(RecordKind::Delta, 1), None).len(), 1);
    assert_eq!(session.line_up(EpochNo(2), record(RecordKind::Keyframe, 0), None).len(), 1);
    assert_eq!(session.place(), (EpochNo(2), Seq(1)));
    assert_eq!(session.ack(EpochNo(1), Seq(2)), Ok((EpochNo(1), Seq(2))));
    assert_eq!(session.ack(EpochNo(2), Seq(1)), Ok((EpochNo(2), Seq(1))));
}

#[test]
fn a_position_the_current_epoch_never_had_is_a_fork_whatever_the_verdict() {
    let answer = start(&[ours(1, 0, 7)], vec![theirs(1, 8, NEXT, Verdict::Continue)]);
    assert_eq!(answer, Start::NewEpoch(GapReason::Forked));
}

#[test]
fn another_chain_at_a_position_that_is_held_is_a_fork_whatever_the_verdict() {
    let other = Chain([200; 8]);
    for next in [3, 7] {
        let answer = start(&[ours(1, 0, 7)], vec![theirs(1, next, other, Verdict::Continue)]);
        assert_eq!(answer, Start::NewEpoch(GapReason::Forked));
    }
    // Not held any more: only the collector could tell.
    assert!(matches!(start(&[ours(1, 5, 7)], vec![theirs(1, 3, other, Verdict::Continue)]), Start::Go(_)));
}

#[test]
fn verdicts_on_the_current_epoch_close_it_with_their_reason() {
    for (verdict, reason) in
        [(Verdict::Forked, GapReason::Forked), (Verdict::HistoryRestored, GapReason::HistoryRestored)]
    {
        let answer = start(&[ours(1, 7, 7)], vec![theirs(1, 7, NEXT, verdict)]);
        assert_eq!(answer, Start::NewEpoch(reason));
    }
}

#[test]
fn an_epoch_that_is_over_and_cannot_be_stored_is_given_up_and_the_current_one_goes_on() {
    let mut session = go(
        &[ours(1, 0, 7), ours(2, 0, 3)],
        vec![theirs(1, 2, link(2), Verdict::Forked), theirs(2, 0, link(0), Verdict::Continue)],
    );
    assert_eq!(session.take_settled(), [(EpochNo(1), Seq(7)), (EpochNo(2), Seq(0))]);
    assert_eq!(session.line_up(EpochNo(1), record(RecordKind::Delta, 3), None), []);
    assert_eq!(session.place(), (EpochNo(2), Seq(0)));
}

#[test]
fn an_epoch_given_up_does_not_free_the_one_before_it_that_is_still_to_be_sent() {
    let mut session = go(
        &[ours(1, 0, 7), ours(2, 0, 5), ours(3, 0, 1)],
        vec![
            theirs(1, 2, link(2), Verdict::Continue),
            theirs(2, 0, link(0), Verdict::Forked),
            theirs(3, 0, link(0), Verdict::Continue),
        ],
    );
    assert_eq!(session.take_settled(), [(EpochNo(1), Seq(2))]);
    assert_eq!(session.line_up(EpochNo(1), record(RecordKind::Delta, 2), None).len(), 1);
    assert_eq!(session.line_up(EpochNo(2), record(RecordKind::Keyframe, 0), None), []);
    assert_eq!(session.line_up(EpochNo(3), record(RecordKind::Keyframe, 0), None).len(), 1);
    assert_eq!(session.ack(EpochNo(3), Seq(1)), Ok((EpochNo(3), Seq(1))));
}

#[test]
fn an_epoch_whose_tail_was_lost_with_the_machine_but_is_stored_is_done() {
    let mut session = go(
        &[ours(1, 0, 7), ours(2, 0, 0)],
        vec![theirs(1, 9, link(9), Verdict::Continue), theirs(2, 0, NEXT, Verdict::Continue)],
    );
    assert_eq!(session.take_settled()[0], (EpochNo(1), Seq(7)));
    assert_eq!(session.place().0, EpochNo(2));
}

#[test]
fn a_welcome_about_other_epochs_is_refused() {
    let hello = [ours(1, 0, 7)];
    let none = |_, _| None;
    for stored in [vec![], vec![theirs(2, 0, NEXT, Verdict::Continue)]] {
        assert_eq!(Session::start(&hello, &welcome(stored), none), Err(SessionError::WrongEpochs));
    }
}

#[test]
fn a_keyframe_that_jumps_over_one_record_or_many_says_why_beside_its_body() {
    let mut session = go(&[ours(1, 40, 70)], vec![theirs(1, 5, link(5), Verdict::Continue)]);
    let hole = Some((GapReason::SpoolOverflow, at(77)));
    let out = session.line_up(EpochNo(1), record(RecordKind::Keyframe, 40), hole);
    let keyframe = record(RecordKind::Keyframe, 40);
    assert_eq!(out, [(EpochNo(1), Record { missing: Some(GapReason::SpoolOverflow), ..keyframe })]);
    let hole = Some((GapReason::SpoolDamaged, at(78)));
    let out = session.line_up(EpochNo(1), record(RecordKind::Keyframe, 42), hole);
    assert_eq!((out.len(), out[0].1.missing), (1, Some(GapReason::SpoolDamaged)));
    // A jump without a reason from the spool: the keyframe itself says why.
    assert_eq!(session.line_up(EpochNo(1), record(RecordKind::Keyframe, 50), None).len(), 1);
    assert_eq!(session.ack(EpochNo(1), Seq(51)), Ok((EpochNo(1), Seq(51))));
}

#[test]
fn an_ack_of_what_was_never_sent_is_refused_and_an_old_one_frees_nothing_new() {
    let mut session = go(&[ours(1, 0, 7)], vec![theirs(1, 0, link(0), Verdict::Continue)]);
    assert!(session.ack(EpochNo(1), Seq(1)).is_err());
    session.line_up(EpochNo(1), record(RecordKind::Keyframe, 0), None);
    session.line_up(EpochNo(1), record(RecordKind::Delta, 1), None);
    assert_eq!(session.ack(EpochNo(1), Seq(2)), Ok((EpochNo(1), Seq(2))));
    assert_eq!(session.ack(EpochNo(1), Seq(1)), Ok((EpochNo(1), Seq(2))));
    assert!(session.ack(EpochNo(1), Seq(3)).is_err());
    assert!(session.ack(EpochNo(2), Seq(0)).is_err());
}

fn beat(seq: u64) -> Record {
    Record { chain: NEXT, ..record(RecordKind::Heartbeat, seq) }
}

#[test]
fn consecutive_heartbeats_merge_and_others_do_not() {
    let mut batch = Batch::default();
    for r in [beat(3), beat(4), beat(5), record(RecordKind::Delta, 6), beat(7), beat(9)] {
        batch.push(EpochNo(1), r).unwrap();
    }
    assert!(!batch.is_urgent());
    let ToCollector::Records(_, records) = batch.take() else { panic!() };
    let spans: Vec<_> = records.iter().map(|r| (r.first_seq.0, r.seq.0)).collect();
    assert_eq!(spans, [(3, 5), (6, 6), (7, 7), (9, 9)]);
    let other = Record { chain: link(1), ..beat(11) };
    for r in [beat(10), other] {
        batch.push(EpochNo(1), r).unwrap();
    }
    let ToCollector::Records(_, records) = batch.take() else { panic!() };
    assert_eq!(records.len(), 2, "behind another chain lies another record");
    assert!(batch.is_empty());
}

#[test]
fn only_heartbeats_and_deltas_may_wait_for_others_to_travel_with() {
    for kind in RecordKind::ALL {
        let mut batch = Batch::default();
        batch.push(EpochNo(1), record(kind, 1)).unwrap();
        let may_wait = matches!(kind, RecordKind::Heartbeat | RecordKind::Delta);
        assert_eq!(batch.is_urgent(), !may_wait, "{kind:?}");
        batch.push(EpochNo(1), record(RecordKind::Delta, 2)).unwrap();
        assert_eq!(batch.is_urgent(), !may_wait, "{kind:?} and a delta");
        batch.take();
        assert!(!batch.is_urgent());
    }
}

#[test]
fn a_message_holds_one_epoch_and_a_large_record_is_alone() {
    let mut batch = Batch::default();
    batch.push(EpochNo(1), record(RecordKind::Delta, 1)).unwrap();
    assert!(batch.push(EpochNo(2), record(RecordKind::Keyframe, 0)).is_err());
    let large = Record { body: vec![0; bounds::PART + 1], ..record(RecordKind::Keyframe, 2) };
    let large = batch.push(EpochNo(1), large).unwrap_err();
    batch.take();
    batch.push(EpochNo(1), large).unwrap();
    assert!(batch.is_urgent());
    assert!(batch.push(EpochNo(1), record(RecordKind::Delta, 3)).is_err());
}

proptest! {
    #[test]
    fn no_message_exceeds_a_bound(sizes in proptest::collection::vec(0_usize..bounds::PART, 1..50)) {
        let mut batch = Batch::default();
        for (seq, size) in sizes.into_iter().enumerate() {
            let record = Record { body: vec![0; size], ..record(RecordKind::Delta, seq as u64 % 200) };
            if let Err(record) = batch.push(EpochNo(1), record) {
                let ToCollector::Records(_, sent) = batch.take() else { panic!() };
                prop_assert!(sent.iter().map(|r| r.body.len() + Batch::OVERHEAD).sum::<usize>() < bounds::MESSAGE);
                prop_assert!(sent.len() <= bounds::RECORDS);
                prop_assert!(batch.push(EpochNo(1), record).is_ok());
            }
        }
    }
}
