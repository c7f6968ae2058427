//! Which namespaces a sample visits, and of which it lists the objects. Pure.
//!
//! A sample lists [`MAX_OBJECTS`] objects and spends about [`COST_NS`] of processor time at most; both are counted, not
//! measured, so that the same host gives the same answer: what one visit and one object cost at most is known
//! ([`VISIT_NS`], [`OBJECT_NS`]). The host's own namespace comes first and is always listed as far as the objects go. Of
//! the others the smallest are listed first, so that one that holds 68,000 objects cannot push out those that hold ten. A
//! namespace that is not listed has its totals and limits told all the same.
//!
//! Where even one visit to each would cost too much, they take turns: each is visited in every `stride`-th sample, and a
//! state shows what the last visit read. Strides are powers of two, they grow at once and shrink late, and what was once
//! not listed stays so for a while: else whoever sits near a bound could make every sample differ from the one before.

/// Objects that one sample lists at most; those beyond are counted in `left_out`.
pub const MAX_OBJECTS: usize = 100_000;

/// Processor time that the visits of one sample cost at most, nanoseconds, where the host's own namespace leaves it.
pub const COST_NS: u64 = 20_000_000;

/// However much the host's own namespace costs, the others get this share of [`COST_NS`]: else nobody would see them.
pub const OTHERS_LEAST_NS: u64 = COST_NS / 4;

/// What a visit costs beside the objects, nanoseconds.
pub const VISIT_NS: u64 = 60_000;

/// What an object costs to be printed by the kernel, read and compared, nanoseconds.
pub const OBJECT_NS: u64 = 1_000;

/// What a segment costs whenever the kernel is asked for the totals, nanoseconds: SHM_INFO counts the pages of each
/// (`shm_get_stat` of `ipc/shm.c`). Where objects are listed it is asked twice, else once.
pub const SEGMENT_NS: u64 = 100;

/// Samples for which a namespace that did not fit is not listed again.
pub const UNLISTED_FOR: u64 = 64;

/// What planning knows of a namespace that is not the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Objects when it was visited last; `None` = it was not visited yet.
    pub objects: Option<u64>,
    /// Segments among them.
    pub segments: u64,
    /// Whether they were listed.
    pub listed: bool,
    /// The sample in which they ceased to be.
    pub unlisted_at: Option<u64>,
    /// The sample that visited it last.
    pub visited: Option<u64>,
    /// Whether what that visit read is kept: a sample that shows it need not visit it.
    pub kept: bool,
    /// The sample that found it.
    pub found_at: u64,
}

impl Load {
    /// Nothing is known of it but that it is there.
    pub fn new(sample: u64) -> Self {
        Self {
            objects: None,
            segments: 0,
            listed: false,
            unlisted_at: None,
            visited: None,
            kept: false,
            found_at: sample,
        }
    }

    /// What a visit costs, given whether its objects are listed.
    pub fn cost(&self, listed: bool) -> u64 {
        let asked = if listed { 2 } else { 1 };
        VISIT_NS
            .saturating_add(self.segments.saturating_mul(asked * SEGMENT_NS))
            .saturating_add(self.rows(listed).saturating_mul(OBJECT_NS))
    }

    /// The objects that it puts into a sample, given whether they are listed.
    fn rows(&self, listed: bool) -> u64 {
        if listed { self.objects.unwrap_or(0) } else { 0 }
    }

    /// Whether its objects may be listed again.
    fn is_forgiven(&self, sample: u64) -> bool {
        self.unlisted_at.is_none_or(|at| sample.saturating_sub(at) >= UNLISTED_FOR)
    }
}

/// What the others may cost in a sample in which the host's own namespace holds that many objects.
pub fn cost_left(host_objects: u64) -> u64 {
    let host = VISIT_NS.saturating_add(host_objects.saturating_mul(OBJECT_NS));
    COST_NS.saturating_sub(host).max(OTHERS_LEAST_NS)
}

/// Of which namespaces the objects are listed: the smallest first, `pool` objects in all, none whose visit alone would
/// cost more than `cost`. What is not listed yet must fit with an eighth to spare.
pub fn listed(loads: &[Load], pool: u64, cost: u64, sample: u64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..loads.len()).collect();
    // One that is listed counts as an eighth smaller, so that two of nearly one size do not change places.
    let size = |load: &Load| {
        let objects = load.objects.unwrap_or(0);
        if load.listed { objects - objects / 8 } else { objects }
    };
    order.sort_by_key(|index| (loads.get(*index).map(size), *index));
    let mut listed = vec![false; loads.len()];
    let mut sum = 0_u64;
    for index in order {
        let (Some(load), Some(listed)) = (loads.get(index), listed.get_mut(index)) else { continue };
        let (pool, cost) = if load.listed { (pool, cost) } else { (pool - pool / 8, cost - cost / 8) };
        let with = sum.saturating_add(load.objects.unwrap_or(0));
        if with <= pool && load.cost(true) <= cost && (load.listed || load.is_forgiven(sample)) {
            (*listed, sum) = (true, with);
        }
    }
    listed
}

