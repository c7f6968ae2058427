//! Remedies, with faults: between the moment a command is printed and the moment it is run everything can change.
//!
//! [`machine`] makes a world of nothing but its seed: the real agent's grades of it, and the very text that the collector
//! prints. Then the world changes, and the text is run by a real shell ([`pasted`]). Nothing that lives is removed; what
//! nobody holds is, where nothing has changed. [`real`] does the same with real processes in a namespace.
//!
//! ```text
//! HIGHWATER_REMEDIES=100000           how many worlds with a command; 1000 unless given
//! HIGHWATER_REMEDIES_SEED=7           the first seed; 1 unless given
//! HIGHWATER_REMEDIES_REAL=400         how many with real processes; 40 unless given
//! ```

mod machine;
mod pasted;
mod real;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use highwater::query::blame::owners;
use highwater::query::remedy::{of_flag, steps};
use highwater_ipc::limits::Resource;
use highwater_ipc::object::{Kind, SemArray};
use highwater_ipc::remedy::{INITIAL_PID_NAMESPACE, removals};
use highwater_ipc::snapshot::{BootId, State};
use highwater_ipc::who::Grade;

use self::machine::{Machine, UIDS};
use self::pasted::{Place, Shell};

const WORLDS: u64 = 1_000;
const THREADS: u64 = 2;

/// What can happen before a printed command is run, with its weight.
const CHANGES: [(&str, u64); 18] = [
    ("nothing", 6),
    ("an array removed and made anew with its id", 3),
    ("an array removed", 1),
    ("an array used again", 3),
    ("an array given to another user", 2),
    ("an array given to the same user again", 1),
    ("a process waits for an array", 3),
    ("a process of the uid", 3),
    ("a process with the uid beside another one", 3),
    ("a process of the uid that nobody waited for", 1),
    ("a process of a uid with the same digits", 3),
    ("other arrays", 2),
    ("another boot", 2),
    ("another IPC namespace", 2),
    ("another pid namespace", 1),
    ("processes hidden", 1),
    ("the container gone", 1),
    ("whatever", 3),
];

