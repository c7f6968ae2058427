//! A past that is imported: what went wrong in it is told of by `flags` and `timeline`, and receivers hear of what is wrong at
//! its end, once, unless that is long ago.

use std::fmt::Write as _;

use highwater_ipc::time::format_rfc3339_ms;
use highwater_tests::cli::Cli;
use highwater_tests::collector::{Options, Up};
use highwater_tests::http_sink::{Behave, HttpSink};
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::{Value, json};

use crate::stage::{File, webhook};

const TEN_MINUTES_S: i64 = 600;
const DAY_S: i64 = 86_400;

/// Samples ten minutes apart from then on, Unix seconds, each of so many arrays of 40.
fn file(from_s: i64, arrays: &[i64]) -> String {
    let mut text = String::new();
    for (n, count) in (0..).zip(arrays) {
        let at = from_s + n * TEN_MINUTES_S;
        let row = |id: i64| {
            json!({"key": 0, "semid": id, "perms": "600", "nsems": 1, "uid": 33, "gid": 33, "cuid": 33, "cgid": 33,
                   "otime": 0, "ctime": from_s - DAY_S})
        };
        let line = json!({"at": at, "sem": (0..*count).map(row).collect::<Vec<_>>(), "shm": [], "msg": [],
            "limits": {"semmsl": 250, "semmns": 32_000, "semopm": 32, "semmni": 40, "shmmax": 1 << 30, "shmall": 1 << 20,
                       "shmmni": 4096, "msgmax": 8192, "msgmnb": 16_384, "msgmni": 32_000}});
        writeln!(text, "{line}").unwrap();
    }
    text
}

fn import(up: &Up, host: &str, text: &str) {
    let path = up.directory().join("file.jsonl");
    std::fs::write(&path, text).unwrap();
    up.cli().run(&["import", "--host", host, path.to_str().unwrap()]).must_succeed();
}

/// State, used and instants of a host's flags, the newest first.
fn flags(cli: &Cli, host: &str) -> Vec<(String, String, Value, Value)> {
    let answer = cli.json(&["flags", host, "--all"]);
    let of = |flag: &Value| {
        let text = |field: &str| flag[field].as_str().unwrap().to_owned();
        assert_eq!(flag["resource"], "SEMMNI", "{flag}");
        // Also of one that came and went in one file.
        assert_eq!(flag["owner"]["uid"], 33, "{flag}");
        (text("state"), text("used_u64"), flag["raised_at"].clone(), flag["cleared_at"].clone())
    };
    answer["flags"].as_array().unwrap().iter().map(of).collect()
}

fn at(second: i64) -> Value {
    json!(format_rfc3339_ms(second * 1_000))
}

#[test]
fn an_imported_day_with_a_leak_leaves_its_transitions_and_one_flag_that_is_told_once_if_it_is_news() {
    let sink = HttpSink::start(|_, _| Behave::Answer(204));
    let receivers = File::new(&webhook("oncall", &sink.url()));
    let (database, path) = (Postgres::shared().database(), receivers.path());
    let up = Up::start(&Options { database: Some(&database), notify_config: Some(&path), ..Options::default() });
    let cli = up.cli();
    let told = || -> Vec<(String, String)> {
        let read = |body: &str| serde_json::from_str::<Value>(body).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let of = |v: Value| (text(&v["flag"]["host"]), text(&v["transition"]));
        sink.requests().iter().map(|r| of(read(&r.body))).collect()
    };
    let known = |host: &str, what: &str| (host.to_owned(), what.to_owned());
    let now_s = now_ms() / 1_000 / TEN_MINUTES_S * TEN_MINUTES_S;

    // A day a month ago: a leak that was cleaned up, and one that was not.
    let begin_s = now_s - 30 * DAY_S;
    let day: Vec<i64> = (0..144).map(|n| if n < 70 { 5 + n / 2 } else { 5 + (n - 70) / 2 }).collect();
    let (first, second) = (62, 132);
    assert_eq!((day[61], day[62], day[69], day[70], day[131], day[132]), (35, 36, 39, 5, 35, 36));
    import(&up, "old", &file(begin_s, &day));
    let of_then = flags(&cli, "old");
    let instant = |n: i64| at(begin_s + n * TEN_MINUTES_S);
    assert_eq!(of_then.len(), 2, "{of_then:?}");
    assert_eq!(
        (&*of_then[0].0, &*of_then[0].1, &of_then[0].3),
        ("open", "41", &Value::Null),
        "as it was at the end: {of_then:?}"
    );
    assert_eq!((&*of_then[1].0, &of_then[1].3), ("cleared", &instant(70)), "{of_then:?}");
    assert!(of_then[1].2.as_str() <= instant(first).as_str() && of_then[0].2.as_str() <= instant(second).as_str());
    let timeline = cli.json(&["timeline", "old", "--since", instant(-1).as_str().unwrap()]);
    let kinds = ["flag_raised", "flag_cleared"];
    let events = timeline["events"].as_array().unwrap();
    let ups: Vec<_> = events.iter().filter(|e| kinds.contains(&e["kind"].as_str().unwrap())).collect();
    let shown: Vec<_> = ups.iter().map(|e| (e["kind"].as_str().unwrap(), &e["at"])).collect();
    let expected = [("flag_raised", &of_then[1].2), ("flag_cleared", &of_then[1].3), ("flag_raised", &of_then[0].2)];
    assert_eq!(shown, expected);
    assert!(events.iter().map(|e| e["at"].as_str().unwrap()).is_sorted(), "in their places: {timeline}");

    // What is wrong now is told; what was wrong a month ago would have been by then.
    let begin_s = now_s - 20 * TEN_MINUTES_S;
    import(&up, "new", &file(begin_s, &[5, 5, 37, 37, 37]));
    until("the new one is told", PATIENCE, || told() == [known("new", "raised")]);
    // The same again, and what goes on as it was, is no news.
    import(&up, "new", &file(begin_s, &[5, 5, 37, 37, 37]));
    import(&up, "new", &file(begin_s + 5 * TEN_MINUTES_S, &[38, 37, 37]));
    // A month ago it ended: nobody was told that it began.
    import(&up, "old", &file(now_s - 29 * DAY_S, &[5, 5, 5]));
    assert!(flags(&cli, "old").iter().all(|flag| flag.0 == "cleared"));
    import(&up, "new", &file(begin_s + 8 * TEN_MINUTES_S, &[5, 5]));
    until("its end is told", PATIENCE, || told() == [known("new", "raised"), known("new", "cleared")]);
    assert_eq!(flags(&cli, "new").len(), 1);
}

#[test]
fn what_is_imported_is_judged_by_the_file_of_policies_as_it_is_now() {
    let rules = File::new("");
    let (database, path) = (Postgres::shared().database(), rules.path());
    let up = Up::start(&Options { database: Some(&database), flags_config: Some(&path), ..Options::default() });
    let begin_s = now_ms() / 1_000 / TEN_MINUTES_S * TEN_MINUTES_S - DAY_S;
    import(&up, "usual", &file(begin_s, &[22; 12]));
    assert_eq!(flags(&up.cli(), "usual"), [], "22 of 40 are no danger by the default");
    std::fs::write(&path, "[default]\ntight = 0.5\n").unwrap();
    import(&up, "strict", &file(begin_s, &[22; 12]));
    let flagged = flags(&up.cli(), "strict");
    assert_eq!(flagged.iter().map(|flag| flag.0.as_str()).collect::<Vec<_>>(), ["open"], "{flagged:?}");
}
