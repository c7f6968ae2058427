//! Which room may import which: the arrows between crates and within them.

use crate::repository::{SourceFile, check, files, rust_files};
use crate::rust::{is_in, lex_without_tests, paths, test_files};

/// A crate and the crates of this workspace that it may depend on; nothing points back.
const CRATES: &[(&str, &[&str])] = &[
    ("proto/ipc/Cargo.toml", &[]),
    ("proto/Cargo.toml", &["highwater-ipc"]),
    ("agent/Cargo.toml", &["highwater-ipc", "highwater-proto"]),
    ("fuzz/Cargo.toml", &["highwater-agent", "highwater-ipc"]),
    ("collector/trend/Cargo.toml", &["highwater-ipc"]),
    ("collector/Cargo.toml", &["highwater-ipc", "highwater-proto", "highwater-agent", "highwater-trend"]),
    ("tests/Cargo.toml", &["highwater-ipc", "highwater-proto", "highwater-agent", "highwater", "highwater-trend"]),
];

/// A room within a crate and the rooms of that crate that it may name. A room that is not listed (`clock`, `host`,
/// `lib`) is a leaf that everybody may name.
const ROOMS: &[(&str, &[&str])] = &[
    ("agent/src/sys/", &[]),
    ("agent/src/kernel/", &["sys"]),
    ("agent/src/trace/", &["sys"]),
    ("agent/src/sampler/", &["kernel", "sys", "trace"]),
    ("agent/src/doctor/", &["sys"]),
    ("agent/src/spool/", &[]),
    ("agent/src/transport/", &["spool"]),
    ("collector/src/store/", &[]),
    ("collector/src/writer/", &["store"]),
    ("collector/src/query/", &["store"]),
    // Who holds what, and what to do about it, is told as `blame` tells it.
    ("collector/src/evaluate/", &["store", "query", "forecast"]),
    // Compaction folds records as queries do, and tells owners apart as `blame` does; nobody asks it anything.
    ("collector/src/compact/", &["store", "query", "evaluate"]),
    ("collector/src/identity/", &["store"]),
    ("collector/src/ingest/", &["identity", "writer"]),
    // What is derived from imported states is derived, and judged, as compaction does.
    ("collector/src/import/", &["store", "query", "compact", "evaluate"]),
    // Who holds a lease works, here too.
    ("collector/src/notify/", &["store", "compact"]),
    ("collector/src/api/", &["query", "identity", "import", "evaluate", "notify"]),
    ("collector/src/embedded/", &["identity"]),
    // Pure: rows in, transitions out.
    ("collector/src/forecast/", &[]),
    ("collector/src/cli/", &[]),
];

/// Commands that run the collector, or a part of it, instead of asking it.
const RUN_THE_COLLECTOR: &[&str] = &[
    "collector/src/cli/up.rs",
    "collector/src/cli/up/",
    "collector/src/cli/migrate.rs",
    "collector/src/cli/backtest/",
];

/// The store's handle and its error pass through the shells unopened.
const PASSED_THROUGH: &[&str] = &["crate::store::Db", "crate::store::StoreError"];

/// What the commands read: the answers' JSON, without the server that writes it.
const CONTRACT: &str = "crate::api::json";

/// Dependencies within the workspace that a manifest may not have.
fn wrong_dependencies(file: &SourceFile) -> Vec<String> {
    let Some((_, allowed)) = CRATES.iter().find(|(path, _)| *path == file.path) else {
        let is_crate = file.path.ends_with("/Cargo.toml");
        let what = "this crate has no place in the arrows yet: tests/tidy/arrows.rs";
        return if is_crate { vec![file.complaint(0, what)] } else { Vec::new() };
    };
    let mut wrong = Vec::new();
    let mut at = 0;
    for line in file.text.lines() {
        let name = line.split(['.', ' ', '=']).next().unwrap_or("");
        if name.starts_with("highwater") && !allowed.contains(&name) {
            wrong.push(file.complaint(at, &format!("may not depend on {name}")));
        }
        at += line.len() + 1;
    }
    wrong
}

