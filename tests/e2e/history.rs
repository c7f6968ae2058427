//! What a host held, read back: now, then, and where nobody knows.

use highwater_ipc::time::{format_rfc3339_ms, parse_rfc3339_ms};
use highwater_tests::agent::Agent;
use highwater_tests::cli::Cli;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, until, until_some};
use serde_json::Value;

/// A collector, one agent in a namespace of its own, and the command line.
struct World {
    namespace: IpcNamespace,
    up: Up,
    agent: Agent,
    cli: Cli,
}

impl World {
    fn new(host: &str) -> Self {
        let database = Postgres::shared().database();
        let namespace = IpcNamespace::named(host);
        let up = Up::collector(&database);
        let agent = Agent::running(&up, &namespace);
        let cli = up.cli();
        Self { namespace, up, agent, cli }
    }

    /// The first snapshot of which `wanted` is true.
    #[track_caller]
    fn until_now(&self, host: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until_some(what, PATIENCE, || {
            let answer = self.cli.run(&["ipcs", host, "--json"]);
            (answer.code == 0).then(|| answer.json()).filter(&wanted)
        })
    }
}

/// The ids of the semaphore arrays of a snapshot.
fn arrays(snapshot: &Value) -> Vec<i64> {
    let rows = snapshot["namespaces"][0]["sem"].as_array().expect("a list of arrays");
    rows.iter().map(|r| r["semid"].as_i64().expect("a semid")).collect()
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field} in {value}"))
}

#[test]
fn an_array_is_seen_while_it_is_there_and_in_the_past_when_it_is_gone() {
    let world = World::new("seen");
    let before = world.until_now("seen", "a sample", |_| true);
    let semid = world.namespace.create("create-sem 0x0d4d1234 4 0640");
    world.namespace.tool(&format!("chown sem {semid} 33 33 0640"));
    let is_there = |s: &Value| s["namespaces"][0]["sem"][0]["uid"] == 33;
    let during = world.until_now("seen", "the array", is_there);
    assert_eq!(arrays(&during), vec![i64::from(semid)]);
    let printed = world.namespace.shell("LC_ALL=C TZ=UTC ipcs -s");
    assert_eq!(world.cli.run(&["ipcs", "seen", "-s"]).must_succeed().text(), printed);
    world.namespace.tool(&format!("remove sem {semid}"));
    let after = world.until_now("seen", "its end", |s| arrays(s).is_empty());

    let at = |instant: &str, flags: &[&str]| {
        world.cli.run(&[&["ipcs", "seen", "--at", instant], flags].concat()).must_succeed()
    };
    assert_eq!(at(text(&during, "at"), &["-s"]).text(), printed);
    assert!(arrays(&at(text(&before, "at"), &["--json"]).json()).is_empty());
    assert!(arrays(&at(text(&after, "at"), &["--json"]).json()).is_empty());
    let then = at(text(&during, "at"), &["--json"]).json();
    assert_eq!(then["namespaces"], during["namespaces"]);
    assert_eq!(then["asked_at"], during["at"]);
    assert!(text(&then["covered"], "to") >= text(&then["covered"], "from"));

    let life = at(text(&during, "at"), &["-s", "-i", &semid.to_string()]);
    assert!(life.text().contains("created=between "), "{life:?}");
    assert!(life.text().contains("removed=between "), "{life:?}");
    let life = at(text(&during, "at"), &["-s", "-i", &semid.to_string(), "--json"]).json();
    assert_eq!((&life["object"], &life["kind"]), (&during["namespaces"][0]["sem"][0], &"sem".into()));
    assert!(text(&life["created"], "at") <= text(&during, "at"), "{life}");
    assert!(text(&life["removed"], "at") > text(&during, "at"), "{life}");
    let gone = world.cli.run(&["ipcs", "seen", "-s", "-i", &semid.to_string(), "--json"]).must_exit(1);
    assert!(gone.out.is_empty() && gone.err.contains("highwater timeline"), "{gone:?}");
}

