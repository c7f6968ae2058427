//! History that leaves a collector as a file, and comes into one.

use std::fmt::Write as _;
use std::path::PathBuf;

use highwater_ipc::time::format_rfc3339_ms;
use highwater_proto::token::Token;
use highwater_tests::answers::instant;
use highwater_tests::cli::{Answer, Cli};
use highwater_tests::collector::Up;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};

use crate::protocol::fake_host::FakeHost;
use crate::protocol::log::ms;

/// 2026-01-01T00:00Z, where the flat files of these tests begin, Unix seconds.
const BEGIN: i64 = 1_767_225_600;
const STEP: i64 = 60;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn export(cli: &Cli, host: &str, from_ms: i64, to_ms: i64) -> Answer {
    cli.run(&["export", host, "--from", &instant(from_ms), "--to", &instant(to_ms)])
}

fn import(up: &Up, host: &str, text: &str) -> Answer {
    let file = up.directory().join("file.jsonl");
    std::fs::write(&file, text).unwrap();
    up.cli().run(&["import", "--host", host, file.to_str().unwrap(), "--json"])
}

/// Everything that an import could change.
fn stored(database: &Database) -> String {
    let counts = ["host", "stream", "stretch", "chunk", "gap", "audit"].map(|t| format!("(SELECT count(*) FROM {t})"));
    database.sql(&format!("SELECT {}", counts.join(", ")))
}

/// One line of the flat form; `number` decides what it holds. No two are alike.
fn flat(number: i64) -> Value {
    let owner = json!({"uid": 33, "gid": 4_294_967_295_u32, "cuid": 0, "cgid": 0});
    let with = |row: Value| {
        let mut row = row;
        row.as_object_mut().unwrap().extend(owner.as_object().unwrap().clone());
        row
    };
    let now = BEGIN + number * STEP;
    let sem = (0..5 + number % 7).map(|i| {
        let otime = if i % 3 == 0 { now } else { 0 };
        with(json!({"key": -788_525_046 + i, "semid": number / 50 * 100 + i, "perms": "600", "nsems": 17,
                    "otime": otime, "ctime": BEGIN - 86_400}))
    });
    let shm = (0..3).map(|i| {
        let perms = if i == 2 { "1600" } else { "640" };
        with(json!({"key": 0, "shmid": i, "perms": perms, "size": 1_u64 << (20 + i), "cpid": 700, "lpid": 800 + number,
                    "nattch": number % 4, "atime": now - 5, "dtime": now - 3, "ctime": BEGIN, "rss": 4096 * number,
                    "swap": 0}))
    });
    let msg = (0..number % 3).map(|i| {
        with(json!({"key": 77, "msqid": i, "perms": "666", "cbytes": number, "qnum": 1, "lspid": 9, "lrpid": 0,
                    "stime": now, "rtime": 0, "ctime": BEGIN}))
    });
    json!({"at": now, "sem": sem.collect::<Vec<_>>(), "shm": shm.collect::<Vec<_>>(), "msg": msg.collect::<Vec<_>>(),
           "limits": {"semmsl": 32_000, "semmns": 1_024_000_000, "semopm": 500, "semmni": 32_000,
                      "shmmax": 18_446_744_073_692_774_399_u64, "shmall": u64::MAX, "shmmni": 4096, "msgmax": 8192,
                      "msgmnb": 16_384, "msgmni": 32_000}})
}

fn flat_file(numbers: impl IntoIterator<Item = i64>) -> String {
    let mut text = String::new();
    for number in numbers {
        writeln!(text, "{}", flat(number)).unwrap();
    }
    text
}

