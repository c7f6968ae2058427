//! From flags to receivers: what they do not know yet is told, once, and nothing of what is still on its way.

use highwater_tests::http_sink::{Behave, HttpSink};
use highwater_tests::postgres::Database;
use highwater_tests::wait::{PATIENCE, until};
use serde_json::Value;

use crate::stage::{File, Working, migrated, webhook};

fn host(database: &Database, id: i64, backlog: &str) {
    database.sql(&format!(
        "INSERT INTO host (host_id, name, enrolled_ms, labels) VALUES ({id}, 'web-{id}', 0, '{{\"team\":\"db\"}}');
         INSERT INTO host_status (host_id, last_seen_ms, sampled_wall_ms, skew_ms, interval_ms, session, backlog_from_ms)
         VALUES ({id}, 1, 1, 0, 1000, 1, {backlog})"
    ));
}

fn raise(database: &Database, host: i64, flag: i64, state: &str) {
    let cleared = if state == "cleared" { "2000" } else { "NULL" };
    database.sql(&format!(
        "INSERT INTO flag (host_id, flag_id, namespace, resource, kind, severity, state, raised_ms, cleared_ms, used, limit_,
             why, remedy)
         VALUES ({host}, {flag}, 4026531839, 'SEMMNI', 'trend', 'warning', '{state}', 1000, {cleared}, 100, 128,
             '100 of 128 arrays used', '[{{\"step\":\"look\",\"command\":null,\"risk\":\"\"}}]')"
    ));
}

fn set(database: &Database, flag: i64, what: &str) {
    database.sql(&format!("UPDATE flag SET {what} WHERE flag_id = {flag}"));
}

