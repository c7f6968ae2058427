//! Stories told from states that are written as text, as `scenes.rs` reads it.

use highwater_ipc::object::Kind;
use highwater_ipc::record::{Event as Beside, GapReason};
use highwater_ipc::time::At;

use super::diff::{bury, ids_of, owner_changes};
use super::fold::Said;
use super::scenes::{activity, check, own, position, sample_step, show, show_diff, state, stretch, told_step};
use super::story::Story;
use super::trail::MOST_CARRIED;
use super::walk::Step;

#[test]
fn what_came_and_went_is_told_with_both_samples() {
    check(
        "sem 5 key=1 nsems=3
         +
         sem 5 key=1 nsems=3
         sem 6 key=2 nsems=1 uid=33
         +
         sem 6 key=2 nsems=1 uid=33",
        "1s agent_started
         (1s..2s created sem 6
         (2s..3s removed sem 5",
    );
}

#[test]
fn an_id_that_returns_with_other_fixed_fields_is_another_object() {
    check(
        "sem 5 key=1 nsems=3\n+\nsem 5 key=1 nsems=4\n+\nsem 5 key=1 nsems=4 uid=7",
        "1s agent_started
         (1s..2s removed sem 5
         (1s..2s created sem 5
         (2s..3s changed sem 5",
    );
    // IPC_RMID on an attached segment turns its key into 0: it is still the same one.
    check("shm 5 key=1 size=10\n+\nshm 5 key=0 size=10", "1s agent_started\n(1s..2s changed shm 5");
}

#[test]
fn a_list_that_could_not_be_read_is_not_all_removed_and_its_return_not_all_created() {
    check(
        "sem 5 key=1 nsems=3\nsem 6 key=2 nsems=3
         +
         unreadable sem
         +
         sem 6 key=2 nsems=3\nsem 7 key=3 nsems=3",
        "1s agent_started
         1s unread sem 1s..3s
         (2s..3s removed sem 5
         (2s..3s created sem 7",
    );
    check("unreadable sem\n+\nsem 6 key=2 nsems=3", "1s agent_started\n2s unread sem ?..2s");
}

#[test]
fn a_list_is_unread_since_it_was_read_and_until_it_is_again_or_its_namespace_goes() {
    let said = |samples: &str| {
        let mut story = Story::default();
        for (second, text) in (1..).zip(samples.split('+')) {
            story.tell(&told_step(0, second, state(text), activity(text), None));
        }
        show(&story.unread())
    };
    assert_eq!(said("sem 5 key=1 nsems=3\n+\nunreadable sem\n+\nunreadable sem"), "1s unread sem 1s..?");
    assert_eq!(said("sem 5 key=1 nsems=3\n+\nin 8 pause\nunreadable shm"), "2s unread shm ?..? in pause");
    assert_eq!(said("unreadable sem"), "1s unread sem ?..?");
    check(
        "+\nin 8 pause\nunreadable shm\n+\n",
        "1s agent_started
         (1s..2s namespace_appeared in pause
         3s unread shm ?..3s in pause
         (2s..3s namespace_gone, 0 0 0 with 0 bytes in pause",
    );
    // It ends with its stretch, here a boot: no sample between that one and the next tells anything of it.
    check(
        "sem 5 key=1 nsems=3\n+\nunreadable sem\n+\nboot 2\nunreadable sem\n+\nboot 2",
        "1s agent_started
         1s unread sem 1s..1s
         (1s..3s reboot, lost 1 0 0
         3s agent_started
         4s unread sem ?..4s",
    );
}

#[test]
fn a_row_that_was_left_out_is_not_removed() {
    check(
        "sem 5 key=1 nsems=3\nsem 6 key=2 nsems=3
         +
         sem 6 key=2 nsems=3\nleft_out sem 1
         +
         sem 5 key=1 nsems=3\nsem 6 key=2 nsems=3
         +
         sem 6 key=2 nsems=3",
        "1s agent_started\n(3s..4s removed sem 5",
    );
}

#[test]
fn a_reboot_takes_everything_and_is_told_once() {
    check(
        "limit semmni=131072\nsem 5 key=1 nsems=3\nshm 9 key=1 size=10
         +
         boot 2\nlimit semmni=128\nsem 5 key=1 nsems=3",
        "1s agent_started
         (1s..2s reboot, lost 1 1 0
         2s agent_started
         (1s..2s SEMMNI 131072 -> 128
         (1s..2s created sem 5",
    );
}

#[test]
fn names_are_no_events() {
    check("sem 5 key=1 nsems=3\nname 0 root\n+\nsem 5 key=1 nsems=3\nname 0 toor", "1s agent_started");
}

#[test]
fn what_the_agent_says_beside_its_samples_is_told() {
    let mut story = Story::default();
    let at = At { wall_ms: 7_000, boot_us: 0 };
    let step = |said| Step {
        position: position(0, 9),
        stretch: stretch(0),
        wall_ms: at.wall_ms,
        prev_wall_ms: None,
        received_ms: 0,
        said,
        opening: false,
    };
    let clock = story.tell(&step(Said::Event(at, Beside::ClockStep { before: at, by_ms: -3_600_000 })));
    assert_eq!(show(&clock), "7s clock_step -3600000");
    assert_eq!(show(&story.tell(&step(Said::GapReason(at, GapReason::AgentStopped)))), "7s agent_stopped");
    assert_eq!(show(&story.tell(&step(Said::GapReason(at, GapReason::Suspended)))), "");
    assert_eq!(show(&story.tell(&step(Said::Heartbeat(at)))), "");
}

#[test]
fn a_new_epoch_that_continues_the_same_process_is_no_start() {
    let mut story = Story::default();
    story.tell(&sample_step(0, 1, state("sem 5 key=1 nsems=3"), None));
    let forked = story.tell(&sample_step(1, 2, state("sem 5 key=1 nsems=3"), Some(GapReason::Forked)));
    assert_eq!(show(&forked), "");
    let started = story.tell(&sample_step(2, 3, state("sem 5 key=1 nsems=3"), Some(GapReason::AgentKilled)));
    assert_eq!(show(&started), "3s agent_started");
}

#[test]
fn a_diff_lists_what_went_what_changed_and_what_came() {
    let before = state("sem 5 key=1 nsems=3\nsem 6 key=2 nsems=3\nsem 8 key=4 nsems=1");
    let after = state("sem 6 key=2 nsems=3 uid=9\nsem 7 key=3 nsems=3\nsem 8 key=4 nsems=1");
    let all = [5, 6, 8].map(|id| (own(), Kind::Sem, id));
    let survived = all.into_iter().filter(|(_, _, id)| *id != 5).collect();
    assert_eq!(show_diff(&before, &after, &survived), "removed 5, changed 6, added 7");
    // An object that a sample in between lacked is another one, though nothing in it differs.
    let survived = all.into_iter().filter(|(_, _, id)| *id == 6).collect();
    assert_eq!(show_diff(&before, &after, &survived), "removed 5, changed 6, removed 8, added 7, added 8");
}

#[test]
fn a_diff_says_nothing_of_a_list_that_one_side_could_not_read() {
    let (some, none) = (state("sem 5 key=1 nsems=3"), state("unreadable sem"));
    let survived = [(own(), Kind::Sem, 5)].into();
    assert_eq!(show_diff(&some, &none, &survived), "");
    assert_eq!(show_diff(&none, &some, &Default::default()), "");
    assert!(owner_changes(&some, &none).is_empty());
}

#[test]
fn a_diff_adds_nothing_that_the_earlier_list_left_out_and_sums_no_list_with_holes() {
    let holes = state("sem 5 key=1 nsems=3\nleft_out sem 1");
    let both = state("sem 5 key=1 nsems=3\nsem 6 key=2 nsems=3");
    let survived = ids_of(&holes);
    assert_eq!(show_diff(&holes, &both, &survived), "");
    assert!(owner_changes(&holes, &both).is_empty());
    // What is listed later is there, whatever else is: a row more was added.
    let more = state("sem 5 key=1 nsems=3\nsem 7 key=3 nsems=3\nleft_out sem 1");
    assert_eq!(show_diff(&both, &more, &ids_of(&both)), "added 7");
    assert!(owner_changes(&both, &more).is_empty());
}

#[test]
fn a_diff_removes_the_objects_of_a_namespace_that_is_gone() {
    let (before, after) = (state("sem 5 key=1 nsems=3"), state("namespace 7\nsem 6 key=1 nsems=3"));
    let mut story = Story::default();
    let mut survived = ids_of(&before);
    for (second, state) in [(1, &before), (2, &after)] {
        for event in story.tell(&sample_step(0, second, state.clone(), None)) {
            bury(&mut survived, &event);
        }
    }
    assert_eq!(show_diff(&before, &after, &survived), "removed 5, added 6");
}

#[test]
fn owners_are_summed_by_kind() {
    let before = state("sem 5 key=1 nsems=3 uid=33\nshm 1 key=0 size=100 uid=33");
    let after = state("sem 5 key=1 nsems=3 uid=33\nsem 6 key=2 nsems=4 uid=33\nshm 1 key=0 size=100 uid=33");
    let sums = owner_changes(&before, &after);
    let [one] = sums.as_slice() else { panic!("{sums:?}") };
    assert_eq!((one.kind, one.uid), (Kind::Sem, 33));
    assert_eq!((one.before.objects, one.after.objects, one.after.semaphores), (1, 2, 7));
}

/// Tells it once, and again from each sample on as a page would that ends before it: the same is said.
fn check_resumed(samples: &str) {
    let steps: Vec<Step> = (1..)
        .zip(samples.split('+'))
        .map(|(second, text)| told_step(0, second, state(text), activity(text), None))
        .collect();
    let opening = |step: &Step| Step { opening: true, ..step.clone() };
    // The whole may have been opened, too.
    for opened in 0..2 {
        let mut cuts = Vec::new();
        let mut told = Vec::new();
        let mut whole = Story::default();
        for (index, step) in steps.iter().enumerate() {
            cuts.push(whole.anchor());
            told.push(whole.tell(&if index < opened { opening(step) } else { step.clone() }));
        }
        for (cut, anchor) in cuts.into_iter().enumerate().filter_map(|(cut, anchor)| Some((cut, anchor?))) {
            let mut page = Story::resumed(anchor);
            let from = steps.iter().position(|step| step.position >= anchor.from).unwrap_or(steps.len());
            if let Some(before) = from.checked_sub(1) {
                page.tell(&opening(&steps[before]));
            }
            for (index, step) in steps.iter().enumerate().skip(from) {
                let said = page.tell(step);
                assert!(index < cut || said == told[index], "{samples}\nfrom {cut}, at {index}: {}", show(&said));
            }
            assert_eq!(page.unread(), whole.unread(), "{samples}\nfrom {cut}");
        }
    }
}

#[test]
fn who_goes_on_knows_what_was_read_before_it_could_not_be_read_any_more() {
    check_resumed(
        "sem 5 key=1 nsems=3\nshm 7 key=0 size=5
         +
         unreadable sem\nshm 7 key=0 size=5
         +
         unreadable sem\nshm 8 key=0 size=5
         +
         sem 6 key=1 nsems=3\nshm 8 key=0 size=5",
    );
    check_resumed("unreadable sem\n+\nunreadable sem\nunreadable shm\n+\nunreadable shm\n+\nunreadable shm");
    check_resumed(
        "sem 5 key=1 nsems=3\nsem 6 key=2 nsems=1\n+\nleft_out sem 1\nsem 6 key=2 nsems=1\n+\nshm 1 key=0 size=5\n+\n",
    );
}

#[test]
fn who_goes_on_knows_what_was_done_before() {
    check_resumed(
        "sem 1 key=1 nsems=1
         act created sem 10 at=1000 pid=70 comm=php count=2
         +
         sem 1 key=1 nsems=1
         act created sem 11,12 at=2000 pid=71 comm=php count=3
         +
         sem 10 key=1 nsems=1
         act created sem 13 at=3000 pid=72 comm=php
         +
         sem 13 key=1 nsems=1\nsem 12 key=1 nsems=1\nsem 14 key=1 nsems=1
         +",
    );
    check_resumed(
        "in 8 a\nskipped 3
         +
         in 8 a\nskipped 3
         act created sem 10 in=8 at=1400 pid=70 comm=php
         +
         in 8 a\nskipped 3\nshm 7 key=0 size=5
         +
         in 8 a\nskipped 3
         +
         in 8 a\nskipped 3\nsem 10 key=1 nsems=1",
    );
}

#[test]
fn what_was_not_read_for_too_long_is_forgotten_by_whoever_never_paused_too() {
    let mut story = Story::default();
    let seen = "sem 5 key=1 nsems=3";
    story.tell(&sample_step(0, 1, state(seen), None));
    let before = story.anchor();
    let hidden = |second: i64| sample_step(0, second, state("unreadable sem"), None);
    let most = i64::try_from(MOST_CARRIED).unwrap();
    for second in 2..=most + 1 {
        story.tell(&hidden(second));
    }
    assert_eq!(story.anchor(), before, "it is remembered");
    story.tell(&hidden(most + 2));
    assert_eq!(story.anchor().map(|anchor| anchor.from), Some(position(0, u64::try_from(most + 3).unwrap())));
    let again = story.tell(&sample_step(0, most + 3, state("sem 6 key=1 nsems=1"), None));
    assert_eq!(show(&again), format!("{}s unread sem ?..{0}s", most + 3));
}
