//! Samples in, rows and flags out.

use std::collections::BTreeMap;

use highwater_ipc::activity::{Act, Activity, Actor, Did};
use highwater_ipc::limits::{Limits, Resource, Totals, Usage};
use highwater_ipc::object::{Key, Kind as Objects};
use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::snapshot::{BootId, Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;
use proptest::prelude::*;

use super::feed::{self, EVERY_MS, Feed, Input, Place};
use super::judge::{Changes, Judge, Memory, Sample};
use super::rules::{Rule, Rules, Ruling};
use super::state;
use crate::flag::{Kind, Severity, What};
use crate::forecast::{Event, Policy};
use crate::host::HostId;
use crate::query::walk::{Place as Stretch, Position};

pub(super) const MINUTE_MS: i64 = 60_000;
/// 2026-06-01T00:00:00Z.
pub(super) const BEGIN_MS: i64 = 1_780_272_000_000;

pub(super) fn host_with(boot: u8, used: Option<u64>, limit: u64) -> State {
    let limits = Limits {
        semmsl: 250,
        semmns: 32_000,
        semopm: 32,
        semmni: limit,
        semvmx: 32_767,
        shmmax: 1 << 30,
        shmall: 1 << 20,
        shmmni: 4_096,
        shmmin: 1,
        msgmax: 8_192,
        msgmnb: 16_384,
        msgmni: 32_000,
    };
    let totals = used.map(|used| Totals { sem_arrays: used, semaphores: used, ..Totals::default() });
    let id = NamespaceId { inode: 1, instance: u64::from(boot) };
    let own = Namespace { id, limits: Some(limits), totals, ..Namespace::default() };
    State { boot_id: BootId([boot; 16]), interval_ms: 10_000, namespaces: vec![own], ..State::default() }
}

/// What happens to a host next.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// A sample so many seconds later, with so much in use.
    Sample(u16, u8),
    /// Nothing changes for so many seconds.
    Heartbeats(u32),
    /// A sample that cannot read.
    Unreadable,
    /// The clock is set by so many seconds.
    ClockSet(i32),
    /// Nothing is sampled for so many seconds.
    Gap(u32),
    /// The machine boots.
    Reboot,
    /// The agent starts again.
    Restart,
    /// The limit is another one.
    Limit(u8),
}

/// A sample as the compactor hands it over; heartbeats only say until when the one before was confirmed.
#[derive(Clone, Debug)]
struct Made {
    epoch: u64,
    wall_ms: i64,
    prev_wall_ms: Option<i64>,
    boot_us: u64,
    begins_stretch: bool,
    state: State,
    /// Until when it was confirmed before the next one.
    covered_ms: i64,
}

fn play(story: &[Next]) -> Vec<Made> {
    let (mut wall_ms, mut boot_us, mut boot, mut epoch) = (BEGIN_MS, 60_000_000_u64, 1_u8, 1_u64);
    let (mut used, mut limit) = (5_u64, 100_u64);
    let mut made: Vec<Made> = Vec::new();
    let pass = |wall_ms: &mut i64, boot_us: &mut u64, seconds: u64| {
        *wall_ms += i64::try_from(seconds).unwrap() * 1000;
        *boot_us += seconds * 1_000_000;
    };
    for next in std::iter::once(&Next::Sample(0, 5)).chain(story) {
        let (mut begins_stretch, mut read, mut new_epoch) = (made.is_empty(), true, made.is_empty());
        match *next {
            Next::Sample(seconds, now) => {
                pass(&mut wall_ms, &mut boot_us, u64::from(seconds % 30));
                used = u64::from(now);
            }
            Next::Heartbeats(seconds) => {
                pass(&mut wall_ms, &mut boot_us, u64::from(seconds));
                if let Some(last) = made.last_mut() {
                    last.covered_ms = wall_ms;
                }
                continue;
            }
            Next::Unreadable => {
                pass(&mut wall_ms, &mut boot_us, 10);
                read = false;
            }
            Next::ClockSet(seconds) => {
                pass(&mut wall_ms, &mut boot_us, 10);
                wall_ms += i64::from(seconds) * 1000;
                begins_stretch = true;
            }
            Next::Gap(seconds) => {
                pass(&mut wall_ms, &mut boot_us, u64::from(seconds) + 60);
                begins_stretch = true;
            }
            Next::Reboot => {
                pass(&mut wall_ms, &mut boot_us, 100);
                (boot, boot_us, used, begins_stretch, new_epoch) = (boot.wrapping_add(1), 5_000_000, 0, true, true);
            }
            Next::Restart => {
                pass(&mut wall_ms, &mut boot_us, 45);
                (begins_stretch, new_epoch) = (true, true);
            }
            Next::Limit(new) => {
                pass(&mut wall_ms, &mut boot_us, 10);
                limit = u64::from(new) + 10;
            }
        }
        epoch += u64::from(new_epoch);
        let prev_wall_ms = made.last().filter(|_| !new_epoch).map(|last| last.covered_ms);
        let state = host_with(boot, read.then_some(used), limit);
        made.push(Made { epoch, wall_ms, prev_wall_ms, boot_us, begins_stretch, state, covered_ms: wall_ms });
    }
    made
}

