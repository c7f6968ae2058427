//! Each behaviour by a small telling series.

use super::eta::Kind;
use super::hours::{DAY, HOUR};
use super::why::Reason;
use super::{Evaluator, Event, Policy, Row, Severity, Transition};

/// Monday, 2026-01-05 00:00 UTC.
const MONDAY: f64 = 1_767_571_200.0;

/// A series under construction: rows every five minutes.
struct Series {
    rows: Vec<Row>,
    limit: u64,
    at: f64,
    noise: u64,
}

impl Series {
    fn new(limit: u64) -> Self {
        Self { rows: Vec::new(), limit, at: MONDAY, noise: 1 }
    }

    /// Uses `used(hours since the beginning of this stretch)` and a little noise for some hours.
    fn hours(mut self, hours: f64, used: impl Fn(f64) -> f64) -> Self {
        let begin = self.at;
        while self.at < begin + hours * HOUR {
            self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (self.noise >> 40) as f64 / (1_u64 << 24) as f64 - 0.5;
            let used = used((self.at - begin) / HOUR) + noise * 0.01 * self.limit as f64;
            self.push(used, Event::Sample);
            self.at += 300.0;
        }
        self
    }

    fn days(self, days: f64, used: impl Fn(f64) -> f64) -> Self {
        self.hours(days * 24.0, |hours| used(hours / 24.0))
    }

    fn event(mut self, used: f64, event: Event) -> Self {
        self.push(used, event);
        self.at += 300.0;
        self
    }

    fn limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
    fn push(&mut self, used: f64, event: Event) {
        let used = (used.round().max(0.0) as u64).min(self.limit);
        self.rows.push(Row { at: self.at, used, limit: self.limit, event });
    }

    fn said(&self) -> Vec<Transition> {
        said(&self.rows)
    }

    /// The instants at which the flag goes up and down, in days since Monday, with what it says.
    fn turns(&self) -> Vec<(f64, bool, Reason)> {
        let mut up = false;
        let turns = self.said().into_iter().filter(|t| std::mem::replace(&mut up, t.raised) != t.raised);
        turns.map(|t| ((t.at - MONDAY) / DAY, t.raised, t.why.reason)).collect()
    }
}

fn said(rows: &[Row]) -> Vec<Transition> {
    let mut evaluator = Evaluator::default();
    let mut said = Vec::new();
    rows.iter().for_each(|row| evaluator.take(row, &Policy::default(), |t| said.push(t)));
    said
}

/// A load that peaks at 14:00 each day.
fn daily(height: f64) -> impl Fn(f64) -> f64 {
    move |days| height * (0.5 + 0.5 * ((days - 14.0 / 24.0) * std::f64::consts::TAU).cos())
}

#[test]
fn a_steady_leak_is_flagged_days_before_with_the_instant_in_its_interval() {
    let series = Series::new(1_000).days(3.0, |_| 200.0).days(8.0, |d| 200.0 + 100.0 * d);
    let turns = series.turns();
    assert!(turns[0].0 < 6.5 && turns[0].1 && turns.len() == 1, "{turns:?}");
    for t in series.said().iter().filter(|t| t.at > MONDAY + 6.0 * DAY && t.at < MONDAY + 10.7 * DAY) {
        let (exhausted, eta) = (MONDAY + 11.0 * DAY, t.eta.unwrap());
        assert!((eta - exhausted).abs() < 0.25 * (exhausted - t.at) + 6.0 * HOUR, "{t:?}");
        assert!(t.eta_low.unwrap() <= exhausted && exhausted <= t.eta_high.unwrap(), "{t:?}");
        let per_day = t.why.growth_per_hour().unwrap() * 24.0;
        assert!((70.0..140.0).contains(&per_day), "{t:?}");
    }
}

#[test]
fn a_warning_becomes_critical_within_the_last_day() {
    let series = Series::new(1_000).days(3.0, |_| 200.0).days(8.5, |d| 200.0 + 100.0 * d);
    let first = |severity| series.said().into_iter().find(|t| t.severity == severity).unwrap().at - MONDAY;
    assert!(first(Severity::Critical) > first(Severity::Warning) + DAY);
    assert!((9.0..10.9).contains(&(first(Severity::Critical) / DAY)), "{}", first(Severity::Critical) / DAY);
}

