//! What happens to history when the spool is too small, damaged or refused, up to what a collector is sent.

use std::path::Path;

use highwater_ipc::session::{StoredEpoch, Verdict, Welcome};
use highwater_ipc::time::Clock;

use super::*;
use crate::agent::SPOOL_DIR;
use crate::agent::outbox::Outbox;
use crate::clock::HostClock;
use crate::kernel::fake::FakeKernel;
use crate::sampler::Assembler;
use crate::spool::FsyncPolicy;
use crate::spool::disk::PrivateDir;
use crate::spool::fake::{FakeDisk, Fault};
use crate::transport::session::{Session, Start, ToCollector};

const BOOT: BootId = BootId([3; 16]);

struct TestClock(u64);

impl Clock for TestClock {
    fn now(&self) -> At {
        At { wall_ms: i64::try_from(self.0).unwrap() * 1000, boot_us: self.0 * 1_000_000 }
    }
}

impl HostClock for TestClock {
    fn awake_us(&self) -> u64 {
        self.0 * 1_000_000
    }
}

fn open(dir: &Path, bytes: u64) -> Journal {
    let state = PrivateDir::create(&dir.join("state")).unwrap();
    let spool = PrivateDir::create(&dir.join("state").join(SPOOL_DIR)).unwrap();
    let limits = Limits { bytes, fsync: FsyncPolicy::Segment };
    Journal::open(Box::new(state), Box::new(spool), limits, 1, BOOT, 42).unwrap()
}

/// Takes so many samples, one a second from `from_s` on.
fn sample(journal: &mut Journal, from_s: u64, many: u64) {
    let mut assembler = Assembler::new(Box::new(FakeKernel::new()));
    for second in from_s..from_s + many {
        journal.take(assembler.sample(&TestClock(second), 1000));
    }
}

/// What a collector is sent that has stored everything before `next`, whose records carried these chains.
fn sent(journal: &mut Journal, stored: &[(u64, u64, Chain)]) -> Vec<(EpochNo, Record)> {
    let hello = journal.spooled();
    let epochs = hello.iter().map(|e| {
        let known = stored.iter().find(|(no, ..)| *no == e.epoch.no.0);
        let (next, chain) = known.map_or((0, Chain::default()), |(_, next, chain)| (*next, *chain));
        StoredEpoch { no: e.epoch.no, next: Seq(next), chain, verdict: Verdict::Continue }
    });
    let welcome = Welcome { session: 1, server_wall_ms: 0, interval_ms: None, epochs: epochs.collect() };
    let start = Session::start(&hello, &welcome, |no, seq| journal.chain_at(no, seq)).unwrap();
    let Start::Go(mut session) = start else { panic!("{start:?}") };
    let (no, next) = session.place();
    let mut reader = Reader::new(Position { epoch_no: no.0, seq: next.0 });
    let mut out = Vec::new();
    while let Some(next) = journal.read(&mut reader) {
        let hole = next.hole.map(|reason| (reason, next.at));
        out.extend(session.line_up(next.epoch, next.record, hole));
    }
    out
}

/// A session of a collector that has nothing of the first epoch.
fn welcomed(journal: &Journal) -> Session {
    let epochs =
        vec![StoredEpoch { no: EpochNo(1), next: Seq(0), chain: Chain::default(), verdict: Verdict::Continue }];
    let welcome = Welcome { session: 1, server_wall_ms: 0, interval_ms: None, epochs };
    let Start::Go(session) = Session::start(&journal.spooled(), &welcome, |_, _| None).unwrap() else { panic!() };
    session
}

