//! Two limits that the same objects reach: SEMMNI counts arrays and SEMMNS the semaphores in them, SHMMNI counts segments
//! and SHMALL their pages. Which of the two comes first, and which flag follows the other. Pure.
//!
//! - P1 Of two flags that the same objects make, the one that is reached first is told; the other follows it. It stays up,
//!   and is told by itself once the first one is over.
//! - P2 Which one that is changes only if the other is nearer by a third: who was told of one trouble is not told of it
//!   again because figures move.
//! - P3 Refused calls are told in any case, and no flag follows one that is less urgent.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::limits::Resource;
use highwater_ipc::snapshot::{Namespace, State};

use super::words::counted;
use crate::flag::{Flag, FlagId, Kind};

/// So many objects at least have a usual size.
const LEAST: u64 = 3;
/// The growth of one is that of the other if it is at most so many times as much, either way.
const SAME_GROWTH: f64 = 2.0;

/// Says of flags that are up which of two limits on the same objects comes first, and which flag follows the other. Who
/// holds most of what they are about is known.
pub fn tell(flags: &mut [&mut Flag], state: &State) {
    let (mut both, mut leaders): (BTreeSet<usize>, BTreeMap<usize, (FlagId, Resource)>) = Default::default();
    for (number_at, number) in flags.iter().enumerate() {
        let Some(pair) = PAIRS.into_iter().find(|pair| pair.number == number.resource) else { continue };
        let is_sum = |flag: &&mut Flag| flag.resource == pair.sum && flag.namespace == number.namespace;
        let Some((sum_at, sum)) = flags.iter().enumerate().find(|(_, flag)| is_sum(flag)) else { continue };
        both.extend([number_at, sum_at]);
        let Some(namespace) = state.namespaces.iter().find(|n| n.id == number.namespace) else { continue };
        let usual = usual(namespace, pair, state.page_size);
        let reach = Reach::of(pair, (number.used, number.limit), (sum.used, sum.limit), usual);
        match reach.and_then(|reach| leads(number, sum, &reach)) {
            Some(leads) if leads == number.resource => leaders.insert(sum_at, (number.id, number.resource)),
            Some(_) => leaders.insert(number_at, (sum.id, sum.resource)),
            None => None,
        };
    }
    for (at, flag) in flags.iter_mut().enumerate() {
        let namespace = state.namespaces.iter().find(|n| n.id == flag.namespace);
        let words = namespace.and_then(|namespace| words(flag, namespace, state.page_size, both.contains(&at)));
        flag.why.extend(words.map(|words| format!("; {words}")));
        flag.follows = leaders.get(&at).map(|(leader, _)| *leader);
        if let Some((leader, resource)) = leaders.get(&at) {
            flag.why += &format!("; it follows {}, which is reached first (flag {leader})", resource.name());
        }
    }
}

/// Two limits of the same objects: that on their number, and that on what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    /// SEMMNI or SHMMNI.
    number: Resource,
    /// SEMMNS or SHMALL.
    sum: Resource,
}

/// The pairs there are.
const PAIRS: [Pair; 2] = [
    Pair { number: Resource::Semmni, sum: Resource::Semmns },
    Pair { number: Resource::Shmmni, sum: Resource::Shmall },
];

/// How far both are from their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reach {
    pair: Pair,
    /// Used and limit of the number.
    number: (u64, u64),
    /// Used and limit of the sum.
    sum: (u64, u64),
    /// What is in one object.
    each: u64,
}

impl Reach {
    /// Of so much in use under these limits; `each` is what is in one object, by default what is in one on average.
    /// `None` = there is no object.
    fn of(pair: Pair, number: (u64, u64), sum: (u64, u64), each: Option<u64>) -> Option<Self> {
        let each = each.or_else(|| sum.0.checked_div(number.0))?.max(1);
        Some(Self { pair, number, sum, each })
    }

    /// How many more objects the number has room for, and how many the sum.
    fn left(&self) -> (u64, u64) {
        let sum = self.sum.1.saturating_sub(self.sum.0) / self.each;
        (self.number.1.saturating_sub(self.number.0), sum)
    }

