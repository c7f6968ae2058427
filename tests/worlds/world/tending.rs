//! What is done to history meanwhile: compaction, merging, dropping, retention, and questions beside them.

use highwater::compact::CompactError;
use highwater::compact::job::Round;
use highwater_tests::chance::Chance;

use super::{BEGIN_MS, DAY_MS, HOUR_MS, World, all_of};
use crate::crooked::{self, Mutation};
use crate::stage::{Stage, Which};
use crate::world::{Kept, broken};

impl World<'_> {
    /// A moment at which something is tended: now, or later, when more is due.
    fn moment(&mut self) -> i64 {
        let true_ms = self.tick();
        if self.chance.one_in(2) { true_ms } else { true_ms + i64::try_from(self.chance.below(240)).unwrap() * HOUR_MS }
    }

    /// Compaction, merging, dropping.
    pub(super) async fn tend(&mut self, name: &'static str) -> Kept {
        let now_ms = self.moment();
        match name {
            "a compaction" => {
                let which = if self.chance.one_in(3) { Which::Lazy } else { Which::Eager };
                self.compact(which, now_ms).await
            }
            "a merge" => self.compact(Which::Eager, now_ms + 2 * DAY_MS).await,
            "two compactions at once" => {
                for round in self.stage.both(now_ms).await {
                    self.did(round)?;
                }
                Ok(())
            }
            "days dropped" => self.drop_days(now_ms).await,
            _ => match self.stage.compactor(Which::Fenced).round(now_ms).await {
                // Where nothing was due nothing was asked for.
                Err(CompactError::LeaseLost) => Ok(()),
                Ok(round) if round == (Round { dropped: round.dropped, ..Round::default() }) => Ok(()),
                other => broken(format!("a compactor without its lease did {other:?}")),
            },
        }
    }

    pub(super) async fn compact(&mut self, which: Which, now_ms: i64) -> Kept {
        if let Some(how) = self.mutation.filter(|how| how.compacts()) {
            for (machine, truth) in self.machines.iter().zip(&self.truths) {
                crooked::compact(self.stage, machine.host, &truth.epochs(), how).await?;
            }
        }
        let round = self.stage.compactor(which).round(now_ms).await;
        self.did(round)
    }

    fn did(&mut self, round: Result<Round, CompactError>) -> Kept {
        let round = round.or_else(|error| broken(format!("epochs failed: {error}")))?;
        for (what, count) in [("records compacted", round.compacted), ("records merged", round.merged)] {
            *self.tally.entry(what).or_default() += count as u64;
        }
        if round.failed > 0 { broken(format!("{} epochs failed", round.failed)) } else { Ok(()) }
    }

    pub(super) async fn drop_days(&mut self, now_ms: i64) -> Kept {
        if self.mutation == Some(Mutation::DroppedUnmerged) {
            crooked::drop_days(self.stage).await?;
        }
        let dropped = self.stage.drop_moved(now_ms).await?;
        *self.tally.entry("a partition dropped").or_default() += dropped as u64;
        Ok(())
    }

    /// Questions about all hosts, while two compactors work.
    pub(super) async fn ask_beside(&mut self) -> Kept {
        let moment_ms = self.moment();
        let (asking, stage) = self.asking();
        let (asked, rounds) = tokio::join!(asking, stage.both(moment_ms));
        asked?;
        rounds.into_iter().try_for_each(|round| self.did(round))
    }

    /// Questions about all hosts, while weeks go: each is answered from before or from after.
    pub(super) async fn ask_beside_forgetting(&mut self) -> Kept {
        let moment_ms = self.moment();
        self.horizon_ms = self.horizon_ms.max(Some(self.stage.horizon_ms(moment_ms)));
        let (asking, stage) = self.asking();
        let (asked, forgot) = tokio::join!(asking, stage.forget(moment_ms));
        asked.and(forgot)
    }

    /// A few questions about each host, and the stage beside them.
    fn asking(&mut self) -> (impl Future<Output = Kept> + use<'_>, &mut Stage) {
        let (db, moments) = (self.stage.db.clone(), (self.stage.now_ms(), self.horizon_ms));
        let hosts: Vec<_> = self.machines.iter().map(|m| (m.host, Chance::new(self.chance.next()))).collect();
        let truths = &self.truths;
        let asking = async move {
            for ((host, chance), truth) in hosts.into_iter().zip(truths) {
                all_of(&db, (host, truth), moments, 6, chance).await?;
            }
            Ok(())
        };
        (asking, &mut *self.stage)
    }

    /// What is older than is kept goes, and nothing else.
    pub(super) async fn forget(&mut self) -> Kept {
        let now_ms = self.tick() + i64::try_from(self.chance.below(12)).unwrap() * DAY_MS;
        self.say(format!("history is forgotten at {} s", (now_ms - BEGIN_MS) / 1000));
        self.stage.forget(now_ms).await?;
        self.horizon_ms = self.horizon_ms.max(Some(self.stage.horizon_ms(now_ms)));
        *self.tally.entry("history forgotten").or_default() += 1;
        for at in 0..self.machines.len() {
            self.ask(at, 12).await?;
        }
        Ok(())
    }
}
