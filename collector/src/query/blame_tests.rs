//! Who grew, of states that are written as `scenes.rs` reads them.

use highwater_ipc::object::Kind;
use highwater_ipc::who::Grade;
use proptest::prelude::*;

use super::blame::owners;
use super::owners::Owner;
use super::scenes::state;

#[test]
fn who_grew_most_comes_first_with_its_orphans_by_grade() {
    check(
        "sem 1 key=1 nsems=17 uid=26\nruns 26 postgres",
        "sem 1 key=1 nsems=17 uid=26
         sem 2 key=2 nsems=17 uid=26
         sem 5 key=0 nsems=1 uid=33
         sem 6 key=0 nsems=1 uid=33
         sem 7 key=0 nsems=1 uid=33
         runs 26 postgres
         held sem 5 comm=apache2 grade=certain
         held sem 6 comm=apache2 grade=certain
         held sem 7 comm=apache2 grade=likely
         shm 9 key=0 size=100 uid=99
         held shm 9 grade=unattached",
        "33 apache2 sem 0 -> 3 (+3), +3 semaphores, +0 bytes, certain [5, 6] likely [7]
         99 ? shm 0 -> 1 (+1), +0 semaphores, +100 bytes, unattached [9] of 100 bytes
         26 postgres sem 1 -> 2 (+1), +17 semaphores, +0 bytes,",
    );
}

#[test]
fn an_object_of_an_unknown_program_is_of_its_uid_s_only_one() {
    let rows = "sem 5 key=0 nsems=1 uid=33\nsem 6 key=0 nsems=1 uid=33";
    check("", &format!("{rows}\nruns 33 apache2"), "33 apache2 sem 0 -> 2 (+2), +2 semaphores, +0 bytes,");
    check("", &format!("{rows}\nruns 33 apache2,php"), "33 ? sem 0 -> 2 (+2), +2 semaphores, +0 bytes,");
    // Nobody of that uid lives any more: all that is known of its objects is one name.
    check("", &format!("{rows}\nheld sem 5 comm=apache2"), "33 apache2 sem 0 -> 2 (+2), +2 semaphores, +0 bytes,");
    // Nothing is known now: what its processes were.
    check(&format!("{rows}\nruns 33 apache2"), rows, "33 apache2 sem 2 -> 2 (+0), +0 semaphores, +0 bytes,");
    check(
        "",
        &format!("{rows}\nheld sem 5 comm=apache2\nruns 33 php"),
        "33 apache2 sem 0 -> 1 (+1), +1 semaphores, +0 bytes,
         33 php sem 0 -> 1 (+1), +1 semaphores, +0 bytes,",
    );
}

#[test]
fn a_program_that_was_learned_later_is_no_growth() {
    let rows = "sem 5 key=0 nsems=1 uid=33\nsem 6 key=0 nsems=1 uid=33";
    check(
        &format!("{rows}\nruns 33 apache2,php"),
        &format!("{rows}\nruns 33 apache2,php\nheld sem 5 comm=apache2\nheld sem 6 comm=apache2"),
        "33 apache2 sem 2 -> 2 (+0), +0 semaphores, +0 bytes,",
    );
}

#[test]
fn of_a_list_with_holes_nothing_is_said() {
    let (some, holes) = (state("sem 5 key=0 nsems=1"), state("sem 5 key=0 nsems=1\nleft_out sem 9"));
    for (a, b) in [(&some, &holes), (&holes, &some), (&some, &state("unreadable sem"))] {
        let (owners, unknown) = owners(a, b, &[Kind::Sem]);
        assert_eq!((owners.len(), unknown.len()), (0, 1));
    }
}

#[test]
fn a_namespace_is_a_place_of_its_own_and_after_a_reboot_only_the_host_s_is_the_same() {
    let both = "sem 5 key=0 nsems=1 uid=7\nin 8 pod\nsem 5 key=0 nsems=1 uid=7";
    check(
        both,
        "",
        "7 ? sem 1 -> 0 (-1), -1 semaphores, +0 bytes,\n7 ? sem 1 -> 0 (-1), -1 semaphores, +0 bytes, in pod",
    );
    check(
        &format!("{both}\nsem 6 key=0 nsems=1 uid=7"),
        &format!("boot 2\n{both}"),
        "7 ? sem 0 -> 1 (+1), +1 semaphores, +0 bytes, in pod\n7 ? sem 1 -> 1 (+0), +0 semaphores, +0 bytes,",
    );
}

