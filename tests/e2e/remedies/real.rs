//! The same with real processes and arrays in a namespace: the real agent grades, the real collector prints, a real shell
//! runs what it printed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use highwater_tests::chance::Chance;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::process::{Process, signal, stdout_of};
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, until, until_some};
use serde_json::Value;

use super::given;
use crate::stories::stage::Stage;

const WORLDS: u64 = 40;
/// Worlds that are there at once.
const AT_ONCE: u64 = 40;
/// Uids that nobody else has: of the worlds, and of those who are in none.
const UID: u32 = 52_000;
const FOREIGN: u32 = 53_000;

/// What becomes of whoever has a world's uid before anything is printed.
const FATES: [(&str, u64); 5] = [
    ("all killed", 6),
    ("one lives", 1),
    ("one is stopped", 1),
    ("one is stopped under another name", 1),
    (MASTER_STOPPED, 1),
];
const MASTER_STOPPED: &str = "their maker, of another uid, is stopped";

/// What happens between the moment a command is printed and the one it is run.
const CHANGES: [&str; 8] = [
    "nothing",
    "a process of the uid",
    "a stopped process of the uid",
    "a process with the uid as its effective one",
    "an array used again",
    "an array given away",
    "an array made anew with its key",
    "a process of another uid waits for an array",
];

/// Some arrays of one uid.
struct World {
    uid: u32,
    fate: &'static str,
    /// By id, with their keys.
    arrays: BTreeMap<i32, i32>,
    /// Who lives, and must not lose them.
    living: Vec<StandIn>,
}

impl World {
    fn new(stage: &Stage, number: u32, chance: &mut Chance) -> Self {
        let (uid, comm) = (UID + number, format!("world-{number}"));
        let fate = FATES[chance.weighted(&FATES.map(|(_, weight)| weight)).unwrap_or(0)].0;
        // As Apache does it: its master is root, and gives its arrays away.
        let mut master = StandIn::new(&stage.namespace, &format!("master-{number}"), 0);
        let mut users: Vec<StandIn> =
            (0..=chance.below(2)).map(|_| StandIn::new(&stage.namespace, &comm, uid)).collect();
        let mut arrays = BTreeMap::new();
        for n in 0..2 + i32::try_from(chance.below(3)).unwrap() {
            let key = i32::try_from(number).unwrap() * 100 + n + 1;
            let by_master = n == 0 || fate == MASTER_STOPPED;
            let maker = if by_master { &mut master } else { &mut users[0] };
            let id = maker.call(&format!("create-sem {key} 2"));
            assert!(id >= 0, "{id}");
            if by_master {
                assert_eq!(maker.call(&format!("chown sem {id} {uid} {uid}")), 0);
            }
            for user in &mut users {
                assert_eq!(user.call(&format!("operate {id} 0 1")), 0);
            }
            arrays.insert(id, key);
        }
        let mut world = Self { uid, fate, arrays, living: users };
        world.living.push(master);
        world
    }

    /// What its fate is comes.
    fn come(&mut self) {
        let (master, mut user) = (self.living.pop().unwrap(), self.living.pop().unwrap());
        self.living.drain(..).for_each(StandIn::kill);
        match self.fate {
            "all killed" => {
                master.kill();
                user.kill();
            }
            MASTER_STOPPED => {
                signal(master.pid(), "STOP");
                user.kill();
                self.living.push(master);
            }
            fate => {
                master.kill();
                if fate.ends_with("another name") {
                    assert_eq!(user.call("rename somebody-else"), 0);
                }
                if fate.contains("stopped") {
                    signal(user.pid(), "STOP");
                }
                self.living.push(user);
            }
        }
    }