#[test]
fn a_steady_agent_groups_two_records_wakes_its_sender_for_the_second_and_sends_a_keyframe_at_once() {
    let mut journal = open_on(&FakeDisk::default(), &FakeDisk::default());
    let mut session = welcomed(&journal);
    let mut outbox = Outbox::new(&session);
    let mut assembler = Assembler::new(Box::new(FakeKernel::new()));
    let mut take = |journal: &mut Journal, second| journal.take(assembler.sample(&TestClock(second), 1000));
    let second = 1_000_000;
    assert!(take(&mut journal, 1), "a keyframe");
    outbox.fill(&mut journal, &mut session, second);
    assert!(outbox.is_ripe(second, 1000));
    outbox.take().unwrap();
    outbox.fill(&mut journal, &mut session, second);
    assert!(!take(&mut journal, 2), "one record alone wakes nobody");
    outbox.fill(&mut journal, &mut session, 2 * second);
    assert!(!outbox.is_ripe(3 * second - 1, 1000) && outbox.is_ripe(3 * second, 1000));
    assert!(outbox.is_ripe(2 * second, 10_000), "no other comes within two seconds");
    // The next goes with it, though its tick was a little early.
    assert!(take(&mut journal, 3));
    outbox.fill(&mut journal, &mut session, 3 * second - 1);
    assert!(outbox.is_ripe(3 * second - 1, 1000));
    let Some(ToCollector::Records(_, records)) = outbox.take() else { panic!() };
    assert_eq!(records.iter().map(|r| (r.first_seq.0, r.seq.0)).collect::<Vec<_>>(), [(1, 2)]);
    outbox.fill(&mut journal, &mut session, 3 * second);
    assert!(!take(&mut journal, 4));
    journal.request_keyframe();
    assert!(take(&mut journal, 5));
    outbox.fill(&mut journal, &mut session, 4 * second);
    assert!(outbox.is_ripe(4 * second, 1000));
    let Some(ToCollector::Records(_, records)) = outbox.take() else { panic!() };
    assert_eq!(records.iter().map(|r| (r.first_seq.0, r.seq.0)).collect::<Vec<_>>(), [(3, 3), (4, 4)]);
}

#[test]
fn without_acks_eight_messages_go_and_one_present_and_the_rest_waits_in_the_spool() {
    let mut journal = open_on(&FakeDisk::default(), &FakeDisk::default());
    let mut session = welcomed(&journal);
    let mut outbox = Outbox::new(&session);
    let mut assembler = Assembler::new(Box::new(FakeKernel::new()));
    for second in 1..=8 {
        assert!(outbox.has_room());
        journal.request_keyframe();
        journal.take(assembler.sample(&TestClock(second), 1000));
        outbox.fill(&mut journal, &mut session, second * 1_000_000);
        outbox.take().unwrap();
    }
    assert!(!outbox.has_room() && !outbox.tells_present());
    journal.take(assembler.sample(&TestClock(9), 1000));
    assert_eq!(outbox.wait(u64::MAX, 1000), std::time::Duration::MAX);
    // Less than the first message is no room, more than it is.
    outbox.acked(EpochNo(1), Seq(0));
    assert!(!outbox.has_room());
    outbox.acked(EpochNo(1), Seq(1));
    assert!(outbox.has_room() && outbox.tells_present());
    // That was told once, for that ack.
    outbox.fill(&mut journal, &mut session, 9_000_000);
    outbox.take().unwrap();
    assert!(!outbox.has_room() && !outbox.tells_present());
}

/// What the protocol asks of every stream.
fn assert_chained(records: &[(EpochNo, Record)], (mut epoch, mut next, mut chain): (u64, u64, Chain)) {
    for (no, record) in records {
        if no.0 != epoch {
            (epoch, next, chain) = (no.0, 0, Chain::default());
        }
        let jump = record.first_seq.0 > next;
        assert!(!jump || record.kind == RecordKind::Keyframe, "{no:?} {record:?} jumps from {next}");
        assert!(jump || record.chain == chain, "{no:?} {record:?} has another chain");
        next = record.seq.0 + 1;
        chain = chain::after(record.chain, record.kind, &record.body);
    }
}