#[test]
fn diff_and_timeline_say_what_came_and_went_and_whose_it_was() {
    let world = World::new("told");
    let before = world.until_now("told", "a sample", |_| true);
    let semid = world.namespace.create("create-sem private 3 0600");
    let created = world.until_now("told", "the array", |s| arrays(s).len() == 1);
    world.namespace.tool(&format!("chown sem {semid} 33 33 0600"));
    let during = world.until_now("told", "its new owner", |s| s["namespaces"][0]["sem"][0]["uid"] == 33);
    world.namespace.tool(&format!("remove sem {semid}"));
    let after = world.until_now("told", "its end", |s| arrays(s).is_empty());
    let (t0, t1, t2) = (text(&before, "at"), text(&during, "at"), text(&after, "at"));

    let came = world.cli.json(&["diff", "told", "--from", t0, "--to", t1]);
    assert_eq!(came["objects"].as_array().unwrap().len(), 1, "{came}");
    assert_eq!(came["objects"][0]["change"], "added");
    assert_eq!(came["objects"][0]["before"], Value::Null);
    // Who holds it is told of a state, not of a difference.
    let mut row = during["namespaces"][0]["sem"][0].clone();
    row.as_object_mut().unwrap().retain(|field, _| came["objects"][0]["after"].get(field).is_some());
    assert_eq!(came["objects"][0]["after"], row);
    assert_eq!(row.as_object().unwrap().len(), 14, "every field of the kernel's row and the names: {row}");
    let www = came["owners"].as_array().unwrap().iter().find(|o| o["uid"] == 33).expect("uid 33").clone();
    assert_eq!((&www["net"], &www["semaphores_after"], &www["kind"]), (&1.into(), &3.into(), &"sem".into()));
    let went = world.cli.json(&["diff", "told", "--from", t1, "--to", t2]);
    assert_eq!(went["objects"][0]["change"], "removed");
    assert_eq!(went["objects"][0]["after"], Value::Null);
    let nothing = world.cli.json(&["diff", "told", "--from", t0, "--to", t2]);
    assert_eq!(nothing["objects"], Value::Array(vec![]), "came and went in between");

    let told = world.cli.json(&["timeline", "told", "--since", t0, "--until", t2]);
    let events: Vec<&Value> = told["events"].as_array().unwrap().iter().collect();
    let kinds: Vec<&str> = events.iter().map(|e| text(e, "kind")).collect();
    assert_eq!(kinds, ["created", "changed", "removed"], "{told}");
    assert_eq!(events[0]["at"], created["at"]);
    assert_eq!(events[0]["subject"]["id"], semid);
    assert_eq!((&events[0]["by"]["uid"], &events[0]["by"]["source"]), (&0.into(), &"cuid".into()));
    assert_eq!(events[0]["by"]["user"], "root");
    assert!(events[1]["detail"]["fields"].as_array().unwrap().contains(&"uid".into()));
    assert_eq!(events[2]["detail"]["before"]["uid"], 33);
    let pages = world.cli.json(&["timeline", "told", "--since", t0, "--until", t2, "--limit", "2"]);
    assert_eq!(pages["events"].as_array().unwrap().len(), 2);
    let rest = world.cli.json(&[
        "timeline",
        "told",
        "--since",
        t0,
        "--until",
        t2,
        "--limit",
        "2",
        "--cursor",
        text(&pages, "next_cursor"),
    ]);
    assert_eq!(rest["events"], Value::Array(vec![events[2].clone()]));
    assert_eq!(rest["next_cursor"], Value::Null);
    let lines = world.cli.run(&["timeline", "told", "-S", t0, "-U", t2, "--kind", "created,removed"]).must_succeed();
    let expected = format!("+0000  created        sem {semid} key 0x00000000 nsems 3  owner root(0)  by root(0)\n");
    assert!(lines.text().contains(&expected), "{lines:?}");
}

