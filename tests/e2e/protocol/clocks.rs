//! A host's clocks: set back, set forward, wrong since 1970, and a machine that slept.

use highwater_tests::answers::{host as host_in, instant};
use highwater_tests::cli::Cli;
use highwater_tests::collector::Up;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::Value;

use super::fake_host::FakeHost;
use super::gate::Gate;
use super::log::{Hole, Log, Told, at, ms, reasons, stored_once};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Within which two readings of two clocks are the same.
const CLOSE_MS: i64 = 2_000;

struct Rig {
    database: Database,
    up: Up,
    cli: Cli,
}

impl Rig {
    fn new() -> Self {
        let database = Postgres::shared().database();
        let up = Up::collector(&database);
        let cli = up.cli();
        Self { database, up, cli }
    }

    fn host(&self, name: &'static str) -> FakeHost {
        let mut host = FakeHost::enrol(&self.up, self.up.grpc(), name);
        host.start();
        host
    }

    /// Waits until `ipcs` now says so many arrays: what came before is stored.
    #[track_caller]
    fn current(&self, name: &str, arrays: usize) {
        let now = || self.cli.run(&["ipcs", name, "--json"]);
        until("now is right", PATIENCE, || {
            let answer = now();
            answer.code == 0 && answer.json()["namespaces"][0]["sem"].as_array().is_some_and(|s| s.len() == arrays)
        });
    }

    /// Everything that `timeline` tells between two instants of the host's clock.
    fn events(&self, name: &str, since: i64, until: i64, kinds: &str) -> Vec<Value> {
        let (since, until) = (instant(since), instant(until));
        let told = self.cli.json(&["timeline", name, "--since", &since, "--until", &until, "--kind", kinds]);
        told["events"].as_array().unwrap().clone()
    }

    fn status(&self, name: &str) -> Value {
        host_in(&self.cli.json(&["hosts"]), name).unwrap().clone()
    }
}

/// The one clock step told, milliseconds.
#[track_caller]
fn only_step(events: &[Value]) -> i64 {
    assert_eq!(events.len(), 1, "{events:?}");
    events[0]["detail"]["by_ms"].as_i64().unwrap_or_else(|| panic!("{events:?}"))
}

/// `log` says so many arrays for `host`, one after the other.
fn steps(log: &mut Log<'_>, host: &FakeHost, arrays: std::ops::RangeInclusive<usize>) {
    for n in arrays {
        log.change(n, || host.hold(n));
    }
}

#[test]
fn a_clock_set_back_by_an_hour_answers_in_both_hours_and_goes_on() {
    let rig = Rig::new();
    let host = rig.host("back");
    let mut first = Log::of(&host);
    let start = host.clock.wall_ms();
    steps(&mut first, &host, 1..=2);
    first.end();
    host.clock.step(-HOUR_MS);
    let mut second = Log::of(&host);
    steps(&mut second, &host, 3..=4);
    second.end();
    rig.current("back", 4);
    for log in [&first, &second] {
        let gaps = log.check(|asked| at(&rig.cli, "back", asked));
        assert!(reasons(&gaps).is_empty(), "{gaps:?}");
    }
    let step = only_step(&rig.events("back", start - HOUR_MS - CLOSE_MS, start + HOUR_MS, "clock_step"));
    assert!((step + HOUR_MS).abs() < CLOSE_MS, "{step}");
    // Objects came in the order in which they came, whatever the clock showed.
    let made = rig.events("back", start - HOUR_MS - CLOSE_MS, start + HOUR_MS, "created");
    let ids: Vec<_> = made.iter().map(|e| e["subject"]["id"].as_i64().unwrap()).collect();
    assert!(ids.is_sorted() && ids.ends_with(&[1, 2, 3]), "{ids:?}");
    let status = rig.status("back");
    assert_eq!(status["lifecycle"], "live", "{status}");
    assert!((status["skew_ms"].as_i64().unwrap() + HOUR_MS).abs() < CLOSE_MS, "{status}");
    // Between the two hours the clock has yet to come again: nothing is closed there.
    let ahead = rig.cli.run(&["ipcs", "back", "--json", "--at", &instant(start - HOUR_MS / 2)]);
    assert_eq!(ahead.code, 1, "an instant that has not come: {ahead:?}");
}

#[test]
fn in_a_time_that_came_twice_the_last_stretch_answers_and_the_other_is_listed() {
    let rig = Rig::new();
    let host = rig.host("twice");
    let mut first = Log::of(&host);
    steps(&mut first, &host, 1..=6);
    first.end();
    let set_at = host.clock.wall_ms();
    host.clock.step(-2_500);
    let mut second = Log::of(&host);
    steps(&mut second, &host, 7..=9);
    second.end();
    rig.current("twice", 9);
    let gaps = second.check(|asked| at(&rig.cli, "twice", asked));
    assert!(reasons(&gaps).is_empty(), "{gaps:?}");
    let both = second.spans[1];
    assert!(both.from + 400 < set_at, "{both:?} came twice, before {set_at}");
    assert_eq!(held_within(&rig.cli, "twice", both.from + 305, both.to.min(set_at)), (8, 1));
    let once = first.spans[0];
    assert_eq!(held_within(&rig.cli, "twice", once.from + 305, once.to), (1, 0));
}

/// The arrays, and the number of other stretches, that the first answer between two instants tells: a busy machine's
/// agent stalls now and then.
#[track_caller]
fn held_within(cli: &Cli, name: &str, from: i64, to: i64) -> (usize, usize) {
    let mut instants = (from..to).step_by(50);
    let held = instants.find_map(|asked| match at(cli, name, asked) {
        Told::Held { arrays, also, .. } => Some((arrays, also)),
        Told::Gap(_) => None,
    });
    held.expect("an instant without a gap")
}

