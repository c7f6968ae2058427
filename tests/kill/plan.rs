//! Who is killed when: made from the seed alone.

/// Numbers that look random and are the same in each run of one seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice of that seed for one purpose.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(purpose))
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// A time within `from..=to`, milliseconds.
    pub(crate) fn ms(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.roll(u64::try_from(to - from + 1).expect("from <= to"))).expect("a span of time")
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[usize::try_from(self.roll(among.len() as u64)).expect("an index")]
    }
}

/// What is killed behind the agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The collector, at any instant.
    Collector,
    /// The collector, once PostgreSQL has committed what no agent has heard of.
    BetweenCommitAndAck,
    /// The postmaster.
    Postmaster,
    /// The postmaster, and while it is away the collector.
    Both,
}

/// One kill behind the agents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StackKill {
    pub(crate) victim: Victim,
    /// Not before this time after the start, milliseconds.
    pub(crate) at_ms: i64,
    /// Whether records must be coming in first; otherwise agents may still be on their way back.
    pub(crate) streaming: bool,
    /// Time until it is started again.
    pub(crate) down_ms: i64,
}

/// One kill of an agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgentKill {
    pub(crate) when: When,
    /// Time until it is started again.
    pub(crate) down_ms: i64,
}

/// When an agent is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// At this time after the start, milliseconds.
    At(i64),
    /// So soon after it was started again that it may not have sampled yet.
    AfterRestart(i64),
}

/// All kills of one campaign.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How long all of it takes at least.
    pub(crate) length_ms: i64,
    pub(crate) stack: Vec<StackKill>,
    pub(crate) agents: [Vec<AgentKill>; 2],
}

impl Plan {
    /// `kills` for each victim (at least 4), spread over `length_ms`.
    pub(crate) fn new(seed: u64, length_ms: i64, kills: usize) -> Self {
        let mut dice = Dice::new(seed, 0);
        let both = usize::from(dice.roll(2) == 0);
        let held = 2 + usize::from(dice.roll(2) == 0);
        let mut victims = vec![Victim::Both; both];
        victims.extend(vec![Victim::BetweenCommitAndAck; held]);
        victims.extend(vec![Victim::Collector; kills - held - both]);
        victims.extend(vec![Victim::Postmaster; kills - both]);
        for last in (1..victims.len()).rev() {
            victims.swap(last, usize::try_from(dice.roll(last as u64 + 1)).expect("an index"));
        }
        let slot_ms = length_ms / i64::try_from(victims.len()).expect("a few");
        let stack = (0..).zip(victims).map(|(slot, victim)| StackKill {
            victim,
            at_ms: slot * slot_ms + dice.ms(0, slot_ms - 1),
            streaming: dice.roll(4) > 0,
            down_ms: dice.ms(0, 1500),
        });
        let stack = stack.collect();
        let agents = [1, 2].map(|agent| of_agent(&mut Dice::new(seed, agent), length_ms, kills));
        Self { length_ms, stack, agents }
    }
}

fn of_agent(dice: &mut Dice, length_ms: i64, kills: usize) -> Vec<AgentKill> {
    let hasty = 1 + dice.roll(kills as u64 - 1);
    let slot_ms = length_ms / i64::try_from(kills).expect("a few");
    let of = |slot: i64| {
        let when = match u64::try_from(slot) {
            Ok(slot) if slot == hasty => When::AfterRestart(dice.ms(0, 300)),
            _ => When::At(slot * slot_ms + dice.ms(0, slot_ms - 1)),
        };
        AgentKill { when, down_ms: dice.ms(0, 1500) }
    };
    (0..).take(kills).map(of).collect()
}

#[test]
fn a_plan_kills_each_as_often_as_it_should_and_the_collector_at_least_twice_before_its_ack() {
    for seed in 0..200 {
        let plan = Plan::new(seed, 60_000, 5);
        let count = |which: &[Victim]| plan.stack.iter().filter(|k| which.contains(&k.victim)).count();
        assert_eq!(count(&[Victim::Collector, Victim::BetweenCommitAndAck, Victim::Both]), 5, "seed {seed}");
        assert_eq!(count(&[Victim::Postmaster, Victim::Both]), 5, "seed {seed}");
        assert!(count(&[Victim::BetweenCommitAndAck]) >= 2, "seed {seed}");
        assert!(plan.agents.iter().all(|kills| kills.len() == 5), "seed {seed}");
    }
}
