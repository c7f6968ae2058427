//! Histories of hosts, and what is told to be the cause.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_ipc::limits::Resource;
use proptest::prelude::*;

use super::maker::Shown;
use super::scene::Scene;
use super::words::words;
use super::{Key, Pace};
use crate::evaluate::feed::Place;
use crate::flag::{Cause, CauseKind};

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;

/// What somebody reads first: sort, program, what each adds, how many of how many.
fn short(cause: Option<Cause>) -> String {
    let Some(cause) = cause else { return "none".to_owned() };
    format!("{} {} +{:.1} {}/{}", cause.kind.name(), cause.comm, cause.per_event, cause.seen, cause.of)
}

/// A service that makes some at its start, and two more at each reload.
fn reloads(scene: &mut Scene, count: usize, every: i64) {
    scene.make(100, "nginx", 4);
    for _ in 0..count {
        scene.pass(every);
        scene.make(100, "nginx", 2);
    }
    scene.pass(5 * MINUTE);
}

#[test]
fn reloads_say_how_many_are_left_and_when_those_will_have_been() {
    let mut scene = Scene::new();
    reloads(&mut scene, 31, 4 * HOUR);
    let cause = scene.told(95).expect("a cause");
    assert_eq!(short(Some(cause.clone())), "reload nginx +2.0 31/31");
    assert_eq!(cause.left, 47);
    assert_eq!(
        words(&cause, Resource::Semmni),
        "+2.0 per reload of nginx (31 of 31), 47 left, at your 6 a day: 7.8 days (7.6 to 8.1)"
    );
}

/// A program that makes some and frees them, again and again; how many there are of it differs.
struct Noise {
    held: Vec<i32>,
    turn: usize,
}

impl Noise {
    fn turn(&mut self, scene: &mut Scene) {
        let freed = std::mem::take(&mut self.held);
        scene.free(500, "php-fpm", &freed);
        self.held = scene.make(500, "php-fpm", 3 + self.turn % 5);
        self.turn += 1;
    }
}

#[test]
fn reloads_amid_a_program_that_makes_and_frees_are_told() {
    let mut scene = Scene::new();
    let mut noise = Noise { held: Vec::new(), turn: 0 };
    scene.make(100, "nginx", 4);
    for _ in 0..8 {
        for _ in 0..60 {
            scene.pass(3 * MINUTE);
            noise.turn(&mut scene);
        }
        scene.make(100, "nginx", 2);
    }
    scene.pass(5 * MINUTE);
    assert_eq!(short(scene.told(40)), "reload nginx +2.0 8/8");
}

/// A service is killed and started again; what it made stays.
fn kills(scene: &mut Scene, count: usize, every: i64) {
    for n in 0..=count {
        let pid = 1_000 + i32::try_from(n).unwrap();
        scene.make(pid, "httpd", 5);
        scene.pass(every);
        if n < count {
            scene.end(pid);
            scene.pass(20);
        }
    }
}

#[test]
fn a_service_that_is_killed_at_each_restart_is_told_with_how_many_restarts_are_left() {
    let mut scene = Scene::new();
    kills(&mut scene, 23, 26 * HOUR);
    let cause = scene.told(13).expect("a cause");
    assert_eq!(short(Some(cause.clone())), "killed httpd +5.0 23/23");
    let told = words(&cause, Resource::Semmni);
    assert!(told.starts_with("+5 arrays at each of 23 restarts of httpd whose processes were killed"), "{told}");
    assert!(told.contains("(their arrays stayed behind); 2 left"), "{told}");
    assert!(told.ends_with("let it stop in an orderly way: raise TimeoutStopSec"), "{told}");
}

#[test]
fn restarts_in_which_everything_is_freed_count_and_add_nothing() {
    let mut scene = Scene::new();
    for n in 0..20 {
        let ids = scene.make(1_000 + n, "httpd", 5);
        scene.pass(6 * HOUR);
        if n % 4 > 0 {
            scene.free(1_000 + n, "httpd", &ids);
        }
        scene.end(1_000 + n);
        scene.pass(30);
    }
    assert_eq!(short(scene.told(50)), "killed httpd +5.0 5/19");
    let mut orderly = Scene::new();
    for n in 0..20 {
        let ids = orderly.make(1_000 + n, "httpd", 5);
        orderly.pass(6 * HOUR);
        orderly.free(1_000 + n, "httpd", &ids);
        orderly.end(1_000 + n);
    }
    assert_eq!(short(orderly.told(50)), "none");
}

