//! The role that reads the views and nothing else.

use std::process::Command;

use highwater::store::reader::{ReaderError, VIEWS, make};
use highwater_tests::binaries;
use highwater_tests::cli::{Answer, answer};
use highwater_tests::postgres::Database;

use crate::migrated;

/// What psql says to a statement of that role.
fn asked(database: &Database, role: &str, statement: &str) -> Answer {
    let mut command = Command::new("psql");
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]);
    command.arg(database.url.replace("highwater@", &format!("{role}@")));
    answer(command)
}

fn migrate(database: &Database, reader: &str) -> Answer {
    let mut command = Command::new(binaries::highwater());
    command.args(["migrate", "--reader", reader, "--database-url", &database.url]);
    answer(command)
}

#[tokio::test]
async fn a_reader_reads_the_views_and_nothing_else_and_its_queries_end() {
    let (database, _db) = migrated().await;
    let role = format!("reader_of_{}", database.name);
    // The collector's role may not make roles: it says what has to be run.
    let told = migrate(&database, &role).must_succeed();
    let statements: Vec<&str> = told.text().lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(statements.len(), 5, "{}", told.text());
    assert!(statements[0] == format!("CREATE ROLE \"{role}\" NOLOGIN;"), "{}", told.text());
    for statement in statements {
        database.sql(statement);
    }
    assert_eq!(asked(&database, &role, "SELECT 1").code, 2, "a role without a login is no way in");
    database.sql(&format!("ALTER ROLE {role} LOGIN"));

    let again = migrate(&database, &role).must_succeed();
    assert!(again.text().contains("ran GRANT SELECT ON v_host_now,"), "{}", again.text());
    assert!(!again.text().contains("somebody who may"), "{}", again.text());

    for view in VIEWS {
        asked(&database, &role, &format!("SELECT * FROM {view}")).must_succeed();
    }
    let tables = database.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'");
    assert!(tables.contains("operator_token") && tables.contains("certificate"), "{tables}");
    for table in tables.lines() {
        let refused = asked(&database, &role, &format!("SELECT * FROM \"{table}\""));
        assert!(refused.code != 0 && refused.err.contains("permission denied"), "{table}: {}", refused.err);
    }
    for write in
        ["DELETE FROM v_flag", "INSERT INTO flag (host_id) VALUES (1)", "CREATE TABLE t (n int)", "DROP VIEW v_flag"]
    {
        // Also where somebody turns off what only keeps from mistakes.
        for statement in [write.to_owned(), format!("SET default_transaction_read_only = off; {write}")] {
            assert_ne!(asked(&database, &role, &statement).code, 0, "{statement}");
        }
    }
    let setting = |name: &str| asked(&database, &role, &format!("SHOW {name}")).must_succeed().text().trim().to_owned();
    assert_eq!(setting("statement_timeout"), "1min");
    assert_eq!(setting("idle_in_transaction_session_timeout"), "1min");
    assert_eq!(setting("default_transaction_read_only"), "on");
    // Roles are of the server, not of the database.
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test]
async fn who_may_make_roles_makes_the_reader_itself_and_twice_is_once() {
    let (database, db) = migrated().await;
    let role = format!("reader_of_{}", database.name);
    let (maker, owner) = (format!("maker_of_{}", database.name), "highwater");
    database.sql(&format!("CREATE ROLE {maker} LOGIN CREATEROLE; GRANT {owner} TO {maker}"));
    let url = database.url.replace("highwater@", &format!("{maker}@"));
    let mut command = Command::new(binaries::highwater());
    command.args(["migrate", "--json", "--reader", &role, "--database-url", &url]);
    let made = answer(command).must_succeed().json();
    assert_eq!(made["reader"]["left"], serde_json::json!([]), "{made}");
    assert_eq!(made["reader"]["done"].as_array().map(Vec::len), Some(5), "{made}");
    let again = make(&db, &role).await.expect("a grant");
    assert_eq!((again.done.len(), again.left.len()), (1, 0), "{again:?}");
    assert!(matches!(make(&db, "highwater").await, Err(ReaderError::Taken { .. })));
    assert!(matches!(make(&db, "postgres").await, Err(ReaderError::Taken { .. })));
    assert!(matches!(make(&db, "x; DROP TABLE host").await, Err(ReaderError::Name)));
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}; DROP OWNED BY {maker}; DROP ROLE {maker}"));
}