/// What the namespaces of one round are promised: of what is left over each may take what it grew by, and nothing of
/// what another one was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promised {
    /// Objects of all that are listed, those that are not visited now too.
    objects: u64,
    /// Cost of all that are visited now.
    cost: u64,
}

impl Promised {
    /// Before the round: `turn` are the positions that will be visited, `listed` goes with `loads`.
    pub fn new(loads: &[Load], listed: &[bool], turn: &[usize]) -> Self {
        let pairs = || loads.iter().zip(listed).map(|(load, listed)| (load, *listed));
        let visited = turn.iter().filter_map(|index| Some((loads.get(*index)?, *listed.get(*index)?)));
        Self {
            objects: pairs().map(|(load, listed)| load.rows(listed)).fold(0, u64::saturating_add),
            cost: visited.map(|(load, listed)| load.cost(listed)).fold(0, u64::saturating_add),
        }
    }

    /// Objects that this one, which is to be listed, may list; `pool` and `cost` are those of the round.
    pub fn allowed(&self, load: &Load, pool: u64, cost: u64) -> u64 {
        let objects = pool.saturating_sub(self.objects.saturating_sub(load.rows(true)));
        let cost = cost.saturating_sub(self.cost.saturating_sub(load.cost(true)));
        objects.min(cost.saturating_sub(VISIT_NS) / OBJECT_NS)
    }

    /// One was visited: what was promised to it, and what it took.
    pub fn kept(&mut self, promised: (&Load, bool), took: (&Load, bool)) {
        let instead = |sum: u64, promised: u64, took: u64| sum.saturating_sub(promised).saturating_add(took);
        self.objects = instead(self.objects, promised.0.rows(promised.1), took.0.rows(took.1));
        self.cost = instead(self.cost, promised.0.cost(promised.1), took.0.cost(took.1));
    }
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    stride: u64,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { stride: 1 }
    }
}

impl Rotation {
    /// In how many samples each namespace is visited once; 1 = in every one.
    pub fn stride(&self) -> u64 {
        self.stride
    }

    /// The namespaces to visit in this sample, whoever waited longest first, at `cost` in all. `listed` goes with
    /// `loads`.
    pub fn turn(&mut self, loads: &[Load], listed: &[bool], cost: u64, sample: u64) -> Vec<usize> {
        let costs: Vec<u64> = loads.iter().zip(listed).map(|(load, listed)| load.cost(*listed)).collect();
        self.adjust(&costs, cost);
        if self.stride == 1 {
            return (0..costs.len()).collect();
        }
        let mut due: Vec<(u64, usize)> = Vec::new();
        let (mut visits, mut spent) = (Vec::new(), 0_u64);
        for (index, load) in loads.iter().enumerate() {
            let last = load.visited.unwrap_or_else(|| load.found_at.saturating_sub(self.stride));
            if load.visited.is_some() && !load.kept {
                // Nothing could be shown of it otherwise. Until now each was visited in every sample, at half the cost.
                spent = spent.saturating_add(costs.get(index).copied().unwrap_or(0));
                visits.push(index);
            } else if load.visited.is_none() || sample.saturating_sub(last) >= self.stride {
                due.push((last, index));
            }
        }
        due.sort_unstable();
        for (_, index) in due {
            let with = spent.saturating_add(costs.get(index).copied().unwrap_or(0));
            if with > cost && !visits.is_empty() {
                break;
            }
            spent = with;
            visits.push(index);
        }
        visits
    }

    /// Whether what visits read must be kept: a sample may pass a namespace by, now or as soon as it is twice as dear.
    pub fn must_keep(&self, loads: &[Load], listed: &[bool], cost: u64) -> bool {
        let all = loads.iter().zip(listed).map(|(load, listed)| load.cost(*listed)).fold(0, u64::saturating_add);
        self.stride > 1 || all > cost / 2
    }

    fn adjust(&mut self, costs: &[u64], cost: u64) {
        let wanted = turns(costs, cost).next_power_of_two();
        if wanted > self.stride {
            self.stride = wanted;
        } else if turns(costs, cost - cost / 4).next_power_of_two() < self.stride {
            self.stride /= 2;
        }
    }
}

/// How many samples one round takes, each filled in order until the next one would be too much.
fn turns(costs: &[u64], cost: u64) -> u64 {
    let (mut turns, mut spent) = (1_u64, 0_u64);
    for one in costs {
        let with = spent.saturating_add(*one);
        if with > cost && spent > 0 {
            (turns, spent) = (turns.saturating_add(1), *one);
        } else {
            spent = with;
        }
    }
    turns
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