#[test]
fn restarts_within_minutes_are_a_crash_loop_while_they_go_on() {
    let mut scene = Scene::new();
    kills(&mut scene, 12, 40);
    scene.pass(25);
    let cause = scene.told(35).expect("a cause");
    assert_eq!((cause.kind, cause.left), (CauseKind::CrashLoop, 7));
    let told = words(&cause, Resource::Semmni);
    assert!(told.starts_with("crash loop of httpd, 1 a minute: +5 arrays each time ("), "{told}");
    assert!(told.contains("), 7 left: 7.0 minutes ("), "{told}");
    scene.pass(HOUR);
    assert_eq!(short(scene.told(35)), "killed httpd +5.0 12/12", "it is over");
}

#[test]
fn a_trickle_has_no_cause() {
    // One array at a time, at any pace and however evenly; many of them in a row; and unevenly rare ones.
    for (every, count) in [(5, 400), (45, 200), (90, 60), (4 * MINUTE, 60), (20 * MINUTE, 60)] {
        let mut scene = Scene::new();
        for n in 0..count {
            scene.make(7, "worker", 1);
            scene.pass(every + n % 3);
        }
        scene.pass(5 * MINUTE);
        assert_eq!(short(scene.told(40)), "none", "one each {every} s");
    }
    let mut scene = Scene::new();
    for n in 0..30 {
        scene.make(7, "worker", 1);
        scene.pass(HOUR * [2, 9, 1, 5, 3][n % 5]);
    }
    assert_eq!(short(scene.told(40)), "none", "it may be rare, but is not even");
}

#[test]
fn one_array_each_day_by_one_process_is_a_job_or_a_reload() {
    let mut scene = Scene::new();
    for n in 0..9 {
        scene.make(7, "nginx", 1);
        scene.pass(24 * HOUR + n * 40);
    }
    assert_eq!(short(scene.told(40)), "reload nginx +1.0 8/8");
}

#[test]
fn one_process_that_makes_now_more_now_less_is_not_said_to_reload() {
    let mut scene = Scene::new();
    for n in 0..12 {
        scene.make(7, "importer", 2 + n % 4);
        scene.pass(30 * MINUTE);
    }
    let cause = scene.told(40).expect("a cause");
    assert_eq!(cause.kind, CauseKind::Recurring);
    let told = words(&cause, Resource::Semmni);
    assert!(told.contains(" arrays each time importer (the same process) makes some (11 of 11), "), "{told}");
}

#[test]
fn what_makes_most_of_it_is_told_and_what_makes_little_of_it_never() {
    let both = |small: i64, reloads: usize| {
        let mut scene = Scene::new();
        scene.make(100, "nginx", 4);
        for n in 0..10 {
            let pid = 1_000 + n;
            scene.make(pid, "httpd", 5);
            for _ in 0..reloads {
                scene.pass(small);
                scene.make(100, "nginx", 2);
            }
            scene.end(pid);
            scene.pass(30);
        }
        scene.make(1_010, "httpd", 5);
        scene.pass(5 * MINUTE);
        short(scene.told(40))
    };
    assert_eq!(both(6 * HOUR, 1), "killed httpd +5.0 10/10");
    assert_eq!(both(2 * HOUR, 8), "reload nginx +2.0 32/32");
    // Most of it is a trickle of something else.
    let mut scene = Scene::new();
    scene.make(100, "nginx", 4);
    for n in 0..1_200 {
        scene.make(7, "worker", 1);
        scene.pass(3 * MINUTE);
        if n % 80 == 79 {
            scene.make(100, "nginx", 2);
        }
    }
    assert_eq!(short(scene.told(40)), "none");
}

#[test]
fn a_gap_and_a_boot_make_no_event_and_what_was_seen_before_still_counts() {
    let mut scene = Scene::new();
    reloads(&mut scene, 5, 4 * HOUR);
    scene.gap(30 * HOUR);
    scene.sample();
    reloads_go_on(&mut scene, 100, 3);
    let cause = scene.told(40).expect("a cause");
    assert_eq!(short(Some(cause.clone())), "reload nginx +2.0 8/8");
    assert!((cause.per_day - 6.0).abs() < 0.3, "what nobody saw is no time: {}", cause.per_day);
    scene.reboot();
    scene.make(100, "nginx", 4);
    reloads_go_on(&mut scene, 100, 3);
    assert_eq!(short(scene.told(40)), "reload nginx +2.0 11/11", "the start after a boot is no reload");

    // What starts again while nobody looks, or with the machine, was never seen to be killed.
    let (mut unseen, mut boots) = (Scene::new(), Scene::new());
    for n in 0..12 {
        unseen.gap(HOUR);
        unseen.end(100 + n);
        unseen.appear(101 + n, "httpd", 5);
        unseen.pass(HOUR);
        boots.make(100 + n, "httpd", 5);
        boots.pass(HOUR);
        boots.reboot();
    }
    assert_eq!((short(unseen.told(40)), short(boots.told(40))), ("none".to_owned(), "none".to_owned()));
}

