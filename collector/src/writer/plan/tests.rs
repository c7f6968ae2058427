//! Records in, rows out, as text: one line a row.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::limits::Totals;
use highwater_ipc::record::{Chain, Epoch, EpochId, Seq};
use highwater_ipc::risk::{Risk, RiskKind};
use highwater_ipc::session::HostFacts;
use highwater_ipc::text::HostText;

use super::super::arrival::NamespaceUse;
use super::*;
use crate::store::stream::Session;

const HOST: HostId = HostId(7);
const BOOT: BootId = BootId([1; 16]);
const NOW_MS: i64 = 1_800_000_000_000;
const INTERVAL_MS: u32 = 1000;
const RECEIVED: Moment = Moment { wall_ms: NOW_MS, steady_ms: 0 };

/// A sample `s` seconds after the boot at [`NOW_MS`].
fn at(s: u64) -> At {
    At { wall_ms: NOW_MS + i64::try_from(s * 1000).unwrap(), boot_us: s * 1_000_000 }
}

fn arrival(kind: RecordKind, seq: u64, at: At) -> Arrival {
    let says = match kind {
        RecordKind::Keyframe => Says { interval_ms: Some(INTERVAL_MS), ..Says::default() },
        _ => Says::default(),
    };
    Arrival { kind, first: Seq(seq), seq: Seq(seq), next_chain: Chain([9; 8]), at, says, body: Arc::from([0_u8; 4]) }
}

fn keyframe(seq: u64, s: u64) -> Arrival {
    arrival(RecordKind::Keyframe, seq, at(s))
}

fn delta(seq: u64, s: u64) -> Arrival {
    arrival(RecordKind::Delta, seq, at(s))
}

fn heartbeats(first: u64, seq: u64, s: u64) -> Arrival {
    Arrival { first: Seq(first), ..arrival(RecordKind::Heartbeat, seq, at(s)) }
}

fn with_gap(mut arrival: Arrival, reason: GapReason) -> Arrival {
    arrival.says.gap = Some(reason);
    arrival
}

fn stream(no: u64, boot_id: BootId) -> Stream {
    Stream::new(Epoch { no: EpochNo(no), id: EpochId(no) }, boot_id, Session(1))
}

/// A host whose hello lists these epochs.
fn state(streams: &[Stream]) -> HostState {
    HostState {
        session: Session(1),
        hello: Arc::new(HostFacts { boot_id: BOOT, ..HostFacts::default() }),
        skew: Default::default(),
        streams: streams.iter().map(|s| (s.epoch.no, s.clone())).collect::<BTreeMap<_, _>>(),
        facts: None,
        present: None,
        ahead: None,
    }
}

fn planned(state: &HostState, epoch: u64, arrivals: &[Arrival]) -> Plan {
    let context = Context { received: RECEIVED, day: &|wall| Day::believed(wall, NOW_MS).unwrap_or(Day::FALLBACK) };
    let arrivals: Vec<&Arrival> = arrivals.iter().collect();
    plan(HOST, state, EpochNo(epoch), &arrivals, &context).unwrap().unwrap()
}

/// The state after epoch 1 took these.
fn after(arrivals: &[Arrival]) -> HostState {
    planned(&state(&[stream(1, BOOT), stream(2, BOOT)]), 1, arrivals).after
}

/// Seconds after [`NOW_MS`].
fn seconds(wall_ms: i64) -> i64 {
    (wall_ms - NOW_MS) / 1000
}

/// What a plan stores, a line a row.
fn text(plan: &Plan) -> String {
    let mut out = String::new();
    for gap in &plan.gaps {
        let from = gap.from_wall_ms.map_or("ever".to_owned(), |ms| seconds(ms).to_string());
        let _ = writeln!(out, "gap {} {from}..{} {}", gap.seq.0, seconds(gap.to_wall_ms), gap.reason.name());
    }
    for closed in &plan.closed {
        let _ = writeln!(out, "close {} at {}", closed.stretch, seconds(closed.at.wall_ms));
    }
    for opened in &plan.opened {
        let _ = writeln!(out, "open {} from {} at {}", opened.stretch, opened.from.0, seconds(opened.at.wall_ms));
    }
    for frame in &plan.frames {
        let before = frame.prev_wall_ms.map_or("-".to_owned(), |ms| seconds(ms).to_string());
        let (seq, base, wall) = (frame.seq.0, frame.base.seq.0, seconds(frame.wall_ms));
        let _ = writeln!(out, "{:?} {seq} on {base} stretch {} at {wall} after {before}", frame.kind, frame.stretch);
    }
    if let Some((_, epoch, reason)) = plan.ended {
        let _ = writeln!(out, "end {} {}", epoch.0, reason.name());
    }
    let stream = &plan.step.after;
    let covered = stream.covered.map_or("-".to_owned(), |at| seconds(at.wall_ms).to_string());
    let _ = write!(out, "{}..{} covered {covered}", plan.step.from.0, stream.next.0);
    if plan.wants_keyframe {
        out.push_str(" wants keyframe");
    }
    out
}

