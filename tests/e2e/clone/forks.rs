//! The same epoch id on two machines, as after a memory snapshot: a fork, told by the chain.

use highwater_ipc::record::GapReason;
use highwater_ipc::session::Verdict;
use highwater_tests::collector::Up;
use highwater_tests::postgres::Postgres;
use tokio::runtime::Runtime;

use super::speaker::{Speaker, live_until, within};
use crate::ingest::host::Host;
use crate::protocol::log::stored_once;

#[test]
fn of_two_woken_from_one_image_the_one_behind_is_forked_and_the_other_loses_nothing() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    Runtime::new().unwrap().block_on(async {
        let speaker = Speaker::enrol(&up, &[]).await;
        let mut host = Host::new(0);
        let mut stream = speaker.greet(&up, &host).await.unwrap();
        for made in [host.keyframe(None), host.delta(1)] {
            stream.send(made).await;
        }
        stream.acked(&host).await;
        // The image is taken here. Both go on, one of them is heard.
        let mut woken = host.clone();
        let made = host.delta(2);
        stream.store(&host, made).await;
        let mut forked = speaker.greet(&up, &woken).await.unwrap();
        assert_eq!(forked.welcome.epochs[0].verdict, Verdict::Forked);
        stream.goes_on(&mut host).await;
        assert_eq!(stream.pings, 0, "a fork is told by its chain, without asking anybody");
        // What it made since cannot be sent as this epoch's.
        forked.send(woken.delta(70)).await;
        let told = forked.answer_until_ended().await;
        assert!(told.contains("said to be a fork"), "{told}");
        stream.goes_on(&mut host).await;
        // It opens an epoch of its own, and while the other lives it is a second agent like any other.
        woken.begin_epoch(2, woken.boot_id);
        let told = live_until(&mut stream, &mut host, speaker.greet(&up, &woken)).await;
        assert!(told.err().unwrap().contains("quarantined: another agent"));
        stream.goes_on(&mut host).await;
        let (before, last) = (stored_once(&database), database.sql("SELECT max(wall_ms) FROM frame"));
        drop(stream);
        let mut stream = until_let_in(&speaker, &up, &woken).await;
        let made = woken.keyframe(Some(GapReason::Forked));
        stream.store(&woken, made).await;
        assert_eq!(stored_once(&database), before + 1);
        assert_eq!(database.sql("SELECT max(wall_ms) FROM frame WHERE epoch_no = 1"), last, "nothing was merged");
    });
    let gap = database.sql("SELECT epoch_no, seq, reason FROM gap WHERE from_wall_ms IS NOT NULL");
    assert_eq!(gap, format!("2|0|{}\n", GapReason::Forked.code()));
    let ends = database.sql("SELECT epoch_no, end_reason FROM stream ORDER BY 1");
    assert_eq!(ends, format!("1|{}\n2|\n", GapReason::Forked.code()));
}

/// The collector may not have heard yet that the other stream is gone.
async fn until_let_in(speaker: &Speaker, up: &Up, host: &Host) -> super::speaker::Stream {
    within(async {
        loop {
            if let Ok(stream) = speaker.greet(up, host).await {
                return stream;
            }
        }
    })
    .await
}

#[test]
fn of_two_woken_from_one_image_the_one_ahead_finds_another_chain_and_can_send_nothing() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    Runtime::new().unwrap().block_on(async {
        let speaker = Speaker::enrol(&up, &[]).await;
        let mut host = Host::new(0);
        let mut stream = speaker.greet(&up, &host).await.unwrap();
        let made = host.keyframe(None);
        stream.store(&host, made).await;
        let mut woken = host.clone();
        let made = host.delta(1);
        stream.store(&host, made).await;
        // It was not heard for a while, and made more than the other.
        let [_, second, third] = [woken.delta(70), woken.delta(71), woken.delta(72)];
        let mut ahead = speaker.greet(&up, &woken).await.unwrap();
        let welcome = &ahead.welcome.epochs[0];
        assert_eq!((welcome.verdict, welcome.next), (Verdict::Continue, second.1.seq));
        // An agent compares the chain at that place with its own; were it not to, the collector does.
        assert_ne!(welcome.chain, second.1.chain);
        for made in [second, third] {
            ahead.send(made).await;
        }
        let told = ahead.answer_until_ended().await;
        assert!(told.contains("the stream has forked"), "{told}");
        // The other was asked to come back, as after any reconnect, and has lost nothing.
        assert!(stream.answer_until_ended().await.contains("another stream of this host was opened"));
        let mut stream = speaker.greet(&up, &host).await.unwrap();
        assert_eq!(stream.welcome.epochs[0].next, host.next);
        let made = host.delta(2);
        stream.store(&host, made).await;
    });
    assert_eq!(stored_once(&database), 3);
    assert_eq!(database.sql("SELECT count(*) FROM gap WHERE from_wall_ms IS NOT NULL"), "0\n");
}