/// A line of the contract's form as the flat one says it.
fn flattened(line: &Value) -> Value {
    let namespace = &line["namespaces"][0];
    let rows = |kind: &str, columns: &[&str]| -> Vec<Value> {
        let row = |row: &Value| {
            let mut flat = serde_json::Map::new();
            for column in columns {
                let value = match row.get(*column) {
                    Some(Value::String(key)) if *column == "key" => {
                        let key = u32::from_str_radix(key.strip_prefix("0x").unwrap(), 16).unwrap();
                        json!(key.cast_signed())
                    }
                    Some(value) => value.clone(),
                    None => number(&row[format!("{column}_u64")]),
                };
                flat.insert((*column).to_owned(), value);
            }
            Value::Object(flat)
        };
        namespace[kind].as_array().unwrap().iter().map(row).collect()
    };
    let owner = ["uid", "gid", "cuid", "cgid"];
    let columns = |own: &[&'static str]| [own, &owner].concat();
    let mut limits = namespace["limits"].clone();
    let limits = limits.as_object_mut().unwrap();
    for name in ["shmmax", "shmall"] {
        let value = number(&limits.remove(&format!("{name}_u64")).unwrap());
        limits.insert(name.to_owned(), value);
    }
    limits.remove("semvmx");
    limits.remove("shmmin");
    json!({
        "at": ms(&line["at"]).unwrap() / 1_000,
        "sem": rows("sem", &columns(&["key", "semid", "perms", "nsems", "otime", "ctime"])),
        "shm": rows("shm", &columns(&["key", "shmid", "perms", "size", "cpid", "lpid", "nattch", "atime", "dtime", "ctime",
                                      "rss", "swap"])),
        "msg": rows("msg", &columns(&["key", "msqid", "perms", "cbytes", "qnum", "lspid", "lrpid", "stime", "rtime",
                                      "ctime"])),
        "limits": limits,
    })
}

fn number(digits: &Value) -> Value {
    json!(digits.as_str().unwrap_or_else(|| panic!("no digits: {digits}")).parse::<u64>().unwrap())
}

/// Without what differs from one collector to the next.
fn portable(line: &Value) -> Value {
    let mut line = line.clone();
    for field in ["host", "host_id", "received_at", "skew_ms"] {
        line.as_object_mut().unwrap().remove(field);
    }
    line
}

/// A host that was sampled, stopped for ten minutes, and was sampled again; and its first and last sample.
fn with_a_gap(up: &Up, cli: &Cli) -> (FakeHost, i64, i64) {
    let mut host = FakeHost::enrol(up, up.grpc(), "origin");
    let id = host.id().to_owned();
    let shows = |arrays: usize| {
        until("the change is stored", PATIENCE, || {
            let answer = cli.run(&["ipcs", &id, "--json"]);
            answer.code == 0 && answer.json()["namespaces"][0]["sem"].as_array().map(Vec::len) == Some(arrays)
        });
    };
    host.hold(1);
    host.start();
    for arrays in 2..5 {
        host.hold(arrays);
        shows(arrays);
    }
    host.stop();
    host.clock.pass(600_000, false);
    host.start();
    for arrays in [3, 6] {
        host.hold(arrays);
        shows(arrays);
    }
    host.stop();
    let timeline = cli.json(&["timeline", &id, "--kind", "agent_started"]);
    let first = ms(&timeline["events"][0]["at"]).unwrap();
    let last = ms(&cli.json(&["ipcs", &id, "--last"])["covered"]["to"]).unwrap();
    (host, first, last)
}

#[test]
fn an_export_says_of_each_sample_what_as_of_says_and_another_collector_gives_it_back() {
    let (here, there) = (Postgres::shared().database(), Postgres::shared().database());
    let (up, other) = (Up::collector(&here), Up::collector(&there));
    let cli = up.cli();
    let (host, first, last) = with_a_gap(&up, &cli);
    let whole = export(&cli, host.id(), first, last).must_succeed();
    let exported = lines(whole.text());
    let gaps: Vec<&Value> = exported.iter().filter(|line| line.get("gap").is_some()).collect();
    let [gap] = gaps[..] else { panic!("{gaps:?}") };
    assert_eq!((&gap["gap"]["reason"], &gap["gap"]["state"]), (&json!("agent_stopped"), &json!("closed")), "{gap}");
    assert!(exported.len() >= 6, "{}", whole.text());
    for line in exported.iter().filter(|line| line.get("gap").is_none()) {
        for at in [&line["at"], &line["covered"]["to"]] {
            let mut held = cli.json(&["ipcs", host.id(), "--at", at.as_str().unwrap()]);
            for field in ["asked_at", "also"] {
                held.as_object_mut().unwrap().remove(field);
            }
            let mut line = line.clone();
            line.as_object_mut().unwrap().remove("activity");
            assert_eq!(held, line);
        }
    }

    let done = import(&other, "copy", whole.text()).must_succeed().json();
    assert_eq!((&done["new_host"], &done["already_there"]), (&json!(true), &json!(0)), "{done}");
    assert_eq!((done["stored"].as_u64(), done["gaps_filled_count"].as_u64()), (done["lines"].as_u64(), Some(2)));
    let again = lines(export(&other.cli(), "copy", first, last).must_succeed().text());
    let (a, b): (Vec<_>, Vec<_>) = (exported.iter().map(portable).collect(), again.iter().map(portable).collect());
    assert_eq!(a, b);
    assert!(again.iter().all(|line| line["host"] == "copy"));

    let before = stored(&there);
    let done = import(&other, "copy", whole.text()).must_succeed().json();
    assert_eq!((&done["stored"], &done["gaps_filled"]), (&json!(0), &json!([])), "{done}");
    assert!(done["notes"].to_string().contains("nothing was changed"), "{done}");
    // Where it came from, too.
    assert_eq!(import(&up, "origin", whole.text()).must_succeed().json()["stored"], 0);
    assert_eq!(stored(&there), before);
}

#[test]
fn the_flat_form_comes_back_field_by_field_and_a_contradiction_changes_nothing() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    // Across the end of a day.
    let count = 1_500;
    let done = import(&up, "lab", &flat_file(0..count)).must_succeed().json();
    assert_eq!(
        (&done["lines"], &done["stored"], &done["gaps_filled_count"]),
        (&json!(count), &json!(count), &json!(1))
    );
    let (from, to) = (BEGIN * 1_000, (BEGIN + (count - 1) * STEP) * 1_000);
    let exported = export(&cli, "lab", from, to).must_succeed();
    let exported = lines(exported.text());
    let expected: Vec<Value> = (0..count).map(flat).collect();
    assert_eq!(exported.iter().map(flattened).collect::<Vec<_>>(), expected);
    assert!(exported.iter().all(|line| line["interval_ms"] == 60_000 && line["sysvipc"]["state"] == "available"));
    // Between two lines the earlier one speaks.
    let between = cli.json(&["ipcs", "lab", "--at", &instant((BEGIN + 100 * STEP + 59) * 1_000)]);
    assert_eq!(flattened(&between), flat(100));

    let before = stored(&database);
    assert_eq!(import(&up, "lab", &flat_file(100..200)).must_succeed().json()["stored"], 0);
    let mut wrong = flat(150);
    wrong["sem"][2]["nsems"] = json!(16);
    let text = format!("{}{wrong}\n{}", flat_file(148..150), flat_file(count..count + 10));
    let refused = import(&up, "lab", &text).must_exit(1);
    for words in ["line 3 ", "2026-01-01T02:30:00.000Z", "namespaces[0].sem[2].nsems is 16", "17 in history"] {
        assert!(refused.err.contains(words), "{words}: {refused:?}");
    }
    assert_eq!(refused.err.lines().count(), 1, "{refused:?}");
    assert_eq!(stored(&database), before);

    // What follows joins what is there.
    let done = import(&up, "lab", &flat_file(count - 2..count + 10)).must_succeed().json();
    assert_eq!((&done["stored"], &done["already_there"]), (&json!(10), &json!(2)), "{done}");
    let exported = export(&cli, "lab", from, to + 10 * STEP * 1_000).must_succeed();
    let exported: Vec<Value> = lines(exported.text()).iter().map(flattened).collect();
    assert_eq!(exported, (0..count + 10).map(flat).collect::<Vec<_>>(), "no line twice, no gap");
}