#[track_caller]
fn check(plan: &Plan, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(text(plan), expected.join("\n"));
}

#[test]
fn the_first_keyframe_opens_a_stretch_after_the_time_before_it() {
    let plan = planned(&state(&[stream(1, BOOT)]), 1, &[keyframe(0, 1), heartbeats(1, 3, 4), delta(4, 5)]);
    check(
        &plan,
        "gap 0 ever..1 before_first
         open 0 from 0 at 1
         Keyframe 0 on 0 stretch 0 at 1 after -
         Delta 4 on 0 stretch 0 at 5 after 4
         0..5 covered 5",
    );
}

#[test]
fn a_keyframe_amid_continuous_sampling_opens_nothing() {
    let plan = planned(&after(&[keyframe(0, 1), heartbeats(1, 1, 2)]), 1, &[keyframe(2, 3)]);
    check(
        &plan,
        "Keyframe 2 on 2 stretch 0 at 3 after 2
         2..3 covered 3",
    );
}

#[test]
fn a_resend_plans_nothing_and_a_partial_one_the_rest() {
    let state = after(&[keyframe(0, 1), delta(1, 2)]);
    let context = Context { received: RECEIVED, day: &|_| Day::FALLBACK };
    assert!(plan(HOST, &state, EpochNo(1), &[&keyframe(0, 1), &delta(1, 2)], &context).unwrap().is_none());
    check(
        &planned(&state, 1, &[delta(1, 2), delta(2, 3)]),
        "Delta 2 on 0 stretch 0 at 3 after 2
         2..3 covered 3",
    );
}

#[test]
fn a_jump_is_a_gap_with_the_agents_reason() {
    let plan =
        planned(&after(&[keyframe(0, 1)]), 1, &[with_gap(keyframe(40, 41), GapReason::SpoolOverflow), delta(41, 42)]);
    check(
        &plan,
        "gap 40 1..41 spool_overflow
         close 0 at 1
         open 1 from 40 at 41
         Keyframe 40 on 40 stretch 1 at 41 after 1
         Delta 41 on 40 stretch 1 at 42 after 41
         1..42 covered 42",
    );
}

#[test]
fn more_than_three_intervals_without_a_sample_are_a_gap_and_three_are_none() {
    let three = planned(&after(&[keyframe(0, 1)]), 1, &[with_gap(keyframe(1, 4), GapReason::Stalled)]);
    assert!(three.gaps.is_empty());
    let four = planned(&after(&[keyframe(0, 1)]), 1, &[with_gap(keyframe(1, 5), GapReason::Suspended)]);
    assert_eq!((four.gaps.len(), four.gaps[0].reason), (1, GapReason::Suspended));
    let merged = planned(&after(&[keyframe(0, 1)]), 1, &[heartbeats(1, 100, 101)]);
    check(&merged, "1..101 covered 101");
}

#[test]
fn a_sample_after_a_pause_without_keyframe_is_acked_into_a_gap_that_the_keyframe_closes() {
    let lost = planned(&after(&[keyframe(0, 1)]), 1, &[delta(1, 9), heartbeats(2, 2, 10)]);
    check(&lost, "1..3 covered 1 wants keyframe");
    check(
        &planned(&lost.after, 1, &[delta(3, 11), keyframe(4, 12)]),
        "gap 4 1..12 stalled
         close 0 at 1
         open 1 from 4 at 12
         Keyframe 4 on 4 stretch 1 at 12 after 1
         3..5 covered 12",
    );
}