#[test]
fn a_stopped_agent_leaves_a_gap_that_says_so_and_never_the_older_state() {
    let mut world = World::new("stopped");
    let last = world.until_now("stopped", "a sample", |_| true);
    assert!(world.agent.stop().success());
    let gap = until_some("the gap", PATIENCE, || {
        let answer = world.cli.run(&["ipcs", "stopped", "--json"]);
        (answer.code == 4 && answer.json()["gap"]["reason"] == "agent_stopped").then(|| answer.json())
    });
    assert_eq!(gap["gap"]["state"], "open");
    assert_eq!(gap["gap"]["to"], Value::Null);
    assert!(text(&gap["gap"], "last_sample_at") >= text(&last, "at"));
    let words = world.cli.run(&["ipcs", "stopped", "-s"]).must_exit(4);
    assert!(words.out.is_empty(), "{words:?}");
    let command = format!("--at {}", text(&gap["gap"], "last_sample_at"));
    assert!(words.err.contains("agent_stopped") && words.err.contains(&command), "{words:?}");
    // The printed command works, and so does --last.
    let at_last = world.cli.json(&["ipcs", "stopped", "--at", text(&gap["gap"], "last_sample_at")]);
    let newest = world.cli.run(&["ipcs", "stopped", "--last", "--json"]).must_succeed();
    assert_eq!(at_last["namespaces"], newest.json()["namespaces"]);
    assert!(newest.err.contains(" old"), "{newest:?}");
    assert_eq!(world.cli.run(&["lsipc", "stopped"]).must_exit(4).out, b"");

    world.agent.start(&world.namespace);
    world.agent.await_first_sample(&world.up, &world.namespace);
    let asked = text(&gap, "asked_at");
    let closed = world.cli.run(&["ipcs", "stopped", "--at", asked, "--json"]).must_exit(4).json();
    assert_eq!((text(&closed["gap"], "state"), text(&closed["gap"], "reason")), ("closed", "agent_stopped"));
    assert_eq!(closed["gap"]["from"], gap["gap"]["last_sample_at"]);
    assert!(text(&closed["gap"], "next_sample_at") > asked);
    let told = world.cli.json(&["timeline", "stopped", "--since", text(&last, "at")]);
    let kinds: Vec<&str> = told["events"].as_array().unwrap().iter().map(|e| text(e, "kind")).collect();
    assert_eq!(kinds, ["agent_stopped", "gap", "agent_started"], "{told}");
}

#[test]
fn a_killed_agent_leaves_a_gap_that_closes_when_it_is_back() {
    let mut world = World::new("killed");
    let last = world.until_now("killed", "a sample", |_| true);
    world.agent.kill();
    let semid = world.namespace.create("create-sem private 1 0600");
    let gap = until_some("the gap", PATIENCE, || {
        let answer = world.cli.run(&["ipcs", "killed", "--json"]);
        (answer.code == 4).then(|| answer.json())
    });
    assert_eq!(gap["gap"]["state"], "open", "{gap}");
    world.agent.start(&world.namespace);
    let back = world.until_now("killed", "the array made meanwhile", |s| arrays(s).len() == 1);
    let closed = world.cli.run(&["ipcs", "killed", "--at", text(&gap, "asked_at"), "--json"]).must_exit(4).json();
    assert_eq!((text(&closed["gap"], "state"), text(&closed["gap"], "reason")), ("closed", "agent_killed"));
    let diff = world.cli.json(&["diff", "killed", "--from", text(&last, "at"), "--to", text(&back, "at")]);
    assert_eq!(diff["gaps"].as_array().unwrap().len(), 1, "{diff}");
    assert_eq!(diff["objects"][0]["after"]["semid"], semid);
    let told = world.cli.json(&["timeline", "killed", "--since", text(&last, "at"), "--kind", "created"]);
    assert_eq!(told["events"][0]["detail"]["not_before"], closed["gap"]["from"], "it came within the gap: {told}");
}

#[test]
fn before_the_first_sample_and_after_now_there_is_no_answer() {
    let world = World::new("bounds");
    let first = world.cli.run(&["ipcs", "bounds", "--at", "2020-01-01", "--json"]).must_exit(4).json();
    assert_eq!(first["gap"]["reason"], "before_first");
    assert_eq!(first["gap"]["from"], Value::Null);
    let next = text(&first["gap"], "next_sample_at").to_owned();
    world.cli.run(&["ipcs", "bounds", "--at", &next]).must_succeed();
    let future = world.cli.run(&["ipcs", "bounds", "--at", "2200-01-01T00:00:00Z"]).must_exit(1);
    assert!(future.err.contains("has not come yet"), "{future:?}");
    let gap = world.cli.run(&["diff", "bounds", "--from", "2020-01-01", "--json"]).must_exit(4).json();
    assert_eq!(gap["gap"]["reason"], "before_first");
}

