//! Joins the beginning of a call with its end.
//!
//! A thread makes one call at a time, so its next event answers its last. The two can be on different processors' pages;
//! they are fed in order of time. Beginnings whose end the kernel was told to drop (the name existed, say) are replaced by
//! the thread's next one, or go when the table is full: a refusal is then told without what was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_ipc::object::Kind;

use super::event::{Event, Tells};
use super::{Asked, Call, Caller, What};

/// Finds out who a thread is, at an event of that time.
pub type Ask<'a> = &'a mut dyn FnMut(i32, u64) -> Arc<Caller>;

/// The calls that have begun, by thread.
#[derive(Debug, Default)]
pub struct Pairing {
    begun: BTreeMap<i32, Begun>,
}

#[derive(Debug)]
enum Begun {
    Get {
        at_ns: u64,
        kind: Kind,
        asked: Asked,
    },
    /// Who removes is asked at once: a process that cleans up is about to end.
    Remove {
        at_ns: u64,
        kind: Kind,
        id: i32,
        by: Arc<Caller>,
    },
}

impl Pairing {
    /// The most calls that are under way at once.
    pub const MAX: usize = 4096;
    /// A removal that was not refused within this time was done, nanoseconds: the call takes microseconds.
    pub const SETTLED_NS: u64 = 2_000_000;

    /// A get call takes no longer, nanoseconds: a segment of huge pages takes a second.
    pub const LONGEST_NS: u64 = 60_000_000_000;

    const ENOSPC: i64 = -28;
    const ENOSYS: i64 = -38;
    const ENOMEM: i64 = -12;

    /// The next event; what it completes goes to `done`.
    pub fn feed(&mut self, event: &Event, ask: Ask<'_>, done: &mut dyn FnMut(Call)) {
        let Event { at_ns, tid, kind, tells } = *event;
        let before = self.begun.remove(&tid);
        match (tells, before) {
            (Tells::Gets(asked), before) => {
                finish(before, done);
                self.begin(tid, Begun::Get { at_ns, kind, asked }, done);
            }
            (Tells::Removes(id), before) => {
                finish(before, done);
                self.begin(tid, Begun::Remove { at_ns, kind, id, by: ask(tid, at_ns) }, done);
            }
            (Tells::Got(answer), Some(Begun::Get { at_ns: began, kind: of, asked })) if of == kind => {
                let what = What::Get { asked: Some(asked), answer };
                done(Call { at_ns: began, kind, what, by: ask(tid, at_ns) });
            }
            (Tells::Got(answer), before) => {
                finish(before, done);
                // A call that a filter refused does not begin; an id without its beginning may be an old object's.
                if matches!(answer, Self::ENOSPC | Self::ENOSYS | Self::ENOMEM) {
                    let what = What::Get { asked: None, answer };
                    done(Call { at_ns, kind, what, by: ask(tid, at_ns) });
                }
            }
            (Tells::NotRemoved, Some(Begun::Remove { kind: of, .. })) if of == kind => {}
            (Tells::NotRemoved, before) => {
                finish(before, done);
            }
        }
    }

    /// All events up to that time were fed: what can no longer be refused is done, and a get call that has not ended for
    /// long is one whose end was not recorded.
    pub fn settle(&mut self, until_ns: u64, done: &mut dyn FnMut(Call)) {
        let stale = |begun: &Begun| match begun {
            Begun::Remove { at_ns, .. } => at_ns.saturating_add(Self::SETTLED_NS) <= until_ns,
            Begun::Get { at_ns, .. } => at_ns.saturating_add(Self::LONGEST_NS) <= until_ns,
        };
        let threads: Vec<i32> = self.begun.iter().filter(|(_, begun)| stale(begun)).map(|(tid, _)| *tid).collect();
        for tid in threads {
            finish(self.begun.remove(&tid), done);
        }
    }

    /// Whether a removal has begun that may still be refused.
    pub fn removes(&self) -> bool {
        self.begun.values().any(|begun| matches!(begun, Begun::Remove { .. }))
    }