#[test]
fn a_clock_step_opens_a_stretch_without_a_gap() {
    let stepped = At { wall_ms: NOW_MS - 3_600_000, boot_us: 2_000_000 };
    let plan = planned(&after(&[keyframe(0, 1)]), 1, &[arrival(RecordKind::Keyframe, 1, stepped), delta(2, 3)]);
    assert_eq!((plan.gaps.len(), plan.opened.len(), plan.closed.len()), (0, 1, 1));
    assert_eq!(plan.opened[0].at, stepped);
    assert_eq!(plan.frames[0].stretch, 1);
}

#[test]
fn within_a_stretch_stored_wall_time_never_falls() {
    let back = At { wall_ms: at(1).wall_ms - 300, boot_us: 1_100_000 };
    let plan = planned(&after(&[keyframe(0, 1)]), 1, &[arrival(RecordKind::Delta, 1, back), delta(2, 2)]);
    let walls: Vec<_> = plan.frames.iter().map(|f| f.wall_ms - NOW_MS).collect();
    assert_eq!(walls, [1000, 2000]);
    let far = At { wall_ms: at(1).wall_ms - 501, boot_us: 1_100_000 };
    check(
        &planned(&after(&[keyframe(0, 1)]), 1, &[arrival(RecordKind::Delta, 1, far)]),
        "1..2 covered 1 wants keyframe",
    );
}

#[test]
fn an_announced_stop_is_the_reason_of_the_next_epochs_gap() {
    let stop = with_gap(arrival(RecordKind::GapReason, 1, at(2)), GapReason::AgentStopped);
    check(
        &planned(&after(&[keyframe(0, 1), stop]), 2, &[keyframe(0, 2)]),
        "gap 0 1..2 agent_stopped
         open 0 from 0 at 2
         Keyframe 0 on 0 stretch 0 at 2 after -
         end 1 agent_stopped
         0..1 covered 2",
    );
}

#[test]
fn a_gap_reason_in_the_place_of_lost_records_makes_a_gap_however_short() {
    let lost = with_gap(arrival(RecordKind::GapReason, 1, at(1)), GapReason::SpoolDamaged);
    check(
        &planned(&after(&[keyframe(0, 1)]), 1, &[lost.clone(), keyframe(2, 3)]),
        "gap 2 1..3 spool_damaged
         close 0 at 1
         open 1 from 2 at 3
         GapReason 1 on 0 stretch 0 at 1 after 1
         Keyframe 2 on 2 stretch 1 at 3 after 1
         1..3 covered 3",
    );
    let beginning = with_gap(arrival(RecordKind::GapReason, 0, at(1)), GapReason::SpoolOverflow);
    let plan = planned(&state(&[stream(1, BOOT)]), 1, &[beginning, keyframe(40, 41)]);
    assert_eq!((plan.gaps[0].reason, plan.frames.len()), (GapReason::SpoolOverflow, 1));
}

#[test]
fn records_lost_before_the_agent_ended_are_the_reason_and_its_end_is_not() {
    use GapReason::{AgentKilled, AgentStopped, HistoryRestored, SpoolDamaged, SpoolOverflow, StateLost};
    for lost in [SpoolOverflow, SpoolDamaged, HistoryRestored] {
        let stand_in = with_gap(arrival(RecordKind::GapReason, 1, at(1)), lost);
        let stop = with_gap(arrival(RecordKind::GapReason, 2, at(5)), AgentStopped);
        // Within the epoch, and across its end, with or without the agent's own last word.
        for before in [vec![stand_in.clone()], vec![stand_in, stop]] {
            let mut records = vec![keyframe(0, 1)];
            records.extend(before);
            let state = after(&records);
            let gap = |epoch, seq, own| planned(&state, epoch, &[with_gap(keyframe(seq, 9), own)]).gaps[0].reason;
            for own in [AgentStopped, AgentKilled] {
                assert_eq!((gap(1, 3, own), gap(2, 0, own)), (lost, lost));
            }
            assert_eq!(gap(2, 0, StateLost), StateLost);
        }
    }
}

