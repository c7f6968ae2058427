//! What four days of one namespace used, by the hour, in one row (`usage_pack`): a fleet's month is tens of thousands of
//! rows then, and not millions. Pure.
//!
//! A body is: version, the first hour (zigzag), how many hours later the newest is, which limits the newest hour knows (a
//! bit each) and these limits, then of each resource how many bytes its marks take and the marks ([`super::marks`]).
//! Numbers are as there: seven bits a byte, the lowest first.

use std::collections::BTreeMap;

use super::marks::{self, Hour, Mark, put, take, unzigzag, zigzag};
use crate::store::usage::{Order, Used};

/// The first byte of a body.
const VERSION: u8 = 1;

/// What is packed does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hours of use that do not read")]
pub struct Unreadable;

/// What one hour of a namespace used, in order of [`highwater_ipc::limits::Resource::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Which hour.
    pub hour: Hour,
    /// What was in use. `most` is at least `last`.
    pub used: [Used; 5],
}

/// A row's body, and what the row says beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// As it is stored.
    pub bytes: Vec<u8>,
    /// Whether its newest hour says anything: the namespace was there.
    pub is_there: bool,
}

/// Adds hours to what is packed already, by the rules of [`Order`].
pub fn merged(stored: Option<&Pack<'_>>, hours: &[Hours], order: Order) -> Body {
    let mut all: BTreeMap<Hour, [Used; 5]> = BTreeMap::new();
    if let Some(pack) = stored {
        let mut marks = Vec::new();
        for at in 0..5 {
            marks.clear();
            pack.marks(at, &mut marks);
            for mark in &marks {
                if let Some(used) = all.entry(mark.hour).or_default().get_mut(at) {
                    *used = Used { last: mark.last, most: mark.most, limit: None };
                }
            }
        }
        if let Some(newest) = all.get_mut(&pack.newest) {
            newest.iter_mut().zip(pack.limits).for_each(|(used, limit)| used.limit = limit);
        }
    }
    for Hours { hour, used } in hours {
        let used = used.map(|used| Used { most: used.most.max(used.last), ..used });
        match all.get_mut(hour) {
            None => {
                all.insert(*hour, used);
            }
            Some(there) => {
                for (there, used) in there.iter_mut().zip(used) {
                    let most = there.most.max(used.most);
                    *there = Used { most, ..if order == Order::Newest { used } else { *there } };
                }
            }
        }
    }
    written(&all)
}

fn written(all: &BTreeMap<Hour, [Used; 5]>) -> Body {
    let (first, newest) = (all.first_key_value(), all.last_key_value());
    let first = first.map_or(0, |(hour, _)| *hour);
    let (newest, last) = newest.map_or((first, [Used::default(); 5]), |(hour, used)| (*hour, *used));
    let mut bytes = vec![VERSION];
    put(&mut bytes, zigzag(first));
    put(&mut bytes, newest.wrapping_sub(first).cast_unsigned());
    bytes.push(last.iter().rev().fold(0, |bits, used| bits << 1 | u8::from(used.limit.is_some())));
    last.iter().filter_map(|used| used.limit).for_each(|limit| put(&mut bytes, limit));
    for at in 0..5 {
        let mut packed = marks::Packer::new(first);
        for (hour, used) in all {
            let Used { last, most, .. } = used.get(at).copied().unwrap_or_default();
            packed.push(Mark { hour: *hour, last, most });
        }
        put(&mut bytes, u64::try_from(packed.bytes.len()).unwrap_or(u64::MAX));
        bytes.extend(packed.bytes);
    }
    Body { bytes, is_there: last.iter().any(|used| used.last.is_some()) }
}

/// What is packed, still packed.
#[derive(Clone, Copy, Debug)]
pub struct Pack<'b> {
    /// The oldest hour.
    pub first: Hour,
    /// The newest.
    pub newest: Hour,
    /// Limits as the newest hour knows them.
    pub limits: [Option<u64>; 5],
    marks: [&'b [u8]; 5],
}

impl<'b> Pack<'b> {
    /// Reads a body.
    pub fn read(bytes: &'b [u8]) -> Result<Self, Unreadable> {
        let Some((&VERSION, mut rest)) = bytes.split_first() else { return Err(Unreadable) };
        let number = |rest: &mut &[u8]| take(rest).ok_or(Unreadable);
        let first = unzigzag(number(&mut rest)?);
        let newest = first.wrapping_add(number(&mut rest)?.cast_signed());
        let (known, mut rest) = rest.split_first().ok_or(Unreadable)?;
        let mut limits = [None; 5];
        for (at, limit) in limits.iter_mut().enumerate() {
            if known >> at & 1 == 1 {
                *limit = Some(number(&mut rest)?);
            }
        }
        let mut marks = [&[][..]; 5];
        for marks in &mut marks {
            let length = usize::try_from(number(&mut rest)?).map_err(|_| Unreadable)?;
            (*marks, rest) = rest.split_at_checked(length).ok_or(Unreadable)?;
        }
        if rest.is_empty() { Ok(Self { first, newest, limits, marks }) } else { Err(Unreadable) }
    }

