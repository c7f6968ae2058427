//! What the writer stored, read back at any instant: every sample exactly, nothing across a gap.

use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::as_of::{Answer, AsOf, Held, Instant, as_of};
use highwater::query::event::EventKind;
use highwater::query::gap::{Gap, GapState};
use highwater::query::timeline::{Question, timeline};
use highwater_ipc::record::GapReason;
use highwater_ipc::snapshot::BootId;
use highwater_tests::wait::{PATIENCE, now_ms, until};

use super::host::{Host, Made, acked};
use super::*;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

impl Collector {
    /// Sends all of one epoch and waits until it is durable.
    pub(crate) fn store(&self, host: &mut Host, epoch: u64, make: impl FnOnce(&mut Host) -> Vec<Made>) {
        self.runtime.block_on(async {
            let mut session = host.open(self.writer()).await.unwrap();
            for record in make(host) {
                session.send(record).await;
            }
            acked(&session.outbox, epoch, host.next).await;
            session.close().await;
        });
    }

    pub(crate) fn ask(&self, host: i64, instant: Instant) -> AsOf {
        self.ask_at(host, instant, now_ms())
    }

    pub(crate) fn ask_at(&self, host: i64, instant: Instant, collector_ms: i64) -> AsOf {
        self.runtime.block_on(async {
            let mut reading = Reading::begin(&self.db).await.unwrap();
            as_of(&mut reading, HostId(host), instant, collector_ms).await.unwrap()
        })
    }

    pub(crate) fn held(&self, host: i64, wall_ms: i64) -> Held {
        match self.ask(host, Instant::At(wall_ms)).answer {
            Answer::Held(held) => *held,
            Answer::Gap(gap) => panic!("{wall_ms}: {gap:?}"),
        }
    }

    pub(crate) fn gap(&self, host: i64, instant: Instant) -> Gap {
        match self.ask(host, instant).answer {
            Answer::Gap(gap) => gap,
            Answer::Held(held) => panic!("{instant:?}: {held:?}"),
        }
    }
}

/// What tells these states apart.
pub(crate) fn arrays(held: &Held) -> u64 {
    held.snapshot.state.namespaces[0].totals.unwrap().sem_arrays
}

/// Numbers that look random and are the same in each run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn every_sample_and_every_instant_between_two_reads_back_exactly() {
    let collector = Collector::shared();
    let mut host = collector.host(71);
    host.set_clock(now_ms() - 2 * DAY_MS);
    // What each sample read: its time, the number that tells it apart, and when that number was first read.
    let mut samples: Vec<(i64, u64, i64)> = Vec::new();
    collector.store(&mut host, 1, |host| {
        let mut dice = Dice(7);
        let mut records = vec![host.keyframe(None)];
        samples.push((host.clock.wall_ms, 0, host.clock.wall_ms));
        for number in 1..100 {
            match dice.roll(8) {
                0 => {
                    records.push(host.keyframe(None));
                    samples.push((host.clock.wall_ms, 0, host.clock.wall_ms));
                }
                1..=3 => {
                    let (_, arrays, since) = *samples.last().unwrap();
                    let count = dice.roll(4000) + 1;
                    records.push(host.heartbeats(count));
                    samples.push((host.clock.wall_ms, arrays, since));
                }
                _ => {
                    records.push(host.delta(number));
                    samples.push((host.clock.wall_ms, number, host.clock.wall_ms));
                }
            }
        }
        records
    });
    assert!(samples.last().unwrap().0 > samples[0].0 + DAY_MS / 2, "these records lie on several days");
    for (index, (wall_ms, number, since)) in samples.iter().enumerate() {
        let next = samples.get(index + 1).map_or(*wall_ms, |(next, number_then, since_then)| {
            let heartbeats_between = (number_then, since_then) == (number, since);
            if heartbeats_between { *next } else { next - 1 }
        });
        for asked in [*wall_ms, (wall_ms + next) / 2, next] {
            let held = collector.held(71, asked);
            assert_eq!((arrays(&held), held.covered_ms.0), (*number, *since), "sample {index}, asked {asked}");
            assert!(held.also_ms.is_empty());
        }
    }
    let covered = collector.held(71, samples[0].0).covered_ms;
    assert!(covered.1 < samples[1].0 || samples[1].1 == 0, "{covered:?} ends before what follows");
}

#[test]
fn after_the_clock_was_set_back_the_later_stretch_answers_and_names_the_other() {
    let collector = Collector::shared();
    let mut host = collector.host(72);
    let start = now_ms() - 6 * HOUR_MS;
    host.set_clock(start);
    collector.store(&mut host, 1, |host| {
        let mut records = vec![host.keyframe(None), host.heartbeats(3600), host.delta(1)];
        host.set_clock(host.clock.wall_ms - HOUR_MS);
        records.extend([host.keyframe(None), host.delta(2), host.heartbeats(60)]);
        records
    });
    let twice = collector.held(72, start + 30_000);
    assert_eq!((arrays(&twice), twice.also_ms.len()), (2, 1), "{twice:?}");
    let once = collector.held(72, start + HOUR_MS - 5_000);
    assert_eq!((arrays(&once), once.also_ms.len()), (0, 0), "only the first stretch holds it");
}

