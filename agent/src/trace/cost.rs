//! What tracing costs, measured: a system call with and without the events, and the memory of the buffers.

use std::time::Duration;

use super::tracefs::{self, Instance, Owner, TraceError};
use crate::sys::wait::time_calls;

/// What tracing costs this host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Nanoseconds that each system call of the host takes longer; 0 or little if others trace such calls already.
    pub per_call_ns: f64,
    /// Nanoseconds of the cheapest system call without it.
    pub call_ns: f64,
    /// Bytes of the buffers, all processors together.
    pub buffer_bytes: u64,
    /// Somebody else traces such calls just now (an agent that runs), so the price is paid already.
    pub others: bool,
}

/// Rounds with and without, in turns; the least of each counts, for everything else that goes on only adds.
const ROUNDS: usize = 5;
/// Calls of one round: 2 million in all, half a second.
const CALLS: u32 = 200_000;

/// Measures it with an instance of its own, for about a second; as with the agent's, nothing is left behind.
pub fn measure() -> Result<Cost, TraceError> {
    let (root, me) = (tracefs::root()?, Owner::me()?);
    let mut instance = Instance::make(&root, &me)?;
    instance.prepare()?;
    let others = instance.others();
    let (mut without, mut with) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        without = without.min(time_calls(CALLS));
        instance.record()?;
        with = with.min(time_calls(CALLS));
        instance.pause()?;
    }
    let per = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(CALLS);
    let buffer_bytes = instance.buffer_bytes().unwrap_or(0);
    Ok(Cost { per_call_ns: (per(with) - per(without)).max(0.0), call_ns: per(without), buffer_bytes, others })
}
