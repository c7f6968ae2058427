//! How near to its limits a fleet is: from a real agent's present, and from imported days.

use std::fmt::Write as _;

use highwater::cli::migrate::DatabaseUrl;
use highwater::compact::derive::Derived;
use highwater::compact::derived::store;
use highwater::host::HostId;
use highwater::store::Db;
use highwater::store::day::Day;
use highwater::store::usage::{Order, UsageRow, Used};
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::time::format_rfc3339_ms;
use highwater_tests::agent::Agent;
use highwater_tests::answers::instant;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// 2026-01-01T00:00Z, Unix seconds.
const BEGIN: i64 = 1_767_225_600;
const HOUR: i64 = 3_600;
const DAYS: i64 = 12;

/// How many arrays are there in that hour: one more each day, ten more at noon.
fn arrays(hour: i64) -> i64 {
    80 + hour / 24 + if hour % 24 == 12 { 10 } else { 0 }
}

/// An hour of a host whose arrays have 17 semaphores each.
fn line(hour: i64) -> Value {
    let array = |semid: i64| {
        json!({"key": 0, "semid": semid, "perms": "600", "nsems": 17, "otime": 0, "ctime": BEGIN,
               "uid": 33, "gid": 33, "cuid": 0, "cgid": 0})
    };
    json!({"at": BEGIN + hour * HOUR, "sem": (0..arrays(hour)).map(array).collect::<Vec<_>>(), "shm": [], "msg": [],
           "limits": {"semmsl": 250, "semmns": 32_000, "semopm": 32, "semmni": 128, "shmmax": u64::MAX,
                      "shmall": u64::MAX, "shmmni": 4096, "msgmax": 8192, "msgmnb": 16_384, "msgmni": 16}})
}

/// A collector that knows one host, by what was imported of it.
fn with_lab(database: &Database) -> Up {
    let up = Up::collector(database);
    let mut text = String::new();
    for hour in 0..DAYS * 24 {
        writeln!(text, "{}", line(hour)).unwrap();
    }
    let file = up.directory().join("lab.jsonl");
    std::fs::write(&file, text).unwrap();
    up.cli().run(&["import", "--host", "lab", file.to_str().unwrap()]).must_succeed();
    up
}

fn entry<'j>(answer: &'j Value, resource: &str) -> &'j Value {
    let entries = answer["hosts"].as_array().expect("a list");
    entries.iter().find(|e| e["resource"] == resource).unwrap_or_else(|| panic!("no {resource} in {answer}"))
}

#[test]
fn an_imported_fortnight_tells_peak_percentile_growth_days_left_and_what_would_have_been_refused() {
    let database = Postgres::shared().database();
    let up = with_lab(&database);
    let cli = up.cli();
    let since = instant(BEGIN * 1_000);
    let answer = cli.json(&["capacity", "--since", &since]);
    let arrays_now = arrays(DAYS * 24 - 1);
    let semmni = entry(&answer, "SEMMNI");
    for (field, value) in [
        ("host", json!("lab")),
        ("own", json!(true)),
        ("used_u64", json!(arrays_now.to_string())),
        ("limit_u64", json!("128")),
        ("peak_u64", json!((80 + DAYS - 1 + 10).to_string())),
        ("known_hours", json!(DAYS * 24)),
        ("growth_per_week", json!(7.0)),
        ("trend", json!("growing")),
        ("days_left", json!(37.0)),
        ("would_refuse_at", Value::Null),
        ("ceiling", json!({"binds": "SEMMNI", "arrays_u64": "128", "semaphores_u64": (128 * 17).to_string()})),
    ] {
        assert_eq!(semmni[field], value, "{field}: {semmni}");
    }
    // 12 of 288 hours are noons: 95 of 100 are below them.
    assert_eq!(semmni["p95_u64"], json!((80 + DAYS - 1).to_string()), "{semmni}");
    assert_eq!(entry(&answer, "SEMMNS")["peak_u64"], json!(((80 + DAYS - 1 + 10) * 17).to_string()));
    assert_eq!(entry(&answer, "SHMMNI")["trend"], "steady");
    assert_eq!((&answer["fleet"]["hosts"], &answer["fleet"]["days_left_under_90"]), (&json!(1), &json!(1)));
    // What it counts for is the time that it has data of.
    assert_eq!(cli.json(&["capacity"])["fleet"]["hosts_without_data"], 1);

    // The noon of the sixth day is the first with 95: had that been the limit, the 96th would have been refused from then on.
    let asked =
        cli.json(&["capacity", "--since", &since, "--what-if", "SEMMNI=95,SEMMNS=1700", "--resource", "SEMMNI,SEMMNS"]);
    let at = format_rfc3339_ms((BEGIN + (5 * 24 + 12) * HOUR) * 1_000);
    assert_eq!(entry(&asked, "SEMMNI")["would_refuse_at"], json!(at), "{asked}");
    // 1,700 hold a hundred arrays of 17: there are 100 first at noon of the eleventh day.
    let at = format_rfc3339_ms((BEGIN + (10 * 24 + 12) * HOUR) * 1_000);
    assert_eq!(entry(&asked, "SEMMNS")["would_refuse_at"], json!(at), "{asked}");
    let roomy = cli.json(&["capacity", "--since", &since, "--what-if", "SEMMNI=256"]);
    assert_eq!(
        (&entry(&roomy, "SEMMNI")["would_refuse_at"], &roomy["fleet"]["would_refuse"]),
        (&Value::Null, &json!(0))
    );
    let grown = cli.json(&["capacity", "--since", &since, "--what-if", "growth=2", "--resource", "SEMMNI"]);
    let grown = entry(&grown, "SEMMNI");
    assert_eq!((&grown["would_refuse_is"], &grown["what_if"]["used_u64"]), (&json!("ahead"), &json!("102")), "{grown}");

    let text = cli.run(&["capacity", "--since", &since, "--what-if", "SEMMNI=95"]).must_succeed();
    assert!(text.text().contains("what if SEMMNI=95: 1 of 1 host would be refused"), "{}", text.text());
    assert!(!text.text().contains('\u{1b}'), "no colour in a pipe");
}

