//! Each promise of `tests/promises.md` names tests, and each of them is there.

use std::collections::BTreeSet;

use crate::repository::{SourceFile, files, rust_files};

const TABLE: &str = "tests/promises.md";

/// Names of the functions that `#[test]`, `#[tokio::test]` or a property test mark.
fn tests(files: &[SourceFile]) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for file in files {
        let mut marked = false;
        for line in file.text.lines().map(str::trim_start) {
            marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let (true, Some((name, _))) = (marked, function.and_then(|rest| rest.split_once('('))) {
                found.insert(name);
                marked = false;
            }
        }
    }
    found
}

/// Rows whose last column names no test, or one that is not there.
fn unkept(table: &SourceFile, tests: &BTreeSet<&str>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut at = 0;
    for line in table.text.split_inclusive('\n') {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if let ([number, _, kept_by], true) = (&*cells, line.starts_with('|')) {
            let named: Vec<&str> = kept_by.split('`').skip(1).step_by(2).collect();
            let heading = *number == "#" || number.starts_with("--");
            if !heading && named.is_empty() && !kept_by.starts_with("none: ") {
                wrong.push(table.complaint(at, &format!("{number} names no test, and no reason why not")));
            }
            let missing = named.iter().filter(|name| !tests.contains(**name));
            wrong.extend(missing.map(|name| table.complaint(at, &format!("{number}: there is no test {name}"))));
        }
        at += line.len();
    }
    wrong
}

#[test]
fn each_promise_names_tests_that_exist() {
    let rust = rust_files();
    let table = files().into_iter().find(|f| f.path == TABLE).expect("the table of promises");
    let wrong = unkept(&table, &tests(&rust));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(table.text.lines().filter(|l| l.starts_with("| ")).count() > 50);
}

#[test]
fn a_promise_without_a_test_is_found() {
    let source =
        SourceFile::planted("a.rs", "#[test]\nfn kept() {}\nfn no_test() {}\n#[tokio::test]\nasync fn two() {}");
    let sources = [source];
    let tests = tests(&sources);
    let rows = "| # | what | kept by |\n|---|---|---|\n| A1 | x | `kept` `two` |\n| A2 | x | none: because |\n";
    let broken = "| A3 | x | `no_test` |\n| A4 | x | |\n";
    let table = SourceFile::planted(TABLE, &format!("{rows}{broken}"));
    let wrong = unkept(&table, &tests);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].contains("A3: there is no test no_test") && wrong[1].contains("A4 names no test"), "{wrong:?}");
}
