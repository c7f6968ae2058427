//! Who gets a host's place, decided before the welcome: reconnects, reboots, other machines, two at the same moment.

use std::time::Duration;

use highwater_ipc::record::GapReason;
use highwater_ipc::session::Verdict;
use highwater_ipc::snapshot::BootId;
use highwater_tests::answers::{host as shown_host, text};
use highwater_tests::collector::{Options, Up};
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::speaker::{Speaker, Stream, live_until};
use crate::ingest::host::Host;

const PING: Duration = Duration::from_secs(2);

/// A host with a stream and one sample.
async fn begun(speaker: &Speaker, up: &Up) -> (Host, Stream) {
    let mut host = Host::new(0);
    let mut stream = speaker.greet(up, &host).await.unwrap();
    let made = host.keyframe(None);
    stream.store(&host, made).await;
    (host, stream)
}

/// Ends a stream, and waits until the collector has noted that.
async fn end(stream: Stream, database: &highwater_tests::postgres::Database) {
    drop(stream);
    let noted = || database.sql("SELECT bool_and(disconnected_ms IS NOT NULL) FROM host_status") == "t\n";
    tokio::task::block_in_place(|| until("the end is noted", PATIENCE, noted));
}

#[test]
fn the_same_agent_comes_back_at_once_and_its_old_stream_is_not_asked() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    Runtime::new().unwrap().block_on(async {
        let speaker = Speaker::enrol(&up, &[]).await;
        let (mut host, mut old) = begun(&speaker, &up).await;
        let asked = Instant::now();
        let mut again = speaker.greet(&up, &host).await.unwrap();
        assert!(asked.elapsed() < PING, "waited {:?}", asked.elapsed());
        assert!(old.ignore_until_ended().await.contains("another stream of this host was opened"));
        assert_eq!(old.pings, 0);
        again.goes_on(&mut host).await;
    });
}

#[test]
fn after_a_reboot_the_old_stream_is_pinged_once_and_replaced_after_two_seconds() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    Runtime::new().unwrap().block_on(async {
        let speaker = Speaker::enrol(&up, &[]).await;
        let (mut host, mut old) = begun(&speaker, &up).await;
        host.begin_epoch(2, BootId([9; 16]));
        let asked = Instant::now();
        let (new, told) = tokio::join!(speaker.greet(&up, &host), old.ignore_until_ended());
        let waited = asked.elapsed();
        assert!(waited >= PING && waited < 3 * PING, "waited {waited:?}");
        assert_eq!(old.pings, 1);
        assert!(told.contains("another stream of this host was opened"), "{told}");
        let mut new = new.unwrap();
        let made = host.keyframe(Some(GapReason::AgentKilled));
        new.store(&host, made).await;
    });
    assert_eq!(database.sql("SELECT reason FROM gap WHERE epoch_no = 2"), format!("{}\n", GapReason::HostDown.code()));
}

#[test]
fn a_boot_or_an_epoch_beside_one_that_answers_is_quarantined_and_so_is_a_boot_that_was_superseded() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    Runtime::new().unwrap().block_on(async {
        let speaker = Speaker::enrol(&up, &[]).await;
        let (mut host, mut stream) = begun(&speaker, &up).await;
        let rows = || database.sql("SELECT epoch_no, session FROM stream ORDER BY 1");
        let before = rows();
        for boot in [host.boot_id, BootId([9; 16])] {
            let mut copy = host.clone();
            copy.begin_epoch(2, boot);
            let told = live_until(&mut stream, &mut host, speaker.greet(&up, &copy)).await;
            assert!(told.err().unwrap().contains("quarantined: another agent"));
        }
        assert_eq!((rows(), stream.pings), (before, 2));
        stream.goes_on(&mut host).await;
        end(stream, &database).await;

        let mut set_back = host.clone();
        host.begin_epoch(2, BootId([9; 16]));
        let mut stream = speaker.greet(&up, &host).await.unwrap();
        let made = host.keyframe(None);
        stream.store(&host, made).await;
        // Whether anybody is connected or not.
        set_back.begin_epoch(3, set_back.boot_id);
        let told = speaker.greet(&up, &set_back).await.err().unwrap();
        assert!(told.contains("quarantined: a later boot of this host has written already"), "{told}");
        stream.goes_on(&mut host).await;
        end(stream, &database).await;
        let told = speaker.greet(&up, &set_back).await.err().unwrap();
        assert!(told.contains("quarantined: a later boot"), "{told}");
    });
    // Nobody writes as the host, and somebody would: the hole has that reason, and the operator a remedy.
    let cli = up.cli();
    let shown = || shown_host(&cli.json(&["hosts"]), "web-1").cloned().unwrap();
    until("the host is quarantined", PATIENCE, || text(&shown(), "lifecycle") == "quarantined");
    assert!(text(&shown()["at_risk"][0], "remedy").contains("highwater token create"), "{}", shown());
    let now = cli.run(&["ipcs", "web-1", "--json"]).must_exit(4).json();
    assert_eq!(text(&now["gap"], "reason"), "quarantined", "{now}");
}

