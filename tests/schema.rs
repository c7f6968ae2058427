//! The schema as PostgreSQL holds it after all migrations: every table has one kind and keeps that kind's rules, and
//! the whole is the golden file.

#![allow(clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use highwater_tests::binaries::repository;
use highwater_tests::postgres::{Database, Postgres};

/// Small and global: a copy on every node, all uniqueness that spans hosts.
const REFERENCE: &[&str] = &["host", "enrolment_token", "certificate", "operator_token", "lease"];
/// On the coordinator alone, and sqlx's own list of what was applied.
const LOCAL: &[&str] = &["audit", "_sqlx_migrations"];
/// By `host_id`.
const DISTRIBUTED: &[&str] = &[
    "stream",
    "stretch",
    "frame",
    "chunk",
    "chunk_fresh",
    "gap",
    "gap_part",
    "host_status",
    "host_facts",
    "usage",
    "usage_hour",
    "usage_pack",
    "owner_usage",
    "object_now",
    "flag",
    "flag_event",
    "flag_state",
    "silence",
    "notice",
];

/// Tables, not their partitions.
const TABLES: &str = "SELECT c.relname, '' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
    AND c.relkind IN ('r', 'p') AND NOT c.relispartition";

/// Unique indexes of tables and partitions, with the name of their first column.
const UNIQUE: &str = "SELECT coalesce(p.inhparent, i.indrelid)::regclass, i.indexrelid::regclass || ' begins with ' ||
    coalesce(a.attname, 'an expression')
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'public'::regnamespace
    LEFT JOIN pg_inherits p ON p.inhrelid = i.indrelid
    LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indisunique AND a.attname IS DISTINCT FROM 'host_id'";

/// Tables without a primary key.
const KEYLESS: &str = "SELECT c.relname, 'no primary key' FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)";

/// Tables whose `host_id` is not what rows are distributed by.
const HOST_ID: &str = "SELECT c.relname, 'no host_id bigint NOT NULL' FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'host_id'
        AND a.atttypid = 'int8'::regtype AND a.attnotnull AND NOT a.attisdropped)";

/// Triggers of our own, exclusion constraints, identity columns and columns fed by a sequence.
const UNDISTRIBUTABLE: &str = "SELECT t.tgrelid::regclass::text, 'trigger ' || t.tgname FROM pg_trigger t
        WHERE NOT t.tgisinternal
    UNION ALL SELECT conrelid::regclass::text, 'exclusion ' || conname FROM pg_constraint WHERE contype = 'x'
    UNION ALL SELECT attrelid::regclass::text, 'identity ' || attname FROM pg_attribute WHERE attidentity <> ''
    UNION ALL SELECT d.adrelid::regclass::text, 'sequence ' || pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
        WHERE pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%'";

/// Foreign keys: `from|to begins-with-host_id-on-both-sides`.
const FOREIGN_KEYS: &str = "SELECT k.conrelid::regclass, k.confrelid::regclass || ' ' ||
    (a.attname = 'host_id' AND b.attname = 'host_id')
    FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
    JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
    WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace";

#[test]
fn every_table_has_one_kind_and_keeps_its_rules() {
    let database = migrated();
    assert_eq!(violations(&database), Vec::<String>::new());
}

#[test]
fn a_table_that_breaks_its_kind_s_rules_is_found() {
    let planted = [
        ("CREATE TABLE stray (n int PRIMARY KEY)", "stray: listed 0 times"),
        ("ALTER TABLE gap ADD COLUMN n int; CREATE UNIQUE INDEX planted ON gap (n)", "gap: planted begins with n"),
        ("CREATE UNIQUE INDEX planted ON gap ((seq + 1))", "gap: planted begins with an expression"),
        ("ALTER TABLE host_status DROP CONSTRAINT host_status_pkey", "host_status: no primary key"),
        ("ALTER TABLE stretch ALTER host_id TYPE int", "stretch: no host_id bigint NOT NULL"),
        ("ALTER TABLE gap ADD COLUMN n bigserial", "gap: sequence nextval('gap_n_seq'::regclass)"),
        ("ALTER TABLE gap ADD COLUMN n int GENERATED ALWAYS AS IDENTITY", "gap: identity n"),
        ("ALTER TABLE gap ADD EXCLUDE USING btree (detail WITH =)", "gap: exclusion gap_detail_excl"),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER t AFTER INSERT ON gap EXECUTE FUNCTION f()",
            "gap: trigger t",
        ),
        (
            "ALTER TABLE gap ADD COLUMN a bigint REFERENCES audit (audit_id)",
            "gap: a foreign key to audit, which is neither reference nor by host_id",
        ),
    ];
    for (sql, found) in planted {
        let database = migrated();
        database.sql(sql);
        assert_eq!(violations(&database), [found], "{sql}");
    }
}

