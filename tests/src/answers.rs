//! Reading the contract's JSON: what a test asks of an answer.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cli::Cli;

/// The host's own namespace in a snapshot, its only one so far.
#[track_caller]
pub fn namespace(snapshot: &Value) -> &Value {
    snapshot["namespaces"].get(0).unwrap_or_else(|| panic!("no namespace in {snapshot}"))
}

/// The rows of one kind (`sem`, `shm`, `msg`) in a snapshot.
#[track_caller]
pub fn objects<'a>(snapshot: &'a Value, kind: &str) -> &'a [Value] {
    namespace(snapshot)[kind].as_array().unwrap_or_else(|| panic!("no list of {kind} in {snapshot}"))
}

/// The ids of the semaphore arrays in a snapshot.
#[track_caller]
pub fn semids(snapshot: &Value) -> BTreeSet<i64> {
    objects(snapshot, "sem").iter().map(|row| row["semid"].as_i64().expect("a number")).collect()
}

/// The host of that name in an answer of `hosts`.
#[track_caller]
pub fn host<'a>(hosts: &'a Value, name: &str) -> Option<&'a Value> {
    let list = hosts["hosts"].as_array().unwrap_or_else(|| panic!("no `hosts` in {hosts}"));
    list.iter().find(|host| host["name"] == name)
}

/// Ids of arrays that the host holds now, for as long as it answers; `None` while there is no answer.
pub fn held_now(cli: &Cli, host: &str) -> Option<BTreeSet<i64>> {
    let answer = cli.run(&["ipcs", host, "--json"]);
    (answer.code == 0).then(|| semids(&answer.json()))
}

/// Text of a field.
#[track_caller]
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text in `{field}` of {value}"))
}

/// `@unix` with milliseconds, as `--at` takes it.
pub fn instant(unix_ms: i64) -> String {
    format!("@{}.{:03}", unix_ms.div_euclid(1000), unix_ms.rem_euclid(1000))
}
