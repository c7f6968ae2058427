//! What is imported is judged as it would have been live: `backtest` says the same of it.

use std::fmt::Write as _;

use highwater_tests::answers::instant;
use highwater_tests::chance::Chance;
use highwater_tests::collector::Up;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::now_ms;
use serde_json::json;

use super::{DAY_MS, backtested, stored};

const STEP_S: i64 = 600;
const DAYS: i64 = 12;

/// A line of the flat form with so many queues of 32: they are the shortest.
fn line(at: i64, queues: i64) -> String {
    let row = |id: i64| {
        json!({"key": id, "msqid": id, "perms": "600", "cbytes": 0, "qnum": 0, "lspid": 0, "lrpid": 0, "uid": 33,
               "gid": 33, "cuid": 33, "cgid": 33, "stime": 0, "rtime": 0, "ctime": 1})
    };
    json!({"at": at, "sem": [], "shm": [], "msg": (0..queues).map(row).collect::<Vec<_>>(),
           "limits": {"semmsl": 250, "semmns": 32_000, "semopm": 32, "semmni": 128, "shmmax": 1 << 30, "shmall": 1 << 20,
                      "shmmni": 4096, "msgmax": 8192, "msgmnb": 16_384, "msgmni": 32}})
    .to_string()
}

#[test]
fn what_is_imported_in_several_files_is_judged_as_backtest_says() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    let mut chance = Chance::new(5);
    let begin_s = (now_ms() / DAY_MS - 40) * DAY_MS / 1_000;
    let mut files = vec![String::new()];
    for n in 0..DAYS * 144 {
        // A leak for five days, a clean-up, and another one; with pauses.
        let used = 6 + n % 800 * 26 / 720;
        if !(300..320).contains(&n) && !(900..1_000).contains(&n) {
            writeln!(files.last_mut().unwrap(), "{}", line(begin_s + n * STEP_S, used.min(32))).unwrap();
        }
        if chance.one_in(200) {
            files.push(String::new());
        }
    }
    let path = up.directory().join("past.jsonl");
    for text in files.iter().filter(|text| !text.is_empty()) {
        std::fs::write(&path, text).unwrap();
        cli.run(&["import", "--host", "lab", path.to_str().unwrap()]).must_succeed();
    }
    let to_ms = (begin_s + DAYS * 144 * STEP_S) * 1_000;
    let csv = up.directory().join("lab.csv");
    let (from, to) = (instant(begin_s * 1_000 - DAY_MS), instant(to_ms));
    let asked = ["export", "lab", "--from", &from, "--to", &to, "--series", "msgmni", "--out", csv.to_str().unwrap()];
    cli.run(&asked).must_succeed();
    let said = backtested(&cli, &[csv]).remove("lab").unwrap();
    let mut live = stored(&database);
    let of_it = live.keys().find(|(_, _, resource)| resource == "MSGMNI").cloned().unwrap();
    assert_eq!(live.remove(&of_it).unwrap(), said, "{} files", files.len());
    assert!(said.len() >= 3, "{said:?}");
}