    /// Adds the marks of the resource at that place of [`highwater_ipc::limits::Resource::ALL`], by hour.
    pub fn marks(&self, at: usize, to: &mut Vec<Mark>) {
        marks::unpack(self.marks.get(at).copied().unwrap_or_default(), self.first, to);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn used() -> impl Strategy<Value = Used> {
        let number = || prop::option::of(prop_oneof![0_u64..50, Just(u64::MAX), any::<u64>()]);
        // As rows are: the most is at least what is there at the end.
        (number(), number(), number()).prop_map(|(last, most, limit)| Used { last, most: most.max(last), limit })
    }

    fn hours() -> impl Strategy<Value = Vec<Hours>> {
        let hour = (494_000_i64..494_096, prop::array::uniform5(used())).prop_map(|(hour, used)| Hours { hour, used });
        prop::collection::vec(hour, 1..20)
    }

    /// As `usage_hour` merges rows.
    fn naive(all: &mut BTreeMap<Hour, [Used; 5]>, Hours { hour, used }: &Hours, order: Order) {
        let there = all.entry(*hour).or_insert(*used);
        for (there, used) in there.iter_mut().zip(used) {
            there.most = there.most.max(used.most);
            if order == Order::Newest {
                (there.last, there.limit) = (used.last, used.limit);
            }
        }
    }

    proptest! {
        #[test]
        fn however_hours_come_what_is_packed_is_what_their_rows_say(
            steps in prop::collection::vec((hours(), prop::sample::select(vec![Order::Newest, Order::Filling])), 1..8),
        ) {
            let (mut body, mut all): (Option<Body>, _) = (None, BTreeMap::new());
            for (hours, order) in &steps {
                // Each slot at most once a call.
                let hours: BTreeMap<Hour, Hours> = hours.iter().map(|hours| (hours.hour, *hours)).collect();
                let hours: Vec<Hours> = hours.into_values().collect();
                hours.iter().for_each(|hours| naive(&mut all, hours, *order));
                let stored = body.as_ref().map(|body| Pack::read(&body.bytes).unwrap());
                body = Some(merged(stored.as_ref(), &hours, *order));
            }
            let body = body.unwrap();
            let pack = Pack::read(&body.bytes).unwrap();
            let (newest, last) = all.last_key_value().unwrap();
            prop_assert_eq!((pack.first, pack.newest), (*all.first_key_value().unwrap().0, *newest));
            prop_assert_eq!(body.is_there, last.iter().any(|used| used.last.is_some()));
            for at in 0..5 {
                let mut marks = Vec::new();
                pack.marks(at, &mut marks);
                let mark = |(hour, used): (&Hour, &[Used; 5])| {
                    Mark { hour: *hour, last: used[at].last, most: used[at].most }
                };
                prop_assert_eq!(marks, all.iter().map(mark).collect::<Vec<_>>());
                // Of an hour that is overwritten its limit goes; that of the newest is kept.
                if steps.len() == 1 {
                    prop_assert_eq!(pack.limits[at], last[at].limit);
                }
            }
        }

        #[test]
        fn whatever_bytes_are_stored_reading_them_ends(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(pack) = Pack::read(&bytes) {
                let mut marks = Vec::new();
                (0..6).for_each(|at| pack.marks(at, &mut marks));
                prop_assert!(marks.len() <= bytes.len());
            }
            let cut = Hours { hour: 494_000, used: [Used { last: Some(9), most: Some(9), limit: Some(9) }; 5] };
            let whole = merged(None, &[cut], Order::Newest).bytes;
            for length in 0..whole.len() {
                prop_assert!(Pack::read(&whole[..length]).is_err(), "cut after {}", length);
            }
        }
    }

    #[test]
    fn four_days_of_a_busy_host_stay_in_the_row() {
        let used = |number: u64| Used { last: Some(number), most: Some(number + 3), limit: None };
        let hour = |n: u64| Hours {
            hour: 494_000 + n.cast_signed(),
            used: [20 + n % 7, 400 + n % 90, 50 + n % 3, 100_000 + n * 31 % 9_999, 3].map(used),
        };
        let body = merged(None, &(0..96).map(hour).collect::<Vec<_>>(), Order::Newest);
        assert!(body.bytes.len() < 1_600, "{}", body.bytes.len());
    }
}