/// Rows of one run; after each sample in `cuts` the step ends, and what it remembers goes through its bytes.
fn rows(made: &[Made], cuts: &[bool]) -> Vec<(feed::Which, Input)> {
    let (mut feed, mut rows) = (Feed::default(), Vec::new());
    for (index, sample) in made.iter().enumerate() {
        let Made { wall_ms, prev_wall_ms, boot_us, begins_stretch, ref state, .. } = *sample;
        // What another epoch was covered until is told before the next one.
        if let Some(before) = index.checked_sub(1).map(|before| &made[before])
            && before.epoch != sample.epoch
        {
            feed.covered(before.covered_ms, &mut |which, input| rows.push((which, input)));
        }
        let taken = feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch, state };
        feed.sample(&taken, &mut |which, input| rows.push((which, input)));
        if cuts.get(index).copied().unwrap_or(false) {
            feed.covered(sample.covered_ms, &mut |which, input| rows.push((which, input)));
            feed = state::unpack(&state::pack(&feed).unwrap()).unwrap();
        }
    }
    let end_ms = made.last().map_or(0, |last| last.covered_ms);
    feed.covered(end_ms, &mut |which, input| rows.push((which, input)));
    rows
}

fn next() -> impl Strategy<Value = Next> {
    prop_oneof![
        6 => (any::<u16>(), 0..120_u8).prop_map(|(seconds, used)| Next::Sample(seconds, used)),
        3 => (0..9_000_u32).prop_map(Next::Heartbeats),
        1 => Just(Next::Unreadable),
        1 => (-8_000..8_000_i32).prop_map(Next::ClockSet),
        1 => (0..90_000_u32).prop_map(Next::Gap),
        1 => Just(Next::Reboot),
        1 => Just(Next::Restart),
        1 => any::<u8>().prop_map(Next::Limit),
    ]
}

proptest! {
    #[test]
    fn however_samples_are_cut_into_steps_the_rows_are_the_same(
        story in proptest::collection::vec(next(), 0..40),
        cuts in proptest::collection::vec(any::<bool>(), 41),
    ) {
        let made = play(&story);
        prop_assert_eq!(rows(&made, &cuts), rows(&made, &[]));
    }

    #[test]
    fn a_row_comes_at_least_every_ten_minutes_while_the_host_is_covered(
        story in proptest::collection::vec(next(), 0..40),
    ) {
        let made = play(&story);
        let mut last: Option<(f64, Event)> = None;
        for (which, input) in rows(&made, &[]) {
            let Input::Row(row) = input else { continue };
            if which.place != Place::Own || which.resource() != Resource::Semmni {
                continue;
            }
            if let Some((at, event)) = last
                && event != Event::GapStart
                && row.event == Event::Sample
                && row.at > at
            {
                let is_set = made.windows(2).any(|w| {
                    let passed_us = w[1].boot_us.wrapping_sub(w[0].boot_us);
                    w[1].begins_stretch && (w[1].wall_ms - w[0].wall_ms) * 1000 != passed_us.cast_signed()
                });
                prop_assert!(row.at - at <= EVERY_MS as f64 / 1000.0 + 0.001 || is_set, "{at} {row:?}");
            }
            last = Some((row.at, row.event));
        }
    }
}

#[test]
fn a_gap_has_two_ends_a_boot_is_told_and_a_place_that_is_gone_ends() {
    let story = [Next::Sample(10, 7), Next::Heartbeats(20), Next::Gap(1_000), Next::Reboot];
    let made = play(&story);
    let own: Vec<_> = rows(&made, &[])
        .into_iter()
        .filter(|(which, _)| which.resource() == Resource::Semmni)
        .filter_map(|(_, input)| if let Input::Row(row) = input { Some(row) } else { None })
        .filter(|row| row.event != Event::Sample)
        .map(|row| (row.event, row.at - BEGIN_MS as f64 / 1000.0, row.used))
        .collect();
    let gap = [(Event::GapStart, 30.0, 7), (Event::GapEnd, 1_090.0, 7)];
    let boot = [(Event::GapStart, 1_090.0, 7), (Event::Reboot, 1_190.0, 0)];
    assert_eq!(own, [gap, boot].concat());
}

/// A record of the first epoch.
pub(super) fn at(seq: u64) -> Position {
    Position { place: Stretch::own(EpochNo(1), 0), seq: Seq(seq) }
}