#[test]
fn another_machine_id_in_a_new_boot_is_quarantined_until_it_is_enrolled_as_the_host() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    Runtime::new().unwrap().block_on(async {
        let speaker = Speaker::enrol(&up, &[]).await;
        let mut host = Host::new(0);
        let mut no = 0;
        // Each begins an epoch, and writes if it may.
        let mut says = async |speaker: &Speaker, boot: u8, machine_id: &'static str| {
            no += 1;
            let mut next = host.clone();
            next.machine_id = machine_id;
            if no > 1 {
                next.begin_epoch(no, BootId([boot; 16]));
            }
            let mut stream = speaker.greet(&up, &next).await?;
            let made = next.keyframe(None);
            stream.store(&next, made).await;
            end(stream, &database).await;
            host = next;
            Ok::<(), String>(())
        };
        says(&speaker, 1, "aa").await.unwrap();
        let rows = || database.sql("SELECT epoch_no, next_seq FROM stream ORDER BY 1");
        let before = rows();
        let told = says(&speaker, 2, "bb").await.unwrap_err();
        assert!(told.contains("quarantined: machine-id and boot"), "{told}");
        assert!(told.contains("highwater token create --host HOST"), "{told}");
        assert_eq!(rows(), before, "nothing was begun");
        // A container that was made anew in the same boot; a reboot; an image without a machine-id.
        says(&speaker, 1, "bb").await.unwrap();
        says(&speaker, 3, "bb").await.unwrap();
        says(&speaker, 4, "").await.unwrap();
        says(&speaker, 5, "cc").await.unwrap();
        assert!(says(&speaker, 6, "dd").await.is_err());
        // The machine was replaced: its operator says so. Certificates count seconds.
        let opened_ms: i64 = database.sql("SELECT max(opened_ms) FROM stream").trim().parse().unwrap();
        tokio::task::block_in_place(|| until("a second passes", PATIENCE, || now_ms() / 1000 > opened_ms / 1000));
        let replaced = Speaker::enrol(&up, &["--host", &speaker.id]).await;
        assert_eq!(replaced.id, speaker.id);
        assert!(says(&speaker, 6, "dd").await.is_err(), "with the certificate that a copy would have");
        says(&replaced, 6, "dd").await.unwrap();
        // From then on it is the host, and the one before is another machine.
        says(&replaced, 7, "dd").await.unwrap();
        assert!(says(&speaker, 8, "cc").await.is_err());
    });
    assert_eq!(database.sql("SELECT count(DISTINCT host_id) FROM frame"), "1\n");
    assert_eq!(
        database.sql("SELECT string_agg(machine_id, ',' ORDER BY epoch_no) FROM host_facts"),
        "aa,bb,bb,,cc,dd,dd\n"
    );
}

#[test]
fn a_replacement_whose_agent_restarts_before_its_first_keyframe_is_let_in_again() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    Runtime::new().unwrap().block_on(async {
        let speaker = Speaker::enrol(&up, &[]).await;
        let mut host = Host::new(0);
        host.machine_id = "aa";
        let mut stream = speaker.greet(&up, &host).await.unwrap();
        let made = host.keyframe(None);
        stream.store(&host, made).await;
        end(stream, &database).await;
        let second = |ms: i64| ms.div_euclid(1000);
        let later = |than_ms: i64| until("a second passes", PATIENCE, || second(now_ms()) > second(than_ms));
        tokio::task::block_in_place(|| later(now_ms()));
        let replaced = Speaker::enrol(&up, &["--host", &speaker.id]).await;
        tokio::task::block_in_place(|| later(now_ms()));
        host.machine_id = "bb";
        host.begin_epoch(2, BootId([2; 16]));
        let mut stream = replaced.greet(&up, &host).await.unwrap();
        // Its epoch has a record, and no facts yet.
        let made = host.stopped();
        stream.store(&host, made).await;
        end(stream, &database).await;
        assert_eq!(database.sql("SELECT machine_id FROM host_facts"), "aa\n");
        host.begin_epoch(3, BootId([2; 16]));
        let mut stream = replaced.greet(&up, &host).await.unwrap();
        let made = host.keyframe(None);
        stream.store(&host, made).await;
    });
    assert_eq!(database.sql("SELECT string_agg(machine_id, ',' ORDER BY epoch_no) FROM host_facts"), "aa,bb\n");
}

