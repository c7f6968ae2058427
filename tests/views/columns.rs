//! The README is the contract: what it documents is what there is, column by column.

use std::collections::BTreeMap;

use highwater::store::day::Day;
use highwater::store::partition::{Table, ensure};
use highwater::store::reader::VIEWS;
use highwater_ipc::record::GapReason;
use highwater_tests::binaries::repository;

use crate::migrated;

const COLUMNS: &str = "SELECT table_name, column_name || ' ' || data_type FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name LIKE 'v\\_%' ORDER BY table_name, ordinal_position";

/// The tables of the README's section "SQL", by the view named before each.
fn documented() -> BTreeMap<String, Vec<String>> {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("README.md");
    let section = readme.split("\n## SQL\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section SQL");
    let mut views: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut view = String::new();
    for line in section.lines() {
        if let Some((name, _)) = line.strip_prefix('`').and_then(|rest| rest.split_once("`: one row per")) {
            view = name.to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            let (column, rest) = row.split_once("` | ").expect("a column");
            let kind = rest.split(" | ").next().expect("a type");
            views.entry(view.clone()).or_default().push(format!("{column} {kind}"));
        }
    }
    // "the same by the hour, with `year` instead of `month`"
    let by_hour = views["v_usage"].iter().map(|c| c.replace("month", "year")).collect();
    views.insert("v_usage_hour".to_owned(), by_hour);
    views
}

#[tokio::test]
async fn the_views_have_the_columns_that_the_readme_documents_and_there_is_no_other_view() {
    let (database, _db) = migrated().await;
    let mut there: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in database.sql(COLUMNS).lines() {
        let (view, column) = line.split_once('|').expect("two columns");
        there.entry(view.to_owned()).or_default().push(column.to_owned());
    }
    let documented = documented();
    for (view, columns) in &there {
        assert_eq!(documented.get(view), Some(columns), "{view}");
    }
    let mut names = VIEWS.map(str::to_owned);
    names.sort();
    assert_eq!(there.into_keys().collect::<Vec<_>>(), names);
    assert_eq!(documented.into_keys().collect::<Vec<_>>(), names);
}

#[tokio::test]
async fn every_reason_of_a_gap_is_its_word_and_a_clock_that_claims_anything_fails_no_query() {
    let (database, db) = migrated().await;
    let mut connection = db.dedicated().await.expect("a connection");
    for table in Table::SERIES {
        ensure(&mut connection, table, Day::FALLBACK).await.expect("a partition");
    }
    database.sql("INSERT INTO host (host_id, name, enrolled_ms) VALUES (1, 'web-17', 0)");
    for (_, code, _) in GapReason::ALL {
        let bounds = if code % 2 == 0 { format!("NULL, {}", i64::MAX) } else { format!("{}, 0", i64::MIN) };
        database.sql(&format!("INSERT INTO gap VALUES (1, 1, {code}, {bounds}, {code}, '')"));
    }
    let words = database.sql("SELECT reason FROM v_gap ORDER BY reason COLLATE \"C\"");
    let mut expected: Vec<&str> = GapReason::ALL.iter().map(|(_, _, word)| *word).collect();
    expected.sort_unstable();
    assert_eq!(words.lines().collect::<Vec<_>>(), expected);
    let open = database.sql("SELECT count(*) FROM v_gap WHERE began IS NULL AND ended IS NOT NULL");
    assert_eq!(open.trim(), "8", "what is not known stays so");
    assert_eq!(database.sql("SELECT max(extract(year FROM ended AT TIME ZONE 'UTC')) FROM v_gap").trim(), "9999");
    database.sql(&format!(
        "INSERT INTO usage SELECT 1, 1, 1, from_ms, '1970-01-01', true, '{{0}}', n, n, n, n, n, n, n, n, n, n, n, n, n, n, n
        FROM (VALUES ({}), ({})) AS s (from_ms), array_fill(NULL::numeric, ARRAY[1]) AS n",
        i64::MIN,
        i64::MAX
    ));
    for table in ["usage_hour", "owner_usage"] {
        let slots = format!("({}), ({})", i64::MIN, i64::MAX);
        let rest = match table {
            "owner_usage" => "'1970-01-01', slot, '', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'",
            _ => "'1970-01-01'",
        };
        let columns = match table {
            "owner_usage" => {
                "(host_id, slot_ms, month, wall_ms, boot_id, namespaces, kinds, uids, users, comms, objects,
                objects_max, semaphores, bytes, orphans, certain)"
            }
            _ => "(host_id, namespace, instance, own, slot_ms, year)",
        };
        let key = if table == "owner_usage" { "1, slot" } else { "1, 1, 1, true, slot" };
        database.sql(&format!("INSERT INTO {table} {columns} SELECT {key}, {rest} FROM (VALUES {slots}) AS s (slot)"));
    }
    assert_eq!(database.sql("SELECT count(*), count(slot) FROM v_usage").trim(), "10|10");
    assert_eq!(database.sql("SELECT count(*), count(slot) FROM v_usage_hour").trim(), "10|10");
    database.sql(
        "INSERT INTO host_status (host_id, last_seen_ms, sampled_wall_ms, skew_ms, interval_ms, session)
        VALUES (1, 9223372036854775807, 9223372036854775807, 0, 1000, 0)",
    );
    assert_eq!(database.sql("SELECT name, worst_ratio, state FROM v_host_now").trim(), "web-17||unknown");
    assert_eq!(database.sql("SELECT count(*) FROM v_owner_now").trim(), "0");
}