#[test]
fn only_gaps_are_filled_and_the_agent_of_the_host_goes_on() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    let (mut host, first, last) = with_a_gap(&up, &cli);
    let id = host.id().to_owned();
    let live = export(&cli, &id, first, last).must_succeed();
    let live = lines(live.text());
    let gap = live.iter().find(|line| line.get("gap").is_some()).unwrap();
    let (from, to) = (ms(&gap["gap"]["from"]).unwrap(), ms(&gap["gap"]["to"]).unwrap());
    let sample = |wall_ms: i64| {
        let mut line = portable(&live[0]);
        line["at"] = json!(format_rfc3339_ms(wall_ms));
        line.as_object_mut().unwrap().remove("covered");
        line.to_string()
    };
    let times: Vec<i64> = (0..20).map(|i| from + 60_000 + i * 10_000).collect();
    let text: String = times.iter().map(|at| sample(*at) + "\n").collect();
    let done = import(&up, &id, &text).must_succeed().json();
    assert_eq!((&done["stored"], &done["gaps_filled_count"]), (&json!(20), &json!(1)), "{done}");
    let (begin, end) = (times[0], times[19]);
    let at = |wall_ms: i64| cli.run(&["ipcs", &id, "--json", "--at", &instant(wall_ms)]);
    assert_eq!(at(begin + 5_000).must_succeed().json()["namespaces"], live[0]["namespaces"]);
    for (inside, from, to) in [(begin - 1, from, begin), (end + 1, end, to)] {
        let hole = at(inside).must_exit(4).json();
        let bounds = (ms(&hole["gap"]["from"]).unwrap(), ms(&hole["gap"]["to"]).unwrap());
        assert_eq!((bounds, &hole["gap"]["reason"]), ((from, to), &json!("agent_stopped")), "{hole}");
    }
    let told = lines(export(&cli, &id, first, last).must_succeed().text());
    let walls: Vec<i64> = told.iter().filter_map(|line| ms(&line["at"])).collect();
    assert!(walls.is_sorted() && walls.contains(&begin), "history is in order: {walls:?}");
    let starts = cli.json(&["timeline", &id, "--kind", "agent_started"]);
    assert_eq!(starts["events"].as_array().unwrap().len(), 2, "no agent was started by an import: {starts}");

    let late = import(&up, &id, &(sample(last + 60_000) + "\n")).must_exit(1);
    assert!(late.err.contains("own agent"), "{late:?}");
    host.start();
    host.hold(9);
    until("the agent goes on", PATIENCE, || {
        let answer = cli.run(&["ipcs", &id, "--json"]);
        answer.code == 0 && answer.json()["namespaces"][0]["sem"].as_array().map(Vec::len) == Some(9)
    });
    host.stop();
}