    /// Something happens; the ids that the command must still remove, and who must live meanwhile.
    fn change(&mut self, stage: &Stage, directory: &Path, name: &str) -> (BTreeSet<i32>, Vec<Process>) {
        let all: BTreeSet<i32> = self.arrays.keys().copied().collect();
        let (first, key) = self.arrays.iter().next_back().map(|(id, key)| (*id, *key)).unwrap();
        let others: BTreeSet<i32> = all.iter().copied().filter(|id| *id != first).collect();
        let ns = &stage.namespace;
        match name {
            "nothing" => (all, Vec::new()),
            "a process of the uid" | "a stopped process of the uid" => {
                let user = StandIn::new(ns, "newcomer", self.uid);
                if name.contains("stopped") {
                    signal(user.pid(), "STOP");
                }
                self.living.push(user);
                (BTreeSet::new(), Vec::new())
            }
            "a process with the uid as its effective one" => {
                let mut command = ns.command("setpriv");
                command.args(["--euid", &self.uid.to_string(), "sleep", "600"]);
                let process = Process::spawn("sleep", command, &directory.join("sleep.log"));
                let status = format!("/proc/{}/status", process.pid());
                let has = format!("\t{}\t", self.uid);
                until("it has that uid", PATIENCE, || std::fs::read_to_string(&status).unwrap().contains(&has));
                (BTreeSet::new(), vec![process])
            }
            "an array used again" => {
                let mut user = StandIn::new(ns, "successor", 0);
                assert_eq!(user.call(&format!("operate {first} 1 1")), 0);
                self.living.push(user);
                (others, Vec::new())
            }
            "an array given away" => {
                ns.tool(&format!("chown sem {first} {} 0", FOREIGN + 999));
                (others, Vec::new())
            }
            "an array made anew with its key" => {
                let mut user = StandIn::new(ns, "successor", 0);
                assert_eq!(user.call(&format!("remove sem {first}")), 0);
                let id = user.call(&format!("create-sem {key} 2"));
                assert_eq!(user.call(&format!("chown sem {id} {} {}", self.uid, self.uid)), 0);
                self.arrays.remove(&first);
                self.arrays.insert(id, key);
                self.living.push(user);
                (others, Vec::new())
            }
            _ => {
                let mut user = StandIn::new(ns, "waiter", 0);
                // The second one was never raised.
                user.tell(&format!("wait-for {first} 1"));
                let listed = format!("ipcs -s -i {first} | awk 'NF==5 && $3==1' | wc -l");
                until("it waits", PATIENCE, || ns.shell(&listed).trim() == "1");
                self.living.push(user);
                (others, Vec::new())
            }
        }
    }
}

fn ids(namespace: &IpcNamespace) -> BTreeSet<i32> {
    let table = namespace.shell("awk 'NR>1{print $2}' /proc/sysvipc/sem");
    table.lines().map(|id| id.parse().unwrap()).collect()
}

/// The arrays of the host as the collector knows them, by id.
fn known(stage: &Stage) -> BTreeMap<i32, Value> {
    let now = stage.cli().json(&["ipcs", stage.host, "-s"]);
    let rows = now["namespaces"][0]["sem"].as_array().cloned().unwrap_or_default();
    rows.into_iter().map(|row| (i32::try_from(row["semid"].as_i64().unwrap()).unwrap(), row)).collect()
}

/// The removal that the collector prints just now, and whose arrays it is about.
fn printed(stage: &Stage) -> Option<(u32, String)> {
    let blame = stage.cli().json(&["blame", stage.host]);
    let steps = blame["remedy"].as_array()?.clone();
    let step = steps.into_iter().find(|s| s["command"].as_str().is_some_and(|c| c.contains("ipcrm")))?;
    let (_, rest) = step["step"].as_str()?.split_once(" of uid ")?;
    let uid = rest.split(' ').next()?.parse().ok()?;
    Some((uid, step["command"].as_str()?.to_owned()))
}

