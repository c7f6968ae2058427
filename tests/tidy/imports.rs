//! Who may import what: the table that keeps the rooms apart.

use crate::repository::{SourceFile, check, rust_files};
use crate::rust::{is_in, lex_without_tests, paths, test_files};

/// These paths may be named in these places only.
struct Rule {
    what: &'static [&'static str],
    only_in: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        what: &["tonic", "prost", "tonic_prost", "highwater_proto::v1"],
        only_in: &[
            "proto/src/",
            "proto/build.rs",
            "agent/src/transport/stream.rs",
            "agent/src/transport/enrol.rs",
            "collector/src/ingest/service.rs",
            "tests/e2e/hostile/",
        ],
        why: "generated types and gRPC end at the edge, behind proto/src/convert.rs",
    },
    Rule {
        what: &["rustls", "tokio_rustls", "rcgen", "x509_parser"],
        only_in: &[
            "agent/src/transport/tls.rs",
            "agent/src/transport/enrol.rs",
            "collector/src/ingest/tls.rs",
            "collector/src/notify/tls.rs",
            "collector/src/identity/",
            "tests/e2e/hostile/",
        ],
        why: "who a peer is gets decided in one room a side",
    },
    Rule {
        what: &["sqlx"],
        only_in: &["collector/src/store/", "collector/src/embedded/", "collector/src/cli/migrate.rs"],
        why: "store is the only room that knows SQL; the other two connect",
    },
    Rule { what: &["axum"], only_in: &["collector/src/api/"], why: "HTTP is one room" },
    Rule {
        what: &["libc"],
        only_in: &["agent/src/sys/", "tests/src/bin/ipc_tool.rs"],
        why: "system calls are typed functions of agent/src/sys",
    },
    Rule {
        what: &["unsafe"],
        only_in: &["agent/src/sys/", "tests/src/bin/ipc_tool.rs"],
        why: "the only unsafe code is agent/src/sys",
    },
    Rule {
        what: &["std::fs", "tokio::fs", "std::process::Command", "std::process::Child", "tokio::process"],
        only_in: &[
            "agent/src/sys/",
            "agent/src/kernel/",
            "agent/src/spool/disk.rs",
            "agent/src/trace/tracefs.rs",
            "agent/src/trace/caller.rs",
            "agent/src/config.rs",
            "agent/src/cli/",
            "collector/src/config.rs",
            "collector/src/secret_file.rs",
            "collector/src/notify/config.rs",
            "collector/src/identity/ca.rs",
            "collector/src/embedded/",
            "collector/src/cli/",
            "tests/",
            "agent/tests/",
            "agent/benches/",
            "proto/benches/",
        ],
        why: "files and processes are a device, kept at the edge",
    },
    Rule {
        what: &["zstd"],
        only_in: &["collector/src/compact/chunk.rs", "collector/src/store/"],
        why: "the agent stays small",
    },
    Rule {
        what: &[
            "std::time::SystemTime",
            "std::time::Instant",
            "jiff::Timestamp::now",
            "jiff::Zoned::now",
            "getrandom::fill",
            "getrandom::u32",
            "getrandom::u64",
            "rand",
        ],
        only_in: &[
            "agent/src/clock.rs",
            "collector/src/clock.rs",
            "tests/src/wait.rs",
            "agent/benches/",
            "proto/benches/",
            "tests/benches/",
        ],
        why: "time and randomness are handed in",
    },
];

/// The runtime belongs to the shells: these are pure, or run on a thread of their own.
const WITHOUT_TOKIO: &[&str] = &[
    "proto/ipc/",
    "collector/trend/",
    "agent/src/spool/",
    "agent/src/kernel/",
    "agent/src/sys/",
    "agent/src/trace/",
    "agent/src/sampler/record.rs",
    "agent/src/sampler/assemble.rs",
    "agent/src/transport/session.rs",
    "agent/src/transport/pace.rs",
    "collector/src/ingest/session.rs",
    "collector/src/writer/batch.rs",
    "collector/src/writer/plan.rs",
    "collector/src/writer/admit.rs",
    "collector/src/notify/alertmanager.rs",
    "collector/src/notify/backoff.rs",
    "collector/src/notify/json.rs",
    "collector/src/notify/mail.rs",
    "collector/src/notify/notice.rs",
    "collector/src/notify/outbox.rs",
    "collector/src/notify/receiver.rs",
    "collector/src/notify/slack.rs",
    "collector/src/notify/text.rs",
    "collector/src/notify/webhook.rs",
    "collector/src/query/change.rs",
    "collector/src/query/gap.rs",
];

fn lies_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path == *place || (place.ends_with('/') && path.starts_with(place)))
}

/// What a file imports that it may not.
fn foreign_imports(file: &SourceFile) -> Vec<String> {
    let code = lex_without_tests(&file.text).code;
    let named = paths(&code);
    let mut wrong = Vec::new();
    for rule in RULES.iter().filter(|r| !lies_in(&file.path, r.only_in)) {
        for (at, path) in named.iter().filter(|(_, p)| rule.what.iter().any(|w| is_in(p, w))) {
            wrong.push(
                file.complaint(*at, &format!("{path} belongs in {} only: {}", rule.only_in.join(", "), rule.why)),
            );
        }
    }
    if lies_in(&file.path, WITHOUT_TOKIO) {
        for (at, path) in named.iter().filter(|(_, p)| is_in(p, "tokio")) {
            wrong.push(file.complaint(*at, &format!("{path}: this file is pure or has a thread of its own")));
        }
    }
    wrong
}

#[test]
fn imports_keep_to_their_rooms() {
    let all = rust_files();
    let tests = test_files(&all);
    let files: Vec<SourceFile> = all.into_iter().filter(|f| !tests.contains(&f.path)).collect();
    check(&files, foreign_imports);
}

#[test]
fn a_foreign_import_is_found() {
    let planted = [
        ("collector/src/query/as_of.rs", "use sqlx::PgPool;"),
        ("collector/src/ingest/session.rs", "fn f(r: tonic::Request<()>) {}"),
        ("agent/src/sampler/record.rs", "use highwater_proto::{chain, v1::Record};"),
        ("collector/src/api/router.rs", "use rustls::ServerConfig;"),
        ("collector/src/cli/ipcs.rs", "use axum::Router;"),
        ("agent/src/kernel/real.rs", "let x = unsafe { libc::getuid() };"),
        ("agent/src/transport/session.rs", "use std::{fs, io};"),
        ("agent/src/transport/pace.rs", "use tokio::time::Duration;"),
        ("proto/ipc/src/time.rs", "std::time::SystemTime::now()"),
        ("collector/src/writer/backoff.rs", "getrandom::fill(&mut x)"),
    ];
    for (path, text) in planted {
        assert!(!foreign_imports(&SourceFile::planted(path, text)).is_empty(), "{path}: {text}");
        let in_test = format!("#[cfg(test)]\nmod tests {{ {text} }}");
        assert_eq!(foreign_imports(&SourceFile::planted(path, &in_test)), Vec::<String>::new());
    }
}