/// `HIGHWATER_BLESS=1` writes the file instead; the change then shows in review.
#[test]
fn the_schema_after_all_migrations_is_the_golden_one() {
    let golden = repository().join("tests/golden/schema.sql");
    let dumped = normalised(&migrated().dump_schema());
    if std::env::var_os("HIGHWATER_BLESS").is_some() {
        std::fs::write(&golden, dumped).expect("writing tests/golden/schema.sql");
        return;
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    let hint = "the schema changed: HIGHWATER_BLESS=1 cargo test --package highwater-tests --test schema";
    assert!(dumped == expected, "{hint}\n{}", first_difference(&expected, &dumped));
}

fn migrated() -> Database {
    let database = Postgres::shared().database();
    let directory = repository().join("migrations");
    let entries = std::fs::read_dir(directory).expect("migrations/").map(|e| e.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "sql")).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        database.apply(&file);
    }
    database
}

/// What is wrong, sorted: `table: what`.
fn violations(database: &Database) -> Vec<String> {
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (kind, tables) in [("reference", REFERENCE), ("local", LOCAL), ("distributed", DISTRIBUTED)] {
        for table in tables {
            kinds.entry(table).or_default().push(kind);
        }
    }
    let is = |table: &str, kind: &str| kinds.get(table).is_some_and(|k| k.contains(&kind));
    let mut wrong = Vec::new();
    for (table, _) in rows(database, TABLES) {
        let times = kinds.get(table.as_str()).map_or(0, Vec::len);
        if times != 1 {
            wrong.push(format!("{table}: listed {times} times"));
        }
    }
    for (table, what) in [UNIQUE, HOST_ID, UNDISTRIBUTABLE].iter().flat_map(|query| rows(database, query)) {
        if is(&table, "distributed") {
            wrong.push(format!("{table}: {what}"));
        }
    }
    wrong.extend(rows(database, KEYLESS).into_iter().map(|(table, what)| format!("{table}: {what}")));
    for (table, target) in rows(database, FOREIGN_KEYS) {
        let (to, both_by_host) = target.split_once(' ').expect("two words");
        let by_host = is(&table, "distributed") && is(to, "distributed") && both_by_host == "true";
        if !is(to, "reference") && !by_host {
            wrong.push(format!("{table}: a foreign key to {to}, which is neither reference nor by host_id"));
        }
    }
    wrong.sort();
    wrong
}

fn rows(database: &Database, query: &str) -> Vec<(String, String)> {
    let text = database.sql(query);
    let split = |line: &str| line.split_once('|').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("two columns");
    text.lines().map(split).collect()
}

/// Without what depends on the server that dumped: versions, settings, comments, a key of `pg_dump` itself.
fn normalised(dump: &str) -> String {
    let mut out = String::new();
    for line in dump.lines() {
        let is_noise = line.starts_with("--")
            || line.starts_with("SET ")
            || line.starts_with("SELECT pg_catalog.set_config")
            || line.starts_with('\\')
            || line.trim().is_empty() && (out.is_empty() || out.ends_with("\n\n"));
        if !is_noise {
            out.push_str(line);
            out.push('\n');
        }
    }
    format!("{}\n", out.trim_end())
}

fn first_difference(expected: &str, got: &str) -> String {
    let mut pairs = expected.lines().zip(got.lines()).enumerate();
    let different = pairs.find(|(_, (a, b))| a != b);
    different.map_or("one is longer".to_owned(), |(n, (a, b))| format!("line {}:\n- {a}\n+ {b}", n + 1))
}
