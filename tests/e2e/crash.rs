//! SIGKILL of agent, collector and postmaster while objects change: afterwards every sampled instant reads back right,
//! or as a gap with its reason.

use std::collections::BTreeSet;

use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::{held_now, instant, semids, text};
use highwater_tests::cli::Cli;
use highwater_tests::collector::{Options, Up};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::Value;

/// What the namespace held from `from` on (the change before it was over) until `to` (the next one had not begun).
#[derive(Debug)]
struct Quiet {
    from: i64,
    to: i64,
    ids: BTreeSet<i64>,
}

/// Changes objects, and remembers what was true when.
struct Changes<'a> {
    namespace: &'a IpcNamespace,
    ids: BTreeSet<i64>,
    since: i64,
    quiet: Vec<Quiet>,
}

impl<'a> Changes<'a> {
    fn new(namespace: &'a IpcNamespace) -> Self {
        Self { namespace, ids: BTreeSet::new(), since: now_ms(), quiet: Vec::new() }
    }

    /// Makes an array, and every third time removes the oldest instead; then leaves time for two samples.
    fn step(&mut self) {
        let to = now_ms();
        self.quiet.push(Quiet { from: self.since, to, ids: self.ids.clone() });
        match self.ids.first().copied().filter(|_| self.quiet.len().is_multiple_of(3)) {
            Some(oldest) => {
                self.namespace.tool(&format!("remove sem {oldest}"));
                self.ids.remove(&oldest);
            }
            None => {
                self.ids.insert(self.namespace.create("create-sem private 2").into());
            }
        }
        self.since = now_ms();
        let enough = self.since + 220;
        until("two intervals pass", PATIENCE, || now_ms() > enough);
    }

    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }
}

#[test]
fn after_kills_of_agent_collector_and_postmaster_every_instant_is_right_or_a_gap() {
    let mut server = Postgres::start();
    let database = server.database();
    let options = Options { database: Some(&database), interval: Some("100ms"), ..Options::default() };
    let mut up = Up::start(&options);
    let namespace = IpcNamespace::named("crash");
    let mut agent = Agent::running(&up, &namespace);
    let mut changes = Changes::new(&namespace);
    changes.steps(4);

    let agent_killed = now_ms();
    agent.kill();
    changes.steps(3);
    agent.start(&namespace);
    until_current(&up.cli(), &namespace, &changes.ids);
    let agent_back = now_ms();
    changes.steps(4);

    up.kill();
    changes.steps(3);
    up.start_again(&options);
    changes.steps(4);
    // The agent knows the collector by its address; a second `up` chose another, so the first one's is kept.
    until_current(&up.cli(), &namespace, &changes.ids);

    server.kill_postmaster();
    changes.steps(3);
    server.restart();
    changes.steps(4);
    until_current(&up.cli(), &namespace, &changes.ids);
    agent.must_run();

    let cli = up.cli();
    let host = host_name(&namespace);
    let mut reasons = Vec::new();
    for quiet in &changes.quiet {
        for at in [quiet.from, quiet.from.midpoint(quiet.to), quiet.to - 1] {
            reasons.extend(gap_at(&cli, &host, at, &changes.quiet).map(|reason| (at, reason)));
        }
    }
    // Only the agent's own death loses samples: while the others are away they are in its spool. On a machine that is
    // busy enough an agent also stalls, and says so.
    let around = agent_killed - 200..agent_back;
    let elsewhere: Vec<_> = reasons.iter().filter(|(at, why)| !around.contains(at) && why != "stalled").collect();
    assert!(elsewhere.is_empty(), "gaps outside {around:?}: {elsewhere:?}");
    assert!(reasons.iter().any(|(_, why)| why == "agent_killed"), "{reasons:?}");
    assert!(reasons.len() < changes.quiet.len(), "most instants have an answer: {reasons:?}");
}

/// The reason, if the instant reads back as a gap; fails if it reads back wrong.
fn gap_at(cli: &Cli, host: &str, at: i64, truth: &[Quiet]) -> Option<String> {
    let answer = cli.run(&["ipcs", host, "--json", "--at", &instant(at)]);
    let value = answer.json();
    if answer.code == 4 {
        return Some(text(&value["gap"], "reason").to_owned());
    }
    assert_eq!(answer.code, 0, "{answer:?}");
    let (from, to) = (ms(&value["covered"]["from"]), ms(&value["covered"]["to"]));
    // Beyond three intervals after the last sample nothing is known any more.
    assert!(from <= at && at <= to + 400, "{value} for {at}");
    let ids = semids(&value);
    // Everything that was true throughout the covered span must be what is told, and nothing else was.
    for quiet in truth.iter().filter(|q| q.from < to && from < q.to) {
        assert_eq!(ids, quiet.ids, "at {at}: {value} but {quiet:?}");
    }
    None
}

fn until_current(cli: &Cli, namespace: &IpcNamespace, ids: &BTreeSet<i64>) {
    let host = host_name(namespace);
    until("now is right again", 2 * PATIENCE, || held_now(cli, &host).as_ref() == Some(ids));
}

/// Milliseconds since 1970 of an instant in an answer, which is UTC with milliseconds.
fn ms(value: &Value) -> i64 {
    let text = value.as_str().expect("an instant");
    highwater_ipc::time::parse_rfc3339_ms(text).unwrap_or_else(|| panic!("{text} is no instant"))
}
