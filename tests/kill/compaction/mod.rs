//! Compaction and the dropping of partitions, killed anywhere: between any two statements, before the server has one and
//! after. Hosts send on in between, also into days that were merged and dropped.
//!
//! After each kill the marks of `stream` have not gone back, and what a host sent reads back once and as it was; after a
//! last compaction everything does, all of it out of merged chunks, and no table is left over. Then the first week is
//! forgotten, killed likewise: whatever lies behind it answers as before. Before that all that is derived of the records
//! (use of limits, owners, the present's index) is, row by row, what a database holds in which nobody was killed.
//!
//! ```text
//! HIGHWATER_KILL_SEED=7               the seed; 1 unless given
//! HIGHWATER_COMPACTION_KILLS=2000     how many; 200 unless given
//! ```

mod cut;
mod world;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use highwater_tests::binaries;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, until, until_some};

use self::cut::{Cutter, When};
use self::world::{BORDER_MS, KEPT_DAYS, World};
use crate::plan::Dice;
use crate::{say, variable};

/// Each of these must have been the last word of some compactor: when it moves records ..
const MOVING: [&str; 8] = [
    "UPDATE stream SET compacted_to",
    "INSERT INTO chunk_fresh",
    "UPDATE stream SET merged_to",
    "INSERT INTO chunk (",
    "COMMIT",
    CREATE,
    DROP,
    "SELECT fence FROM lease",
];
/// .. and when it forgets some.
const FORGETTING: [&str; 5] =
    ["INSERT INTO chunk (", "UPDATE stretch SET from_seq", "COMMIT", DROP, "SELECT fence FROM lease"];
const CREATE: &str = "DO $$\nDECLARE\n    parent";
const DROP: &str = "DO $$\nDECLARE\n    name";
const DAY_MS: i64 = 86_400_000;
/// The others die after so many statements at most; to do all that is due in one go takes some hundreds.
const MOST_TURNS: u64 = 120;

#[test]
fn no_kill_of_a_compactor_loses_or_doubles_a_record_or_leaves_a_partition_behind() {
    let seed = variable("HIGHWATER_KILL_SEED", 1);
    let wanted = variable("HIGHWATER_COMPACTION_KILLS", 200);
    let server = Postgres::start();
    let cutter = Cutter::start(&server.socket());
    let mut dice = Dice::new(seed, 9);
    let mut died: BTreeMap<String, u64> = BTreeMap::new();
    let (mut worlds, mut records, mut kills) = (0, 0, 0);
    while kills < wanted {
        let mut world = World::new(&server, &mut dice);
        let mut killed = |statement: &str| {
            kills += 1;
            *died.entry(short(statement)).or_default() += 1;
        };
        loop {
            let more = world.feed(&mut dice);
            let now_ms = world.next_ms(&mut dice);
            let statement = compact(&cutter, &world, Some(when(&MOVING, &mut dice)), (now_ms, None));
            world.check_marks();
            world.check_host(dice.roll(1 << 20));
            match statement {
                Some(statement) => killed(&statement),
                None if more => {}
                None => break,
            }
        }
        // At noon, far from the hours in which the day before is not over.
        let noon_ms = world.next_ms(&mut dice) / DAY_MS * DAY_MS + 2 * DAY_MS + DAY_MS / 2;
        assert_eq!(compact(&cutter, &world, None, (noon_ms, None)), None);
        records += world.check();
        world.check_moved(noon_ms);
        let mut quiet = world.twin(&server);
        quiet.feed_all();
        assert_eq!(compact(&cutter, &quiet, None, (noon_ms, None)), None);
        let derived = quiet.derived();
        assert!(["usage|", "usage_hour|", "usage_pack|", "owner_usage|"].iter().all(|table| derived.contains(table)));
        assert_eq!(world.derived(), derived, "what is derived is what no kill would have left");
        let truth = world.answers();
        assert!(truth.iter().any(|(_, at_ms, held)| *at_ms < BORDER_MS && held.is_some()));
        loop {
            let old_ms = world.next_old_ms();
            let statement = compact(&cutter, &world, Some(when(&FORGETTING, &mut dice)), (old_ms, Some(KEPT_DAYS)));
            world.check_answers(&truth);
            match statement {
                Some(statement) => killed(&statement),
                None => break,
            }
        }
        world.check_forgotten();
        worlds += 1;
    }
    say(&format!("kill: seed {seed}: {kills} compactors killed in {worlds} worlds of {records} records, at {died:#?}"));
    for statement in MOVING.into_iter().chain(FORGETTING) {
        assert!(died.keys().any(|at| at.starts_with(&short(statement))), "nobody died at {statement}");
    }
}

/// One in two dies at one of the statements that must be somebody's last, the other anywhere.
fn when(statements: &[&'static str], dice: &mut Dice) -> When {
    let delivered = dice.roll(2) == 0;
    if dice.roll(2) == 0 {
        return When { statement: "", turn: dice.roll(MOST_TURNS) + 1, delivered };
    }
    When { statement: dice.pick::<&str>(statements), turn: dice.roll(3) + 1, delivered }
}

/// Runs a compactor to its end, at that time of its clock, which forgets what is older than so many days; the statement at
/// which it was killed, or `None`: it did all that was due.
fn compact(cutter: &Cutter, world: &World, when: Option<When>, (now_ms, days): (i64, Option<i64>)) -> Option<String> {
    let mut command = Command::new(binaries::compactor());
    command.arg(format!("{}&application_name=compactor", cutter.url(&world.database))).arg(now_ms.to_string());
    command.args(days.map(|days| days.to_string()));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    cutter.arm(when, || command.spawn().expect("a compactor"));
    let ended = until_some("the compactor ends", 4 * PATIENCE, || cutter.ended());
    until("its connections are gone", PATIENCE, || world.is_alone());
    match ended {
        Ok(statement) => Some(statement),
        Err(status) => {
            assert!(status.success(), "the compactor ended with {status}");
            None
        }
    }
}

/// A statement's beginning, in one line.
fn short(statement: &str) -> String {
    statement.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(40).collect()
}
