//! Which hosts are connected to this collector, and whether a second hello is a reconnect or a copy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use highwater_ipc::record::EpochId;
use highwater_ipc::session::Hello;
use highwater_ipc::snapshot::BootId;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::host::HostId;

/// How long the stream that is there has to answer a ping.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Who is connected.
#[derive(Debug, Default)]
pub(super) struct Registry {
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    hosts: HashMap<HostId, Member>,
    /// Hosts of which somebody stands at the gate.
    gates: HashMap<HostId, Arc<Turn<()>>>,
    /// Numbers members, so that one does not remove its successor.
    last: u64,
}

#[derive(Clone, Debug)]
struct Member {
    number: u64,
    boot_id: BootId,
    epoch_id: Option<EpochId>,
    probes: mpsc::Sender<Probe>,
    replaced: CancellationToken,
    busy: Busy,
}

/// A question to a live stream: does its agent answer?
#[derive(Debug)]
pub(super) struct Probe {
    /// Told when it does.
    pub(super) answered: oneshot::Sender<()>,
}

/// Set while a stream waits for the writer: then it cannot answer, and that says nothing about its agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<std::sync::atomic::AtomicBool>);

impl Busy {
    /// Says whether the stream waits.
    pub(super) fn set(&self, waits: bool) {
        self.0.store(waits, std::sync::atomic::Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Acquire)
    }
}

/// The right to decide who holds a host: from the look at who is there to the place taken, one newcomer at a time.
/// Otherwise two that come together, as after a restart of the collector, would both find nobody, and the second, a
/// copy perhaps, would take the first one's place without having asked it. Dropping it lets the next one look.
#[derive(Debug)]
pub(super) struct Gate {
    registry: Arc<Registry>,
    host: HostId,
    gate: Arc<Turn<()>>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.turn = None;
        let mut live = self.registry.lock();
        // The registry's and this one: nobody else stands here.
        if Arc::strong_count(&self.gate) == 2 {
            live.gates.remove(&self.host);
        }
    }
}

/// A stream's place in the registry; dropping it leaves.
#[derive(Debug)]
pub(super) struct Membership {
    registry: Arc<Registry>,
    host: HostId,
    number: u64,
    /// Questions to this stream.
    pub(super) probes: mpsc::Receiver<Probe>,
    /// Cancelled when another stream takes this one's place.
    pub(super) replaced: CancellationToken,
    /// Says when this stream cannot answer.
    pub(super) busy: Busy,
}

/// What a hello meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incumbent {
    /// No other stream, or one that is this agent's own past, or one that no longer answers.
    Yields,
    /// Another agent, alive.
    Stays,
    /// Another agent; whether it lives cannot be told now.
    Busy,
}

impl Registry {
    /// Waits for one's turn to decide about a host. Cancelling the wait gives the turn up.
    pub(super) async fn gate(self: &Arc<Self>, host: HostId) -> Gate {
        let gate = Arc::clone(self.lock().gates.entry(host).or_default());
        let mut here = Gate { registry: Arc::clone(self), host, gate, turn: None };
        here.turn = Some(Arc::clone(&here.gate).lock_owned().await);
        here
    }

    /// Looks who is there. Another boot or another epoch is another agent: it is asked whether it lives. The same ones
    /// are a reconnect.
    pub(super) async fn meet(&self, host: HostId, hello: &Hello) -> Incumbent {
        let Some(there) = self.lock().hosts.get(&host).cloned() else { return Incumbent::Yields };
        if there.boot_id == hello.facts.boot_id && there.epoch_id == current_epoch(hello) {
            return Incumbent::Yields;
        }
        let (answered, answer) = oneshot::channel();
        let asked = there.probes.try_send(Probe { answered }).is_ok();
        if asked && matches!(tokio::time::timeout(ANSWER_WITHIN, answer).await, Ok(Ok(()))) {
            return Incumbent::Stays;
        }
        if there.busy.get() { Incumbent::Busy } else { Incumbent::Yields }
    }