/// A container of the host, as compaction stores it: what it held in its first hour and since.
fn add_container(database: &Database, inode: u64, arrays: Used) {
    let host = HostId(database.sql("SELECT host_id FROM host").trim().parse().unwrap());
    let mut used = [Used::default(); 5];
    used[0] = arrays;
    let namespace = NamespaceId { inode, instance: 5 };
    let row = UsageRow { host, namespace, slot_ms: BEGIN * 1_000, own: false, used };
    let derived = Derived { usage_hour: vec![row], ..Derived::default() };
    let url = DatabaseUrl::named(Some(database.url.as_ref())).unwrap().unwrap();
    let place = |slot_ms: i64| Day::believed(slot_ms, i64::MAX).unwrap();
    Runtime::new().unwrap().block_on(async {
        let db = Db::connect(url.options(), 1).await.unwrap();
        let mut connection = db.dedicated().await.unwrap();
        let mut tx = connection.write().await.unwrap();
        store(&mut tx, &derived, Order::Newest, &place).await.unwrap();
        tx.commit().await.unwrap();
        connection.close().await;
        db.close().await;
    });
}

#[test]
fn containers_have_limits_of_their_own_and_pages_are_what_the_whole_is() {
    let database = Postgres::shared().database();
    let up = with_lab(&database);
    let cli = up.cli();
    // One is gone: it is not told.
    for (inode, arrays, most) in [(77, Some(120), 120), (78, Some(10), 10), (79, None, 3)] {
        add_container(&database, inode, Used { last: arrays, most: Some(most), limit: arrays.map(|_| 128) });
    }
    // As the span begins, neither has changed for days.
    let since = instant((BEGIN + 9 * 24 * HOUR) * 1_000);
    let asked = ["capacity", "--since", &since, "--resource", "SEMMNI", "--group-by", "namespace"];
    let answer = cli.json(&asked);
    let namespaces: Vec<&Value> = answer["hosts"].as_array().unwrap().iter().map(|e| &e["namespace"]).collect();
    assert_eq!(namespaces.len(), 3, "{answer}");
    assert_eq!((namespaces[0], namespaces[2]), (&json!(77), &json!(78)), "nearest first: {answer}");
    let groups = answer["fleet"]["groups"].as_array().unwrap();
    let told: Vec<_> =
        groups.iter().map(|g| (&g["group"], &g["limit_u64"], &g["namespaces"], &g["above_90"])).collect();
    let (container, host, limit) = (json!("container"), json!("host"), json!("128"));
    assert_eq!(told, [(&container, &limit, &json!(2), &json!(1)), (&host, &limit, &json!(1), &json!(0))]);

    let mut paged = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut page = vec!["capacity", "--since", &since, "--resource", "SEMMNI", "--limit", "1"];
        page.extend(cursor.as_deref().into_iter().flat_map(|cursor| ["--cursor", cursor]));
        let page = cli.json(&page);
        paged.extend(page["hosts"].as_array().unwrap().clone());
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(json!(paged), answer["hosts"]);
    assert!(cli.run(&["capacity", "--what-if", "SEMMSL=3"]).must_exit(1).err.contains("SEMMNI"), "says what it takes");
}

#[test]
fn what_a_live_host_uses_now_is_told_before_its_first_hour_is_over() {
    let database = Postgres::shared().database();
    let namespace = IpcNamespace::named("live");
    let up = Up::collector(&database);
    let _agent = Agent::running(&up, &namespace);
    let cli = up.cli();
    namespace.script("fill sem 7\n");
    until("seven arrays are told", PATIENCE, || {
        let answer = cli.json(&["capacity", "--resource", "SEMMNI"]);
        answer["hosts"][0]["used_u64"] == "7" && answer["hosts"][0]["host"] == "live"
    });
    let answer = cli.json(&["capacity", "--resource", "SEMMNI"]);
    assert_eq!((&answer["hosts"][0]["trend"], &answer["hosts"][0]["days_left"]), (&json!("unknown"), &Value::Null));
    assert_eq!(answer["hosts"][0]["peak_u64"], "7", "{answer}");
}