#[test]
fn an_hour_over_which_the_clock_was_set_forward_has_no_answer() {
    let collector = Collector::shared();
    let mut host = collector.host(73);
    let start = now_ms() - 6 * HOUR_MS;
    host.set_clock(start);
    collector.store(&mut host, 1, |host| {
        let mut records = vec![host.keyframe(None), host.delta(1)];
        host.set_clock(host.clock.wall_ms + HOUR_MS);
        records.extend([host.keyframe(None), host.delta(2)]);
        records
    });
    let gap = collector.gap(73, Instant::At(start + HOUR_MS / 2));
    assert_eq!((gap.state, gap.from_ms), (GapState::Closed, Some(start + 2_000)));
    assert_eq!(gap.to_ms, Some(start + HOUR_MS + 3_000));
}

#[test]
fn records_on_their_way_are_pending_and_never_the_older_state() {
    let collector = Collector::shared();
    let mut host = collector.host(74);
    let mut present = host.clone();
    present.clock.boot_us += 3_600_000_000;
    host.set_clock(now_ms() - HOUR_MS);
    let session = collector.runtime.block_on(async {
        let mut session = present.open(collector.writer()).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, host.next).await;
        session
    });
    // Before the host has said how far behind it is, its old sample is no present either.
    assert_eq!(collector.gap(74, Instant::Now).state, GapState::Open);
    collector.runtime.block_on(session.now(present.now(host.clock.wall_ms + 1000)));
    until("the backlog is noted", PATIENCE, || collector.gap(74, Instant::Now).state == GapState::Pending);
    for instant in [Instant::Now, Instant::At(now_ms() - HOUR_MS / 2)] {
        let gap = collector.gap(74, instant);
        assert_eq!((gap.state, gap.reason), (GapState::Pending, None), "{instant:?}");
        assert!(gap.backlog_from_ms.is_some());
    }
}

#[test]
fn an_instant_whose_sample_is_on_its_way_is_pending_however_close_the_older_state_is() {
    let collector = Collector::shared();
    let mut host = collector.host(79);
    let session = collector.runtime.block_on(async {
        let mut session = host.open(collector.writer()).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, host.next).await;
        session
    });
    let last = host.clock.wall_ms;
    host.clock.wall_ms += 4_000;
    host.clock.boot_us += 4_000_000;
    collector.runtime.block_on(session.now(host.now(last + 1_000)));
    let is_noted = || collector.database.sql("SELECT backlog_from_ms IS NOT NULL FROM host_status") == "t\n";
    until("the backlog is noted", PATIENCE, is_noted);
    assert_eq!(collector.held(79, last + 999).covered_ms, (last, last));
    for asked in [last + 1_000, last + 2_500] {
        let gap = collector.gap(79, Instant::At(asked));
        assert_eq!((gap.state, gap.from_ms), (GapState::Pending, Some(last)), "{asked}");
    }
    assert_eq!(collector.gap(79, Instant::Now).state, GapState::Pending);
    // Also in the next session, before it has said so itself.
    let mut present = host.clone();
    present.clock.boot_us += 60_000_000;
    host.clock.wall_ms = last;
    host.clock.boot_us -= 4_000_000;
    collector.runtime.block_on(async {
        let mut next = present.open(collector.writer()).await.unwrap();
        next.send(host.delta(3)).await;
        acked(&next.outbox, 1, host.next).await;
    });
    assert_eq!(collector.gap(79, Instant::At(last + 2_500)).state, GapState::Pending);
}

#[test]
fn a_state_whose_records_lie_in_three_days_one_of_them_the_fallback_is_read_whole() {
    let collector = Collector::shared();
    let mut host = collector.host(80);
    let midnight = (now_ms() / DAY_MS + 1) * DAY_MS;
    host.set_clock(midnight - 60_000);
    collector.store(&mut host, 1, |host| {
        // Today, tomorrow, and beyond what is believed.
        let mut records = vec![host.keyframe(None), host.heartbeats(100), host.interval(2_000)];
        records.extend([host.heartbeats(2 * 86_400), host.delta(2)]);
        records
    });
    assert_eq!(collector.count("frame_fallback"), 1);
    assert_eq!(collector.database.sql("SELECT count(DISTINCT day) FROM frame"), "3\n");
    let held = collector.held(80, host.clock.wall_ms);
    assert_eq!((arrays(&held), held.snapshot.state.interval_ms), (2, 2_000));
}

#[test]
fn an_agents_last_word_just_after_midnight_is_told() {
    let collector = Collector::shared();
    let mut host = collector.host(81);
    let midnight = now_ms() / DAY_MS * DAY_MS - DAY_MS;
    host.set_clock(midnight - 2_000);
    collector.store(&mut host, 1, |host| vec![host.keyframe(None), host.stopped()]);
    assert_eq!(host.clock.wall_ms, midnight);
    let question =
        Question { span_ms: (midnight - HOUR_MS, now_ms()), kinds: vec![], subject: None, most: 9, after: None };
    let told = collector.runtime.block_on(async {
        let mut reading = Reading::begin(&collector.db).await.unwrap();
        timeline(&mut reading, HostId(81), &question, now_ms()).await.unwrap()
    });
    let kinds: Vec<EventKind> = told.events.iter().map(|e| e.kind()).collect();
    assert!(kinds.contains(&EventKind::AgentStopped), "{kinds:?}");
}

