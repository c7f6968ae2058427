//! What a migration must look like: prose for people, and statements that also run once tables are distributed.

use crate::repository::{SourceFile, check, files};

/// Its statements ran before any table could be distributed.
const BASELINE: &str = "migrations/0001_baseline.sql";

/// Refused by distributed tables, or global where only one node is meant.
const FORBIDDEN: &[(&str, &str)] = &[
    ("TRIGGER", "a table that has one cannot be distributed"),
    ("BIGSERIAL", "ids are random or from the content"),
    ("EXCLUDE", "exclusion constraints cannot be distributed"),
    ("SET STORAGE", "storage options belong in CREATE"),
    ("PG_ADVISORY_LOCK", "it locks one node only"),
];

/// The SQL without comments, and without what stands in quotes or dollars.
fn code(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        for (n, part) in line.split("--").next().unwrap_or("").split("$$").enumerate() {
            inside ^= n > 0;
            if !inside {
                out.push_str(part);
            }
        }
        out.push('\n');
    }
    // Every second piece between quotes is a literal.
    out.split('\'').step_by(2).collect::<Vec<_>>().join("''")
}

fn is_migration(path: &str) -> bool {
    path.starts_with("migrations/") && path.ends_with(".sql")
}

fn wrong_migration(file: &SourceFile) -> Vec<String> {
    let mut wrong = Vec::new();
    if !file.text.starts_with("-- ") {
        wrong.push(file.complaint(0, "a migration opens with a comment: what it does and why"));
    }
    wrong.extend(undescribed_tables(file));
    // Bodies of DO blocks are linted too, so the raw text without comments is what counts here.
    let lines: Vec<&str> = file.text.lines().map(|l| l.split("--").next().unwrap_or("")).collect();
    let upper = lines.join("\n").to_uppercase();
    let words: Vec<&str> = upper.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
    for (word, why) in FORBIDDEN {
        let pieces: Vec<&str> = word.split(' ').collect();
        if words.windows(pieces.len()).any(|w| w == pieces) {
            wrong.push(file.complaint(0, &format!("{word}: {why}")));
        }
    }
    // As a type, which follows a column's name; a column may have that name.
    let is_type = |line: &str| {
        line.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).skip(1).any(|w| w == "SERIAL")
    };
    if upper.lines().any(is_type) {
        wrong.push(file.complaint(0, "SERIAL: ids are random or from the content"));
    }
    if words.contains(&"DETACH") && words.contains(&"CONCURRENTLY") {
        wrong.push(file.complaint(0, "DETACH .. CONCURRENTLY is refused for distributed tables"));
    }
    let statements = code(&file.text).split(';').filter(|s| !s.trim().is_empty()).count();
    if file.path != BASELINE && statements != 1 {
        let what = format!("{statements} statements: after the baseline a file holds one statement or one DO block");
        wrong.push(file.complaint(0, &what));
    }
    wrong
}

/// Each table opens with prose: `-- name (kind). A row = ..`, or for a partition any comment.
fn undescribed_tables(file: &SourceFile) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut comment = String::new();
    let mut at = 0;
    for line in file.text.lines() {
        if let Some(text) = line.strip_prefix("--") {
            comment.push_str(text);
        } else if let Some(rest) = line.strip_prefix("CREATE TABLE ") {
            let name = rest.split([' ', '(']).next().unwrap_or("");
            let is_partition = rest.contains("PARTITION OF");
            let kinds = ["(reference)", "(distributed", "(local)"];
            let opens = comment.trim_start().strip_prefix(name).map(str::trim_start);
            let says = opens.is_some_and(|c| kinds.iter().any(|k| c.starts_with(k)) && c.contains("A row = "));
            if !(says || is_partition && !comment.is_empty()) {
                let what = format!("{name} needs `-- {name} (reference|distributed|local). A row = ..` above it");
                wrong.push(file.complaint(at, &what));
            }
        } else {
            comment.clear();
        }
        at += line.len() + 1;
    }
    wrong
}

#[test]
fn migrations_are_prose_too_and_run_when_distributed() {
    let migrations: Vec<_> = files().into_iter().filter(|f| is_migration(&f.path)).collect();
    assert!(migrations.iter().any(|f| f.path == BASELINE));
    check(&migrations, wrong_migration);
}

#[test]
fn a_migration_without_prose_or_with_too_much_in_it_is_found() {
    let wrong = |text: &str| wrong_migration(&SourceFile::planted("migrations/0002_x.sql", text)).len();
    assert_eq!(wrong("-- Adds a note.\nALTER TABLE host ADD COLUMN note text; -- a; b\n"), 0);
    assert_eq!(wrong("-- One block.\nDO $$ BEGIN PERFORM 1; PERFORM ';'; END $$;\n"), 0);
    assert_eq!(wrong("ALTER TABLE host ADD COLUMN note text;\n"), 1);
    assert_eq!(wrong("-- Two.\nSELECT 1;\nSELECT 2;\n"), 1);
    assert_eq!(wrong("-- A table.\nCREATE TABLE x (n int);\n"), 1);
    assert_eq!(wrong("-- A table.\n\n-- x (distributed). A row = one thing.\nCREATE TABLE x (n int);\n"), 0);
    assert_eq!(wrong("-- Bad.\nDO $$ BEGIN CREATE TRIGGER t BEFORE UPDATE ON host; END $$;\n"), 1);
    assert_eq!(wrong("-- Bad.\nALTER TABLE host ADD COLUMN n SERIAL;\n"), 1);
    assert_eq!(wrong("-- Bad.\nALTER TABLE frame DETACH PARTITION x CONCURRENTLY;\n"), 1);
    assert_eq!(wrong("-- Bad.\nALTER TABLE frame ALTER body SET STORAGE EXTERNAL;\n"), 1);
}
