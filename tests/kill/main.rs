//! A campaign of SIGKILL on the real thing: two agents in namespaces of their own, one collector, one PostgreSQL, no hook
//! in any of them. Objects are made, changed and removed at random while agents, collector and postmaster are killed
//! five times each and started again; the collector also between a COMMIT and its ack, which a proxy holds back.
//!
//! Afterwards every record that an agent made (its spool's segments are kept by hard links) is in the database once and
//! as it was made, or lies in a covered span, or in a gap whose reason says that records were lost; spans and gaps are
//! those that the samples have, to the millisecond; and instants chosen at random read back as what the test had done by
//! the sample then, or as the gap there was.
//!
//! A campaign is made from its seed: who is killed when, what objects do, which instants are asked. (How the processes
//! interleave is the machine's.) Two variables make another:
//!
//! ```text
//! HIGHWATER_KILL_SEED=7        the seed; 1 unless given
//! HIGHWATER_KILL_SECONDS=600   how long objects change; 60 unless given, and at least that; kills grow with it
//! for seed in 2 3 4 5; do HIGHWATER_KILL_SEED=$seed cargo test -p highwater-tests --test kill; done
//! ```
//!
//! What is done to history behind the writer's back is killed by a campaign of its own: [`compaction`].

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod changes;
mod compaction;
mod kills;
mod plan;
mod proxy;
mod replay;
mod sampled;
mod stored;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use highwater_ipc::time::parse_rfc3339_ms;
use highwater_tests::agent::Agent;
use highwater_tests::collector::{Options, Up};
use highwater_tests::http::{bearer, get};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::{PATIENCE, now_ms, until};

use self::changes::Log;
use self::kills::{Killed, Kills, Stack, until_ms};
use self::plan::{Dice, Plan};
use self::proxy::Proxy;
use self::replay::{Known, Replayed, replay};
use self::sampled::{Keeper, Sampled};
use self::stored::{Counts, Stored};

const HOSTS: [&str; 2] = ["kill-a", "kill-b"];
/// Instants that are asked for.
const INSTANTS: usize = 500;
/// Of these at least so many lie where an agent sampled, or too little was looked at. Usually nine in ten do; on a
/// machine that is busy enough agents stall.
const LEAST_RIGHT: usize = INSTANTS / 5;

/// What happened while objects changed.
struct Campaign {
    from_ms: i64,
    to_ms: i64,
    kills: Kills,
    killed: [Vec<Killed>; 2],
    logs: [Log; 2],
}

#[test]
fn no_kill_of_agent_collector_or_postmaster_loses_doubles_or_invents_a_record() {
    let seed = variable("HIGHWATER_KILL_SEED", 1);
    let seconds = variable("HIGHWATER_KILL_SECONDS", 60).max(60);
    say(&format!("kill: seed {seed}, {seconds} s"));
    let plan = Plan::new(seed, i64::try_from(seconds * 1000).unwrap(), usize::try_from(seconds / 12).unwrap());

    let mut server = Postgres::start();
    let database = server.database();
    let options = Options { database: Some(&database), interval: Some("100ms"), ..Options::default() };
    let mut up = Up::start(&options);
    let address = up.grpc().rsplit('/').next().and_then(|address| address.parse().ok());
    let proxy = Proxy::start(address.expect("an address of the collector"));
    let namespaces = HOSTS.map(IpcNamespace::named);
    let mut agents = namespaces.each_ref().map(|namespace| {
        Agent::enrol(&up, namespace).with_variable("HIGHWATER_COLLECTOR", &proxy.address().to_string())
    });
    let keepers = agents.each_ref().map(|agent| Keeper::new(&agent.state_dir()));
    for (agent, namespace) in agents.iter_mut().zip(&namespaces) {
        agent.start(namespace);
        agent.await_first_sample(&up, namespace);
    }

    let stack = Stack { server: &mut server, up: &mut up, options: &options, database: &database, proxy: &proxy };
    let campaign = run(seed, &plan, stack, &mut agents, (&namespaces, &keepers));
    let sampled = drain(&up, &database, &mut agents, (&namespaces, &keepers), campaign.to_ms);
    assert!(proxy.connections() > agents.len(), "agents connect through the proxy");

    let mut counts = Counts::default();
    for ((host, sampled), killed) in HOSTS.into_iter().zip(&sampled).zip(&campaign.killed) {
        counts.add(Stored::read(&database, host).check(sampled, host));
        check_gaps(sampled, killed, host);
    }
    let known: Vec<_> =
        (0..2).map(|n| Known { host: HOSTS[n], log: &campaign.logs[n], sampled: &sampled[n] }).collect();
    let mut dice = Dice::new(seed, 5);
    let replayed = replay(&up, &known, (campaign.from_ms, campaign.to_ms), INSTANTS, &mut dice);
    report(seed, &campaign, &counts, &replayed);
    assert!(replayed.right >= LEAST_RIGHT, "{replayed:?}");
    let Kills { collector, postmaster, between_commit_and_ack } = campaign.kills;
    let agents = campaign.killed.each_ref().map(Vec::len);
    assert!(agents.iter().chain([&collector, &postmaster]).all(|kills| *kills >= 5), "{agents:?} {:?}", campaign.kills);
    assert!(between_commit_and_ack >= 2, "{:?}", campaign.kills);
}

