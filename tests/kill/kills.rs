//! Does what the plan says: kills, waits, starts again.

use std::time::Duration;

use highwater_tests::agent::Agent;
use highwater_tests::collector::{Options, Up};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::{PATIENCE, now_ms, until};

use super::plan::{AgentKill, StackKill, Victim, When};
use super::proxy::Proxy;
use super::sampled::Keeper;

/// For records to come in again: agents return within 10 s, and what they have kept comes first.
const BACK: Duration = Duration::from_secs(90);

/// When an agent was killed: before and after, milliseconds since 1970.
pub(crate) type Killed = (i64, i64);

/// What was killed behind the agents.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kills {
    pub(crate) collector: usize,
    pub(crate) postmaster: usize,
    /// Of those of the collector: how many came after a COMMIT whose ack no agent ever got.
    pub(crate) between_commit_and_ack: usize,
}

/// Collector, postmaster and what lies between them and the agents.
pub(crate) struct Stack<'a> {
    pub(crate) server: &'a mut Postgres,
    pub(crate) up: &'a mut Up,
    pub(crate) options: &'a Options<'a>,
    pub(crate) database: &'a Database,
    pub(crate) proxy: &'a Proxy,
}

impl Stack<'_> {
    /// All kills of the plan, one after the other, counted from `start_ms`.
    pub(crate) fn follow(&mut self, plan: &[StackKill], start_ms: i64) -> Kills {
        let mut kills = Kills::default();
        for kill in plan {
            until_ms(start_ms + kill.at_ms);
            if kill.streaming || kill.victim == Victim::BetweenCommitAndAck {
                self.await_records();
            }
            match kill.victim {
                Victim::Postmaster | Victim::Both => {
                    self.server.kill_postmaster();
                    kills.postmaster += 1;
                }
                Victim::BetweenCommitAndAck => {
                    self.await_commit_that_nobody_hears_of();
                    kills.between_commit_and_ack += 1;
                }
                Victim::Collector => {}
            }
            if kill.victim == Victim::Both {
                until_ms(now_ms() + kill.down_ms / 2);
            }
            if kill.victim != Victim::Postmaster {
                self.up.kill();
                kills.collector += 1;
                self.proxy.discard();
            }
            until_ms(now_ms() + kill.down_ms);
            if matches!(kill.victim, Victim::Postmaster | Victim::Both) {
                self.server.restart();
            }
            if kill.victim != Victim::Postmaster {
                self.up.start_again(self.options);
            }
        }
        kills
    }

    /// Waits until more is committed than was at the call.
    fn await_records(&self) {
        let before = self.committed();
        until("records are committed", BACK, || self.committed() > before);
    }

    /// Returns when PostgreSQL shows a COMMIT that came after the last byte any agent got. What is on its way to the
    /// agents stays held.
    fn await_commit_that_nobody_hears_of(&self) {
        until("a COMMIT while all that goes to the agents is held", BACK, || {
            self.proxy.hold();
            let before = self.committed();
            // An agent that is just connecting cannot finish while its answers are held: then let go, and try again.
            let deadline = now_ms() + 3000;
            loop {
                if self.committed() > before {
                    return true;
                }
                if now_ms() > deadline {
                    self.proxy.release();
                    self.await_records();
                    return false;
                }
            }
        });
    }

    /// Records that are stored, covered or in a gap.
    fn committed(&self) -> i64 {
        let sum = self.database.sql("SELECT COALESCE(sum(next_seq), 0) FROM stream");
        sum.trim().parse().unwrap_or_else(|_| panic!("{sum:?} is no sum"))
    }
}

/// All kills of one agent's plan, counted from `start_ms`.
pub(crate) fn of_agent(
    agent: &mut Agent,
    namespace: &IpcNamespace,
    keeper: &Keeper,
    plan: &[AgentKill],
    start_ms: i64,
) -> Vec<Killed> {
    let mut killed = Vec::new();
    let mut restarted_ms = start_ms;
    for kill in plan {
        match kill.when {
            When::At(at_ms) => until_ms(start_ms + at_ms),
            When::AfterRestart(after_ms) => until_ms(restarted_ms + after_ms),
        }
        agent.must_run();
        let before_ms = now_ms();
        agent.kill();
        killed.push((before_ms, now_ms()));
        keeper.copy();
        until_ms(now_ms() + kill.down_ms);
        agent.start(namespace);
        restarted_ms = now_ms();
    }
    killed
}

/// Waits for a time of the plan.
pub(crate) fn until_ms(time_ms: i64) {
    let patience = Duration::from_millis(u64::try_from(time_ms - now_ms()).unwrap_or(0)) + PATIENCE;
    until("a time of the plan comes", patience, || now_ms() >= time_ms);
}