    /// The one that is reached first.
    fn binds(&self) -> Resource {
        let (number, sum) = self.left();
        if sum < number { self.pair.sum } else { self.pair.number }
    }

    /// Whether the other one is nearer by so much that it is told in place of the one that leads.
    fn changes_from(&self, leads: Resource) -> bool {
        let (number, sum) = self.left();
        let (leading, other) = if leads == self.pair.number { (number, sum) } else { (sum, number) };
        u128::from(other) * 3 < u128::from(leading) * 2
    }

    /// `SEMMNS binds: 128 arrays x 156 semaphores each reach 32000 at 205 arrays, before SEMMNI's 256`.
    fn words(&self) -> String {
        let (Pair { number, sum }, (_, sum_left), each) = (self.pair, self.left(), self.each);
        let (objects, parts) = (counted(number), counted(sum));
        let (number_name, sum_name) = (number.name(), sum.name());
        let ((count, most), limit) = (self.number, self.sum.1);
        let at = count.saturating_add(sum_left);
        if self.binds() == sum {
            format!(
                "{sum_name} binds: {count} {objects} x {each} {parts} each reach {limit} at {at} {objects}, before \
                 {number_name}'s {most}"
            )
        } else {
            format!(
                "{number_name} binds: its {most} {objects} come before {sum_name}'s {limit}, which {each} {parts} each \
                 reach at {at} {objects}"
            )
        }
    }

    /// From where on an object of that size is refused by the sum; `None` = at the limit itself.
    fn ceiling(&self) -> Option<String> {
        let (each, limit) = (self.each, self.sum.1);
        let from = limit.saturating_sub(each).saturating_add(1);
        let one = if self.pair.sum == Resource::Semmns { "an array" } else { "a segment" };
        (each > 1).then(|| format!("{one} of {each} {} is refused from {from} on", counted(self.pair.sum)))
    }
}

/// What is in one object as a rule: three quarters of them are alike. `page_size` in bytes.
fn usual(namespace: &Namespace, pair: Pair, page_size: u32) -> Option<u64> {
    let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
    let mut count = |size: u64| *sizes.entry(size).or_default() += 1;
    match pair.number {
        Resource::Semmni => namespace.sem.iter().flatten().for_each(|row| count(u64::from(row.nsems))),
        _ => {
            let pages = |size: u64| size.div_ceil(u64::from(page_size.max(1)));
            namespace.shm.iter().flatten().for_each(|row| count(pages(row.size)));
        }
    }
    let all: u64 = sizes.values().sum();
    let (size, alike) = sizes.into_iter().max_by_key(|(_, alike)| *alike)?;
    (all >= LEAST && alike.saturating_mul(4) >= all.saturating_mul(3)).then_some(size)
}