#[test]
fn in_worlds_of_real_processes_a_printed_command_removes_no_array_of_one_that_lives() {
    let worlds = given("HIGHWATER_REMEDIES_REAL", WORLDS);
    let mut chance = Chance::new(given("HIGHWATER_REMEDIES_SEED", 1));
    let stage = Stage::prepared("web-40", &[("HIGHWATER_ORPHAN_WAIT", "2s")], |_| {});
    let directory = tempfile::tempdir().unwrap();
    let mut foreign = StandIn::new(&stage.namespace, "foreigner", FOREIGN);
    let foreign_ids: BTreeSet<i32> = (1..5).map(|n| foreign.call(&format!("create-sem {} 1", 9_000_000 + n))).collect();
    let mut tally: BTreeMap<String, u64> = BTreeMap::new();
    let (mut begun, mut removed) = (0, 0);
    while begun < worlds {
        let many = AT_ONCE.min(worlds - begun);
        let numbers = (begun..begun + many).map(|n| u32::try_from(n).unwrap());
        let mut there: Vec<World> = numbers.map(|n| World::new(&stage, n, &mut chance)).collect();
        begun += many;
        until("each array is known with its program", PATIENCE, || {
            let known = known(&stage);
            let mut all = there.iter().flat_map(|world| world.arrays.keys());
            all.all(|id| known.get(id).is_some_and(|row| row["comm"].is_string()))
        });
        there.iter_mut().for_each(World::come);
        let dead: BTreeSet<i32> = of_fate(&there, true);
        until("what nobody holds is certain", PATIENCE, || {
            let known = known(&stage);
            dead.iter().all(|id| known[id]["orphan"]["grade"] == "certain")
        });
        while there.iter().any(|world| world.fate == "all killed") {
            let (uid, command) = until_some("a command for one that was not run yet", PATIENCE, || {
                printed(&stage).filter(|(uid, _)| there.iter().any(|w| w.uid == *uid))
            });
            let at = there.iter().position(|world| world.uid == uid).unwrap();
            let mut world = there.swap_remove(at);
            assert_eq!(world.fate, "all killed", "nothing of it may be named: {command}");
            // Which world comes next is not told: each change is made as often.
            let name = CHANGES.into_iter().min_by_key(|name| tally.get(*name).copied().unwrap_or(0)).unwrap();
            *tally.entry(name.to_owned()).or_default() += 1;
            let (expected, processes) = world.change(&stage, directory.path(), name);
            let before = ids(&stage.namespace);
            let mut shell = stage.namespace.command("sh");
            shell.args(["-c", &format!("{command}; true")]);
            stdout_of(shell);
            let gone: BTreeSet<i32> = before.difference(&ids(&stage.namespace)).copied().collect();
            assert_eq!(gone, expected, "uid {uid}, {name}: {command}");
            removed += gone.len();
            drop(processes);
            world.living.drain(..).for_each(StandIn::kill);
            for id in world.arrays.keys().filter(|id| !gone.contains(*id)) {
                stage.namespace.tool(&format!("remove sem {id}"));
            }
        }
        // Those of whom somebody lived were never named, and have lost nothing.
        let alive = of_fate(&there, false);
        assert!(ids(&stage.namespace).is_superset(&alive));
        let known = known(&stage);
        assert!(alive.iter().all(|id| known[id]["orphan"]["grade"] != "certain"), "{known:?}");
        for world in there {
            *tally.entry(world.fate.to_owned()).or_default() += 1;
            world.living.into_iter().for_each(StandIn::kill);
            world.arrays.keys().for_each(|id| drop(stage.namespace.tool(&format!("remove sem {id}"))));
        }
    }
    assert_eq!(ids(&stage.namespace), foreign_ids, "the foreigner has all of its own");
    println!("{worlds} worlds: {removed} arrays removed; {tally:?}");
    for name in CHANGES.into_iter().chain(FATES.map(|(name, _)| name)).filter(|n| *n != "all killed") {
        assert!(worlds < WORLDS || tally.contains_key(name), "no world comes to {name:?}");
    }
}

/// The arrays of the worlds of which nobody lives, or somebody does.
fn of_fate(worlds: &[World], dead: bool) -> BTreeSet<i32> {
    let of = worlds.iter().filter(|world| (world.fate == "all killed") == dead);
    of.flat_map(|world| world.arrays.keys().copied()).collect()
}