#[test]
fn limits_are_read_back_with_what_is_used_of_them() {
    let world = World::new("limits");
    world.namespace.create("create-sem private 5 0600");
    let full = world.until_now("limits", "the array", |s| arrays(s).len() == 1);
    world.namespace.shell("echo '250 32000 32 16' > /proc/sys/kernel/sem");
    world.until_now("limits", "the new limit", |s| s["namespaces"][0]["limits"]["semmni"] == 16);
    let rows = world.cli.json(&["lsipc", "limits"]);
    let row = |name: &str| {
        rows["rows"].as_array().unwrap().iter().find(|r| r["resource"] == name).expect("that limit").clone()
    };
    assert_eq!((&row("SEMMNI")["limit_u64"], &row("SEMMNI")["used_u64"]), (&"16".into(), &"1".into()));
    assert_eq!(row("SEMMNS")["used_u64"], "5");
    assert_eq!(
        world.cli.run(&["ipcs", "limits", "-l"]).must_succeed().text(),
        world.namespace.shell("LC_ALL=C ipcs -l")
    );
    let told = world.cli.json(&["timeline", "limits", "--since", text(&full, "at"), "--kind", "limit_changed"]);
    let semmni =
        told["events"].as_array().unwrap().iter().find(|e| e["detail"]["resource"] == "SEMMNI").expect("SEMMNI");
    assert_eq!(semmni["detail"]["after_u64"], "16");
    until("the fleet shows the nearest limit", PATIENCE, || {
        let hosts = world.cli.json(&["hosts"]);
        hosts["hosts"][0]["worst"]["resource"] == "SEMMNI" && hosts["hosts"][0]["worst"]["limit_u64"] == "16"
    });
}

#[test]
fn an_object_is_found_across_the_fleet_now_then_and_over_a_span() {
    let world = World::new("haystack");
    let before = world.until_now("haystack", "a sample", |_| true);
    let semid = world.namespace.create("create-sem 0x0d4d1234 4 0640");
    world.namespace.create("create-shm 2 4096");
    let is_there = |s: &Value| arrays(s).len() == 1 && text(&s["covered"], "to") > text(s, "at");
    let during = world.until_now("haystack", "the array, twice", is_there);
    let find = |more: &[&str]| world.cli.json(&[&["find", "sem.key=0x0d4d*,uid=root"], more].concat());
    let now = find(&[]);
    let found = &now["matches"][0];
    assert_eq!((found["host"].as_str(), found["kind"].as_str()), (Some("haystack"), Some("sem")), "{now}");
    assert_eq!((&found["id"], &found["key"], &found["to"]), (&semid.into(), &"0x0d4d1234".into(), &Value::Null));
    assert_eq!((now["matches"].as_array().map(Vec::len), &now["next_cursor"]), (Some(1), &Value::Null));
    let table = world.cli.run(&["find", "key=0x0d4d1234"]).must_succeed();
    assert!(table.text().contains("haystack  sem   0x0d4d1234") && table.text().contains("still there"), "{table:?}");

    world.namespace.tool(&format!("remove sem {semid}"));
    world.until_now("haystack", "its end", |s| arrays(s).is_empty());
    let none = world.cli.run(&["find", "sem.key=0x0d4d*"]).must_succeed();
    assert!(none.out.is_empty() && none.err.contains("no object matches"), "{none:?}");
    assert_eq!(find(&["--at", text(&before, "at")])["matches"], Value::Array(vec![]));
    // Clocks differ by some milliseconds at most: there is nothing to see within those of this instant.
    let sure = parse_rfc3339_ms(text(&during["covered"], "to")).unwrap() - 20;
    assert_eq!(find(&["--at", &format_rfc3339_ms(sure)])["matches"][0]["id"], semid);
    let life = find(&["--since", text(&before, "at")]);
    let found = &life["matches"][0];
    let on_host = parse_rfc3339_ms(text(found, "from")).unwrap() + found["skew_ms"].as_i64().unwrap();
    let on_host = format_rfc3339_ms(on_host);
    assert!(on_host.as_str() > text(&before, "at") && on_host.as_str() <= text(&during, "at"), "{life}");
    assert_eq!((&found["from_is"], &found["to_is"]), (&"created".into(), &"removed".into()), "{life}");
    assert!(text(found, "to") >= text(found, "from"), "{life}");
    let wrong = world.cli.run(&["find", "sem.key~4"]).must_exit(1);
    assert!(wrong.err.contains("compares nothing"), "{wrong:?}");
    world.cli.run(&["find"]).must_exit(2);
}