#[test]
fn a_gap_over_which_the_clock_was_set_back_hides_no_state_and_breaks_no_answer() {
    let collector = Collector::shared();
    let mut host = collector.host(82);
    let start = now_ms() - 6 * HOUR_MS;
    host.set_clock(start);
    collector.store(&mut host, 1, |host| vec![host.keyframe(None), host.heartbeats(3600), host.delta(1)]);
    let first_end = host.clock.wall_ms;
    host.set_clock(start + HOUR_MS / 2);
    host.clock.boot_us += 60_000_000;
    host.begin_epoch(2, host.boot_id);
    collector.store(&mut host, 2, |host| vec![host.keyframe(Some(GapReason::Forked)), host.delta(2)]);
    let (second_end, between) = (host.clock.wall_ms, start + HOUR_MS / 2 + 500);
    assert_eq!(
        collector.database.sql("SELECT from_wall_ms > to_wall_ms FROM gap WHERE seq = 0 AND epoch_no = 2"),
        "t\n"
    );
    assert_eq!(arrays(&collector.held(82, second_end)), 2);
    assert_eq!((arrays(&collector.held(82, between)), arrays(&collector.held(82, first_end))), (0, 1));
    let Answer::Held(last) = collector.ask(82, Instant::Last).answer else { panic!("no last sample") };
    assert_eq!((arrays(&last), last.covered_ms.1), (2, second_end));
    let question = Question { span_ms: (start, now_ms()), kinds: vec![], subject: None, most: 9, after: None };
    let told = collector.runtime.block_on(async {
        let mut reading = Reading::begin(&collector.db).await.unwrap();
        timeline(&mut reading, HostId(82), &question, now_ms()).await.unwrap()
    });
    assert!(told.events.iter().any(|e| e.kind() == EventKind::Gap), "{told:?}");
}

#[test]
fn a_clock_set_during_a_session_leaves_its_host_present() {
    let collector = Collector::shared();
    for (id, step_ms) in [(77, HOUR_MS), (78, -HOUR_MS)] {
        let mut host = collector.host(id);
        collector.store(&mut host, 1, |host| {
            let mut records = vec![host.keyframe(None)];
            host.set_clock(host.clock.wall_ms + step_ms);
            records.extend([host.keyframe(None), host.delta(5)]);
            records
        });
        let seen = collector.database.sql(&format!("SELECT last_seen_ms FROM host_status WHERE host_id = {id}"));
        let as_of = collector.ask_at(id, Instant::Now, seen.trim().parse().unwrap());
        let Answer::Held(held) = as_of.answer else { panic!("{as_of:?}") };
        assert_eq!(arrays(&held), 5);
        assert!((as_of.skew_ms - step_ms).abs() < 60_000, "{}", as_of.skew_ms);
    }
}

#[test]
fn a_clock_in_1970_is_read_back_from_the_fallback_day() {
    let collector = Collector::shared();
    let mut host = collector.host(75);
    host.set_clock(5_000_000);
    collector.store(&mut host, 1, |host| vec![host.keyframe(None), host.delta(4), host.heartbeats(10)]);
    let held = collector.held(75, 5_008_000);
    assert_eq!((arrays(&held), held.covered_ms), (4, (5_002_000, 5_012_000)));
    assert_eq!(collector.gap(75, Instant::At(1)).reason, Some(GapReason::BeforeFirst));
}

#[test]
fn a_reboot_is_told_between_two_epochs_with_its_gap() {
    let collector = Collector::shared();
    let mut host = collector.host(76);
    let start = now_ms() - HOUR_MS;
    host.set_clock(start);
    collector.store(&mut host, 1, |host| vec![host.keyframe(None), host.delta(3)]);
    host.set_clock(start + HOUR_MS / 2);
    host.clock.boot_us = 30_000_000;
    host.begin_epoch(2, BootId([2; 16]));
    collector.store(&mut host, 2, |host| vec![host.keyframe(Some(GapReason::HostDown)), host.delta(4)]);
    let gap = collector.gap(76, Instant::At(start + HOUR_MS / 4));
    assert_eq!((gap.state, gap.reason), (GapState::Closed, Some(GapReason::HostDown)));
    let question = Question { span_ms: (start, now_ms()), kinds: vec![], subject: None, most: 100, after: None };
    let told = collector.runtime.block_on(async {
        let mut reading = Reading::begin(&collector.db).await.unwrap();
        timeline(&mut reading, HostId(76), &question, now_ms()).await.unwrap()
    });
    let kinds: Vec<EventKind> = told.events.iter().map(|e| e.kind()).collect();
    use EventKind::{AgentStarted, Gap as Missing, Reboot};
    assert_eq!(kinds, [AgentStarted, Missing, Reboot, AgentStarted]);
    assert_eq!(told.events[1].at_ms, start + 2_000);
}