/// Id and transition of each notice, in order.
fn told(sink: &HttpSink) -> Vec<(String, String)> {
    let text = |value: &Value, key: &str| value[key].as_str().expect("a text").to_owned();
    let read = |body: &str| serde_json::from_str::<Value>(body).expect("JSON");
    sink.requests().iter().map(|r| read(&r.body)).map(|b| (text(&b, "id"), text(&b, "transition"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_a_flag_is_told_once_and_nothing_while_records_are_on_their_way_or_it_is_silenced() {
    let sink = HttpSink::start(|_, _| Behave::Answer(204));
    let (database, db) = migrated().await;
    let receivers = File::new(&webhook("a", &sink.url())).receivers();
    host(&database, 7, "500");
    host(&database, 8, "NULL");
    raise(&database, 7, 0x71, "open");
    // It came and went before anybody could be told.
    raise(&database, 8, 0x80, "cleared");
    raise(&database, 8, 0x81, "open");
    let working = Working::start(&db, &receivers);
    let is = |expected: &[(&str, &str)]| {
        let told = told(&sink);
        told.iter().map(|(id, what)| (id.as_str(), what.as_str())).collect::<Vec<_>>() == expected
    };
    let first = ("0000000000000081-1", "raised");
    until("the one that nothing holds back is told", PATIENCE, || is(&[first]));
    database.sql("UPDATE host_status SET backlog_from_ms = NULL WHERE host_id = 7");
    let drained = ("0000000000000071-1", "raised");
    until("and the other once its host has caught up", PATIENCE, || is(&[first, drained]));
    database.sql("UPDATE flag SET severity = 'critical', state = 'acknowledged' WHERE flag_id = x'71'::int");
    let worse = ("0000000000000071-2", "worsened");
    until("that it is critical is told", PATIENCE, || is(&[first, drained, worse]));
    database.sql(
        "INSERT INTO silence (host_id, until_ms, note, made_by, made_ms) VALUES (7, 9000000000000, 'n', 'op', 0);
         UPDATE flag SET state = 'cleared', cleared_ms = 3000 WHERE flag_id IN (x'71'::int, x'81'::int)",
    );
    let over = ("0000000000000081-2", "cleared");
    until("the end of what is not silenced is told", PATIENCE, || is(&[first, drained, worse, over]));
    database.sql("UPDATE silence SET until_ms = 1");
    let late = ("0000000000000071-3", "cleared");
    until("and of the other after that", PATIENCE, || is(&[first, drained, worse, over, late]));
    // A round later there is nothing more.
    let again = Working::start(&db, &receivers);
    working.stop().await;
    again.stop().await;
    assert!(is(&[first, drained, worse, over, late]), "{:?}", told(&sink));
    let flag: Value = serde_json::from_str(&sink.requests()[1].body).expect("JSON");
    assert_eq!((&flag["flag"]["host"], &flag["flag"]["used_u64"]), (&"web-7".into(), &"100".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_flags_for_the_same_arrays_only_the_first_is_told_and_the_other_once_that_is_over() {
    let sink = HttpSink::start(|_, _| Behave::Answer(204));
    let (database, db) = migrated().await;
    let receivers = File::new(&webhook("a", &sink.url())).receivers();
    host(&database, 7, "NULL");
    raise(&database, 7, 0x70, "open");
    raise(&database, 7, 0x71, "open");
    set(&database, 0x70, "follows = x'71'::int");
    let working = Working::start(&db, &receivers);
    let is = |expected: &[(&str, &str)]| {
        let told = told(&sink);
        told.iter().map(|(id, what)| (id.as_str(), what.as_str())).collect::<Vec<_>>() == expected
    };
    let mut expected = vec![("0000000000000071-1", "raised")];
    until("the one that leads is told", PATIENCE, || is(&expected));
    set(&database, 0x70, "severity = 'critical'");
    set(&database, 0x71, "severity = 'critical'");
    expected.push(("0000000000000071-2", "worsened"));
    until("and what becomes of it", PATIENCE, || is(&expected));
    // In one transaction, as the evaluator does it.
    database.sql(
        "UPDATE flag SET state = CASE flag_id WHEN x'71'::int THEN 'cleared' ELSE state END, follows = NULL,
             cleared_ms = CASE flag_id WHEN x'71'::int THEN 3000 END",
    );
    until("the other is told once that is over", PATIENCE, || told(&sink).len() == 4);
    let now = told(&sink);
    assert!(now.contains(&("0000000000000071-3".to_owned(), "cleared".to_owned())), "{now:?}");
    assert!(now.contains(&("0000000000000070-1".to_owned(), "raised".to_owned())), "{now:?}");
    // Whoever was told of it is told of its end, whatever it follows by then.
    set(&database, 0x70, "follows = x'71'::int, severity = 'warning'");
    set(&database, 0x70, "state = 'cleared', cleared_ms = 4000");
    until("its end is told", PATIENCE, || told(&sink).len() == 5);
    working.stop().await;
    assert_eq!(told(&sink)[4], ("0000000000000070-2".to_owned(), "cleared".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_host_that_is_kept_quiet_nobody_is_told() {
    let sink = HttpSink::start(|_, _| Behave::Answer(204));
    let (database, db) = migrated().await;
    let receivers = File::new(&webhook("a", &sink.url())).receivers();
    host(&database, 7, "NULL");
    raise(&database, 7, 0x71, "open");
    set(&database, 0x71, "audible = false");
    raise(&database, 7, 0x72, "open");
    let working = Working::start(&db, &receivers);
    until("the other one is told", PATIENCE, || !told(&sink).is_empty());
    // What somebody was told before it became quiet is taken back.
    set(&database, 0x72, "audible = false, severity = 'critical'");
    set(&database, 0x72, "state = 'cleared', cleared_ms = 3000");
    set(&database, 0x71, "state = 'cleared', cleared_ms = 3000");
    until("and its end", PATIENCE, || told(&sink).len() == 2);
    working.stop().await;
    let expected = [("0000000000000072-1", "raised"), ("0000000000000072-2", "cleared")];
    assert_eq!(told(&sink), expected.map(|(id, what)| (id.to_owned(), what.to_owned())));
}
