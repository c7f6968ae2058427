use std::sync::Arc;

use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::record::{Chain, RecordKind, Seq};
use highwater_ipc::session::{Hello, HostFacts, Now};
use highwater_ipc::snapshot::{BootId, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::super::ack::Outbox;
use super::super::arrival::{Arrival, Says};
use super::super::command::{OpenError, OpenRequest, Opened};
use super::*;

const NOISY: i64 = 1;
const QUIET: i64 = 2;
const MOST: Most = Most { commands: 1000, bytes: 8 << 20 };
const LARGEST: usize = 16 << 20;
const DAY_MS: i64 = 86_400_000;

struct Made {
    epoch: u64,
    wall_ms: i64,
    bytes: usize,
}

fn made(host: i64, seq: u64, made: Made) -> Command {
    let arrival = Arrival {
        kind: RecordKind::Delta,
        first: Seq(seq),
        seq: Seq(seq),
        next_chain: Chain::default(),
        at: At { wall_ms: made.wall_ms, boot_us: 0 },
        says: Says::default(),
        body: Arc::from(vec![0; made.bytes]),
    };
    Command::Record(Item { host: HostId(host), session: Session(1), epoch: EpochNo(made.epoch), arrival, _share: None })
}

fn record(host: i64, seq: u64) -> Command {
    made(host, seq, Made { epoch: 1, wall_ms: 0, bytes: 0 })
}

fn large(host: i64, seq: u64) -> Command {
    made(host, seq, Made { epoch: 1, wall_ms: 0, bytes: LARGEST })
}

fn close(host: i64, session: i64) -> Command {
    Command::Close(HostId(host), Session(session))
}

fn now(host: i64, session: i64, backlog_from_ms: i64) -> Command {
    let state = State {
        boot_id: BootId([1; 16]),
        interval_ms: 1000,
        page_size: 4096,
        zone: HostText::default(),
        availability: Availability {
            state: SysvipcState::Available,
            evidence: Vec::new(),
            remedy: HostText::default(),
        },
        users: Default::default(),
        groups: Default::default(),
        namespaces: Vec::new(),
        risks: Vec::new(),
        unseen: Vec::new(),
    };
    let at = At::default();
    Command::Now(HostId(host), Session(session), Box::new(Now { backlog_from_ms, at, state }))
}

type Answer = oneshot::Receiver<Result<Opened, OpenError>>;

fn open(host: i64, read_ms: i64) -> (Command, Answer) {
    let (reply, answer) = oneshot::channel();
    let hello = Hello { facts: HostFacts::default(), now: At::default(), epochs: Vec::new() };
    let request =
        OpenRequest { host: HostId(host), enrolled_ms: 0, hello, read_ms, outbox: Arc::new(Outbox::default()) };
    (Command::Open(request, reply), answer)
}

fn lanes(commands: impl IntoIterator<Item = Command>) -> Lanes {
    let mut lanes = Lanes::default();
    for command in commands {
        assert!(lanes.push(command).is_none());
    }
    lanes
}

/// What a round took, as (host, seq).
fn taken(lanes: &mut Lanes, most: Most) -> Vec<(i64, u64)> {
    let gathered = lanes.gather(most);
    assert!(gathered.control.is_empty(), "{:?}", gathered.control);
    gathered.items.iter().map(|item| (item.host.0, item.arrival.seq.0)).collect()
}

#[test]
fn a_quiet_host_is_in_the_next_commit_whatever_another_has_queued() {
    let mut lanes = lanes((0..4000).map(|seq| record(NOISY, seq)));
    assert!(lanes.push(record(QUIET, 0)).is_none());
    let first = taken(&mut lanes, MOST);
    assert_eq!(first.len(), MOST.commands);
    assert_eq!(first[..3], [(NOISY, 0), (QUIET, 0), (NOISY, 1)]);
    assert_eq!(taken(&mut lanes, MOST)[0], (NOISY, 999));
}

#[test]
fn a_commit_takes_from_all_hosts_in_turn_and_the_next_one_goes_on_where_it_stopped() {
    let mut lanes = lanes((1..=3).flat_map(|host| (0..4).map(move |seq| record(host, seq))));
    let most = Most { commands: 5, ..MOST };
    assert_eq!(taken(&mut lanes, most), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)]);
    assert_eq!(taken(&mut lanes, most), [(3, 1), (1, 2), (2, 2), (3, 2), (1, 3)]);
    assert_eq!(taken(&mut lanes, most), [(2, 3), (3, 3)]);
    assert!(!lanes.is_ready() && lanes.is_empty());
}

#[test]
fn a_record_larger_than_a_commit_goes_alone_and_at_most_every_other_time() {
    let mut lanes = lanes([record(QUIET, 0)]);
    for noisy in [10, 11, 12] {
        for seq in 0..2 {
            lanes.push(large(noisy, seq));
        }
    }
    let mut order = Vec::new();
    for seq in 1..=12 {
        order.push(taken(&mut lanes, MOST));
        lanes.push(record(QUIET, seq));
    }
    let of = |host| order.iter().flatten().filter(|(h, _)| *h == host).map(|(_, seq)| *seq).collect::<Vec<_>>();
    assert!([10, 11, 12].iter().all(|host| of(*host) == [0, 1]), "{order:?}");
    assert_eq!(order[..4], [vec![(QUIET, 0)], vec![(10, 0)], vec![(QUIET, 1), (QUIET, 2)], vec![(11, 0)]], "{order:?}");
    for two in order.windows(2) {
        // Nobody waits for two of them.
        assert!(two.iter().any(|commit| commit[0].0 == QUIET), "{order:?}");
    }
    let mut nothing_else = self::lanes([large(10, 0), large(11, 0)]);
    assert_eq!(taken(&mut nothing_else, MOST), [(10, 0)]);
    assert_eq!(taken(&mut nothing_else, MOST), [(11, 0)]);
}