/// Rooms that a file names and may not.
fn wrong_rooms(file: &SourceFile) -> Vec<String> {
    let Some((room, allowed)) = ROOMS.iter().find(|(room, _)| file.path.starts_with(room)) else {
        return Vec::new();
    };
    if RUN_THE_COLLECTOR.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    let source = &room[..=room.find("/src/").unwrap_or(0) + 4];
    let own = &room[source.len()..room.len() - 1];
    let is_room = |name: &str| ROOMS.iter().any(|(r, _)| *r == format!("{source}{name}/"));
    let mut wrong = Vec::new();
    for (at, path) in paths(&lex_without_tests(&file.text).code) {
        let Some(other) = path.strip_prefix("crate::").and_then(|p| p.split("::").next()) else {
            continue;
        };
        let passes = PASSED_THROUGH.contains(&path.as_str()) || own == "cli" && is_in(&path, CONTRACT);
        if other != own && is_room(other) && !allowed.contains(&other) && !passes {
            wrong.push(file.complaint(at, &format!("{own} may not import {path}")));
        }
    }
    if own == "cli" {
        wrong.extend(agent_in_a_command(file));
    }
    wrong
}

/// Only `up` runs an agent in its process.
fn agent_in_a_command(file: &SourceFile) -> Vec<String> {
    let named = paths(&lex_without_tests(&file.text).code);
    let agent = named.iter().filter(|(_, p)| p.starts_with("highwater_agent"));
    agent.map(|(at, p)| file.complaint(*at, &format!("only `up` may import {p}"))).collect()
}

#[test]
fn crates_depend_along_the_arrows() {
    let manifests: Vec<_> = files().into_iter().filter(|f| f.path.ends_with("/Cargo.toml")).collect();
    assert!(manifests.len() >= 5);
    check(&manifests, wrong_dependencies);
}

/// What the pure crate is built on: with `no_std` and nothing else, a clock, a file or a random order of a map does not
/// compile.
fn impure_dependencies(manifest: &str) -> Vec<&str> {
    let section = manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap_or("");
    let names = section.lines().map(|line| line.split(['.', ' ', '=']).next().unwrap_or(""));
    names.filter(|name| !name.is_empty() && *name != "thiserror").collect()
}

#[test]
fn the_pure_crate_stands_alone() {
    let all = files();
    let text = |path: &str| all.iter().find(|f| f.path == path).map(|f| f.text.as_str()).expect("a file");
    assert_eq!(impure_dependencies(text("proto/ipc/Cargo.toml")), Vec::<&str>::new());
    assert!(text("proto/ipc/src/lib.rs").contains("#![no_std]"));
    assert_eq!(impure_dependencies("[dependencies]\nserde.workspace = true\n\n[dev-dependencies]\nx = 1\n"), ["serde"]);
}

#[test]
fn rooms_import_along_the_arrows() {
    let all = rust_files();
    let tests = test_files(&all);
    let files: Vec<SourceFile> = all.into_iter().filter(|f| !tests.contains(&f.path)).collect();
    check(&files, wrong_rooms);
}

#[test]
fn an_arrow_that_points_back_is_found() {
    let planted = [
        ("agent/src/spool/recover.rs", "use crate::kernel::Kernel;"),
        ("agent/src/transport/session.rs", "use crate::sampler::record::Recorder;"),
        ("agent/src/sys/host.rs", "crate::kernel::limits::read()"),
        ("collector/src/store/frame.rs", "use crate::{host, writer::plan};"),
        ("collector/src/ingest/session.rs", "use crate::store::stream;"),
        ("collector/src/api/router.rs", "use crate::writer::Queue;"),
        ("collector/src/query/as_of.rs", "use crate::api::json;"),
        ("collector/src/query/as_of.rs", "use crate::compact::lease;"),
        ("collector/src/compact/lease.rs", "use crate::writer::Queue;"),
        ("collector/src/query/export.rs", "use crate::import::Form;"),
        ("collector/src/import/commit.rs", "use crate::writer::Queue;"),
        ("collector/src/cli/ipcs.rs", "use crate::query::as_of;"),
        ("collector/src/cli/ipcs.rs", "use crate::api::{json::HostJson, router};"),
        ("collector/src/cli/hosts.rs", "use highwater_agent::run;"),
    ];
    for (path, text) in planted {
        assert_eq!(wrong_rooms(&SourceFile::planted(path, text)).len(), 1, "{path}: {text}");
    }
    assert_eq!(wrong_rooms(&SourceFile::planted("collector/src/cli/up.rs", "use crate::query::as_of;")).len(), 0);
    let manifest = SourceFile::planted("proto/Cargo.toml", "[dependencies]\nhighwater-agent.workspace = true\n");
    assert_eq!(wrong_dependencies(&manifest).len(), 1);
    assert_eq!(wrong_dependencies(&SourceFile::planted("core/Cargo.toml", "")).len(), 1);
}