#[test]
fn another_boot_after_a_killed_agent_means_the_host_was_down() {
    let rebooted = |own| {
        let mut state = after(&[keyframe(0, 1)]);
        state.streams.insert(EpochNo(2), stream(2, BootId([2; 16])));
        let first = match own {
            Some(reason) => with_gap(keyframe(0, 9), reason),
            None => keyframe(0, 9),
        };
        planned(&state, 2, &[first]).gaps[0].reason
    };
    assert_eq!(rebooted(None), GapReason::HostDown);
    assert_eq!(rebooted(Some(GapReason::AgentKilled)), GapReason::HostDown);
    assert_eq!(rebooted(Some(GapReason::Unexplained)), GapReason::HostDown);
    assert_eq!(rebooted(Some(GapReason::StateLost)), GapReason::StateLost);
    let same_boot = planned(&after(&[keyframe(0, 1)]), 2, &[with_gap(keyframe(0, 9), GapReason::AgentKilled)]);
    assert_eq!(same_boot.gaps[0].reason, GapReason::AgentKilled);
    assert_eq!(planned(&after(&[keyframe(0, 1)]), 2, &[keyframe(0, 9)]).gaps[0].reason, GapReason::Unexplained);
}

#[test]
fn a_refused_record_is_a_gap_until_the_keyframe_with_the_databases_words() {
    let context = Context { received: RECEIVED, day: &|_| Day::FALLBACK };
    let state = after(&[keyframe(0, 1)]);
    let refused = refuse(HOST, &state, (EpochNo(1), &delta(1, 2)), "22P02 no".to_owned(), &context).unwrap();
    check(&refused, "1..2 covered 1 wants keyframe");
    assert!(refused.status.is_none());
    let plan = planned(&refused.after, 1, &[delta(2, 3), with_gap(keyframe(3, 4), GapReason::Stalled)]);
    assert_eq!((plan.gaps[0].reason, plan.gaps[0].detail.as_str()), (GapReason::RefusedRecord, "22P02 no"));
    assert_eq!(plan.frames.len(), 1);
    assert_eq!(plan.step.after.pending, None);
    // A refused keyframe is no answer: another is asked for.
    let again = refuse(HOST, &refused.after, (EpochNo(1), &keyframe(2, 3)), "22P02 no".to_owned(), &context).unwrap();
    check(&again, "2..3 covered 1 wants keyframe");
    // Also where the epoch's very first record is refused, and where the agent restarts before the keyframe.
    let fresh = self::state(&[stream(1, BOOT)]);
    let first = refuse(HOST, &fresh, (EpochNo(1), &keyframe(0, 1)), "23514 no".to_owned(), &context).unwrap();
    check(&planned(&first.after, 1, &[delta(1, 2)]), "1..2 covered -");
    let next = planned(&refused.after, 2, &[with_gap(keyframe(0, 9), GapReason::AgentKilled)]);
    assert_eq!(next.gaps[0].reason, GapReason::RefusedRecord);
}

#[test]
fn the_first_commit_of_an_epoch_asks_that_the_one_before_is_still_there() {
    let state = after(&[keyframe(0, 1), delta(1, 2)]);
    assert_eq!(planned(&state, 2, &[keyframe(0, 9)]).step.before, Some((EpochNo(1), Seq(2))));
    assert_eq!(planned(&state, 1, &[delta(2, 3)]).step.before, None);
    let rows = |next| vec![Stream { next: Seq(next), ..state.streams[&EpochNo(1)].clone() }];
    assert!(state.is_kept_by(&[rows(2), vec![state.streams[&EpochNo(2)].clone()]].concat()));
    assert!(!state.is_kept_by(&rows(1)) && !state.is_kept_by(&[]));
}

#[test]
fn a_record_beyond_the_next_that_is_no_keyframe_does_not_follow() {
    let context = Context { received: RECEIVED, day: &|_| Day::FALLBACK };
    let state = after(&[keyframe(0, 1)]);
    assert!(plan(HOST, &state, EpochNo(1), &[&delta(5, 2)], &context).is_err());
    assert!(plan(HOST, &state, EpochNo(9), &[&keyframe(0, 2)], &context).is_err());
}

#[test]
fn a_time_nobody_believes_goes_to_the_fallback_day() {
    let start = At { wall_ms: 5000, boot_us: 1 };
    let plan = planned(&state(&[stream(1, BOOT)]), 1, &[arrival(RecordKind::Keyframe, 0, start), delta(1, 1)]);
    assert_eq!((plan.frames[0].day, plan.frames[0].base.day), (Day::FALLBACK, Day::FALLBACK));
    assert_eq!(plan.frames[1].base.day, Day::FALLBACK);
    assert_ne!(plan.frames[1].day, Day::FALLBACK);
}