fn reloads_go_on(scene: &mut Scene, pid: i32, count: usize) {
    for _ in 0..count {
        scene.pass(4 * HOUR);
        scene.make(pid, "nginx", 2);
    }
    scene.pass(5 * MINUTE);
}

#[test]
fn of_semaphores_it_counts_semaphores() {
    let mut scene = Scene::new();
    for _ in 0..6 {
        scene.make_large(100, "postgres", 2, 17);
        scene.pass(5 * HOUR);
    }
    let cause = scene.told_of(Resource::Semmns, 100).expect("a cause");
    assert_eq!((cause.per_event, cause.left), (34.0, 2));
}

#[test]
fn what_adds_little_of_the_growth_that_a_flag_rests_on_is_not_its_cause() {
    let mut scene = Scene::new();
    reloads(&mut scene, 8, 4 * HOUR);
    let told = |per_hour| short(scene.told_amid(Resource::Semmni, 40, Some(per_hour)));
    assert_eq!([told(0.5), told(1.5)], ["reload nginx +2.0 8/8"; 2]);
    assert_eq!(told(5.0), "none", "nobody saw who makes the rest");
}

#[test]
fn what_is_more_than_a_trace_lists_is_counted_all_the_same() {
    let mut scene = Scene::new();
    for _ in 0..6 {
        scene.make(100, "importer", 200);
        scene.pass(5 * HOUR);
    }
    assert_eq!(short(scene.told(2_000)), "reload importer +200.0 5/5");
}

#[test]
fn a_clean_up_is_no_part_of_what_a_program_adds() {
    let mut scene = Scene::new();
    let mut made = scene.make(100, "nginx", 4);
    for n in 0..12 {
        scene.pass(4 * HOUR);
        made = scene.make(100, "nginx", 2).into_iter().chain(made).collect();
        if n == 6 {
            scene.pass(HOUR);
            let (gone, kept) = made.split_at(10);
            scene.free(9_999, "ipcrm", gone);
            made = kept.to_vec();
        }
    }
    scene.pass(HOUR);
    assert_eq!(short(scene.told(90)), "reload nginx +2.0 12/12");
}

#[test]
fn programs_beyond_what_is_remembered_push_out_those_of_which_less_is_known() {
    let mut scene = Scene::new();
    reloads(&mut scene, 4, 4 * HOUR);
    for n in 0..200 {
        scene.make(5_000 + n, &format!("job-{n}"), 1);
        scene.pass(10 * MINUTE);
    }
    reloads_go_on(&mut scene, 100, 1);
    assert!(scene.causes.makers.len() <= super::MOST_MAKERS);
    assert_eq!(short(scene.told(90)), "reload nginx +2.0 5/5");
}

#[test]
fn whoever_does_nothing_costs_nothing_and_the_most_there_can_be_is_little() {
    use crate::evaluate::state;
    let mut quiet = Scene::new();
    quiet.pass(HOUR);
    quiet.sample();
    let bytes = |scene: &Scene| postcard::to_allocvec(&scene.causes).unwrap().len();
    assert!(bytes(&quiet) < 16, "{}", bytes(&quiet));
    let mut busy = Scene::new();
    let all: BTreeMap<i32, u64> = (0..9_000).map(|id| (id, 17)).collect();
    let shown = Shown { present: all, is_whole: true, ..Shown::default() };
    for n in 0..super::MOST_MAKERS {
        let key = Key { place: Place::Own, kind: 0, comm: format!("program-{n:02}").into_bytes(), uid: Some(33) };
        let maker = busy.causes.maker(key);
        for event in 0..40_i32 {
            let (pid, at_ms) = (1_000_000 + event, i64::from(event) * 7_200_000);
            let ids: Vec<i32> = (0..64).map(|id| event * 64 + id).collect();
            maker.make(pid, at_ms, &ids, 200);
            maker.see(&shown);
            maker.settle(at_ms + 60_000, &Pace::default(), false);
        }
        maker.make(7, 1 << 40, &(0..64).collect::<Vec<_>>(), 64);
    }
    let most = bytes(&busy);
    assert!(most < 150_000 && state::pack(&busy.causes).unwrap().len() < most, "{most}");
}