#[test]
fn the_past_of_a_host_without_an_agent_is_found_and_blamed_and_the_host_is_in_the_fleet() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    import(&up, "lab", &flat_file(0..132)).must_succeed();
    let at = |number: i64| instant((BEGIN + number * STEP) * 1_000);
    // Nothing was heard of it for months: gone, but not forgotten.
    assert_eq!(cli.json(&["hosts"])["hosts"], json!([]));
    let all = cli.json(&["hosts", "--all"]);
    let host = &all["hosts"][0];
    for (field, value) in [
        ("name", json!("lab")),
        ("lifecycle", json!("gone")),
        ("state", json!("available")),
        ("connected", json!(false)),
        ("last_seen", json!(format_rfc3339_ms((BEGIN + 131 * STEP) * 1_000))),
    ] {
        assert_eq!(host[field], value, "{field}: {host}");
    }
    assert_eq!((&host["worst"]["resource"], &host["worst"]["used_u64"]), (&json!("SHMMNI"), &json!("3")), "{host}");
    let then = cli.json(&["hosts", "--at", &at(60)]);
    assert_eq!((&then["hosts"][0]["name"], &then["hosts"][0]["state"]), (&json!("lab"), &json!("available")), "{then}");
    assert_eq!(cli.json(&["hosts", "--at", &at(-1)])["hosts"], json!([]));

    let key = json!(format!("0x{:08x}", (-788_525_046_i32).cast_unsigned()));
    let held = cli.json(&["find", &format!("sem.key={}", key.as_str().unwrap()), "--at", &at(60)]);
    let matches = held["matches"].as_array().unwrap();
    assert_eq!(matches.len(), 1, "{held}");
    assert_eq!((&matches[0]["host"], &matches[0]["uid"], &matches[0]["id"]), (&json!("lab"), &json!(33), &json!(100)));
    let span = cli.json(&["find", "uid=33", "--since", &at(10), "--until", &at(20)]);
    assert!(!span["matches"].as_array().unwrap().is_empty(), "{span}");

    let grown = cli.json(&["blame", "--fleet", "--kind", "sem", "--since", &at(0), "--until", &at(131)]);
    assert_eq!(grown["hosts"], 1, "{grown}");
    let owner = &grown["owners"][0];
    // Five arrays and up to six more, by the minute; an hour's row tells how it ended.
    let [before, after] = [59, 131].map(|number| 5 + number % 7);
    assert_eq!((&owner["host"], &owner["uid"]), (&json!("lab"), &json!(33)), "{grown}");
    assert_eq!((&owner["arrays_before"], &owner["arrays_after"]), (&json!(before), &json!(after)), "{grown}");

    // What comes later is its present, what is filled in before it is not.
    import(&up, "lab", &flat_file(200..210)).must_succeed();
    import(&up, "lab", &flat_file(150..160)).must_succeed();
    let newest = format_rfc3339_ms((BEGIN + 209 * STEP) * 1_000);
    assert_eq!(cli.json(&["hosts", "--all"])["hosts"][0]["last_seen"], json!(newest));

    // An agent of its own has the last word of what is true of it.
    let token = cli.json(&["token", "create", "--host", "lab"]);
    let token = Token::parse(token["token"].as_str().unwrap()).unwrap();
    let mut agent = FakeHost::enrol_with(token, up.grpc(), "lab");
    assert_eq!(Some(agent.id()), host["id"].as_str());
    agent.start();
    until("it is live", PATIENCE, || {
        let host = &cli.json(&["hosts"])["hosts"][0];
        host["lifecycle"] == "live" && host["connected"] == true && host["agent_version"].is_string()
    });
    agent.stop();
    let held = cli.json(&["find", "uid=33", "--at", &at(60)]);
    assert!(!held["matches"].as_array().unwrap().is_empty(), "its past is still found: {held}");
}