/// The records without what is only known when they are sent.
fn as_made(records: &[(EpochNo, Record)]) -> Vec<(EpochNo, Record)> {
    records.iter().map(|(no, record)| (*no, Record { missing: None, ..record.clone() })).collect()
}

fn said(record: &Record) -> Option<GapReason> {
    match decode_body(record.kind, &record.body).unwrap().content {
        Content::GapReason(reason) => Some(reason),
        Content::Keyframe(keyframe) => keyframe.gap.or(record.missing),
        _ => None,
    }
}

#[test]
fn an_overflow_is_told_where_the_collector_is_and_history_goes_on_at_a_keyframe() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 16 << 10);
    sample(&mut journal, 1, 40);
    let first = sent(&mut journal, &[]);
    assert_chained(&first, (1, 0, Chain::default()));
    let chain = journal.chain_at(EpochNo(1), Seq(20)).unwrap();
    sample(&mut journal, 41, 600);

    let records = sent(&mut journal, &[(1, 20, chain)]);
    assert_chained(&records, (1, 20, chain));
    assert_eq!(said(&records[0].1), Some(GapReason::SpoolOverflow));
    assert!(records[0].1.first_seq > Seq(20) && records[0].1.kind == RecordKind::Keyframe);
    assert_eq!(records.last().unwrap().1.seq, Seq(639));
    assert!(records.windows(2).all(|w| w[0].1.seq.next() == w[1].1.first_seq));

    // A collector that has nothing at all learns the same.
    let records = sent(&mut journal, &[]);
    assert_chained(&records, (1, 0, Chain::default()));
    assert_eq!(said(&records[0].1), Some(GapReason::SpoolOverflow));
}

#[test]
fn damage_in_the_middle_is_told_and_history_goes_on_at_a_keyframe() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1 << 20);
    sample(&mut journal, 1, 10);
    journal.request_keyframe();
    sample(&mut journal, 11, 10);
    let clean = sent(&mut journal, &[]);
    drop(journal);
    let file = std::fs::read_dir(dir.path().join("state").join(SPOOL_DIR)).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let body = &clean[5].1.body;
    let at = bytes.windows(body.len()).position(|w| w == body).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let mut journal = open(dir.path(), 1 << 20);
    sample(&mut journal, 100, 3);
    let records = sent(&mut journal, &[]);
    assert_chained(&records, (1, 0, Chain::default()));
    assert_eq!(records[..5], clean[..5]);
    assert_eq!(said(&records[5].1), Some(GapReason::SpoolDamaged));
    assert_eq!(as_made(&records[5..15]), clean[10..20]);
    assert_eq!((records[15].0, said(&records[15].1)), (EpochNo(2), Some(GapReason::AgentKilled)));
}

#[test]
fn the_next_run_continues_behind_a_stop_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1 << 20);
    sample(&mut journal, 1, 3);
    journal.stop(TestClock(4).now());
    sample(&mut journal, 5, 1);
    journal.close(0);
    drop(journal);
    let mut journal = open(dir.path(), 1 << 20);
    sample(&mut journal, 10, 1);
    let records = sent(&mut journal, &[]);
    assert_chained(&records, (1, 0, Chain::default()));
    let said: Vec<_> = records.iter().map(|(no, r)| (no.0, r.seq.0, said(r))).collect();
    assert_eq!(
        said,
        [
            (1, 0, Some(GapReason::BeforeFirst)),
            (1, 1, None),
            (1, 2, None),
            (1, 3, Some(GapReason::AgentStopped)),
            (2, 0, Some(GapReason::AgentStopped))
        ]
    );
    assert!(!journal.all_acked());
    journal.settle(EpochNo(2), Seq(1));
    assert!(journal.all_acked());
    assert_eq!(journal.spooled().len(), 1);
}