#[test]
fn only_the_kinds_that_are_asked_for_are_told() {
    let all = state("sem 1 key=0 nsems=1\nshm 1 key=0 size=1\nmsg 1 key=0");
    let kinds = |asked: &[Kind]| owners(&all, &all, asked).0.iter().map(|o| o.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&[Kind::Shm]), [Kind::Shm]);
    assert_eq!(kinds(&[]).len(), 3);
}

proptest! {
    #[test]
    fn nothing_is_counted_twice_or_lost(
        before in proptest::collection::btree_map(0_i32..12, (0_u32..3, 1_u32..4, 0_u32..4), 0..12),
        after in proptest::collection::btree_map(0_i32..12, (0_u32..3, 1_u32..4, 0_u32..4), 0..12),
    ) {
        // The last of each row says what is known of it: nothing, a comm, or that it is an orphan.
        let text = |rows: &std::collections::BTreeMap<i32, (u32, u32, u32)>| {
            let row = |(id, (uid, nsems, known)): (&i32, &(u32, u32, u32))| match known {
                0 | 1 => format!("sem {id} key=1 nsems={nsems} uid={uid}\n"),
                2 => format!("sem {id} key=1 nsems={nsems} uid={uid}\nheld sem {id} comm=c{}\n", id % 3),
                _ => format!("sem {id} key=1 nsems={nsems} uid={uid}\nheld sem {id} comm=c1 grade=certain\n"),
            };
            rows.iter().map(row).collect::<String>()
        };
        let (told, _) = owners(&state(&text(&before)), &state(&text(&after)), &[]);
        let sum = |f: fn(&Owner) -> u64| told.iter().map(f).sum::<u64>();
        prop_assert_eq!(sum(|o| o.before.objects), before.len() as u64);
        prop_assert_eq!(sum(|o| o.after.objects), after.len() as u64);
        prop_assert_eq!(sum(|o| o.after.semaphores), after.values().map(|(_, n, _)| u64::from(*n)).sum::<u64>());
        let mut certain: Vec<i32> = told.iter().flat_map(|o| o.orphans(Grade::Certain).to_vec()).collect();
        certain.sort_unstable();
        let expected: Vec<i32> = after.iter().filter(|(_, (_, _, known))| *known == 3).map(|(id, _)| *id).collect();
        prop_assert_eq!(certain, expected);
        prop_assert!(told.is_sorted_by_key(|o| std::cmp::Reverse(o.net())));
        for uid in 0..3 {
            let of = |rows: &std::collections::BTreeMap<i32, (u32, u32, u32)>| {
                i64::try_from(rows.values().filter(|(u, ..)| *u == uid).count()).unwrap()
            };
            let net: i64 = told.iter().filter(|o| o.uid == uid).map(Owner::net).sum();
            prop_assert_eq!(net, of(&after) - of(&before));
        }
    }
}

fn check(before: &str, after: &str, expected: &str) {
    let told: Vec<String> = owners(&state(before), &state(after), &[]).0.iter().map(show).collect();
    let expected: Vec<&str> = expected.lines().map(str::trim).collect();
    assert_eq!(told.join("\n"), expected.join("\n"), "{before}\n->\n{after}");
}

fn show(owner: &Owner) -> String {
    let comm = owner.comm.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
    let mut text = format!(
        "{} {comm} {} {} -> {} ({:+}), {:+} semaphores, {:+} bytes,",
        owner.uid,
        owner.kind.name(),
        owner.before.objects,
        owner.after.objects,
        owner.net(),
        owner.semaphores_net(),
        owner.bytes_net()
    );
    for (grade, _, name) in Grade::ALL {
        if !owner.orphans(grade).is_empty() {
            text.push_str(&format!(" {name} {:?}", owner.orphans(grade)));
        }
    }
    if owner.orphan_bytes > 0 {
        text.push_str(&format!(" of {} bytes", owner.orphan_bytes));
    }
    if let Some(name) = &owner.namespace_name {
        text.push_str(&format!(" in {name}"));
    }
    text
}
