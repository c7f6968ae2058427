//! A state directory copied while its agent runs, and both run on: real agents, each in namespaces of its own.

use highwater_ipc::record::GapReason;
use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::{held_now, host, semids, text};
use highwater_tests::collector::{Options, Up};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::{PATIENCE, until};
use serde_json::Value;

use crate::protocol::log::Log;

const REMEDY: &str = "enrol this copy with a token of its own (`highwater token create`)";

/// An agent with an array, and a copy of it about to run elsewhere with two.
struct Pair {
    here: IpcNamespace,
    there: IpcNamespace,
    agent: Agent,
    copy: Agent,
    made: i32,
}

impl Pair {
    fn at(up: &Up) -> Self {
        let (here, there) = (IpcNamespace::named("original"), IpcNamespace::named("copied"));
        let made = here.create("create-sem 0x0d4d0001 3");
        let agent = Agent::running(up, &here);
        for key in ["0x0d4d0002", "0x0d4d0003"] {
            there.create(&format!("create-sem {key} 5"));
        }
        let copy = agent.copy();
        Self { here, there, agent, copy, made }
    }

    /// Waits until the copy is turned away, and looks at what it cost the original: nothing.
    #[track_caller]
    fn copy_is_turned_away_and_costs_nothing(&mut self, database: &Database, seen_by: &Up, turned_away_by: &Up) {
        until("the copy is told why", PATIENCE, || self.copy.output().contains("quarantined"));
        let told = self.copy.output();
        assert!(told.contains(REMEDY) && told.contains("records are kept and sent later"), "{told}");
        let cli = seen_by.cli();
        let name = host_name(&self.here);
        // What happens from now on is seen as before.
        let mut log = Log::new();
        log.change(2, || _ = self.here.create("create-sem 0x0d4d0004 1"));
        until("now is right", PATIENCE, || held_now(&cli, &name).is_some_and(|held| held.len() == 2));
        self.agent.must_run();
        self.copy.must_run();
        assert_eq!(database.sql("SELECT count(*) FROM stream"), "1\n", "the copy has no epoch here");
        // On a machine that is busy enough an agent stalls, and says so.
        let stalled = GapReason::Stalled.code();
        let gaps = format!("SELECT * FROM gap WHERE from_wall_ms IS NOT NULL AND reason <> {stalled}");
        assert_eq!(database.sql(&gaps), "");
        let events = cli.json(&["timeline", &name]);
        let events = events["events"].as_array().unwrap();
        let keys: Vec<&str> = events.iter().filter_map(|e| e["subject"]["key"].as_str()).collect();
        assert_eq!(keys, ["0x0d4d0004"], "only what the original made: {events:?}");
        assert!(semids(&cli.json(&["ipcs", &name])).contains(&i64::from(self.made)));
        // The operator sees both: the one goes on, the other is at the door.
        let hosts = cli.json(&["hosts"]);
        assert_eq!(hosts["hosts"].as_array().unwrap().len(), 1, "{hosts}");
        let shown = host(&hosts, &name).unwrap_or_else(|| panic!("the copy renamed it: {hosts}"));
        assert_eq!((text(shown, "lifecycle"), shown["connected"].as_bool()), ("live", Some(true)), "{shown}");
        is_at_risk(shown);
        let logged = turned_away_by.output();
        let line = logged.lines().find(|line| line.contains("quarantined")).unwrap_or_else(|| panic!("{logged}"));
        for part in [text(shown, "id"), "127.0.0.1", REMEDY] {
            assert!(line.contains(part), "no {part} in {line}");
        }
    }
}

/// `hosts` names the copy's address and what to do.
#[track_caller]
fn is_at_risk(shown: &Value) {
    let risk = &shown["at_risk"][0];
    assert_eq!(text(risk, "kind"), "clone", "{shown}");
    assert!(text(risk, "why").contains("127.0.0.1") && text(risk, "remedy").contains(REMEDY), "{shown}");
}

#[test]
fn a_copied_state_directory_is_quarantined_and_its_original_goes_on_without_a_gap() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let mut pair = Pair::at(&up);
    pair.copy.start(&pair.there);
    pair.copy_is_turned_away_and_costs_nothing(&database, &up, &up);
    // It samples on and keeps what it reads.
    let spooled = |copy: &Agent| {
        let file = |f: std::io::Result<std::fs::DirEntry>| f.unwrap().metadata().unwrap().len();
        std::fs::read_dir(copy.state_dir().join("spool")).unwrap().map(file).sum::<u64>()
    };
    let before = spooled(&pair.copy);
    pair.there.create("create-sem private 1");
    until("the copy's spool grows", PATIENCE, || spooled(&pair.copy) > before);
    // With the original gone, its host is neither there nor merely silent.
    pair.agent.kill();
    let name = host_name(&pair.here);
    let shown = || host(&up.cli().json(&["hosts", "--stale"]), &name).cloned();
    until("the host is quarantined", PATIENCE, || shown().is_some_and(|h| text(&h, "lifecycle") == "quarantined"));
    is_at_risk(&shown().unwrap());
    let table = up.cli().run(&["hosts"]).must_succeed().text().to_owned();
    assert!(table.contains("quarantined") && table.contains(REMEDY), "{table}");
}

#[test]
fn a_copy_that_calls_another_collector_is_quarantined_there() {
    let database = Postgres::shared().database();
    let options = Options { database: Some(&database), interval: Some("100ms"), ..Options::default() };
    let up = Up::start(&options);
    let other = up.beside(&options);
    let mut pair = Pair::at(&up);
    pair.copy.start_at(&pair.there, other.grpc());
    pair.copy_is_turned_away_and_costs_nothing(&database, &other, &other);
    let output = up.output();
    // A slow machine logs whole migrations, with their comments.
    let saw = output.lines().filter(|line| !line.contains("slow statement")).any(|line| line.contains("refused"));
    assert!(!saw, "the original's collector saw nothing of it: {output}");
}