/// Judges a story of (minutes since the begin, used), in steps that end after each sample.
fn judged(story: &[(u32, u64)], limit: u64, refused: bool) -> Vec<Changes> {
    let (mut memory, mut all) = (Memory::default(), Vec::new());
    for (index, (minutes, used)) in story.iter().enumerate() {
        let mut judge = Judge::new(HostId(7), memory, Ruling::default());
        let state = host_with(1, Some(*used), limit);
        let wall_ms = BEGIN_MS + i64::from(*minutes) * MINUTE_MS;
        let act = Act {
            did: Did::Refused(28),
            kind: Objects::Sem,
            namespace: Some(state.namespaces[0].id),
            by: Actor { pid: 9, comm: HostText::from("httpd"), uid: Some(33), parent: HostText::default() },
            first_us: 1,
            last_us: 1,
            count: 1,
            key: Key(0),
            size: 1,
            ids: vec![],
            bound_by: Some(Usage { resource: Resource::Semmni, used: limit, limit }),
        };
        let activity = Activity { acts: if refused && index == 1 { vec![act] } else { vec![] }, ..Activity::default() };
        let prev_wall_ms = index.checked_sub(1).map(|_| wall_ms - 1_000);
        let begins_stretch = index == 0;
        let boot_us = 60_000_000 + u64::from(*minutes) * 60_000_000;
        let sample = feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch, state: &state };
        judge.sample(&Sample { position: at(index as u64), sample, activity: &activity });
        let (changes, left) = judge.finish(Some(&state));
        memory = state::unpack(&state::pack(&left).unwrap()).unwrap();
        all.push(changes);
    }
    all
}

fn events(all: &[Changes]) -> Vec<(What, Severity)> {
    all.iter().flat_map(|changes| &changes.events).map(|event| (event.what, event.severity)).collect()
}

#[test]
fn little_room_is_a_quiet_flag_that_goes_when_there_is_room_again() {
    let story: Vec<(u32, u64)> = (0..200).map(|n| (n * 10, if n < 20 { 37 } else { 20 })).collect();
    let all = judged(&story, 40, false);
    let flag = all.iter().flat_map(|changes| &changes.flags).next().expect("a flag");
    assert_eq!((flag.kind, flag.severity, flag.used, flag.limit), (Kind::Tight, Severity::Warning, 37, 40));
    assert!(flag.remedy.iter().any(|step| step.command.as_deref().is_some_and(|c| c.contains("sysctl"))), "{flag:?}");
    let told = events(&all);
    assert_eq!(told.first(), Some(&(What::Raised, Severity::Warning)));
    assert_eq!(told.last().map(|(what, _)| *what), Some(What::Cleared));
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn a_refused_call_is_critical_at_once_and_for_half_an_hour() {
    let story: Vec<(u32, u64)> = (0..12).map(|n| (n * 10, 5)).collect();
    let all = judged(&story, 40, true);
    let flag = &all[1].flags[0];
    assert_eq!((flag.kind, flag.severity), (Kind::Refusing, Severity::Critical));
    let critical = Severity::Critical;
    assert_eq!(events(&all), [(What::Raised, critical), (What::Cleared, critical)]);
    let cleared = all.iter().position(|changes| changes.events.iter().any(|e| e.what == What::Cleared));
    assert_eq!(cleared, Some(6), "with the first sample after a boundary more than half an hour later");
}

#[test]
fn records_that_were_judged_are_passed_over_and_the_same_records_make_the_same_flag() {
    let story: Vec<(u32, u64)> = (0..8).map(|n| (n * 10, 39)).collect();
    let (once, again) = (judged(&story, 40, false), judged(&story, 40, false));
    assert_eq!(once, again);
    let state = host_with(1, Some(39), 40);
    let (_, memory) = {
        let mut judge = Judge::new(HostId(7), Memory::default(), Ruling::default());
        let sample =
            feed::Sample { wall_ms: BEGIN_MS, prev_wall_ms: None, boot_us: 1, begins_stretch: true, state: &state };
        judge.sample(&Sample { position: at(5), sample, activity: &Activity::default() });
        judge.finish(Some(&state))
    };
    let mut judge = Judge::new(HostId(7), memory, Ruling::default());
    // Had it been judged, the flag would be over.
    let (state, wall_ms) = (host_with(1, Some(5), 40), BEGIN_MS + 1_000);
    let prev_wall_ms = Some(BEGIN_MS);
    let sample = feed::Sample { wall_ms, prev_wall_ms, boot_us: 2, begins_stretch: false, state: &state };
    judge.sample(&Sample { position: at(5), sample, activity: &Activity::default() });
    assert!(judge.finish(None).0.events.is_empty());
}

#[test]
fn a_flag_of_a_container_that_is_gone_is_cleared_when_that_is_seen() {
    let mut judge = Judge::new(HostId(7), Memory::default(), Ruling::default());
    for (seq, used) in [(0_u32, Some(39)), (1, None)] {
        let mut state = host_with(1, Some(5), 40);
        let id = NamespaceId { inode: 9, instance: 9 };
        state.namespaces.extend(used.map(|used| Namespace { id, ..host_with(1, Some(used), 40).namespaces.remove(0) }));
        let (wall_ms, boot_us) = (BEGIN_MS + i64::from(seq) * 9_000, 60_000_000 + u64::from(seq) * 9_000_000);
        let (prev_wall_ms, begins_stretch) = ((seq > 0).then_some(BEGIN_MS), seq == 0);
        let sample = feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch, state: &state };
        judge.sample(&Sample { position: at(seq.into()), sample, activity: &Activity::default() });
    }
    let flags = judge.finish(None).0.flags;
    let of: Vec<_> = flags.iter().filter(|f| f.resource == Resource::Semmni).collect();
    assert_eq!((of.len(), of[0].raised_ms, of[0].cleared_ms), (1, BEGIN_MS, Some(BEGIN_MS + 9_000)));
}

