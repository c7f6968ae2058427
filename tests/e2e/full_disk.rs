//! A full disk under the database, and under an agent: nothing is acked that is not stored, nothing is lost, everybody says
//! so, and it goes on by itself once there is room.

use std::time::Duration;

use highwater_agent::config::Interval;
use highwater_ipc::record::GapReason;
use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::held_now;
use highwater_tests::collector::Up;
use highwater_tests::fleet::Fleet;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, until};

/// Recovery after a crash, on a busy machine.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn a_full_disk_under_the_database_stops_acks_says_so_and_costs_nothing_even_if_the_server_dies_of_it() {
    let mut server = Postgres::on_small_disk(192);
    let database = server.database();
    let up = Up::collector(&database);
    let cli = up.cli();
    let namespace = IpcNamespace::named("full-disk-1");
    let agent = Agent::running(&up, &namespace);
    let mut fleet = Fleet::enrol(&up, 3, 1);
    fleet.start(Interval::parse("100ms").unwrap());
    let acks = || {
        let answer = cli.run(&["status", "--json"]);
        (answer.code == 0).then(|| answer.json()["ingest"]["acking"] == true)
    };
    let (acking, stopped) = (|| acks() == Some(true), || acks() != Some(true));
    until("all samples are stored", PATIENCE, || fleet.least_samples() > 20 && acking());
    cli.run(&["doctor"]).must_exit(0);

    server.disk().fill();
    until("ingest has stopped acking", LONG, stopped);
    let status = cli.json(&["status"]);
    assert!(status["ingest"]["since"].is_string() && status["database"].is_object(), "{status}");
    let told = cli.run(&["doctor"]).must_exit(3).text().to_owned();
    for word in ["has stopped acking since", "the database's disk is full", "free space", "agents keep their records"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    // What still finds room in a page that is there is stored and acknowledged, as it should be: so it samples what grows.
    until("the agent's log says so", LONG, || {
        namespace.tool("fill sem 5");
        agent.output().contains("the collector acknowledges nothing")
    });
    let stored = || database.sql("SELECT sum(next_seq) FROM stream");
    until("nothing finds room any more, while agents sample on", LONG, || {
        let (before, sampled) = (stored(), fleet.least_samples());
        until("agents sample on", PATIENCE, || fleet.least_samples() > sampled + 20);
        stored() == before
    });
    server.disk().free();
    until("ingest acks again by itself", LONG, acking);
    until("and doctor is content", LONG, || cli.run(&["doctor"]).code == 0);

    // Without room for its log the server dies, and does not come back before there is some.
    server.disk().fill();
    until("ingest has stopped acking", LONG, stopped);
    server.fill_its_log(&database);
    server.disk().free();
    server.restart();
    until("ingest acks again by itself", LONG, acking);
    let sampled = fleet.least_samples();
    until("agents sample on", PATIENCE, || fleet.least_samples() > sampled + 20);
    fleet.stop(&database);
    let held = fleet.held(&database);
    println!("{} samples, {} frames, {} covered, gaps {:?}", held.samples, held.frames, held.covered, held.gaps);
    assert!(held.wrong.is_empty(), "{:#?}", held.wrong);
    // A machine that is busy enough delays a sample by three intervals: then the agent says so.
    let stalled = format!("{}|", GapReason::Stalled.code());
    assert!(held.gaps.iter().all(|gap| gap.starts_with(&stalled)), "{:?}", held.gaps);
}

#[test]
fn an_agent_whose_disk_is_full_keeps_records_in_memory_says_so_and_loses_none() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    let (mut agent, namespace) = Agent::enrol_on_small_disk(&up, "full-spool", 8);
    agent.start(&namespace);
    agent.await_first_sample(&up, &namespace);
    let host = host_name(&namespace);
    let held = |count: usize| held_now(&cli, &host).is_some_and(|held| held.len() == count);
    agent.disk().fill();
    // Until it is more than what is left of its file's last block.
    let says_so = || agent.output().contains("the spool's disk refuses");
    let mut rounds = 0;
    while !says_so() {
        rounds += 1;
        assert!(rounds <= 60, "its log does not say so: {}", agent.output());
        namespace.tool("fill sem 300");
        until("what it holds is seen", PATIENCE, || held(300 * rounds));
    }
    agent.must_run();
    agent.disk().free();
    until("its log says that it is over", PATIENCE, || agent.output().contains("takes records again"));
    namespace.create("create-sem private 1");
    until("what it holds is seen", PATIENCE, || held(300 * rounds + 1));
    assert!(agent.stop().success());
    let lost = [GapReason::SpoolOverflow, GapReason::SpoolDamaged].map(|reason| reason.code());
    let gaps = format!("SELECT count(*) FROM gap WHERE reason IN ({}, {})", lost[0], lost[1]);
    assert_eq!(database.sql(&gaps), "0\n");
    assert_eq!(database.sql("SELECT count(*) - count(DISTINCT (epoch_no, seq)) FROM frame"), "0\n");
}
