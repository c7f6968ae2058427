//! One host's trouble is no other host's: who is committed before whom, and who waits for whom.

use highwater::writer::Config;
use highwater_ipc::record::Seq;
use highwater_tests::postgres::Postgres;

use super::host::{self, acked};
use super::{Collector, full_at};

#[test]
fn a_host_whose_records_are_refused_one_by_one_keeps_no_other_waiting() {
    const REFUSED: u64 = 64;
    let commands = usize::try_from(REFUSED).unwrap() + 1;
    let collector = Collector::new(Postgres::shared().database(), full_at(commands));
    let (mut refused, mut other) = (collector.host(121), collector.host(122));
    collector.runtime.block_on(async {
        let opening = (refused.opening(collector.writer()), other.opening(collector.writer()));
        let (first, second, ()) = tokio::join!(opening.0, opening.1, host::fill(collector.writer(), commands - 2));
        let (mut first, mut second) = (first.unwrap(), second.unwrap());
        collector.database.sql("ALTER TABLE frame ADD CONSTRAINT planted CHECK (host_id <> 121)");
        for _ in 0..REFUSED {
            first.send(refused.keyframe(None)).await;
        }
        second.send(other.keyframe(None)).await;
        acked(&second.outbox, 1, Seq(1)).await;
        acked(&first.outbox, 1, Seq(REFUSED)).await;
    });
    // All were in one commit; transactions are numbered in the order in which they began to write.
    let order = "SELECT f.xmin::text::bigint + 50 < s.xmin::text::bigint FROM frame f, stream s
        WHERE f.host_id = 122 AND s.host_id = 121";
    assert_eq!(collector.database.sql(order), "t\n");
    assert_eq!(collector.count("frame"), 1);
}

#[test]
fn what_comes_while_a_hosts_records_are_refused_one_by_one_is_committed_in_between() {
    const COMMANDS: usize = 64;
    let collector = Collector::new(Postgres::shared().database(), full_at(COMMANDS));
    let (mut refused, mut other) = (collector.host(125), collector.host(126));
    collector.runtime.block_on(async {
        let opening = (refused.opening(collector.writer()), other.opening(collector.writer()));
        let (first, second, ()) = tokio::join!(opening.0, opening.1, host::fill(collector.writer(), COMMANDS - 2));
        let (mut first, mut second) = (first.unwrap(), second.unwrap());
        collector.database.sql("ALTER TABLE frame ADD CONSTRAINT planted CHECK (host_id <> 125)");
        for _ in 0..COMMANDS {
            first.send(refused.keyframe(None)).await;
        }
        // One is found: the other 63 are still to be.
        acked(&first.outbox, 1, Seq(1)).await;
        second.send(other.keyframe(None)).await;
        host::fill(collector.writer(), COMMANDS - 1).await;
        acked(&second.outbox, 1, Seq(1)).await;
        acked(&first.outbox, 1, refused.next).await;
    });
    let order = "SELECT f.xmin::text::bigint + 20 < s.xmin::text::bigint FROM frame f, stream s
        WHERE f.host_id = 126 AND s.host_id = 125";
    assert_eq!(collector.database.sql(order), "t\n");
}

#[test]
fn a_session_that_cannot_be_opened_now_holds_up_no_ack_and_no_close() {
    let config = Config { workers: 1, ..Config::default() };
    let collector = Collector::new(Postgres::shared().database(), config);
    let (mut open, waiting) = (collector.host(123), collector.host(124));
    collector.runtime.block_on(async {
        let mut session = open.open(collector.writer()).await.unwrap();
        let held = collector.database.hold("UPDATE host SET name = name WHERE host_id = 124");
        let opening = tokio::spawn(waiting.opening(collector.writer()));
        for value in 0..3 {
            session.send(if value == 0 { open.keyframe(None) } else { open.delta(value) }).await;
            acked(&session.outbox, 1, Seq(value + 1)).await;
        }
        assert!(!opening.is_finished());
        drop(held);
        opening.await.unwrap().unwrap();
    });
    assert_eq!(collector.count("frame"), 3);
}

#[test]
fn while_the_database_answers_nobody_each_host_can_queue_its_share_and_no_more() {
    let config = Config { workers: 1, host_bytes: 8 << 10, queue_bytes: 1 << 20, ..Config::default() };
    let collector = Collector::new(Postgres::shared().database(), config);
    let mut hosts: Vec<_> = (131..=136).map(|id| collector.host(id)).collect();
    let taken = collector.runtime.block_on(async {
        let mut sessions = Vec::new();
        for host in &hosts {
            sessions.push(host.open(collector.writer()).await.unwrap());
        }
        let held = collector.database.hold("LOCK TABLE stream IN ACCESS EXCLUSIVE MODE");
        let mut taken = Vec::new();
        let mut stuck = Vec::new();
        for (host, mut session) in hosts.iter_mut().zip(sessions) {
            let mut records = vec![host.keyframe(None)];
            records.extend((0..20).map(|value| host.delta(value)));
            let (tell, told) = tokio::sync::watch::channel(0);
            let sending = tokio::spawn(async move {
                for record in records {
                    session.send(record).await;
                    tell.send_modify(|sent| *sent += 1);
                }
                session
            });
            stuck.push((sending, told));
        }
        for (_, told) in &mut stuck {
            told.wait_for(|sent| *sent == 8).await.unwrap();
        }
        // Nothing that could let a ninth in has happened: the table is locked.
        taken.extend(stuck.iter().map(|(_, told)| *told.borrow()));
        drop(held);
        for ((sending, _), host) in stuck.into_iter().zip(&hosts) {
            acked(&sending.await.unwrap().outbox, 1, host.next).await;
        }
        taken
    });
    assert_eq!(taken, [8; 6], "a record takes at least 1 KiB of 8");
    assert_eq!(collector.count("frame"), 6 * 21);
}