#[test]
fn an_export_that_cannot_be_finished_says_so_and_leaves_no_file() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    import(&up, "lab", &flat_file(1_400..1_500)).must_succeed();
    database.sql("UPDATE chunk SET body = substr(body, 1, length(body) - 9) WHERE from_seq > 0");
    let (from, to) = (instant(BEGIN * 1_000), instant((BEGIN + 2_000 * STEP) * 1_000));
    let broken = cli.run(&["export", "lab", "--from", &from, "--to", &to]).must_exit(1);
    let text = lines(broken.text());
    assert!(text.len() > 40 && text.last().unwrap()["error"]["code"] == "internal", "{broken:?}");
    assert_eq!(broken.err.lines().count(), 1, "{broken:?}");
    let file: PathBuf = up.directory().join("out.jsonl");
    cli.run(&["export", "lab", "--from", &from, "--to", &to, "--out", file.to_str().unwrap()]).must_exit(1);
    assert!(!file.exists());
    let refused = import(&up, "lab2", broken.text()).must_exit(1);
    assert!(refused.err.contains("export that span again"), "{refused:?}");
    // Nothing at all is a gap.
    let none = cli.run(&["export", "lab", "--from", "2025-01-01", "--to", "2025-01-02"]).must_exit(4);
    assert_eq!(lines(none.text())[0]["gap"]["reason"], "before_first", "{none:?}");
}

#[test]
fn who_may_only_read_imports_nothing() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    database.sql("UPDATE operator_token SET role = 'viewer'");
    let refused = import(&up, "lab", &flat_file(0..3)).must_exit(1);
    assert!(refused.err.contains("operator or admin"), "{refused:?}");
    assert_eq!(database.sql("SELECT count(*) FROM host"), "0\n");
}