    /// Takes the host's place; a stream that had it is told to end.
    pub(super) fn join(self: &Arc<Self>, host: HostId, hello: &Hello) -> Membership {
        let (way_in, probes) = mpsc::channel(4);
        let replaced = CancellationToken::new();
        let busy = Busy::default();
        let mut live = self.lock();
        live.last += 1;
        let number = live.last;
        let member = Member {
            number,
            boot_id: hello.facts.boot_id,
            epoch_id: current_epoch(hello),
            probes: way_in,
            replaced: replaced.clone(),
            busy: busy.clone(),
        };
        if let Some(before) = live.hosts.insert(host, member) {
            before.replaced.cancel();
        }
        drop(live);
        Membership { registry: Arc::clone(self), host, number, probes, replaced, busy }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut live = self.registry.lock();
        if live.hosts.get(&self.host).is_some_and(|m| m.number == self.number) {
            live.hosts.remove(&self.host);
        }
    }
}

fn current_epoch(hello: &Hello) -> Option<EpochId> {
    hello.epochs.last().map(|e| e.epoch.id)
}

#[cfg(test)]
mod tests {
    use highwater_ipc::record::{Chain, Epoch, EpochNo, Seq};
    use highwater_ipc::session::{HostFacts, SpooledEpoch};
    use highwater_ipc::time::At;

    use super::*;

    const HOST: HostId = HostId(5);

    fn hello(boot: u8, epoch_id: u64) -> Hello {
        let epoch = SpooledEpoch {
            epoch: Epoch { no: EpochNo(1), id: EpochId(epoch_id) },
            boot_id: BootId([boot; 16]),
            first: Seq(0),
            next: Seq(0),
            chain: Chain::default(),
        };
        let facts = HostFacts { boot_id: BootId([boot; 16]), ..HostFacts::default() };
        Hello { facts, now: At::default(), epochs: vec![epoch] }
    }

    #[tokio::test]
    async fn a_copy_meets_a_live_agent_and_a_restart_a_dead_one() {
        let registry = Arc::new(Registry::default());
        let mut there = registry.join(HOST, &hello(1, 1));
        assert_eq!(registry.meet(HostId(6), &hello(1, 2)).await, Incumbent::Yields);
        assert_eq!(registry.meet(HOST, &hello(1, 1)).await, Incumbent::Yields);
        for copy in [hello(1, 2), hello(2, 1)] {
            let (met, ()) = tokio::join!(registry.meet(HOST, &copy), async {
                there.probes.recv().await.unwrap().answered.send(()).unwrap();
            });
            assert_eq!(met, Incumbent::Stays);
        }
        // A stream that ends drops the question.
        let unanswered = async |there: &mut Membership| {
            let copy = hello(1, 2);
            tokio::join!(registry.meet(HOST, &copy), async { drop(there.probes.recv().await) }).0
        };
        assert_eq!(unanswered(&mut there).await, Incumbent::Yields);
        there.busy.set(true);
        assert_eq!(unanswered(&mut there).await, Incumbent::Busy);
    }

    #[tokio::test]
    async fn newcomers_of_one_host_decide_one_after_the_other_and_leave_no_gate_behind() {
        let registry = Arc::new(Registry::default());
        let first = registry.gate(HOST).await;
        drop(registry.gate(HostId(6)).await);
        let second = registry.gate(HOST);
        tokio::pin!(second);
        let waits = tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err();
        assert!(waits && registry.lock().gates.len() == 1);
        // One that gives up does not stand in the way of the next.
        drop(tokio::time::timeout(Duration::from_millis(20), registry.gate(HOST)).await);
        drop(first);
        drop(second.await);
        assert!(registry.lock().gates.is_empty());
    }

    #[test]
    fn a_stream_that_was_replaced_does_not_remove_its_successor() {
        let registry = Arc::new(Registry::default());
        let first = registry.join(HOST, &hello(1, 1));
        let second = registry.join(HOST, &hello(1, 1));
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert!(registry.lock().hosts.contains_key(&HOST));
        drop(second);
        assert!(registry.lock().hosts.is_empty());
    }
}