#[test]
fn a_leak_that_speeds_up_is_expected_sooner_than_a_line_would() {
    let series = Series::new(1_000).days(3.0, |_| 100.0).days(9.0, |d| 100.0 + 900.0 * (d / 10.0).powi(2));
    let at = MONDAY + 10.0 * DAY;
    let last = series.said().into_iter().rfind(|t| t.at <= at).unwrap();
    let (left, line) = ((last.eta.unwrap() - at) / DAY, (900.0 - 900.0 * 0.49) / (900.0 * 0.49 / 7.0));
    assert!((2.0..4.5).contains(&left) && left < 0.65 * line, "{left} {line}");
}

#[test]
fn a_daily_peak_that_grows_is_seen_though_the_nights_stay_as_they_were() {
    let grows = |d: f64| 150.0 + daily(300.0 + 60.0 * d)(d);
    let series = Series::new(1_000).days(5.0, |d| 150.0 + daily(300.0)(d)).days(9.0, grows);
    let turns = series.turns();
    assert!(turns[0].0 < 10.0 && turns[0].1 && turns.len() == 1, "{turns:?}");
    let (day, _, Reason::Growth(kind, growth)) = turns[0] else { panic!("{turns:?}") };
    assert_eq!(kind, Kind::Peaks);
    assert!((50.0..70.0).contains(&growth.per_day), "{growth:?}");
    // The cap is 1,000: what peaks at 14:00 reaches it on the tenth day.
    let eta = (series.said().iter().find(|t| t.raised).unwrap().eta.unwrap() - MONDAY) / DAY;
    assert!((14.0..16.0).contains(&eta), "flagged on day {day} for day {eta}");
}

#[test]
fn a_growing_peak_that_nobody_sees_any_more_is_let_go() {
    let grows = |d: f64| 150.0 + daily(300.0 + 60.0 * d)(d);
    let mut series = Series::new(1_000).days(5.0, |d| 150.0 + daily(300.0)(d)).days(5.0, grows);
    // Too little of any day is seen since, and nothing grows.
    for _ in 0..5 {
        series = series.hours(16.0, |_| 400.0).event(400.0, Event::GapStart);
        series.at += 8.0 * HOUR;
        series = series.event(400.0, Event::GapEnd);
    }
    let turns = series.turns();
    assert!(turns.len() == 2 && turns[0].1 && !turns[1].1 && turns[1].0 < 12.5, "{turns:?}");
}

#[test]
fn peaks_that_stay_high_do_not_grow_they_are_tight() {
    let grows = |d: f64| 150.0 + daily((300.0 + 60.0 * d).min(800.0))(d);
    let series = Series::new(1_000).days(5.0, |d| 150.0 + daily(300.0)(d)).days(24.0, grows);
    let told = |days: std::ops::Range<f64>| {
        let within = series.said().into_iter().filter(|t| days.contains(&((t.at - MONDAY) / DAY)));
        within.filter(|t| matches!(t.why.reason, Reason::Growth(Kind::Peaks, _))).count()
    };
    assert!(told(5.0..14.0) > 0 && told(17.0..29.0) == 0, "{:?}", series.turns());
}

#[test]
fn a_weekend_under_a_leak_is_no_rest() {
    let office = |days: f64| if (MONDAY / DAY + days).floor() % 7.0 < 5.0 { 200.0 } else { 100.0 };
    let load = |days: f64| 100.0 + daily(office(days))(days);
    let series = Series::new(1_000).days(5.0, load).days(12.0, |d| 60.0 * d + load(5.0 + d));
    let turns = series.turns();
    assert!(turns.len() == 1 && turns[0].1 && turns[0].0 < 11.0, "up once, and over the days of less load: {turns:?}");
}

#[test]
fn what_hardly_grows_any_more_is_let_go_where_there_is_much_room() {
    let wave = |days: f64, period: f64| 15.0 * (days / period * std::f64::consts::TAU + 2.0).sin();
    let load = |days: f64| 150.0 + daily(100.0)(days) + [0.7, 1.9, 3.1].map(|p| wave(days, p)).iter().sum::<f64>();
    let series = Series::new(1_000)
        .days(3.0, load)
        .days(7.0, |d| 60.0 * d + load(3.0 + d))
        .days(6.0, |d| 420.0 + load(10.0 + d));
    let turns = series.turns();
    assert!(turns.last().is_some_and(|(day, up, _)| !up && *day < 13.0), "{turns:?}");
}

