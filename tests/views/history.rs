//! The views against the API, on the history of a real agent.

use highwater::compact::derive::{Before, Deriver, Sample};
use highwater::compact::derived::store;
use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::fold::Said;
use highwater::query::walk::{Begin, Walk};
use highwater::store::Db;
use highwater::store::day::Day;
use highwater::store::partition::{Table, ensure};
use highwater::store::usage::Order;
use highwater_ipc::record::EpochNo;
use highwater_tests::agent::Agent;
use highwater_tests::cli::Cli;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::{PATIENCE, until};
use serde_json::Value;

use crate::connect;

/// Derives what a host has recorded so far, in steps of `most` samples, as compaction does.
pub(crate) async fn derive_all(db: &Db, host: HostId, most: usize) {
    let mut reading = Reading::begin(db).await.unwrap();
    let mut walk = Walk::new(&mut reading, host, Begin::At(i64::MIN), i64::MAX);
    let mut steps = Vec::new();
    while let Some(step) = walk.next().await.unwrap() {
        if let (Said::Sample { snapshot, activity, .. }, false) = (&step.said, step.opening) {
            steps.push((step.position, step.prev_wall_ms, snapshot.clone(), activity.clone()));
        }
    }
    drop(walk);
    drop(reading);
    let mut connection = db.dedicated().await.unwrap();
    let place = |_| Day::FALLBACK;
    for table in Table::SERIES {
        ensure(&mut connection, table, Day::FALLBACK).await.unwrap();
    }
    let mut from = 0;
    while from < steps.len() {
        let epoch: EpochNo = steps[from].0.place.epoch();
        let rest = steps[from..].iter().take(most).take_while(|s| s.0.place.epoch() == epoch).count();
        let stretch = |i: usize| steps[i].0.place;
        let goes_on = |i: usize| i > 0 && stretch(i) == stretch(i - 1);
        let before = from.checked_sub(1).filter(|_| goes_on(from)).map(|i| &steps[i].2);
        let before = before.map(|s| Before { state: &s.state, wall_ms: s.at.wall_ms });
        let mut deriver = Deriver::new(host, epoch, before);
        for (i, (position, prev_wall_ms, snapshot, activity)) in steps.iter().enumerate().skip(from).take(rest) {
            deriver.sample(&Sample {
                seq: position.seq,
                wall_ms: snapshot.at.wall_ms,
                boot_us: snapshot.at.boot_us,
                prev_wall_ms: *prev_wall_ms,
                begins_stretch: !goes_on(i),
                state: &snapshot.state,
                activity,
            });
        }
        let mut tx = connection.write().await.unwrap();
        store(&mut tx, &deriver.finish(), Order::Newest, &place).await.unwrap();
        tx.commit().await.unwrap();
        from += rest;
    }
}