#[test]
fn a_forked_epoch_is_given_up_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1 << 20);
    sample(&mut journal, 1, 3);
    journal.begin_epoch(GapReason::Forked, 43, 1).unwrap();
    assert!(journal.all_acked() || journal.backlog_from_ms().is_none());
    sample(&mut journal, 4, 2);
    let records = sent(&mut journal, &[]);
    assert_eq!(records.iter().map(|(no, r)| (no.0, r.seq.0)).collect::<Vec<_>>(), [(2, 0), (2, 1)]);
    assert_eq!(said(&records[0].1), Some(GapReason::Forked));
}

/// The agent on a disk that can fail.
fn open_on(state: &FakeDisk, spool: &FakeDisk) -> Journal {
    let limits = Limits { bytes: 64 << 20, fsync: FsyncPolicy::Every };
    Journal::open(Box::new(state.clone()), Box::new(spool.clone()), limits, 1, BOOT, 42).unwrap()
}

#[test]
fn a_device_that_refuses_a_part_of_the_spool_at_the_start_costs_that_part_and_says_spool_damaged() {
    let (state, spool) = (FakeDisk::default(), FakeDisk::default());
    let mut journal = open_on(&state, &spool);
    sample(&mut journal, 1, 10);
    journal.request_keyframe();
    sample(&mut journal, 11, 10);
    let clean = sent(&mut journal, &[]);
    drop(journal);
    let (name, bytes) = spool.contents().into_iter().find(|(name, _)| name.ends_with(".seg")).unwrap();
    let body = &clean[5].1.body;
    let at = bytes.windows(body.len()).position(|w| w == body).unwrap() as u64;
    spool.spoil(&name, at..at + 1);

    let mut journal = open_on(&state, &spool);
    sample(&mut journal, 100, 3);
    let records = sent(&mut journal, &[]);
    assert_chained(&records, (1, 0, Chain::default()));
    assert_eq!(records[..5], clean[..5]);
    assert_eq!((said(&records[5].1), records[5].1.seq), (Some(GapReason::SpoolDamaged), Seq(10)));
    assert_eq!(as_made(&records[5..15]), clean[10..20]);
    assert_eq!((records[15].0, said(&records[15].1)), (EpochNo(2), Some(GapReason::AgentKilled)));
}

#[test]
fn a_device_that_refuses_all_of_the_spool_at_the_start_does_not_keep_the_agent_from_sampling() {
    let (state, spool) = (FakeDisk::default(), FakeDisk::default());
    let mut journal = open_on(&state, &spool);
    sample(&mut journal, 1, 10);
    drop(journal);
    for (name, bytes) in spool.contents() {
        spool.spoil(&name, 0..bytes.len() as u64);
    }
    spool.fail(Fault::Remove, true);
    spool.fail(Fault::Create, true);
    let mut journal = open_on(&state, &spool);
    sample(&mut journal, 100, 3);
    let records = sent(&mut journal, &[]);
    let told: Vec<_> = records.iter().map(|(no, r)| (no.0, r.seq.0, said(r))).collect();
    assert_eq!(told, [(2, 0, Some(GapReason::AgentKilled)), (2, 1, None), (2, 2, None)]);
}

#[test]
fn no_epoch_begins_where_the_counter_is_damaged_though_the_spool_is_whole() {
    let (state, spool) = (FakeDisk::default(), FakeDisk::default());
    let mut journal = open_on(&state, &spool);
    sample(&mut journal, 1, 3);
    drop(journal);
    let before = spool.contents();
    state.damage("epoch", |bytes| bytes.truncate(20));
    let limits = Limits { bytes: 64 << 20, fsync: FsyncPolicy::Every };
    let again = Journal::open(Box::new(state.clone()), Box::new(spool.clone()), limits, 1, BOOT, 43);
    assert!(matches!(again.err(), Some(StartError::Epoch(EpochError::Damaged))));
    assert_eq!(spool.contents(), before);
    // Enrolled again, it goes on behind whatever was stored, and behind what is spooled.
    let mut gone = state.clone();
    gone.remove("epoch").unwrap();
    let mut journal = Journal::open(Box::new(state), Box::new(spool), limits, 7, BOOT, 44).unwrap();
    sample(&mut journal, 10, 1);
    let records = sent(&mut journal, &[]);
    let last = records.last().unwrap();
    assert_eq!((last.0, said(&last.1), records.len()), (EpochNo(7), Some(GapReason::StateLost), 4));
}