#[test]
fn of_a_host_a_commit_takes_one_epoch_and_one_session_and_few_days() {
    let of = |epoch, day| Made { epoch, wall_ms: day * DAY_MS, bytes: 0 };
    // As after a hello of a thousand epochs, and from a clock that walks.
    let mut epochs = lanes((0..1000).map(|no| made(NOISY, no, of(no, 0))));
    epochs.push(record(QUIET, 0));
    assert_eq!(taken(&mut epochs, MOST), [(NOISY, 0), (QUIET, 0)]);
    assert_eq!(taken(&mut epochs, MOST), [(NOISY, 1)]);
    let mut days = lanes((0..1000).map(|day| made(NOISY, day, of(1, i64::try_from(day).unwrap()))));
    assert_eq!(taken(&mut days, MOST).len(), DAYS);
    let mut sessions = lanes([record(NOISY, 0)]);
    let Command::Record(mut item) = record(NOISY, 1) else { unreachable!() };
    item.session = Session(2);
    sessions.push(Command::Record(item));
    assert_eq!(taken(&mut sessions, MOST), [(NOISY, 0)]);
    assert_eq!(taken(&mut sessions, MOST), [(NOISY, 1)]);
}

#[test]
fn commands_of_a_host_keep_their_place_among_its_records() {
    let (opens, _answer) = open(1, 0);
    let mut lanes = lanes([close(1, 1), record(1, 0), record(2, 0), close(1, 2), opens, record(2, 1), record(1, 1)]);
    let first = lanes.gather(MOST);
    assert!(matches!(first.control[..], [Command::Close(HostId(1), Session(1))]), "{first:?}");
    assert_eq!(first.items.iter().map(|i| i.host.0).collect::<Vec<_>>(), [1, 2, 2]);
    let second = lanes.gather(MOST);
    assert!(matches!(second.control[..], [Command::Close(..), Command::Open(..)]), "{second:?}");
    assert!(second.items.is_empty() && !lanes.is_ready() && !lanes.is_empty());
    lanes.release(HostId(1));
    assert_eq!(taken(&mut lanes, MOST), [(1, 1)]);
}

#[test]
fn what_is_held_waits_and_others_do_not_wait_for_it() {
    let mut lanes = lanes([record(NOISY, 0), record(QUIET, 0)]);
    lanes.hold(HostId(NOISY));
    lanes.push(record(NOISY, 1));
    assert_eq!(taken(&mut lanes, MOST), [(QUIET, 0)]);
    assert!(!lanes.is_ready() && !lanes.is_empty() && !lanes.fill(Most { commands: 1, bytes: 1 }));
    lanes.release(HostId(NOISY));
    assert_eq!(taken(&mut lanes, MOST), [(NOISY, 0), (NOISY, 1)]);
    assert!(lanes.hosts.is_empty() && lanes.ready == Load::default());
}

#[test]
fn of_a_host_one_opening_waits_and_of_a_session_one_present() {
    let mut lanes = lanes([record(1, 0), now(1, 1, 10), record(1, 1)]);
    let mut answers = Vec::new();
    for read_ms in 0..100 {
        lanes.push(now(1, 1, read_ms));
        let (opens, answer) = open(1, read_ms);
        let replaced = lanes.push(opens);
        assert_eq!(replaced.is_some(), read_ms > 0);
        answers.push(answer);
    }
    assert_eq!(lanes.hosts[&HostId(1)].commands.len(), 4);
    assert_eq!(taken(&mut lanes, MOST), [(1, 0)]);
    let second = lanes.gather(MOST);
    assert!(matches!(&second.control[..], [Command::Now(_, _, now)] if now.backlog_from_ms == 99), "{second:?}");
    assert_eq!(second.items.len(), 1);
    let third = lanes.gather(MOST);
    assert!(matches!(&third.control[..], [Command::Open(newest, _)] if newest.read_ms == 99), "{third:?}");
}

proptest! {
    #[test]
    fn each_host_keeps_its_order_nothing_is_lost_and_no_commit_is_too_large(
        queued in proptest::collection::vec((0..6_i64, 0..3_u64, 0..300_usize), 0..200),
        commands in 1..20_usize,
        bytes in 1..4000_usize,
    ) {
        let mut lanes = Lanes::default();
        let mut epochs = HashMap::new();
        for (seq, (host, step, bytes)) in queued.iter().enumerate() {
            let epoch = epochs.entry(host).or_insert(0_u64);
            *epoch += u64::from(*step == 0);
            let made_of = Made { epoch: *epoch, wall_ms: 0, bytes: *bytes };
            lanes.push(made(*host, seq as u64, made_of));
        }
        let most = Most { commands, bytes };
        let mut seen: HashMap<i64, Vec<u64>> = HashMap::new();
        while lanes.is_ready() {
            let items = lanes.gather(most).items;
            let weight: usize = items.iter().map(|item| item.arrival.weight()).sum();
            prop_assert!(!items.is_empty() && items.len() <= commands);
            prop_assert!(weight <= bytes || items.len() == 1, "{} bytes", weight);
            for item in items {
                seen.entry(item.host.0).or_default().push(item.arrival.seq.0);
            }
        }
        prop_assert!(lanes.is_empty() && lanes.ready == Load::default());
        prop_assert!(seen.values().all(|order| order.is_sorted()));
        prop_assert_eq!(seen.values().map(Vec::len).sum::<usize>(), queued.len());
    }
}
