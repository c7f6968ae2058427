//! Who grew in a fleet whose owners by the hour are made up.

use highwater::query::Reading;
use highwater::query::fleet_blame::{FleetBlame, Question, fleet_blame};
use highwater::store::Db;
use highwater_tests::collector::Up;
use highwater_tests::postgres::Database;
use highwater_tests::wait::now_ms;

use crate::migrated;

const HOUR_MS: i64 = 3_600_000;
/// 2025-01-01T00:00:00Z.
const BEGIN_MS: i64 = 1_735_689_600_000;

/// `hosts` hosts with `hours` rows each, of `owners` owners; owner k of host h has h + k + (k + 1) * hour / 24 arrays.
fn make_up(database: &Database, hosts: i64, hours: i64, owners: i64) {
    database.sql(&format!(
        "INSERT INTO host (host_id, name, enrolled_ms) SELECT h, 'web-' || h, 0 FROM generate_series(1, {hosts}) AS h;
        INSERT INTO host_status (host_id, last_seen_ms, sampled_wall_ms, skew_ms, interval_ms, session)
            SELECT h, {BEGIN_MS}, {BEGIN_MS}, 0, 1000, 0 FROM generate_series(1, {hosts}) AS h;
        CREATE TABLE owner_usage_2025_01 PARTITION OF owner_usage FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');
        INSERT INTO owner_usage (host_id, slot_ms, month, wall_ms, boot_id, own, own_instance, namespaces, instances,
            kinds, uids, users, comms, objects, objects_max, semaphores, bytes, orphans, certain)
        SELECT h, {BEGIN_MS} + n * {HOUR_MS}, '2025-01-01', {BEGIN_MS} + n * {HOUR_MS} + 5, '\\x{boot}', 4026531839, 1,
            array_agg(4026531839 ORDER BY k), array_agg(1 ORDER BY k), array_agg(0 ORDER BY k),
            array_agg(1000 + k ORDER BY k), array_agg('user' || k ORDER BY k), array_agg('comm' || k ORDER BY k),
            array_agg(h + k + (k + 1) * n / 24 ORDER BY k), array_agg(h + k + (k + 1) * n / 24 ORDER BY k),
            array_agg(h + k + (k + 1) * n / 24 ORDER BY k), array_agg(0 ORDER BY k), array_agg(0 ORDER BY k),
            array_agg(0 ORDER BY k)
        FROM generate_series(1, {hosts}) AS h, generate_series(0::bigint, {hours} - 1) AS n, generate_series(0, {owners} - 1) AS k
        GROUP BY h, n",
        boot = "00".repeat(16)
    ));
    database.sql("VACUUM ANALYZE owner_usage, host, host_status");
}

async fn ask(db: &Db, question: &Question) -> FleetBlame {
    let mut reading = Reading::begin(db).await.unwrap();
    fleet_blame(&mut reading, question).await.unwrap()
}

#[tokio::test]
async fn the_fleets_owners_come_in_pages_that_lack_nothing_and_repeat_nothing() {
    let (database, db) = migrated().await;
    make_up(&database, 5, 48, 4);
    // One has a row only of the second day: its first is the base.
    database.sql(&format!("DELETE FROM owner_usage WHERE host_id = 3 AND slot_ms < {BEGIN_MS} + 36 * {HOUR_MS}"));
    // One's clock is a day ahead: what was said by the collector's is asked for by its own.
    database.sql(&format!("UPDATE host_status SET skew_ms = {} WHERE host_id = 5", 24 * HOUR_MS));
    database.sql(&format!("UPDATE owner_usage SET slot_ms = slot_ms + {} WHERE host_id = 5", 1_000 * HOUR_MS));
    database.sql(&format!("UPDATE owner_usage SET slot_ms = slot_ms - {} WHERE host_id = 5", 976 * HOUR_MS));
    let span_ms = (BEGIN_MS + 20 * HOUR_MS, BEGIN_MS + 48 * HOUR_MS - 1);
    let mut question = Question { span_ms, kinds: vec![], most: 1_000, after: None };
    let whole = ask(&db, &question).await;
    assert_eq!((whole.hosts, whole.first_rows, whole.next.is_none()), (5, 1, true));
    let net = |host: &str, uid| {
        let found = whole.owners.iter().find(|o| o.host.name == host && o.key.uid == uid);
        found.map(|o| (o.net(), o.from_first))
    };
    // Owner 3 has (3 + 1) * hour / 24 more.
    assert_eq!(net("web-1", 1003), Some((4 * 47 / 24 - 4 * 20 / 24, false)));
    assert_eq!(net("web-3", 1003), Some((4 * 47 / 24 - 4 * 36 / 24, true)));
    assert_eq!(net("web-5", 1003), net("web-1", 1003));
    assert!(whole.owners.is_sorted_by_key(|o| o.rank()));
    let mut pages = Vec::new();
    question.most = 3;
    loop {
        let page = ask(&db, &question).await;
        pages.extend(page.owners);
        question.after = page.next;
        if question.after.is_none() {
            break;
        }
    }
    assert_eq!(pages, whole.owners);
}

