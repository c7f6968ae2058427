//! `writer/commit.rs`: plan, store behind the guard, adopt and ack; reload, bisect, refuse.

use highwater::store::day::Day;
use highwater::writer::Arrival;
use highwater::writer::batch::{self, Run};
use highwater::writer::plan::{self, Context, Plan};

use super::{Collector, Commit, Stage, moment};
use crate::database::Answer;
use crate::ground::{Ground, Kept};
use crate::mutation::Mutation;

/// As `writer/commit.rs` has it.
const MOST_RELOADS: u32 = 5;

impl Collector {
    pub(super) fn go_on(&mut self, mut commit: Commit, ground: &mut Ground) -> Kept<Option<Commit>> {
        match std::mem::replace(&mut commit.stage, Stage::Plan) {
            Stage::Plan => {
                let Some(runs) = commit.todo.pop() else { return Ok(None) };
                let (runs, plans) = self.plan(runs, ground);
                if !plans.is_empty() {
                    if ground.is(Mutation::AckBeforeCommit) {
                        plans.iter().for_each(|plan| self.ack(plan));
                    }
                    commit.stage = Stage::Store { runs, plans, refusing: false };
                }
            }
            Stage::Store { runs, plans, refusing } => commit = self.store(commit, (runs, plans, refusing), ground)?,
            Stage::Adopt { runs, plans, refusing, moved } if ground.database.up => {
                for (run, plan) in runs.into_iter().zip(plans) {
                    if moved.contains(&plan.host) {
                        self.adopt(plan);
                    } else if refusing {
                        self.end(plan.host);
                    } else {
                        let reloads = commit.reloads.entry(run.host).or_default();
                        *reloads += 1;
                        if self.reload(&run, *reloads, ground) {
                            commit.todo.push(vec![run]);
                        }
                    }
                }
            }
            // Whatever must be read again cannot be read now.
            adopt @ Stage::Adopt { .. } => commit.stage = adopt,
        }
        Ok(Some(commit))
    }

    fn plan(&mut self, runs: Vec<Run>, ground: &mut Ground) -> (Vec<Run>, Vec<Plan>) {
        let now_ms = ground.now_ms;
        let day = |wall_ms| Day::believed(wall_ms, now_ms).unwrap_or(Day::FALLBACK);
        let context = Context { received: moment(ground), day: &day };
        let (mut kept, mut plans) = (Vec::new(), Vec::new());
        for run in runs {
            let Some(entry) = self.entry(run.host, run.session) else { continue };
            let arrivals: Vec<&Arrival> = run.items.iter().map(|item| &item.arrival).collect();
            match plan::plan(run.host, &entry.state, run.epoch, &arrivals, &context) {
                Ok(Some(plan)) => {
                    plans.push(plan);
                    kept.push(run);
                }
                Ok(None) => {}
                Err(why) => {
                    ground.say(|| format!("collector {}: {why}", self.number));
                    self.end(run.host);
                }
            }
        }
        (kept, plans)
    }

    /// One try of the transaction. Its answer may be lost, whatever became of it: then the same goes again.
    fn store(
        &mut self,
        mut commit: Commit,
        (mut runs, mut plans, refusing): (Vec<Run>, Vec<Plan>, bool),
        ground: &mut Ground,
    ) -> Kept<Commit> {
        let lost = ground.answers_lost > 0 && ground.chance.one_in(ground.answers_lost);
        if lost {
            ground.count("answers lost");
        }
        if !ground.database.up || (lost && ground.chance.one_in(2)) {
            commit.stage = Stage::Store { runs, plans, refusing };
            return Ok(commit);
        }
        let machine_of = |session| self.machines[&session];
        let answer = ground.database.store((&runs, &plans), &ground.truth, ground.mutation, machine_of)?;
        ground.say(|| {
            let steps: Vec<_> = plans.iter().map(|p| (p.host.0, p.step.from.0, p.step.after.next.0)).collect();
            let epochs: Vec<_> = plans.iter().map(|p| p.step.after.epoch.no.0).collect();
            let gaps: Vec<_> = plans.iter().flat_map(|p| p.gaps.iter().map(|g| (g.seq.0, g.reason))).collect();
            format!(
                "collector {}: (host, from, to) {steps:?} of epochs {epochs:?} with gaps {gaps:?}: {answer:?}{}",
                self.number,
                if lost { ", but the answer is lost" } else { "" }
            )
        });
        commit.stage = match answer {
            _ if lost => Stage::Store { runs, plans, refusing },
            Answer::Stored(moved) => Stage::Adopt { runs, plans, refusing, moved },
            Answer::Refused if refusing => {
                runs.iter().for_each(|run| self.end(run.host));
                Stage::Plan
            }
            Answer::Refused => match batch::halve(std::mem::take(&mut runs)) {
                Ok((first, second)) => {
                    commit.todo.extend([second, first]);
                    Stage::Plan
                }
                Err(single) => {
                    plans.clear();
                    let refused = single.and_then(|run| self.refuse(run, ground));
                    refused.map_or(Stage::Plan, |(run, plan)| Stage::Store {
                        runs: vec![run],
                        plans: vec![plan],
                        refusing: true,
                    })
                }
            },
        };
        Ok(commit)
    }

    fn refuse(&mut self, run: Run, ground: &mut Ground) -> Option<(Run, Plan)> {
        let received = moment(ground);
        let entry = self.entry(run.host, run.session)?;
        let context = Context { received, day: &|_| Day::FALLBACK };
        let arrival = &run.items.first()?.arrival;
        let plan = plan::refuse(run.host, &entry.state, (run.epoch, arrival), "22P05".to_owned(), &context)?;
        Some((run, plan))
    }

    fn adopt(&mut self, plan: Plan) {
        let session = plan.step.after.session;
        if self.entry(plan.host, session).is_none() {
            return;
        }
        self.ack(&plan);
        if let Some(entry) = self.entry(plan.host, session) {
            let (line, wants_keyframe) = (entry.line, plan.wants_keyframe);
            entry.state = plan.after;
            if wants_keyframe {
                self.news.entry(line).or_default().keyframe = true;
            }
        }
    }

    fn ack(&mut self, plan: &Plan) {
        let stream = &plan.step.after;
        let Some(line) = self.entry(plan.host, stream.session).map(|entry| entry.line) else { return };
        self.news.entry(line).or_default().acks.insert(stream.epoch.no, stream.next);
    }

    /// The guard refused: reads what is stored; `false` if the session is over.
    fn reload(&mut self, run: &Run, times: u32, ground: &mut Ground) -> bool {
        ground.count("guard refused");
        let streams = ground.database.streams(run.host);
        let Some(entry) = self.entry(run.host, run.session) else { return false };
        let stream = streams.iter().find(|s| s.epoch.no == run.epoch && s.session == run.session);
        let Some(stream) = stream.filter(|_| times <= MOST_RELOADS) else {
            self.end(run.host);
            return false;
        };
        if !entry.state.is_kept_by(&streams) {
            self.end(run.host);
            return false;
        }
        let ahead = stream.next > entry.state.streams.get(&run.epoch).map_or(stream.next, |s| s.next);
        let (line, next) = (entry.line, stream.next);
        let known = std::mem::take(&mut entry.state.streams);
        entry.state.streams =
            streams.into_iter().filter(|s| known.contains_key(&s.epoch.no)).map(|s| (s.epoch.no, s)).collect();
        if ahead {
            self.news.entry(line).or_default().acks.insert(run.epoch, next);
        }
        true
    }
}
