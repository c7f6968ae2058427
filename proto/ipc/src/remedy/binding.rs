//! Which limit refused a call.

use crate::limits::{Limits, Resource, Totals, Usage};
use crate::object::Kind;
use crate::render::lsipc::Parameter;

/// The limit that refuses one more object of that kind and size with ENOSPC. `size` is semaphores of an array or bytes
/// of a segment, and nothing of a queue. In the kernel's order, which counts semaphores before arrays (`newary` of
/// `ipc/sem.c`) and pages before segments (`newseg` of `ipc/shm.c`). `None` = there is room: it was another state that
/// refused.
pub fn binding(kind: Kind, size: u64, totals: &Totals, limits: &Limits, page_size: u32) -> Option<Usage> {
    let (summed, counted) = match kind {
        Kind::Sem => (Some((Resource::Semmns, size)), Resource::Semmni),
        Kind::Shm => (Some((Resource::Shmall, size.div_ceil(u64::from(page_size.max(1))))), Resource::Shmmni),
        Kind::Msg => (None, Resource::Msgmni),
    };
    [summed, Some((counted, 1))].into_iter().flatten().find_map(|(resource, more)| {
        let (used, limit) = resource.of(totals, limits);
        let fits = used.checked_add(more).is_some_and(|sum| sum <= limit);
        (!fits).then_some(Usage { resource, used, limit })
    })
}

/// A call that asked for more than one object may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// SEMMSL or SHMMAX.
    pub parameter: Parameter,
    /// What was asked for: semaphores or bytes.
    pub asked: u64,
    /// The most that one object may have.
    pub limit: u64,
}

/// The limit of one object that refuses a call with EINVAL; `None` = it does not exceed it, EINVAL had another reason.
pub fn excess(kind: Kind, size: u64, limits: &Limits) -> Option<Excess> {
    let (parameter, limit) = match kind {
        Kind::Sem => (Parameter::Semmsl, limits.semmsl),
        Kind::Shm => (Parameter::Shmmax, limits.shmmax),
        Kind::Msg => return None,
    };
    (size > limit).then_some(Excess { parameter, asked: size, limit })
}