/// Flags of a story, judged by the labels' rules as they are at each sample.
fn judged_by(rules: impl Fn(usize) -> Rules, labels: &[(&str, &str)], story: &[(u32, u64)]) -> Vec<Changes> {
    let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let (mut memory, mut all) = (Memory::default(), Vec::new());
    for (index, (minutes, used)) in story.iter().enumerate() {
        let mut judge = Judge::new(HostId(7), memory, rules(index).of(&labels));
        let state = host_with(1, Some(*used), 40);
        let wall_ms = BEGIN_MS + i64::from(*minutes) * MINUTE_MS;
        let (prev_wall_ms, begins_stretch) = ((index > 0).then_some(wall_ms - 1_000), index == 0);
        let boot_us = 60_000_000 + u64::from(*minutes) * 60_000_000;
        let sample = feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch, state: &state };
        judge.sample(&Sample { position: at(index as u64), sample, activity: &Activity::default() });
        let (changes, left) = judge.finish(Some(&state));
        memory = state::unpack(&state::pack(&left).unwrap()).unwrap();
        all.push(changes);
    }
    all
}

#[test]
fn a_host_with_a_label_is_not_flagged_by_what_flags_another() {
    let policy = |tight: f64| Policy { tight, ..Policy::default() };
    let batch = Rule {
        labels: [("role".to_owned(), "batch".to_owned())].into(),
        ruling: Ruling { policy: policy(1.0), notify: false, ..Ruling::default() },
    };
    let rules = Rules { list: vec![batch], ..Rules::default() };
    let story: Vec<(u32, u64)> = (0..40).map(|n| (n * 10, 37)).collect();
    let raised = |labels: &[(&str, &str)], rules: &dyn Fn(usize) -> Rules| {
        let all = judged_by(rules, labels, &story);
        let first = all.iter().position(|changes| !changes.flags.is_empty());
        (first, all.iter().flat_map(|changes| &changes.flags).all(|flag| flag.notify))
    };
    assert_eq!(raised(&[("role", "web")], &|_| rules.clone()), (Some(0), true));
    assert_eq!(raised(&[("role", "batch")], &|_| rules.clone()), (None, true));
    // Another file from some sample on, which keeps these hosts' flags quiet as before.
    let mut loud = rules.clone();
    loud.list[0].ruling.policy = policy(0.9);
    let changed = |index| if index < 20 { rules.clone() } else { loud.clone() };
    assert_eq!(raised(&[("role", "batch")], &changed), (Some(20), false));
}

#[test]
fn damaged_memory_begins_anew_and_flat_series_take_few_bytes() {
    assert!(state::unpack::<Memory>(&[]).is_none() && state::unpack::<Memory>(&[1, 2, 3]).is_none());
    let story: Vec<(u32, u64)> = (0..1_000).map(|n| (n * 10, 5)).collect();
    let mut judge = Judge::new(HostId(7), Memory::default(), Ruling::default());
    let state = host_with(1, Some(5), 40);
    for (index, (minutes, _)) in story.iter().enumerate() {
        let wall_ms = BEGIN_MS + i64::from(*minutes) * MINUTE_MS;
        let prev_wall_ms = (index > 0).then_some(wall_ms - 1_000);
        let boot_us = 60_000_000 + u64::from(*minutes) * 60_000_000;
        let sample = feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch: index == 0, state: &state };
        judge.sample(&Sample { position: at(index as u64), sample, activity: &Activity::default() });
    }
    let bytes = state::pack(&judge.finish(None).1).unwrap().len();
    assert!(bytes < 2_000, "{bytes}");
}