#[test]
fn a_host_writes_as_itself_whatever_it_says_of_another() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    Runtime::new().unwrap().block_on(async {
        let (a, b) = (Speaker::enrol(&up, &[]).await, Speaker::enrol(&up, &[]).await);
        let (mut host, mut stream) = begun(&b, &up).await;
        let stored = "SELECT next_seq, chain, session FROM stream WHERE host_id = ";
        let of = |speaker: &Speaker| i64::from_str_radix(&speaker.id, 16).unwrap();
        let before = database.sql(&format!("{stored}{}", of(&b)));
        // Everything that the other one says of itself: boot, epoch, place, chain and name.
        let impostor = host.clone();
        let mut as_a = a.greet(&up, &impostor).await.unwrap();
        let answer = &as_a.welcome.epochs[0];
        assert_eq!((answer.verdict, answer.next.0), (Verdict::Continue, 0), "it is told of its own rows alone");
        let mut from_nothing = Host::new(0);
        for made in [from_nothing.keyframe(None), from_nothing.delta(9)] {
            as_a.send(made).await;
        }
        as_a.acked(&from_nothing).await;
        assert_eq!(database.sql(&format!("{stored}{}", of(&b))), before);
        assert_eq!(database.sql(&format!("SELECT count(*) FROM frame WHERE host_id = {}", of(&b))), "1\n");
        assert_eq!(database.sql(&format!("SELECT count(*) >= 2 FROM frame WHERE host_id = {}", of(&a))), "t\n");
        stream.goes_on(&mut host).await;
    });
}

/// Both come within the same moment, as after a restart of the collector: at once, or one after the other, in either order.
#[test]
fn an_agent_and_its_copy_that_come_together_after_a_kill_of_the_collector_do_not_change_places() {
    let database = Postgres::shared().database();
    let options = Options { database: Some(&database), interval: Some("100ms"), ..Options::default() };
    let mut up = Up::start(&options);
    let runtime = Runtime::new().unwrap();
    let speaker = runtime.block_on(Speaker::enrol(&up, &[]));
    let (mut host, stream) = runtime.block_on(begun(&speaker, &up));
    let mut kept = Some(stream);
    for round in 0..4_u64 {
        up.kill();
        drop(kept.take());
        up.start_again(&options);
        let mut copy = host.clone();
        copy.begin_epoch(2 + round, host.boot_id);
        kept = Some(runtime.block_on(async {
            let later = Duration::from_millis(round / 2 * 300);
            let (first, second) = if round % 2 == 0 { (Duration::ZERO, later) } else { (later, Duration::ZERO) };
            let (decided, wait) = tokio::sync::oneshot::channel();
            let copied = async {
                tokio::time::sleep(first).await;
                let greeted = speaker.greet(&up, &copy).await;
                decided.send(()).unwrap();
                greeted
            };
            let original = async {
                tokio::time::sleep(second).await;
                let mut stream = speaker.greet(&up, &host).await.unwrap();
                // Fails if it is replaced.
                live_until(&mut stream, &mut host, wait).await.unwrap();
                stream
            };
            let (copied, stream) = tokio::join!(copied, original);
            let told = copied.err().unwrap_or_else(|| panic!("round {round}: the copy was let in"));
            assert!(told.contains("quarantined: another agent"), "round {round}: {told}");
            stream
        }));
        let stream = kept.as_mut().unwrap();
        runtime.block_on(stream.goes_on(&mut host));
    }
    assert_eq!(database.sql("SELECT count(*) FROM stream"), "1\n");
}