#[test]
fn a_clock_set_forward_by_a_day_leaves_a_day_without_data_that_says_so() {
    let rig = Rig::new();
    let host = rig.host("forward");
    let start = host.clock.wall_ms();
    let mut first = Log::of(&host);
    steps(&mut first, &host, 1..=2);
    first.end();
    host.clock.step(DAY_MS);
    let mut second = Log::of(&host);
    steps(&mut second, &host, 3..=4);
    second.end();
    rig.current("forward", 4);
    for log in [&first, &second] {
        let gaps = log.check(|asked| at(&rig.cli, "forward", asked));
        assert!(reasons(&gaps).is_empty(), "{gaps:?}");
    }
    let never_shown = rig.cli.run(&["ipcs", "forward", "--json", "--at", &instant(start + DAY_MS / 2)]).must_exit(4);
    let gap = &never_shown.json()["gap"];
    assert!(gap["detail"].as_str().unwrap().contains("set forward"), "{gap}");
    let (from, to) = (ms(&gap["from"]).unwrap(), ms(&gap["to"]).unwrap());
    assert!(from < start + 5_000 && to > start + DAY_MS, "{gap}");
    let step = only_step(&rig.events("forward", start, start + 2 * DAY_MS, "clock_step"));
    assert!((step - DAY_MS).abs() < CLOSE_MS, "{step}");
    assert_eq!(rig.status("forward")["lifecycle"], "live");
}

#[test]
fn a_host_booted_in_1970_and_set_right_later_is_read_back_in_both_times_and_holds_up_nobody() {
    let rig = Rig::new();
    let other = rig.host("today");
    let gate = Gate::to(rig.up.grpc());
    // Two days after the epoch. One is connected all the while, one only once its clock is right.
    let mut early = FakeHost::enrol(&rig.up, rig.up.grpc(), "early");
    let mut late = FakeHost::enrol(&rig.up, &gate.url(), "late");
    gate.close();
    let ago = now_ms() - 200_000_000;
    for host in [&mut early, &mut late] {
        host.clock.step(-ago);
        host.start();
    }
    let (mut early_log, mut late_log) = (Log::of(&early), Log::of(&late));
    let mut today = Log::of(&other);
    for n in 1..=2 {
        late_log.change(n, || late.hold(n));
        early_log.change(n, || early.hold(n));
    }
    steps(&mut today, &other, 1..=1);
    rig.current("today", 1);
    let mut logs = [early_log, late_log];
    logs.iter_mut().for_each(Log::end);
    let right = [&early, &late].map(|host| {
        host.clock.step(ago);
        let mut log = Log::of(host);
        // A sample of its own, so that the step is told before what comes.
        log.pause(300);
        steps(&mut log, host, 3..=3);
        log
    });
    gate.open();
    for (host, log) in [("early", 0), ("late", 1)] {
        rig.current(host, 3);
        for log in [&logs[log], &right[log]] {
            let gaps = log.check(|asked| at(&rig.cli, host, asked));
            assert!(reasons(&gaps).is_empty(), "{host}: {gaps:?}");
        }
        let before = rig.cli.run(&["ipcs", host, "--json", "--at", "1970-01-01T00:00:01Z"]).must_exit(4);
        assert_eq!(before.json()["gap"]["reason"], "before_first");
        let made = rig.events(host, 0, now_ms(), "created,clock_step");
        let what: Vec<_> = made.iter().map(|e| e["kind"].as_str().unwrap()).collect();
        assert!(what.ends_with(&["clock_step", "created"]), "{made:?}");
        assert_eq!(rig.status(host)["lifecycle"], "live");
    }
    assert_ne!(rig.database.sql("SELECT count(*) FROM frame_fallback"), "0\n");
    let gaps = today.check(|asked| at(&rig.cli, "today", asked));
    assert!(reasons(&gaps).is_empty(), "{gaps:?}");
    stored_once(&rig.database);
}

#[test]
fn a_machine_that_slept_leaves_a_gap_suspended_and_one_that_was_stopped_awake_a_gap_stalled() {
    let rig = Rig::new();
    for (name, asleep, reason) in [("asleep", true, "suspended"), ("starved", false, "stalled")] {
        let host = rig.host(name);
        let mut before = Log::of(&host);
        let start = host.clock.wall_ms();
        steps(&mut before, &host, 1..=2);
        before.end();
        let slept_at = host.clock.wall_ms();
        host.clock.pass(HOUR_MS, asleep);
        let mut after = Log::of(&host);
        steps(&mut after, &host, 3..=4);
        after.end();
        rig.current(name, 4);
        for log in [&before, &after] {
            let gaps = log.check(|asked| at(&rig.cli, name, asked));
            assert!(reasons(&gaps).is_empty(), "{gaps:?}");
        }
        let Told::Gap(hole) = at(&rig.cli, name, slept_at + HOUR_MS / 2) else { panic!("{name} has a state") };
        let Hole { from, to, state, reason: why } = hole;
        assert_eq!((state.as_str(), why.as_deref()), ("closed", Some(reason)));
        let (from, to) = (from.unwrap(), to.unwrap());
        assert!((slept_at - from).abs() < CLOSE_MS && (slept_at + HOUR_MS - to).abs() < CLOSE_MS, "{from}..{to}");
        // Both clocks ran on together: nobody set one.
        assert!(rig.events(name, start, to + HOUR_MS, "clock_step").is_empty());
    }
}