    /// The table is bounded: when it is full all begin anew, at a price that many begins share.
    fn begin(&mut self, tid: i32, begun: Begun, done: &mut dyn FnMut(Call)) {
        if self.begun.len() >= Self::MAX {
            std::mem::take(&mut self.begun).into_values().for_each(|begun| finish(Some(begun), done));
        }
        self.begun.insert(tid, begun);
    }
}

/// A removal whose thread went on was done.
fn finish(begun: Option<Begun>, done: &mut dyn FnMut(Call)) {
    if let Some(Begun::Remove { at_ns, kind, id, by }) = begun {
        done(Call { at_ns, kind, what: What::Remove(id), by });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Asked = Asked { key: 0, size: 3, flags: 0o1600 };

    fn event(at_ns: u64, tid: i32, kind: Kind, tells: Tells) -> Event {
        Event { at_ns, tid, kind, tells }
    }

    fn fed(events: &[Event]) -> (Vec<(u64, i32, What)>, Pairing) {
        let (mut pairing, mut done) = (Pairing::default(), Vec::new());
        for event in events {
            let mut ask = |tid, _| Arc::new(Caller { pid: tid, ..Caller::default() });
            pairing.feed(event, &mut ask, &mut |call| done.push((call.at_ns, call.by.pid, call.what)));
        }
        (done, pairing)
    }

    #[test]
    fn a_call_is_its_beginning_and_its_end_whatever_others_do_meanwhile() {
        let (done, _) = fed(&[
            event(1, 7, Kind::Sem, Tells::Gets(NEW)),
            event(2, 8, Kind::Sem, Tells::Gets(Asked { size: 9, ..NEW })),
            event(3, 7, Kind::Sem, Tells::Got(5)),
            event(4, 8, Kind::Sem, Tells::Got(-28)),
        ]);
        let nine = Asked { size: 9, ..NEW };
        assert_eq!(
            done,
            [(1, 7, What::Get { asked: Some(NEW), answer: 5 }), (2, 8, What::Get { asked: Some(nine), answer: -28 })]
        );
    }

    #[test]
    fn an_end_without_its_beginning_counts_only_if_it_is_a_refusal() {
        let (done, _) = fed(&[
            event(1, 7, Kind::Sem, Tells::Got(5)),
            event(2, 7, Kind::Sem, Tells::Got(-22)),
            event(3, 7, Kind::Shm, Tells::Got(-38)),
            event(4, 7, Kind::Sem, Tells::Gets(NEW)),
            event(5, 7, Kind::Shm, Tells::Got(-28)),
        ]);
        let refused = |answer| What::Get { asked: None, answer };
        assert_eq!(done, [(3, 7, refused(-38)), (5, 7, refused(-28))]);
    }

    #[test]
    fn a_removal_is_done_unless_it_is_refused() {
        let (done, mut pairing) = fed(&[
            event(1, 7, Kind::Sem, Tells::Removes(5)),
            event(2, 7, Kind::Sem, Tells::NotRemoved),
            event(3, 8, Kind::Sem, Tells::Removes(6)),
            event(4, 8, Kind::Sem, Tells::Removes(7)),
            event(5, 9, Kind::Msg, Tells::Removes(8)),
        ]);
        assert_eq!(done, [(3, 8, What::Remove(6))]);
        let mut settled = Vec::new();
        pairing.settle(4 + Pairing::SETTLED_NS, &mut |call| settled.push(call.what));
        assert_eq!(settled, [What::Remove(7)]);
        pairing.settle(u64::MAX, &mut |call| settled.push(call.what));
        assert_eq!(settled, [What::Remove(7), What::Remove(8)]);
        assert!(pairing.begun.is_empty());
    }

    #[test]
    fn the_table_is_bounded() {
        let begins = |n: i32| if n == 7 { Tells::Removes(1) } else { Tells::Gets(NEW) };
        let many: Vec<Event> =
            (0..5000_i32).map(|n| event(u64::from(n.unsigned_abs()), n, Kind::Sem, begins(n))).collect();
        let (done, pairing) = fed(&many);
        assert_eq!(pairing.begun.len(), 5000 - Pairing::MAX);
        assert_eq!(done, [(7, 7, What::Remove(1))], "what was removed is told nevertheless");
    }
}