#[tokio::test(flavor = "multi_thread")]
async fn blame_of_the_fleet_is_printed_as_a_table_and_as_json_with_what_was_compared() {
    let (database, _db) = migrated().await;
    make_up(&database, 2, 48, 2);
    let up = Up::collector(&database);
    let cli = up.cli();
    let at = |hours: i64| format!("@{}", (BEGIN_MS + hours * HOUR_MS) / 1_000);
    let (since, until) = (at(1), at(47));
    let asked = ["blame", "--fleet", "--since", &since, "--until", &until];
    let mut command = cli.command(&asked);
    command.env("TZ", "UTC");
    let printed = highwater_tests::cli::answer(command).must_succeed();
    assert_eq!(
        printed.text(),
        "\
2 hosts  2025-01-01 02:00:00 +0000 .. 2025-01-03 00:00:00 +0000
HOST   OWNER        COMM   KIND  BEFORE  AFTER  NET  SEMAPHORES  BYTES  ORPHANS  NAMESPACE
web-2  user1(1001)  comm1  sem   3       6      +3   +3          -      0        4026531839
web-1  user1(1001)  comm1  sem   2       5      +3   +3          -      0        4026531839
web-2  user0(1000)  comm0  sem   2       3      +1   +1          -      0        4026531839
web-1  user0(1000)  comm0  sem   1       2      +1   +1          -      0        4026531839
"
    );
    assert!(printed.err.contains("owners are kept by the hour"), "{}", printed.err);
    let json = cli.json(&[&asked[..], &["--limit", "1", "--kind", "sem,shm"]].concat());
    assert_eq!((&json["compared_since"], &json["hosts"]), (&"2025-01-01T02:00:00.000Z".into(), &2.into()), "{json}");
    assert_eq!(json["owners"][0]["base_at"], "2025-01-01T01:00:00.005Z");
    let next = json["next_cursor"].as_str().expect("a second page");
    let second = cli.json(&["blame", "--fleet", "--kind", "sem,shm", "--limit", "1", "--cursor", next]);
    assert_eq!((&second["owners"][0]["host"], &second["since"]), (&"web-1".into(), &json["since"]), "{second}");
    cli.run(&["blame", "web-1", "--fleet"]).must_exit(2);
    cli.run(&["blame", "--fleet", "--since", "-1h", "--until", "-2h"]).must_exit(1);
    assert_eq!(cli.json(&["blame", "--fleet", "--since", "-2h", "--kind", "msg"])["owners"], serde_json::json!([]));
}

/// `cargo test --release -p highwater-tests --test views -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement: minutes"]
async fn a_thousand_hosts_for_thirty_days_are_ranked_within_a_second() {
    let (database, db) = migrated().await;
    make_up(&database, 1_000, 720, 12);
    println!(
        "{}",
        database.sql("SELECT pg_size_pretty(pg_total_relation_size('owner_usage_2025_01')), count(*) FROM owner_usage")
    );
    let mut times: Vec<i64> = Vec::new();
    for _ in 0..7 {
        let span_ms = (BEGIN_MS + HOUR_MS, BEGIN_MS + 719 * HOUR_MS);
        let began_ms = now_ms();
        let answer = ask(&db, &Question { span_ms, kinds: vec![], most: 1_000, after: None }).await;
        times.push(now_ms() - began_ms);
        assert_eq!((answer.hosts, answer.owners.len(), answer.first_rows), (1_000, 1_000, 0));
    }
    times.sort();
    println!("{times:?} ms");
    assert!(times[3] <= 1_000, "{times:?}");
}
