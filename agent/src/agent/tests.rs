//! The whole agent, sampling a fake kernel, against a collector of a few lines behind real TLS.

use highwater_ipc::codec::decode_body;
use highwater_ipc::object::{Key, Owner, Perms, SemArray};
use highwater_ipc::record::{Content, GapReason, Record, RecordKind};
use highwater_ipc::session::Verdict;
use highwater_ipc::time::At;
use highwater_proto::v1::{self, from_collector};

use super::*;
use crate::config::Interval;
use crate::kernel::fake::FakeKernel;
use crate::kernel::identity::BOOT_ID;
use crate::sys::errno::Errno;
use crate::transport::fake_collector::FakeCollector;
use crate::transport::session::ToCollector;
use crate::transport::stream;

struct Rig {
    collector: FakeCollector,
    dir: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let collector = FakeCollector::start().await;
        let dir = tempfile::tempdir().unwrap();
        collector.enrol(&dir.path().join("state"));
        Self { collector, dir }
    }

    fn config(&self) -> Config {
        let interval = Interval::from_ms(100).unwrap();
        Config { state_dir: self.dir.path().join("state"), interval, ..Config::default() }
    }

    fn spawn(&self) -> AgentHandle {
        self.spawn_with(FakeKernel::new())
    }

    fn spawn_with(&self, kernel: FakeKernel) -> AgentHandle {
        spawn_sampling(self.config(), Box::new(kernel), Arc::new(SystemClock)).unwrap()
    }
}

/// This host's clocks, but for a wall clock of a minute ago.
struct MinuteAgo;

impl highwater_ipc::time::Clock for MinuteAgo {
    fn now(&self) -> At {
        let now = SystemClock.now();
        At { wall_ms: now.wall_ms - 60_000, ..now }
    }
}

impl HostClock for MinuteAgo {
    fn awake_us(&self) -> u64 {
        SystemClock.awake_us()
    }
}

async fn stop(agent: AgentHandle) {
    tokio::task::spawn_blocking(|| agent.stop()).await.unwrap().unwrap();
}

fn content(record: &Record) -> Content {
    decode_body(record.kind, &record.body).unwrap().content
}