#[test]
fn what_came_to_rest_does_not_grow_again_as_long_as_it_moves_below_where_it_was() {
    let wave = |days: f64, period: f64| 15.0 * (days / period * std::f64::consts::TAU + 2.0).sin();
    let load = |days: f64| 200.0 + daily(180.0)(days) + [1.9, 3.1, 5.3, 7.7].map(|p| wave(days, p)).iter().sum::<f64>();
    let series = Series::new(1_000)
        .days(3.0, load)
        .days(6.0, |d| 60.0 * d + load(3.0 + d))
        .days(21.0, |d| 360.0 + load(9.0 + d));
    let turns = series.turns();
    assert!(turns.len() == 2 && turns[0].1 && turns[0].0 < 9.0 && turns[1].0 < 11.5, "{turns:?}");
}

#[test]
fn a_slow_leak_that_a_restart_ended_did_not_come_to_rest() {
    let leak = |days: f64| 100.0 + 40.0 * days + daily(40.0)(days);
    let series = Series::new(1_000).days(19.0, leak).event(0.0, Event::Reboot).days(21.0, leak);
    let again = series.turns().into_iter().find(|(day, up, _)| *up && *day > 19.1);
    assert!(
        again.is_some_and(|(day, ..)| day < 19.0 + 16.5),
        "seven days before, as the first time: {:?}",
        series.turns()
    );
}

#[test]
fn filling_up_again_after_a_restart_to_where_it_rested_is_no_news() {
    let fill = |d: f64| 100.0 + 400.0 * (1.0 - (-d / 0.8).exp());
    let series = [6.0, 5.0, 7.0]
        .into_iter()
        .fold(Series::new(1_000).days(5.0, fill), |s, days| s.event(0.0, Event::Reboot).days(days, fill));
    let turns = series.turns();
    assert!(turns.iter().all(|(day, up, _)| !up || *day < 5.0), "{turns:?}");
}

#[test]
fn a_daily_cycle_is_no_news_and_a_leak_under_it_is() {
    let cycle = Series::new(1_000).days(14.0, |d| 150.0 + daily(650.0)(d));
    assert_eq!(cycle.turns(), []);
    let leak =
        Series::new(1_000).days(4.0, |d| 150.0 + daily(250.0)(d)).days(9.0, |d| 150.0 + daily(250.0)(d) + 60.0 * d);
    assert!(leak.turns().first().is_some_and(|(day, up, _)| *up && *day < 8.0), "{:?}", leak.turns());
}

#[test]
fn a_height_from_which_use_came_back_by_itself_is_no_news() {
    let month_end = |d: f64| 150.0 + 600.0 * (1.0 - (d - 5.0).abs() / 4.0).max(0.0);
    let series = Series::new(1_000).days(12.0, month_end);
    let first = series.turns().len();
    assert!(first > 0, "the first time it is news");
    assert_eq!(series.days(12.0, month_end).turns().len(), first, "the second time it is none");
}

#[test]
fn a_surge_is_flagged_within_minutes() {
    let series = Series::new(1_000).days(2.0, |_| 200.0).hours(0.75, |h| 200.0 + 1_000.0 * h);
    let turns = series.turns();
    assert!(turns[0].1 && (turns[0].0 - 2.0) * 24.0 * 60.0 < 30.0, "{turns:?}");
}

#[test]
fn a_climb_of_hours_is_flagged_by_half_of_it() {
    for hours in [6.0, 10.0, 20.0, 36.0] {
        let series = Series::new(1_000).days(3.0, |_| 200.0).hours(hours, |h| 200.0 + 800.0 * h / hours);
        let turns = series.turns();
        assert!(turns[0].1 && (turns[0].0 - 3.0) * 24.0 <= 0.6 * hours + 1.0, "{hours} {turns:?}");
    }
}

#[test]
fn a_deployment_in_one_step_or_hour_by_hour_is_no_trend_for_long() {
    let step = Series::new(1_000).days(3.0, |_| 150.0).days(4.0, |_| 600.0);
    assert_eq!(step.turns(), []);
    let rolling = Series::new(1_000).days(3.0, |_| 150.0).hours(1.0, |h| 150.0 + 450.0 * h).days(3.0, |_| 600.0);
    let turns = rolling.turns();
    assert!(turns.last().is_none_or(|(day, up, _)| !up && *day < 3.35), "{turns:?}");
}

