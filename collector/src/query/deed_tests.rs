//! What was traced, told beside what was sampled; the stories are written as `scenes.rs` reads them.

use highwater_ipc::record::GapReason;

use super::scenes::{check, sample_step, show, state};
use super::story::Story;

#[test]
fn a_refused_call_is_told_at_its_own_time_with_the_limit_that_bound() {
    check(
        "sem 5 key=1 nsems=3
         +
         sem 5 key=1 nsems=3
         act refused sem - at=1250 pid=13808 comm=httpd count=3 errno=28 bound=128
         act refused sem - at=1300 pid=9 comm=big errno=22 nsems=40000 count=1
         lost 2",
        "1s agent_started
         1250ms refused sem x3 SEMMNI 128/128 by httpd 13808
         1300ms refused sem x1 SEMMSL 40000/32000 by big 9
         2s lost 2",
    );
    // The first sample ever has one, too: tracing began before it.
    check("act refused sem - at=900 pid=1 comm=a count=1 errno=38", "1s agent_started\n900ms refused sem x1 by a 1");
}

#[test]
fn who_made_and_who_removed_is_the_process_whose_act_lists_that_object() {
    check(
        "sem 5 key=1 nsems=3
         +
         sem 6 key=2 nsems=1
         act created sem 6 at=1400 pid=70 comm=php
         act removed sem 5 at=1500 pid=991 comm=ipcrm
         act removed shm 5 at=1500 pid=992 comm=other",
        "1s agent_started
         (1s..2s removed sem 5 by ipcrm 991
         (1s..2s created sem 6 by php 70",
    );
    // The same id elsewhere is another object.
    check(
        "in 8 a\n+\nin 8 a\nsem 6 key=2 nsems=1\nact created sem 6 in=9 at=1400 pid=70 comm=php",
        "1s agent_started
         1400ms created sem x1 by php 70
         (1s..2s created sem 6 in a",
    );
}

#[test]
fn an_act_of_nobody_knows_where_is_of_the_only_change_with_that_id_or_of_none() {
    let gone = "sem 5 key=1 nsems=3\nin 8 a\nsem 5 key=1 nsems=3";
    check(
        &format!("{gone}\n+\nin 8 a\nsem 5 key=1 nsems=3\nact removed sem 5 in=0 at=1500 pid=991 comm=ipcrm"),
        "1s agent_started\n(1s..2s removed sem 5 by ipcrm 991",
    );
    check(
        &format!("{gone}\n+\nin 8 a\nact removed sem 5 in=0 at=1500 pid=991 comm=ipcrm"),
        "1s agent_started\n(1s..2s removed sem 5\n(1s..2s removed sem 5 in a",
    );
    check(
        &format!(
            "{gone}\n+\nin 8 a\nsem 5 key=1 nsems=3\nact removed sem 5 in=0 at=1500 pid=1 comm=x
             act removed sem 5 in=0 at=1600 pid=2 comm=y"
        ),
        "1s agent_started\n(1s..2s removed sem 5",
    );
}

#[test]
fn what_came_and_went_between_two_samples_is_told_once_with_its_maker_and_the_high_water_mark() {
    check(
        "sem 1 key=1 nsems=1
         +
         sem 1 key=1 nsems=1
         act created sem 10,11 at=1400 pid=70 comm=php count=50
         act removed sem 10,11 at=1600 pid=70 comm=php count=50
         peak arrays=51 semaphores=51 at=1500",
        "1s agent_started
         1400ms created sem x50 transient by php 70
         1500ms peak 51 / 51",
    );
    // Somebody else's removal is worth a line.
    check(
        "+
         act created sem 10 at=1400 pid=70 comm=php
         act removed sem 10 at=1600 pid=991 comm=ipcrm",
        "1s agent_started
         1400ms created sem x1 transient by php 70
         1600ms removed sem x1 transient by ipcrm 991",
    );
}

#[test]
fn of_an_act_with_more_than_it_lists_the_rest_of_the_changes_is_its_own() {
    let made = "+\nsem 10 key=1 nsems=1\nsem 11 key=1 nsems=1\nsem 12 key=1 nsems=1
                act created sem 10 at=1400 pid=70 comm=php count=5";
    check(
        made,
        "1s agent_started
         1400ms created sem x2 transient by php 70
         (1s..2s created sem 10 by php 70
         (1s..2s created sem 11 by php 70
         (1s..2s created sem 12 by php 70",
    );
    // Where anything was lost, somebody else may have made them.
    check(
        &format!("{made}\nlost 1"),
        "1s agent_started
         1400ms created sem x2 transient by php 70
         2s lost 1
         (1s..2s created sem 10 by php 70
         (1s..2s created sem 11
         (1s..2s created sem 12",
    );
}

#[test]
fn an_act_at_the_time_of_its_sample_waits_for_the_next_one() {
    check(
        "+
         act created sem 10,11 at=2000 pid=70 comm=php
         +
         sem 10 key=1 nsems=1",
        "1s agent_started
         2s created sem x1 transient by php 70
         (2s..3s created sem 10 by php 70",
    );
    check(
        "sem 10 key=1 nsems=1
         +
         sem 10 key=1 nsems=1
         act removed sem 10 at=2000 pid=991 comm=ipcrm
         +",
        "1s agent_started\n(2s..3s removed sem 10 by ipcrm 991",
    );
    // What the sample shows already, it made; and that is said once.
    check(
        "+\nsem 10 key=1 nsems=1\nact created sem 10 at=2000 pid=70 comm=php\n+\nsem 10 key=1 nsems=1",
        "1s agent_started\n(1s..2s created sem 10 by php 70",
    );
}

#[test]
fn nothing_is_called_transient_where_the_sample_cannot_know() {
    let unknown = "1s agent_started\n1400ms created sem x1 by php 70";
    let act = "act created sem 10 at=1400 pid=70 comm=php";
    check(&format!("+\nunreadable sem\n{act}"), unknown);
    check(&format!("+\nleft_out sem 3\n{act}"), unknown);
    check(&format!("+\n{act} in=8"), unknown);
}

#[test]
fn a_namespace_that_is_not_read_in_every_sample_names_the_maker_later_and_widens_the_window() {
    let not_yet = "in 8 a\nskipped 3";
    check(
        &format!(
            "{not_yet}
             +
             {not_yet}
             act created sem 10 in=8 at=1400 pid=70 comm=php
             +
             {not_yet}
             +
             {not_yet}
             +
             {not_yet}
             +
             {not_yet}
             sem 10 key=1 nsems=1"
        ),
        "1s agent_started\n(1s..6s created sem 10 by php 70 in a",
    );
}

#[test]
fn what_goes_with_a_namespace_is_counted_and_removed_by_nobody() {
    check(
        "sem 1 key=1 nsems=1
         in 8 pause
         shm 7 key=0 size=209715200
         shm 8 key=0 size=5
         sem 1 key=0 nsems=2
         +
         sem 1 key=1 nsems=1",
        "1s agent_started\n(1s..2s namespace_gone, 1 2 0 with 209715205 bytes in pause",
    );
    check("+\nin 8 pause\nshm 7 key=0 size=5", "1s agent_started\n(1s..2s namespace_appeared in pause");
}

#[test]
fn a_risk_is_told_when_it_comes_and_when_it_goes() {
    check(
        "+\nrisk alice\n+\nrisk alice\n+\nrisk bob\nrisk alice\n+",
        "1s agent_started
         (1s..2s risk_raised alice
         (3s..4s risk_raised bob
         (4s..5s risk_cleared bob
         (4s..5s risk_cleared alice",
    );
}

#[test]
fn an_agent_that_lost_sight_of_namespaces_tells_none_of_them_gone() {
    let mut story = Story::default();
    let both = "in 8 pause\nshm 7 key=0 size=5";
    story.tell(&sample_step(0, 1, state(both), None));
    let blind = story.tell(&sample_step(1, 2, state("unseen setns"), Some(GapReason::AgentStopped)));
    assert_eq!(show(&blind), "2s agent_started");
    let again = story.tell(&sample_step(2, 3, state(both), Some(GapReason::AgentStopped)));
    assert_eq!(show(&again), "3s agent_started\n(2s..3s namespace_appeared in pause");
    // One that goes while the same process looks is gone, whatever else it cannot see.
    let gone = story.tell(&sample_step(2, 4, state("unseen setns"), None));
    assert_eq!(show(&gone), "(3s..4s namespace_gone, 0 1 0 with 5 bytes in pause");
}