/// Changes objects for as long as the plan lasts, and kills.
fn run(
    seed: u64,
    plan: &Plan,
    mut stack: Stack<'_>,
    agents: &mut [Agent; 2],
    (namespaces, keepers): (&[IpcNamespace; 2], &[Keeper; 2]),
) -> Campaign {
    let stop = AtomicBool::new(false);
    let from_ms = now_ms();
    thread::scope(|scope| {
        // Also when one of them fails: the others would go on for ever.
        let stopping = Stopping(&stop);
        let changes = [0, 1].map(|n| {
            let (dice, stop) = (Dice::new(seed, 3 + n as u64), &stop);
            scope.spawn(move || changes::make(&namespaces[n], dice, stop))
        });
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                keepers.iter().for_each(Keeper::look);
                until_ms(now_ms() + 1);
            }
        });
        let [a, b] = agents;
        let killed = [(a, 0), (b, 1)].map(|(agent, n)| {
            let kills = &plan.agents[n];
            scope.spawn(move || kills::of_agent(agent, &namespaces[n], &keepers[n], kills, from_ms))
        });
        let kills = scope.spawn(move || stack.follow(&plan.stack, from_ms));
        let killed = killed.map(|thread| thread.join().expect("the agents' kills"));
        let kills = kills.join().expect("the other kills");
        until_ms(from_ms + plan.length_ms);
        let to_ms = now_ms();
        drop(stopping);
        let logs = changes.map(|thread| thread.join().expect("the changes"));
        Campaign { from_ms, to_ms, kills, killed, logs }
    })
}

struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Stops the agents in order, each once the collector knows the present and a sample after `after_ms`; all they ever
/// made.
fn drain(
    up: &Up,
    database: &Database,
    agents: &mut [Agent; 2],
    (namespaces, keepers): (&[IpcNamespace; 2], &[Keeper; 2]),
    after_ms: i64,
) -> [Sampled; 2] {
    [0, 1].map(|n| {
        let (agent, host) = (&mut agents[n], HOSTS[n]);
        let mut all = None;
        // One that is stopped waits a second for its last acks; if the machine is busier than that, it starts again.
        until("the last record that was made is stored", 10 * PATIENCE, || {
            until("the present is known", 4 * PATIENCE, || known_to(up, host) > Some(after_ms));
            agent.must_run();
            agent.stop();
            keepers[n].copy();
            let sampled = keepers[n].records();
            let whole = Stored::read(database, host).holds_end(&sampled);
            if !whole {
                agent.start(&namespaces[n]);
            }
            all = Some(sampled);
            whole
        });
        all.expect("it was whole")
    })
}

/// The last sample of the host's present, milliseconds since 1970; `None` while the present is not known.
fn known_to(up: &Up, host: &str) -> Option<i64> {
    let answer = get(up, &format!("/api/v1/hosts/{host}/snapshot"), &[&bearer(up)]).body;
    parse_rfc3339_ms(answer["covered"]["to"].as_str()?)
}

/// Gaps lie where an agent was down, and where it says itself that it did not get to run.
fn check_gaps(sampled: &Sampled, killed: &[Killed], host: &str) {
    let (_, gaps) = sampled.history();
    for gap in &gaps {
        let holds = |(_, after_ms): &&Killed| gap.from_ms.is_some_and(|ms| ms <= *after_ms) && *after_ms <= gap.to_ms;
        match gap.reason.name() {
            "before_first" => assert_eq!(gap.from_ms, None, "{host}: {gap:?}"),
            "agent_killed" => assert!(killed.iter().any(|k| holds(&k)), "{host}: {gap:?}, but killed at {killed:?}"),
            // By the drain, where the machine was too busy to do with one stop.
            "agent_stopped" => assert!(killed.iter().all(|(_, ms)| *ms < gap.to_ms), "{host}: {gap:?}"),
            // More than three intervals apart, as was found by the samples' own clock.
            "stalled" => {}
            other => panic!("{host}: nobody did what makes {other}: {gap:?}"),
        }
    }
    for (_, ms) in killed {
        let explained = |g: &&sampled::Gap| g.from_ms.is_some_and(|from| from <= *ms) && *ms <= g.to_ms;
        let gap =
            gaps.iter().find(explained).unwrap_or_else(|| panic!("{host}: no gap for the kill at {ms}: {gaps:?}"));
        assert_eq!(gap.reason.name(), "agent_killed", "{host}: killed at {ms}");
    }
}

fn report(seed: u64, campaign: &Campaign, counts: &Counts, replayed: &Replayed) {
    let Campaign { kills, killed, logs, .. } = campaign;
    let in_gap: usize = replayed.in_gap.values().sum();
    say(&format!(
        "kill: seed {seed}: killed {} and {} times the agents, {} the collector ({} between COMMIT and ack), {} the \
         postmaster, in {} s with {} changes\n\
         kill: seed {seed}: {} records sampled = {} stored + {} covered + {:?} lost in gaps; {} duplicates; gaps {:?}\n\
         kill: seed {seed}: {} instants checked = {} right + {in_gap} in a gap {:?}",
        killed[0].len(),
        killed[1].len(),
        kills.collector,
        kills.between_commit_and_ack,
        kills.postmaster,
        (campaign.to_ms - campaign.from_ms) / 1000,
        logs[0].len() + logs[1].len(),
        counts.sampled,
        counts.stored,
        counts.covered,
        counts.lost,
        counts.duplicates,
        counts.gaps,
        replayed.right + in_gap,
        replayed.right,
        replayed.in_gap,
    ));
}

/// Prints past the capture of a test that passes.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A number from the environment.
fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}