/// What happens to a host next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Pass(i64),
    Make(i32, usize),
    Free(usize),
    End(i32),
    Gap(i64),
    Reboot,
}

fn next() -> impl Strategy<Value = Next> {
    prop_oneof![
        5 => (0..9_000_i64).prop_map(Next::Pass),
        5 => (1..6_i32, 1..70_usize).prop_map(|(pid, count)| Next::Make(pid, count)),
        3 => any::<u8>().prop_map(|n| Next::Free(usize::from(n))),
        2 => (1..6_i32).prop_map(Next::End),
        1 => (100..90_000_i64).prop_map(Next::Gap),
        1 => Just(Next::Reboot),
    ]
}

fn play(scene: &mut Scene, story: &[Next]) {
    let mut made: Vec<(i32, Vec<i32>)> = Vec::new();
    for next in story {
        match *next {
            Next::Pass(seconds) => {
                scene.pass(seconds);
                scene.ends_step();
            }
            Next::Make(pid, count) => made.push((pid, scene.make(pid, &format!("p{}", pid % 2), count))),
            Next::Free(which) if !made.is_empty() => {
                let (pid, ids) = made.remove(which % made.len());
                scene.free(pid, &format!("p{}", pid % 2), &ids);
            }
            Next::Free(_) => scene.sample(),
            Next::End(pid) => scene.end(pid),
            Next::Gap(seconds) => scene.gap(seconds),
            Next::Reboot => {
                made.clear();
                scene.reboot();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn however_samples_are_cut_into_steps_the_same_is_remembered(story in proptest::collection::vec(next(), 0..60)) {
        let (mut whole, mut cut) = (Scene::new(), Scene::new().cut());
        play(&mut whole, &story);
        play(&mut cut, &story);
        // Where the story ends both know as much.
        whole.sample();
        cut.sample();
        prop_assert_eq!(&whole.causes, &cut.causes);
        prop_assert!(whole.causes.makers.len() <= super::MOST_MAKERS);
    }

    /// The program that leaks is told, whatever else goes on; which sort of events it is, too.
    #[test]
    fn of_generated_histories_the_culprit_is_told(
        (kind, size, count) in (0..2_usize, 2..9_usize, 6..20_usize),
        every in 30 * MINUTE..9 * HOUR,
        jitter in 0..20_i64,
        (noise, trickle) in (0..8_usize, any::<bool>()),
        (gap_at, boot_at) in (0..60_usize, 0..60_usize),
    ) {
        let mut scene = Scene::new();
        let (mut held, mut pid): (Vec<i32>, i32) = (Vec::new(), 100);
        scene.make(pid, "leaky", size);
        for n in 0..count {
            let wait = every + every * jitter / 100 * [0, 3, -2, 1, -1][n % 5] / 3;
            for _ in 0..noise {
                scene.pass(wait / 8);
                let freed = std::mem::take(&mut held);
                scene.free(500, "noisy", &freed);
                held = scene.make(500, "noisy", 1 + (n * 7 + freed.len()) % 9);
            }
            scene.pass(wait - wait / 8 * i64::try_from(noise).unwrap());
            if trickle && n % 4 == 3 {
                scene.make(600, "slow", 1);
            }
            if n == gap_at {
                scene.gap(7 * HOUR);
            }
            if n == boot_at {
                scene.reboot();
                held.clear();
                scene.make(pid, "leaky", size);
                scene.pass(every);
            }
            if kind == 1 {
                scene.end(pid);
                scene.pass(25);
                pid += 1;
            }
            scene.make(pid, "leaky", size);
        }
        scene.pass(11 * MINUTE);
        let told = scene.told(100).expect("a cause");
        let expected = [CauseKind::Reload, CauseKind::Killed][kind];
        prop_assert_eq!((told.comm.as_str(), told.kind), ("leaky", expected));
        prop_assert!((told.per_event - size as f64).abs() < 0.01, "{:?}", told);
    }

    /// Single arrays at random times are a trickle, however long one looks.
    #[test]
    fn of_generated_trickles_nothing_is_told(
        mean in 20..3_000_i64,
        waits in proptest::collection::vec(0.0..1.0_f64, 30..120),
    ) {
        let mut scene = Scene::new();
        for wait in waits {
            scene.make(7, "slow", 1);
            let wait = Duration::from_secs_f64(-(1.0 - wait).ln() * mean as f64);
            scene.pass(i64::try_from(wait.as_secs()).unwrap() + 1);
        }
        scene.pass(6 * MINUTE);
        prop_assert_eq!(short(scene.told(100)), "none");
    }
}