fn gap_of(record: &Record) -> Option<GapReason> {
    match content(record) {
        Content::Keyframe(keyframe) => keyframe.gap,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn records_arrive_once_in_order_and_the_last_says_that_the_agent_was_stopped() {
    let mut rig = Rig::new().await;
    let agent = rig.spawn();
    rig.collector.until("records", |m| m.stored.first().is_some_and(|s| s.next.0 >= 5)).await;
    stop(agent).await;
    let records = rig.collector.records(1);
    assert_eq!(gap_of(&records[0]), Some(GapReason::BeforeFirst));
    assert_eq!(content(records.last().unwrap()), Content::GapReason(GapReason::AgentStopped));

    // The next run knows how this one ended, and that all of it is stored.
    let agent = rig.spawn();
    rig.collector.until("a second epoch", |m| m.stored.iter().any(|s| s.epoch.no.0 == 2 && s.next.0 > 0)).await;
    stop(agent).await;
    assert_eq!(gap_of(&rig.collector.records(2)[0]), Some(GapReason::AgentStopped));
    let hellos = &rig.collector.memory().hellos;
    assert!(hellos[1].epochs[0].epoch.no.0 == 1 || hellos[1].epochs.len() == 1);
}

#[tokio::test]
async fn two_agents_never_share_a_state_directory() {
    let rig = Rig::new().await;
    let agent = rig.spawn();
    let second = spawn_sampling(rig.config(), Box::new(FakeKernel::new()), Arc::new(SystemClock));
    assert!(second.unwrap_err().to_string().contains("in use by another agent"));
    stop(agent).await;
}

#[tokio::test]
async fn connections_that_are_cut_without_an_ack_lose_and_repeat_nothing() {
    let mut rig = Rig::new().await;
    rig.collector.memory().cut_after = Some(2);
    let agent = rig.spawn();
    rig.collector.until("three connections", |m| m.hellos.len() >= 4).await;
    rig.collector.memory().cut_after = None;
    rig.collector.until("more records", |m| m.stored[0].next.0 >= 20).await;
    stop(agent).await;
    let records = rig.collector.records(1);
    let mut next = 0;
    for record in &records {
        assert_eq!(record.first_seq.0, next);
        next = record.seq.0 + 1;
    }
}

#[tokio::test]
async fn a_verdict_against_the_epoch_opens_another_that_says_why() {
    for (verdict, reason) in
        [(Verdict::Forked, GapReason::Forked), (Verdict::HistoryRestored, GapReason::HistoryRestored)]
    {
        let mut rig = Rig::new().await;
        rig.collector.memory().verdict = Some(verdict);
        let agent = rig.spawn();
        rig.collector.until("a new epoch", |m| m.stored.iter().any(|s| s.epoch.no.0 == 2 && s.next.0 > 1)).await;
        stop(agent).await;
        assert_eq!(gap_of(&rig.collector.records(2)[0]), Some(reason));
        assert_eq!(rig.collector.records(1), []);
        let hellos = rig.collector.memory().hellos.clone();
        let last = hellos.last().unwrap();
        assert_eq!(last.epochs.iter().map(|e| e.epoch.no.0).collect::<Vec<_>>(), [2], "epoch 1 was given up");
    }
}

#[tokio::test]
async fn a_state_directory_set_back_far_catches_up_with_the_collectors_epochs_in_few_steps() {
    let mut rig = Rig::new().await;
    rig.collector.memory().forked_below = 6;
    let agent = rig.spawn();
    rig.collector.until("a late epoch", |m| m.stored.iter().any(|s| s.next.0 > 0)).await;
    stop(agent).await;
    let numbers: Vec<u64> =
        rig.collector.memory().hellos.iter().filter_map(|h| h.epochs.last().map(|e| e.epoch.no.0)).collect();
    assert_eq!(numbers, [1, 2, 4, 8]);
}

#[tokio::test]
async fn pings_are_answered_and_a_keyframe_comes_when_it_is_asked_for() {
    let mut rig = Rig::new().await;
    rig.collector.memory().say = vec![
        from_collector::Message::Ping(v1::Ping { nonce: 77 }),
        from_collector::Message::Keyframe(v1::KeyframeRequest {}),
    ];
    let agent = rig.spawn();
    rig.collector.until("a pong", |m| m.pongs == [77]).await;
    let keyframes = |records: &[Record]| records.iter().filter(|r| r.kind == RecordKind::Keyframe).count();
    rig.collector.until("a keyframe", |m| m.stored.first().is_some_and(|s| keyframes(&s.records) >= 2)).await;
    stop(agent).await;
    assert_eq!(gap_of(&rig.collector.records(1)[0]), Some(GapReason::BeforeFirst));
}

#[tokio::test]
async fn the_collectors_interval_overrides_the_configured_one() {
    let mut rig = Rig::new().await;
    rig.collector.memory().interval_ms = Some(150);
    let agent = rig.spawn();
    let says = |m: &Record| match content(m) {
        Content::Delta(delta) => delta.interval_ms,
        Content::Keyframe(keyframe) => Some(keyframe.state.interval_ms),
        _ => None,
    };
    rig.collector
        .until("the interval", |m| m.stored.iter().flat_map(|s| &s.records).any(|r| says(r) == Some(150)))
        .await;
    stop(agent).await;
}

#[tokio::test]
async fn a_keyframe_of_many_parts_arrives_whole() {
    let mut rig = Rig::new().await;
    let mut kernel = FakeKernel::new();
    // Keys without order do not pack.
    let key = |i: i32| Key(i.wrapping_mul(0x9e37_79b9_u32.cast_signed()));
    let array = |i: i32| SemArray {
        key: key(i),
        semid: i,
        perms: Perms(0o600),
        nsems: 1 + i.unsigned_abs() % 200,
        owner: Owner { uid: key(i).0.unsigned_abs(), gid: 7, cuid: 9, cgid: key(i * 3).0.unsigned_abs() },
        otime: i64::from(key(i * 7).0),
        ctime: i64::from(key(i * 5).0),
    };
    kernel.sem = (0..30_000).map(array).collect();
    let agent = rig.spawn_with(kernel);
    rig.collector.until("the keyframe", |m| m.stored.first().is_some_and(|s| s.next.0 > 0)).await;
    stop(agent).await;
    let records = rig.collector.records(1);
    assert!(records[0].body.len() > 2 * highwater_proto::bounds::PART, "{} bytes", records[0].body.len());
    let Content::Keyframe(keyframe) = content(&records[0]) else { panic!() };
    assert_eq!(keyframe.state.namespaces[0].sem.as_ref().map(Vec::len), Some(30_000));
}

#[tokio::test]
async fn what_was_recorded_without_a_collector_is_sent_when_there_is_one_with_the_present_beside_it() {
    let mut rig = Rig::new().await;
    let elsewhere = Config { collector: Some("127.0.0.1:1".into()), ..rig.config() };
    let agent = spawn_sampling(elsewhere, Box::new(FakeKernel::new()), Arc::new(MinuteAgo)).unwrap();
    // Enough samples for the spool to hold some: its own record count is the event waited for.
    let spool = rig.dir.path().join("state").join(SPOOL_DIR);
    let recorded = async {
        loop {
            let mut disk = PrivateDir::open(&spool).unwrap();
            if crate::spool::recover::scan(&mut disk).unwrap().entries >= 5 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), recorded).await.unwrap();
    stop(agent).await;
    let agent = rig.spawn();
    rig.collector.until("both epochs", |m| m.stored.len() == 2 && m.stored.iter().all(|s| s.next.0 > 0)).await;
    stop(agent).await;
    let records = rig.collector.records(1);
    let oldest = decode_body(records[0].kind, &records[0].body).unwrap().at.wall_ms;
    let told = rig.collector.memory().nows.iter().map(|now| now.backlog_from_ms).collect::<Vec<_>>();
    assert_eq!(told, [oldest], "once after hello, then not for ten seconds");
    assert_eq!(records[0].first_seq.0, 0);
    assert_eq!(content(records.last().unwrap()), Content::GapReason(GapReason::AgentStopped));
}

#[tokio::test]
async fn without_a_boot_id_no_agent_starts_and_no_epoch_begins() {
    let mut rig = Rig::new().await;
    // Zeros would be another boot between two starts in the same one.
    for file in [Err(Errno::EMFILE), Ok(b"none".to_vec())] {
        let mut kernel = FakeKernel::new();
        kernel.files.insert(BOOT_ID.to_owned(), file);
        let error = spawn_sampling(rig.config(), Box::new(kernel), Arc::new(SystemClock)).unwrap_err().to_string();
        assert!(error.contains(BOOT_ID) && error.contains("start the agent again"), "{error}");
    }
    let agent = rig.spawn();
    rig.collector.until("records", |m| m.stored.first().is_some_and(|s| s.next.0 > 0)).await;
    stop(agent).await;
    assert_eq!(gap_of(&rig.collector.records(1)[0]), Some(GapReason::BeforeFirst));
}

#[tokio::test]
async fn no_hello_is_made_before_the_collector_is_reached() {
    let rig = Rig::new().await;
    let mut state = PrivateDir::open(&rig.config().state_dir).unwrap();
    let tls = Enrolment::load(&mut state).unwrap().unwrap().tls(&mut state).unwrap();
    // Its clocks would be older by however long dialling takes.
    let hello = || -> ToCollector { panic!("hello before there is a connection") };
    assert!(stream::open(&Address::parse("127.0.0.1:1").unwrap(), &tls, hello).await.is_err());
}

#[tokio::test]
async fn a_directory_without_enrolment_is_an_error_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { state_dir: dir.path().join("none"), ..Config::default() };
    let error = spawn(config).unwrap_err().to_string();
    assert!(error.contains("highwater-agent enrol"), "{error}");
}