#[test]
fn growth_that_stops_is_let_go_within_two_days() {
    let series = Series::new(1_000).days(3.0, |_| 200.0).days(5.0, |d| 200.0 + 100.0 * d).days(8.0, |_| 700.0);
    let turns = series.turns();
    assert!(turns.len() == 2 && !turns[1].1 && turns[1].0 < 10.0, "{turns:?}");
}

#[test]
fn a_clean_up_and_a_reboot_clear_at_once_and_the_refill_is_no_surge() {
    let leak = || Series::new(1_000).days(3.0, |_| 300.0).days(5.0, |d| 300.0 + 100.0 * d);
    let cleaned = leak().days(3.0, |_| 300.0).turns();
    assert!(cleaned.len() == 2 && !cleaned[1].1 && cleaned[1].0 < 8.02, "{cleaned:?}");
    let quiet = Series::new(1_000).days(4.0, |_| 700.0).event(700.0, Event::GapStart).event(0.0, Event::Reboot);
    assert_eq!(quiet.hours(0.5, |h| 1_400.0 * h).days(2.0, |_| 700.0).turns(), []);
}

#[test]
fn a_limit_that_is_raised_far_away_clears_and_one_that_is_lowered_is_seen() {
    let leak = Series::new(1_000).days(3.0, |_| 200.0).days(5.0, |d| 200.0 + 100.0 * d);
    let raised = leak.limit(32_000).days(3.0, |d| 700.0 + 100.0 * d).turns();
    assert!(raised.len() == 2 && !raised[1].1 && raised[1].0 < 8.01, "{raised:?}");
    let lowered = Series::new(32_000).days(3.0, |_| 500.0).limit(400).days(1.0, |_| 500.0).said();
    assert_eq!(lowered[0].why.reason, Reason::Refusing);
    assert_eq!(lowered[0].severity, Severity::Critical);
}

#[test]
fn restarts_that_always_came_in_time_are_no_danger_and_teeth_that_grow_are() {
    let teeth = |grow: f64, count: u32| {
        let mut series = Series::new(1_000);
        for tooth in 0..count {
            let peak = 500.0 * (1.0 + grow * f64::from(tooth));
            series = series.days(1.5, |d| 100.0 + (peak - 100.0) * d / 1.5);
        }
        series
    };
    let first_teeth = 4.5;
    let steady = teeth(0.0, 12).turns();
    assert!(steady.iter().all(|(day, up, _)| !up || *day < first_teeth), "{steady:?}");
    let growing = teeth(0.1, 10).turns();
    let (day, up, _) = growing[growing.len() - 1];
    assert!(up && day < 12.0, "days before the tooth from day 15 on, which reaches the limit: {growing:?}");
}

#[test]
fn near_the_limit_is_tight_with_hysteresis() {
    let around = |used: f64, days: f64, series: Series| series.days(days, move |_| used);
    let series = around(930.0, 1.0, around(800.0, 2.0, Series::new(1_000)));
    let series = around(820.0, 1.0, around(870.0, 1.0, series));
    let turns = series.turns();
    assert_eq!(turns.iter().map(|(day, up, _)| (day.floor(), *up)).collect::<Vec<_>>(), [(2.0, true), (4.0, false)]);
    assert_eq!(turns[0].2, Reason::Tight);
}

#[test]
fn allocations_of_seventeen_are_refused_before_the_limit_is_reached() {
    let rows = |used: u64| -> Vec<Row> {
        (0..600_u32)
            .map(|i| Row {
                at: MONDAY + 300.0 * f64::from(i),
                used: used - 17 * u64::from(i % 2),
                limit: 1_000,
                event: Event::Sample,
            })
            .collect()
    };
    assert!(said(&rows(986)).iter().any(|t| t.why.reason == Reason::Refusing));
    assert!(said(&rows(969)).iter().all(|t| t.why.reason == Reason::Tight));
}

#[test]
fn a_limit_of_zero_switches_the_resource_off() {
    assert_eq!(Series::new(0).days(2.0, |_| 0.0).turns(), []);
}

#[test]
fn a_clock_that_is_set_back_amid_a_leak_changes_only_the_times() {
    let series = Series::new(1_000).days(3.0, |_| 200.0).days(8.0, |d| 200.0 + 100.0 * d);
    let mut set_back = series.rows.clone();
    let set_at = MONDAY + 3.3 * DAY;
    set_back.iter_mut().filter(|row| row.at >= set_at).for_each(|row| row.at -= 3.0 * HOUR);
    let (straight, jumped) = (series.said(), said(&set_back));
    let first = |said: &[Transition]| said.iter().find(|t| t.raised).map(|t| t.at).unwrap();
    assert!((first(&straight) - first(&jumped) - 3.0 * HOUR).abs() <= 2.0 * HOUR);
    assert!(jumped.iter().all(|t| t.raised), "{jumped:?}");
}