/// Where a collector stands that has stored these records.
fn stored(records: &[(EpochNo, Record)]) -> (u64, u64, Chain) {
    let (no, last) = records.last().unwrap();
    (no.0, last.seq.0 + 1, chain::after(last.chain, last.kind, &last.body))
}

#[test]
fn a_hole_of_one_record_is_a_jump_with_its_reason_and_no_fork_wherever_the_connection_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1 << 20);
    sample(&mut journal, 1, 5);
    journal.request_keyframe();
    sample(&mut journal, 6, 3);
    let clean = sent(&mut journal, &[]);
    drop(journal);
    let file = std::fs::read_dir(dir.path().join("state").join(SPOOL_DIR)).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let body = &clean[4].1.body;
    let at = bytes.windows(body.len()).position(|w| w == body).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let mut journal = open(dir.path(), 1 << 20);
    sample(&mut journal, 100, 2);
    let all = sent(&mut journal, &[]);
    assert_chained(&all, (1, 0, Chain::default()));
    assert_eq!(all[..4], clean[..4]);
    assert_eq!(as_made(&all[4..7]), clean[5..8]);
    assert_eq!(all[4].1.missing, Some(GapReason::SpoolDamaged));
    // A gap reason at 4 would be stored with a chain that the keyframe at 5 does not carry.
    for cut in 1..7 {
        let at = stored(&all[..cut]);
        assert_eq!(sent(&mut journal, &[at]), all[cut..], "cut behind {cut} records");
    }
}

#[test]
fn an_overflow_that_took_the_end_of_an_epoch_is_told_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 16 << 10);
    sample(&mut journal, 1, 40);
    let first = sent(&mut journal, &[]);
    let at = stored(&first[..20]);
    drop(journal);
    let mut journal = open(dir.path(), 16 << 10);
    let mut second = 100;
    while journal.spool.epochs()[0].label.epoch_no == 1 {
        sample(&mut journal, second, 1);
        second += 1;
    }
    assert_eq!(journal.spool.epochs()[0].first_seq, 0, "epoch 2 is whole");

    let records = sent(&mut journal, &[at]);
    assert_chained(&records, at);
    let told = (records[0].0, records[0].1.seq, said(&records[0].1));
    assert_eq!(told, (EpochNo(1), Seq(20), Some(GapReason::SpoolOverflow)));
    assert_eq!((records[1].0, records[1].1.seq), (EpochNo(2), Seq(0)));
    // Nothing to say to a collector that has all of it.
    let records = sent(&mut journal, &[stored(&first)]);
    assert_eq!((records[0].0, records[0].1.seq), (EpochNo(2), Seq(0)));
}

#[test]
fn records_that_were_acknowledged_and_are_asked_for_again_are_a_restored_history() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 16 << 10);
    sample(&mut journal, 1, 20);
    let backup = stored(&sent(&mut journal, &[])[..10]);
    for second in 21..400 {
        sample(&mut journal, second, 1);
        journal.settle(EpochNo(1), Seq(second));
    }
    sample(&mut journal, 400, 5);
    let first = journal.spooled()[0].first;
    assert!(first > Seq(20), "what was acknowledged is freed");

    let records = sent(&mut journal, &[backup]);
    assert_chained(&records, backup);
    assert_eq!(said(&records[0].1), Some(GapReason::HistoryRestored));
    assert_eq!(records[0].1.first_seq, first);
}