fn rows(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_views_say_what_the_api_says_of_a_host_with_history() {
    let database = Postgres::shared().database();
    let namespace = IpcNamespace::named("viewed");
    let up = Up::collector(&database);
    let mut agent = Agent::running(&up, &namespace);
    let cli = up.cli();
    let first = cli.json(&["ipcs", "viewed"])["at"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        let id = namespace.create("create-sem private 4 0600");
        namespace.tool(&format!("chown sem {id} 33 33 0600"));
    }
    let held =
        |json: &Value| json["owners"].as_array().unwrap().iter().any(|o| o["uid"] == 33 && o["arrays_after"] == 3);
    until("three arrays of uid 33", PATIENCE, || held(&cli.json(&["blame", "viewed", "--since", &first])));
    agent.stop();
    agent.start_every("100ms", &up, &namespace);
    until("the gap is over", PATIENCE, || closed_gaps(&cli).iter().any(|gap| gap[0] == "agent_stopped"));
    agent.stop();

    let db = connect(&database).await;
    let hosts = cli.json(&["hosts"]);
    let host = &hosts["hosts"][0];
    let id = HostId::parse(host["id"].as_str().unwrap()).unwrap();
    derive_all(&db, id, 2).await;

    the_present_is_that_of_hosts(&database, host);
    the_use_is_that_of_lsipc(&database, &cli);

    let owners = database
        .sql("SELECT host, own, kind, uid, objects, objects_max, semaphores, orphans FROM v_owner_now WHERE uid = 33");
    assert_eq!(rows(&owners), [["viewed", "t", "sem", "33", "3", "3", "12", "0"]]);

    // A machine that is busy with other tests may have stalled besides.
    let gaps = database.sql(
        "SELECT reason, to_char(ended AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') FROM v_gap
        WHERE began IS NOT NULL AND namespace IS NULL ORDER BY ended",
    );
    assert_eq!(rows(&gaps), closed_gaps(&cli));

    // Who grew in the fleet: everything, since its first row.
    let fleet = cli.json(&["blame", "--fleet", "--since", "-2h"]);
    assert_eq!((&fleet["hosts"], &fleet["next_cursor"]), (&Value::from(1), &Value::Null), "{fleet}");
    let notes = fleet["notes"].to_string();
    assert!(notes.contains("1 of 1 hosts have no row that old: their first is the base"), "{notes}");
}

fn the_present_is_that_of_hosts(database: &Database, host: &Value) {
    let now =
        database.sql("SELECT id, name, state, kernel, arch, agent_version, namespace, worst_resource FROM v_host_now");
    let text = |field: &str| host[field].as_str().unwrap().to_owned();
    let worst = &host["worst"];
    let expected = [
        text("id"),
        text("name"),
        text("state"),
        text("kernel"),
        text("arch"),
        text("agent_version"),
        worst["namespace"].to_string(),
        worst["resource"].as_str().unwrap().to_owned(),
    ];
    assert_eq!(rows(&now), [expected]);
    let ratio: f64 = database.sql("SELECT worst_ratio FROM v_host_now").trim().parse().unwrap();
    assert!((ratio - worst["ratio"].as_f64().unwrap()).abs() < 1e-12);
}

fn the_use_is_that_of_lsipc(database: &Database, cli: &Cli) {
    let lsipc = cli.json(&["lsipc", "viewed", "--at", &last_sample(cli)]);
    let usage = database.sql(
        "SELECT DISTINCT ON (resource) resource, used, limit_, peak >= used FROM v_usage WHERE own
        ORDER BY resource, slot_ms DESC",
    );
    let told = |resource: &str| {
        let all = lsipc["rows"].as_array().unwrap();
        all.iter().find(|r| r["resource"] == resource).unwrap_or_else(|| panic!("no {resource} in {lsipc}")).clone()
    };
    assert_eq!(rows(&usage).len(), 5, "{usage}");
    for row in rows(&usage) {
        let told = told(&row[0]);
        assert_eq!(
            (&told["used_u64"], &told["limit_u64"]),
            (&Value::from(&*row[1]), &Value::from(&*row[2])),
            "{row:?}"
        );
        assert_eq!(row[3], "t");
    }
    assert_eq!(database.sql("SELECT count(DISTINCT resource) FROM v_usage_hour").trim(), "5");
}

/// The gaps of the timeline that are over: reason and end, in order.
fn closed_gaps(cli: &Cli) -> Vec<Vec<String>> {
    let timeline = cli.json(&["timeline", "viewed", "--kind", "gap"]);
    let gaps = timeline["events"].as_array().unwrap().iter().map(|event| &event["detail"]["gap"]);
    let words = |gap: &Value| Some(vec![gap["reason"].as_str()?.to_owned(), gap["to"].as_str()?.to_owned()]);
    gaps.filter(|gap| !gap["from"].is_null()).filter_map(words).collect()
}

/// The last sample of the host, which is silent by now.
fn last_sample(cli: &Cli) -> String {
    let gap = cli.run(&["ipcs", "viewed", "--json"]);
    match gap.code {
        4 => gap.json()["gap"]["last_sample_at"].as_str().unwrap().to_owned(),
        _ => gap.must_succeed().json()["covered"]["to"].as_str().unwrap().to_owned(),
    }
}