pub(crate) fn given(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A command as it is printed: whose arrays, which ones, its text.
struct Printed {
    uid: u32,
    named: Vec<SemArray>,
    text: String,
}

/// What the collector prints of a state, for each owner; `blame` and a flag show the first one's.
fn printed(state: &State) -> Vec<Printed> {
    let namespace = state.namespaces.last().unwrap();
    let who = namespace.who.as_ref().unwrap();
    let certain = |row: &&SemArray| {
        let orphan = who.objects.get(&(Kind::Sem, row.semid)).and_then(|known| known.orphan.as_ref());
        orphan.is_some_and(|orphan| orphan.grade == Grade::Certain)
    };
    let all: Vec<Printed> = removals(state.boot_id, namespace, INITIAL_PID_NAMESPACE)
        .into_iter()
        .map(|removal| {
            let of_uid = |row: &&SemArray| row.owner.uid == removal.uid;
            let rows = namespace.sem.iter().flatten();
            let named: Vec<SemArray> = rows.filter(certain).filter(of_uid).copied().collect();
            assert_eq!(named.len(), removal.named);
            Printed { uid: removal.uid, named, text: removal.command }
        })
        .collect();
    let before = State::default();
    let (owners, _) = owners(&before, state, &[Kind::Sem]);
    let holder = owners.iter().max_by_key(|owner| owner.after.objects);
    let flagged = of_flag(state, (namespace.id, Resource::Semmni), &owners, (holder, None));
    for text in steps(state, &owners).into_iter().chain(flagged).filter_map(|step| step.command) {
        assert!(!text.contains("ipcrm") || all.iter().any(|printed| printed.text == text), "{text}");
    }
    all
}

/// A machine, and what a shell on it finds.
struct World {
    machine: Machine,
    place: Place,
    tally: BTreeMap<&'static str, u64>,
}

impl World {
    fn of(machine: Machine) -> Self {
        // Whoever looks after a container stands outside of it.
        let ipc = if machine.is_container() { 4_026_532_000 } else { machine.namespace.inode };
        let place = Place { ipc, pid: INITIAL_PID_NAMESPACE, sees: true };
        Self { machine, place, tally: BTreeMap::new() }
    }

    fn change(&mut self, printed: &Printed) {
        let weights = CHANGES.map(|(_, weight)| weight);
        let name = CHANGES[self.machine.chance.weighted(&weights).unwrap_or(0)].0;
        *self.tally.entry(name).or_default() += 1;
        if name == "nothing" {
            return;
        }
        let Self { machine, place, .. } = self;
        // No two of these in one second: the kernel's times have no more.
        let later_us = 1_000_000 + machine.chance.below(90_000_000);
        machine.pass(later_us);
        let semid = machine.chance.pick(&printed.named).semid;
        let (uid, other) = (printed.uid, machine.chance.pick(&UIDS));
        match name {
            "an array removed and made anew with its id" => {
                // By one that has its rights and not its uid, too.
                let maker = if machine.chance.one_in(3) { uid } else { 0 };
                machine.service([maker; 4]);
                machine.recreate(semid);
            }
            "an array removed" => drop(machine.arrays.remove(&semid)),
            "an array used again" => {
                let sets = machine.chance.one_in(3);
                if let Some(pid) = machine.service([0; 4]) {
                    machine.operate(pid, semid, sets);
                }
            }
            "an array given to another user" => machine.chown(semid, if other == uid { 7 } else { other }),
            "an array given to the same user again" => machine.chown(semid, uid),
            "a process waits for an array" => {
                if let Some(pid) = machine.service([0; 4]) {
                    machine.wait_for(pid, semid);
                }
            }
            "a process of the uid" => drop(machine.service([uid; 4])),
            "a process with the uid beside another one" => {
                let mut uids = [0; 4];
                uids[machine.chance.index(4)] = uid;
                machine.service(uids);
            }
            "a process of the uid that nobody waited for" => {
                if let Some(pid) = machine.service([uid; 4]) {
                    machine.exit(pid, false);
                }
            }
            "a process of a uid with the same digits" => {
                let alike = machine.chance.pick(&[uid * 10, uid + 1_000, 5]);
                machine.service([alike; 4]);
            }
            "other arrays" => (0..4).for_each(|_| machine.happen()),
            // With the same rows: only the boot tells.
            "another boot" => machine.boot_id = BootId([7; 16]),
            // Inodes come back; then the same one is another place.
            "another IPC namespace" if machine.is_container() => machine.namespace.inode += 5,
            "another IPC namespace" => place.ipc += 5,
            "another pid namespace" => place.pid += 1,
            "processes hidden" => place.sees = false,
            "the container gone" if machine.is_container() => {
                machine.processes.values_mut().for_each(|process| process.inside = false);
            }
            _ => (0..12).for_each(|_| machine.happen()),
        }
    }

    /// What a command that was printed of that state must remove now, by what the model knows.
    fn expected(&self, state: &State, printed: &Printed) -> Vec<i32> {
        let Self { machine, place, .. } = self;
        let there = state.namespaces.last().unwrap().id.inode;
        let is_there = if machine.is_container() {
            place.sees && machine.namespace.inode == there && machine.processes.values().any(|p| p.inside)
        } else {
            place.ipc == there
        };
        let is_same = place.sees && place.pid == INITIAL_PID_NAMESPACE && machine.boot_id == state.boot_id;
        if !is_there || !is_same || machine.processes.values().any(|p| p.uids.contains(&printed.uid)) {
            return Vec::new();
        }
        let is_free = |row: &&SemArray| {
            let waits = machine.semaphores(row.semid).iter().any(|(waits, _)| *waits > 0);
            machine.arrays.get(&row.semid).is_some_and(|array| array.row == **row) && !waits
        };
        printed.named.iter().filter(is_free).map(|row| row.semid).collect()
    }
}

/// What came of a world.
#[derive(Default)]
struct Tally {
    /// What happened, and how often.
    changes: BTreeMap<&'static str, u64>,
    commands: u64,
    named: u64,
    removed: u64,
    spared: u64,
}

/// Plays a world; `None` = nothing was certain in it, so no command was printed.
fn play(seed: u64, shell: &mut Shell, tally: &mut Tally) -> Option<()> {
    let machine = Machine::new(seed);
    let state = machine.state();
    let commands = printed(&state);
    if commands.is_empty() {
        return None;
    }
    for printed in &commands {
        // Each from where it was printed: what one removes changes nothing for the others.
        let mut world = World::of(machine.copy());
        let changes = 1 + world.machine.chance.below(3);
        (0..changes).for_each(|_| world.change(printed));
        let expected = world.expected(&state, printed);
        let removed = shell.paste(&printed.text, &world.machine, &world.place);
        let alive: Vec<i32> = removed.iter().copied().filter(|id| world.machine.lives(*id)).collect();
        assert!(alive.is_empty(), "seed {seed}: {alive:?} live and were removed, after {:?}", world.tally);
        let said = (&world.tally, &printed.text);
        assert_eq!(sorted(removed.clone()), sorted(expected), "seed {seed}: {said:?}");
        if world.tally.keys().all(|name| *name == "nothing") {
            assert_eq!(removed.len(), printed.named.len(), "seed {seed}: nothing has changed: {said:?}");
        }
        tally.commands += 1;
        tally.named += printed.named.len() as u64;
        tally.removed += removed.len() as u64;
        tally.spared += printed.named.iter().filter(|row| world.machine.lives(row.semid)).count() as u64;
        for (name, count) in &world.tally {
            *tally.changes.entry(name).or_default() += count;
        }
        if removed.is_empty() {
            continue;
        }
        for id in removed {
            world.machine.arrays.remove(&id);
        }
        let again = shell.paste(&printed.text, &world.machine, &world.place);
        assert!(again.is_empty(), "seed {seed}: the second time {again:?} were removed");
    }
    Some(())
}

fn sorted(mut ids: Vec<i32>) -> Vec<i32> {
    ids.sort_unstable();
    ids
}

#[test]
fn in_a_thousand_worlds_a_printed_command_removes_nothing_that_lives_when_it_is_run() {
    let (seed, worlds) = (given("HIGHWATER_REMEDIES_SEED", 1), given("HIGHWATER_REMEDIES", WORLDS));
    let (next, played) = (AtomicU64::new(seed), AtomicU64::new(0));
    let all = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let (mut shell, mut tally) = (Shell::open(), Tally::default());
                while played.load(Ordering::Relaxed) < worlds {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if play(seed, &mut shell, &mut tally).is_some() {
                        played.fetch_add(1, Ordering::Relaxed);
                    }
                }
                let mut all = all.lock().unwrap();
                all.commands += tally.commands;
                all.named += tally.named;
                all.removed += tally.removed;
                all.spared += tally.spared;
                tally.changes.iter().for_each(|(name, count)| *all.changes.entry(name).or_default() += count);
            });
        }
    });
    let all = all.into_inner().unwrap();
    let (seeds, changes) = (next.into_inner() - seed, &all.changes);
    let Tally { commands, named, removed, spared, .. } = all;
    println!(
        "{worlds} worlds of {seeds} seeds: {commands} commands name {named} arrays, {removed} were removed; {spared} lived by \
         then, and none of them was; {changes:?}"
    );
    // What nothing comes to proves nothing.
    assert!(removed > worlds / 4 && spared > worlds / 10, "{removed} {spared}");
    for (name, _) in CHANGES {
        assert!(changes.get(name).is_some_and(|count| *count > 0), "no world comes to {name:?}");
    }
}
