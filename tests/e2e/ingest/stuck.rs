//! A host whose rows are locked, or whose end could not be noted: what it costs it, and nobody else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater::writer::{Config, OpenError};
use highwater_ipc::record::Seq;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, until};
use tokio::time::Instant;

use super::host::{Host, acked, connect};
use super::proxy::{Fate, Proxy};
use super::{Collector, start};

fn says(bytes: &[u8], statement: &str) -> bool {
    bytes.windows(statement.len()).any(|part| part == statement.as_bytes())
}

#[test]
fn a_commit_that_froze_behind_its_guard_loses_its_locks_and_the_hosts_records_are_stored() {
    let collector = Collector::shared();
    let (_frozen, thaw): (_, Receiver<()>) = mpsc::channel();
    let thaw = Mutex::new(Some(thaw));
    // The first statement behind a guard never arrives, and nobody tells the server.
    let proxy = Proxy::watching(&Postgres::shared().socket(), move |bytes| {
        let froze = says(bytes, "INSERT INTO frame").then(|| thaw.lock().unwrap().take()).flatten();
        froze.map(|thaw| thaw.recv());
        Fate::Pass
    });
    let mut host = collector.host(11);
    collector.runtime.block_on(async {
        let db = connect(&proxy.url(&collector.database)).await;
        let writer = start(&db, Config { workers: 1, ..Config::default() }).await;
        let mut session = host.open(&writer).await.unwrap();
        session.send(host.keyframe(None)).await;
        // 25 s until the server ends it, 30 s until the writer asks again.
        let stored = tokio::time::timeout(3 * PATIENCE, async {
            while !session.outbox.take().await.acks.into_values().any(|ack| ack.into_inner().next == Seq(1)) {}
        });
        stored.await.expect("stored though the first commit is frozen");
        writer.shutdown().await;
        db.close().await;
    });
    assert_eq!(collector.count("frame"), 1);
}

#[test]
fn a_host_whose_rows_are_locked_is_told_to_come_back_and_others_are_let_in_meanwhile() {
    let collector = Collector::new(Postgres::shared().database(), Config { workers: 1, ..Config::default() });
    let (mut locked, free) = (collector.host(12), collector.host(13));
    collector.store(&mut locked, 1, |host| vec![host.keyframe(None)]);
    let held = collector.database.hold("UPDATE stream SET session = session WHERE host_id = 12");
    let asked = Instant::now();
    let (refused, opened) = collector.runtime.block_on(async {
        let (first, second) = (locked.opening(collector.writer()), free.opening(collector.writer()));
        tokio::join!(first, second)
    });
    assert_eq!(refused.err(), Some(OpenError::Unavailable));
    // Three tries would take that long.
    assert!(opened.is_ok() && asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    drop(held);
    let back = collector.runtime.block_on(locked.open(collector.writer()));
    assert_eq!(back.unwrap().opened.epochs[0].next, Seq(1));
}

#[test]
fn an_end_that_could_not_be_noted_keeps_no_new_agent_waiting_and_is_noted_later() {
    let collector = Collector::shared();
    let (cuts, cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (to_cut, were_cut) = (Arc::clone(&cuts), Arc::clone(&cut));
    let proxy = Proxy::watching(&Postgres::shared().socket(), move |bytes| {
        let next = || to_cut.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if says(bytes, "SET disconnected_ms") && next() {
            were_cut.fetch_add(1, Ordering::SeqCst);
            return Fate::CutBefore;
        }
        Fate::Pass
    });
    let (mut host, mut gone, other) = (collector.host(14), collector.host(15), collector.host(16));
    collector.runtime.block_on(async {
        let db = connect(&proxy.url(&collector.database)).await;
        let writer = start(&db, Config { workers: 1, ..Config::default() }).await;
        for host in [&mut host, &mut gone] {
            let mut session = host.open(&writer).await.unwrap();
            session.send(host.keyframe(None)).await;
            acked(&session.outbox, 1, Seq(1)).await;
            // As often as it is tried.
            cut.store(0, Ordering::SeqCst);
            cuts.store(3, Ordering::SeqCst);
            session.close().await;
            tokio::task::block_in_place(|| until("it is cut", PATIENCE, || cut.load(Ordering::SeqCst) == 3));
        }
        assert_eq!(collector.database.sql("SELECT count(disconnected_ms) FROM host_status"), "0\n");
        host.begin_epoch(2, host.boot_id);
        let back = host.open(&writer).await.map(|session| session.opened.epochs.len());
        assert_eq!(back, Ok(2), "its collector knows that nobody holds it");
        // Anything of its kind brings it along.
        other.open(&writer).await.unwrap().close().await;
        let noted = "SELECT disconnected_ms IS NOT NULL FROM host_status ORDER BY host_id";
        let is_noted = || collector.database.sql(noted) == "f\nt\n";
        tokio::task::block_in_place(|| until("the other end is noted", PATIENCE, is_noted));
        writer.shutdown().await;
        db.close().await;
    });
}

#[test]
fn epochs_of_which_nothing_is_stored_go_when_an_agent_is_let_in_that_does_not_hold_them() {
    let collector = Collector::shared();
    let mut host = collector.host(17);
    collector.store(&mut host, 1, |host| vec![host.keyframe(None)]);
    let rows = || collector.database.sql("SELECT epoch_no, next_seq FROM stream ORDER BY 1");
    let written = host.clone();
    for round in 0..3 {
        // Hellos that name epochs nobody has seen, each in the place of the one before.
        let mut fresh = written.clone();
        let first = 2 + 1_000 * round;
        (first..first + 1_000).for_each(|no| fresh.begin_epoch(no, fresh.boot_id));
        collector.runtime.block_on(fresh.open(collector.writer())).unwrap();
        assert_eq!(collector.count("stream"), 1_001, "round {round}");
    }
    host.begin_epoch(5_000, host.boot_id);
    collector.store(&mut host, 5_000, |host| vec![host.keyframe(None)]);
    assert_eq!(rows(), "1|1\n5000|1\n");
    // What is written stays, whoever holds it.
    let mut last = Host::new(17);
    last.forget_epochs();
    last.begin_epoch(5_001, last.boot_id);
    collector.runtime.block_on(last.open(collector.writer())).unwrap();
    assert_eq!(rows(), "1|1\n5000|1\n5001|0\n");
}