fn available(evidence: &str) -> Availability {
    Availability {
        state: SysvipcState::Available,
        evidence: vec![HostText::from(evidence)],
        remedy: HostText::default(),
    }
}

#[test]
fn facts_are_stored_where_they_change_and_an_earlier_boot_keeps_its_own() {
    let says = |mut a: Arrival, evidence| {
        a.says.availability = Some(available(evidence));
        a
    };
    let samples = [says(keyframe(0, 1), "a"), says(keyframe(1, 2), "a"), says(delta(2, 3), "b")];
    let plan = planned(&state(&[stream(1, BOOT)]), 1, &samples);
    assert_eq!(plan.facts.iter().map(|f| f.seq.0).collect::<Vec<_>>(), [0, 2]);

    let mut rebooted = plan.after;
    let kernel = |k: &str, boot_id| HostFacts { kernel: HostText::from(k), boot_id, ..HostFacts::default() };
    rebooted.facts = Some(Arc::new(Facts { availability: available("b"), risks: vec![], host: kernel("old", BOOT) }));
    rebooted.hello = Arc::new(kernel("new", BootId([2; 16])));
    let spooled = planned(&rebooted, 1, &[says(delta(3, 4), "c")]);
    assert_eq!(spooled.facts[0].facts.host.kernel, HostText::from("old"));
}

#[test]
fn a_risk_is_a_fact_that_keeps_the_availability_it_comes_without() {
    let risk = Risk { kind: RiskKind::RemoveIpc, why: HostText::from("alice"), remedy: HostText::from("lingering") };
    let mut first = keyframe(0, 1);
    (first.says.availability, first.says.risks) = (Some(available("a")), Some(vec![]));
    let mut at_risk = delta(1, 2);
    at_risk.says.risks = Some(vec![risk.clone()]);
    let mut blocked = delta(2, 3);
    blocked.says.availability = Some(available("b"));
    let plan = planned(&state(&[stream(1, BOOT)]), 1, &[first, at_risk, blocked, delta(3, 4)]);
    let told: Vec<_> = plan.facts.iter().map(|f| (f.seq.0, f.facts.risks.len(), &f.facts.availability)).collect();
    assert_eq!(told, [(0, 0, &available("a")), (1, 1, &available("a")), (2, 1, &available("b"))]);
}

#[test]
fn the_present_is_not_overwritten_by_a_backlog() {
    let used = |mut a: Arrival, inode, own, arrays| {
        let totals = Some(Totals { sem_arrays: arrays, ..Totals::default() });
        a.says.namespaces = vec![NamespaceUse { inode, own, totals, limits: None }];
        a
    };
    let mut state = planned(&state(&[stream(1, BOOT)]), 1, &[used(keyframe(0, 1), 77, true, 3)]).after;
    assert_eq!(state.present.unwrap().namespace, Some(77));
    let other = planned(&state, 1, &[used(delta(1, 2), 78, false, 9)]);
    assert_eq!(other.status.unwrap().usage.totals, None);

    state.ahead = Some(at(100));
    state.present = Some(Present { sampled_wall_ms: at(100).wall_ms, backlog_from_ms: Some(5), ..Present::default() });
    let behind = planned(&state, 1, &[used(delta(1, 2), 77, false, 9)]).status.unwrap();
    assert_eq!((behind.present.sampled_wall_ms, behind.usage.totals), (at(100).wall_ms, None));
    let caught_up = planned(&state, 1, &[heartbeats(1, 100, 101)]).status.unwrap();
    assert_eq!((caught_up.present.sampled_wall_ms, caught_up.present.backlog_from_ms), (at(101).wall_ms, None));
}

#[test]
fn what_a_host_costs_between_commits_does_not_grow_with_its_epochs() {
    let mut state = state(&(1..=20).map(|no| stream(no, BOOT)).collect::<Vec<_>>());
    for no in 1..=20 {
        state = planned(&state, no, &[keyframe(0, no), delta(1, no + 1)]).after;
    }
    assert_eq!(state.streams.len(), 1);
}