/// What a flag says of the other limit on the same objects: which binds, if `both` are flagged, or if objects come with a
/// usual size that makes it a question; and where the sum refuses one of that size.
fn words(flag: &Flag, namespace: &Namespace, page_size: u32, both: bool) -> Option<String> {
    let pair = PAIRS.into_iter().find(|pair| pair.number == flag.resource || pair.sum == flag.resource)?;
    let (totals, limits) = (namespace.totals.as_ref()?, namespace.limits.as_ref()?);
    let usual = usual(namespace, pair, page_size);
    let reach = Reach::of(pair, pair.number.of(totals, limits), pair.sum.of(totals, limits), usual)?;
    let is_question = both || usual.is_some_and(|each| each > 1) || reach.binds() == pair.sum;
    let mut parts: Vec<String> = is_question.then(|| reach.words()).into_iter().collect();
    parts.extend(usual.and(reach.ceiling()).filter(|_| reach.binds() == pair.sum || flag.resource == pair.sum));
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Whether two flags of a pair are up for the same objects: the same program holds most of both, and where both grow, they
/// grow alike.
fn is_one_trouble(number: &Flag, sum: &Flag, reach: &Reach) -> bool {
    let holder = |flag: &Flag| flag.holder.as_ref().map(|holder| (holder.uid, holder.comm.clone()));
    let same_holder = holder(number).is_some() && holder(number) == holder(sum);
    let alike = match (number.growth_per_hour, sum.growth_per_hour) {
        (Some(number), Some(sum)) => {
            let ratio = sum / (number * reach.each as f64);
            (1.0 / SAME_GROWTH..=SAME_GROWTH).contains(&ratio)
        }
        _ => true,
    };
    same_holder && alike
}

/// Which of two flags of a pair leads the other; `None` = neither.
fn leads(number: &Flag, sum: &Flag, reach: &Reach) -> Option<Resource> {
    let refusing = |flag: &Flag| flag.kind == Kind::Refusing;
    if refusing(number) && refusing(sum) || !is_one_trouble(number, sum, reach) {
        return None;
    }
    let first = reach.binds();
    let led = match (number.follows, sum.follows) {
        (_, Some(leader)) if leader == number.id => number.resource,
        (Some(leader), _) if leader == sum.id => sum.resource,
        // Whoever was told of the older one is not told again.
        _ if number.raised_ms < sum.raised_ms => number.resource,
        _ if sum.raised_ms < number.raised_ms => sum.resource,
        _ => first,
    };
    let leads = if reach.changes_from(led) { first } else { led };
    let urgent = |flag: &Flag| (refusing(flag), flag.severity);
    Some(match urgent(number).cmp(&urgent(sum)) {
        Ordering::Less => sum.resource,
        Ordering::Greater => number.resource,
        Ordering::Equal => leads,
    })
}

#[cfg(test)]
mod tests {
    use highwater_ipc::limits::{Limits, Totals};
    use highwater_ipc::object::{Key, Owner, Perms, SemArray};
    use highwater_ipc::snapshot::NamespaceId;

    use super::*;
    use crate::flag::{Eta, Holder, Severity};
    use crate::host::HostId;

    /// A namespace with so many arrays of so many semaphores, under these limits.
    fn arrays(count: u64, nsems: u32, (semmni, semmns): (u64, u64)) -> State {
        let row = |n: u64| SemArray {
            key: Key(0),
            semid: i32::try_from(n).unwrap(),
            perms: Perms(0o600),
            nsems,
            owner: Owner::default(),
            otime: 0,
            ctime: 0,
        };
        let totals = Totals { sem_arrays: count, semaphores: count * u64::from(nsems), ..Totals::default() };
        let limits = Limits {
            semmsl: 250,
            semmns,
            semopm: 32,
            semmni,
            semvmx: 32_767,
            shmmax: 1 << 30,
            shmall: 1 << 20,
            shmmni: 4_096,
            shmmin: 1,
            msgmax: 8_192,
            msgmnb: 16_384,
            msgmni: 32_000,
        };
        let sem = Some((0..count).map(row).collect());
        let own = Namespace { limits: Some(limits), totals: Some(totals), sem, ..Namespace::default() };
        State { page_size: 4_096, namespaces: vec![own], ..State::default() }
    }

    /// Both flags of semaphores, as they are in that state.
    fn flags(state: &State, growth: [Option<f64>; 2]) -> [Flag; 2] {
        let (totals, limits) = (state.namespaces[0].totals.unwrap(), state.namespaces[0].limits.unwrap());
        let flag = |(resource, id, growth_per_hour): (Resource, i64, Option<f64>)| {
            let (used, limit) = resource.of(&totals, &limits);
            Flag {
                host: HostId(7),
                id: FlagId(id),
                namespace: NamespaceId::default(),
                own: true,
                resource,
                kind: Kind::Trend,
                severity: Severity::Warning,
                raised_ms: 1_000,
                cleared_ms: None,
                used,
                limit,
                growth_per_hour,
                eta: Eta::default(),
                holder: Some(Holder { uid: 26, user: None, comm: Some("postgres".into()), objects: 9, orphans: 0 }),
                cause: None,
                follows: None,
                notify: true,
                why: "grows".to_owned(),
                remedy: Vec::new(),
            }
        };
        [(Resource::Semmni, 1, growth[0]), (Resource::Semmns, 2, growth[1])].map(flag)
    }

    fn told(state: &State, flags: &mut [Flag]) {
        tell(&mut flags.iter_mut().collect::<Vec<_>>(), state);
    }

    /// Who follows whom, after flags were changed and told.
    fn led(state: &State, change: impl FnOnce(&mut [Flag; 2])) -> [Option<i64>; 2] {
        let mut flags = flags(state, [Some(1.0), Some(17.0)]);
        change(&mut flags);
        told(state, &mut flags);
        flags.map(|flag| flag.follows.map(|leader| leader.0))
    }

    #[test]
    fn which_limit_binds_is_said_with_the_usual_size_of_an_array() {
        let why = |state: &State, which: usize| {
            let mut one = [flags(state, [None, None])[which].clone()];
            told(state, &mut one);
            one[0].why.clone()
        };
        let oracle = arrays(128, 156, (256, 32_000));
        let binds =
            "grows; SEMMNS binds: 128 arrays x 156 semaphores each reach 32000 at 205 arrays, before SEMMNI's 256";
        let ceiling = "; an array of 156 semaphores is refused from 31845 on";
        assert_eq!([why(&oracle, 0), why(&oracle, 1)], [0, 1].map(|_| format!("{binds}{ceiling}")));
        let other = why(&arrays(100, 17, (128, 32_000)), 0);
        assert_eq!(
            other,
            "grows; SEMMNI binds: its 128 arrays come before SEMMNS's 32000, which 17 semaphores each reach at 1882 arrays"
        );
        // PostgreSQL's arrays are refused 16 before the limit.
        assert!(why(&arrays(1_800, 17, (4_096, 32_000)), 1).ends_with("of 17 semaphores is refused from 31984 on"));
        assert_eq!(why(&arrays(100, 1, (128, 32_000)), 0), "grows", "no question with one semaphore each");
    }

    #[test]
    fn two_limits_that_the_same_arrays_reach_are_one_trouble() {
        let semmns_first = arrays(1_700, 17, (2_048, 32_000));
        let semmni_first = arrays(1_700, 17, (1_800, 32_000));
        assert_eq!(led(&semmns_first, |_| {}), [Some(2), None]);
        assert_eq!(led(&semmni_first, |_| {}), [None, Some(1)]);
        let mut both = flags(&semmns_first, [None, Some(17.0)]);
        told(&semmns_first, &mut both);
        assert!(
            both[0].why.ends_with("; it follows SEMMNS, which is reached first (flag 0000000000000002)"),
            "{}",
            both[0].why
        );
        assert!(!both[1].why.contains("follows"), "{}", both[1].why);
        // Whoever was told of the older one is not told of the other, unless that is much nearer.
        let near = arrays(1_700, 17, (1_900, 32_000));
        assert_eq!(led(&near, |flags| flags[0].raised_ms = 0), [None, Some(1)]);
        assert_eq!(led(&near, |flags| flags[1].follows = Some(FlagId(1))), [None, Some(1)]);
        assert_eq!(led(&semmns_first, |flags| flags[0].raised_ms = 0), [Some(2), None], "182 arrays are left, not 348");
    }

    #[test]
    fn what_two_programs_do_to_two_limits_is_two_troubles() {
        let state = arrays(1_700, 17, (2_048, 32_000));
        let neither = [None, None];
        assert_eq!(led(&state, |flags| flags[0].holder.as_mut().unwrap().uid = 48), neither);
        assert_eq!(led(&state, |flags| flags.iter_mut().for_each(|flag| flag.holder = None)), neither);
        assert_eq!(
            led(&state, |flags| flags[0].growth_per_hour = Some(9.0)),
            neither,
            "semaphores grow less than that"
        );
        assert_eq!(led(&state, |flags| flags[0].namespace.inode = 5), neither);
    }

    #[test]
    fn what_is_refused_is_told_and_no_flag_follows_a_less_urgent_one() {
        let state = arrays(1_700, 17, (2_048, 32_000));
        assert_eq!(led(&state, |flags| flags[0].kind = Kind::Refusing), [None, Some(1)]);
        assert_eq!(led(&state, |flags| flags.iter_mut().for_each(|flag| flag.kind = Kind::Refusing)), [None, None]);
        assert_eq!(led(&state, |flags| flags[0].severity = Severity::Critical), [None, Some(1)]);
    }
}