#[test]
fn nothing_is_known_within_a_gap_and_growth_goes_on_behind_it() {
    let mut series = Series::new(1_000).days(3.0, |_| 200.0).days(4.0, |d| 200.0 + 80.0 * d);
    series = series.event(520.0, Event::GapStart);
    series.at += 1.5 * DAY;
    series = series.event(640.0, Event::GapEnd).days(3.0, |d| 640.0 + 80.0 * d);
    let in_gap = |t: &Transition| t.at > MONDAY + 7.02 * DAY && t.at < MONDAY + 8.4 * DAY;
    assert!(!series.said().iter().any(in_gap));
    assert_eq!(series.turns().len(), 1, "up before and up behind it: {:?}", series.turns());
}

#[test]
fn a_leak_that_stops_is_let_go_within_a_day_and_taken_up_again_when_it_goes_on() {
    let series = Series::new(1_000).days(3.0, |_| 100.0).days(5.0, |d| 100.0 + 110.0 * d).days(4.0, |_| 650.0);
    let turns = series.turns();
    let [(raised, true, _), (cleared, false, _)] = turns[..] else { panic!("{turns:?}") };
    assert!(raised < 6.0 && (8.2..9.2).contains(&cleared), "{turns:?}");
    let turns = series.days(3.0, |d| 650.0 + 110.0 * d).turns();
    let [.., (again, true, _)] = turns[..] else { panic!("{turns:?}") };
    assert!(turns.len() == 3 && (12.2..13.2).contains(&again), "{turns:?}");
}

#[test]
fn a_leak_that_stops_under_a_daily_cycle_is_let_go_before_a_day_is_over() {
    let cycle = |d: f64| 60.0 * (std::f64::consts::TAU * d).sin();
    let leak = Series::new(1_000).days(3.0, |d| 150.0 + cycle(d)).days(5.0, |d| 150.0 + 110.0 * d + cycle(d));
    let series = leak.days(4.0, |d| 700.0 + cycle(d));
    let turns = series.turns();
    let [(raised, true, _), (cleared, false, _)] = turns[..] else { panic!("{turns:?}") };
    assert!(raised < 6.5 && (8.2..8.9).contains(&cleared), "{turns:?}");
}

#[test]
fn two_deployments_are_no_growth_and_one_each_day_is() {
    let step = |days: f64| if days < 1.0 { 150.0 } else { 150.0 + 120.0 * days.floor() };
    let two = Series::new(1_000).days(3.0, |_| 150.0).days(3.0, step).days(4.0, |_| 390.0);
    assert_eq!(two.turns(), []);
    let daily = Series::new(1_000).days(3.0, |_| 150.0).days(6.5, step);
    assert!(daily.turns().first().is_some_and(|(day, up, _)| *up && *day < 7.5), "{:?}", daily.turns());
}

#[test]
fn growth_that_is_over_already_is_not_raised() {
    // A campaign: up within a day and a half, and then it stays.
    let series = Series::new(1_000).days(5.0, |_| 200.0).days(1.2, |d| 200.0 + 200.0 * d).days(5.0, |_| 440.0);
    let after = series.turns().into_iter().filter(|(day, up, _)| *up && *day > 6.4);
    assert_eq!(after.collect::<Vec<_>>(), []);
}

#[test]
fn use_that_hovers_at_its_limit_is_critical_once_and_eases_when_there_is_room() {
    let hovering =
        Series::new(200).days(3.0, |_| 120.0).days(1.0, |d| if (d * 96.0) % 2.0 < 1.0 { 201.0 } else { 194.0 });
    let severities = |series: &Series| {
        let mut said: Vec<Severity> = series.said().iter().filter(|t| t.raised).map(|t| t.severity).collect();
        said.dedup();
        said
    };
    assert_eq!(severities(&hovering), [Severity::Critical]);
    let roomy = hovering.limit(208).hours(20.0, |_| 195.0);
    assert_eq!(severities(&roomy), [Severity::Critical, Severity::Warning]);
}
