//! What the writer needs to know of a record; its body stays packed. Pure.

use std::sync::Arc;

use highwater_ipc::availability::Availability;
use highwater_ipc::delta::{Delta, NamespaceChange, NamespaceDelta};
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::record::{Body, Chain, Content, GapReason, Record, RecordKind, Seq};
use highwater_ipc::risk::Risk;
use highwater_ipc::snapshot::{Namespace, State};
use highwater_ipc::time::At;
use highwater_proto::{bounds, chain};

/// A record whose body was read and whose place was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What it is.
    pub kind: RecordKind,
    /// First position it stands for: before `seq` only for merged heartbeats.
    pub first: Seq,
    /// Its position.
    pub seq: Seq,
    /// What the record after it must carry.
    pub next_chain: Chain,
    /// When its sample began, or its event happened.
    pub at: At,
    /// What it says that more than a reader of history wants.
    pub says: Says,
    /// Its body, packed.
    pub body: Arc<[u8]>,
}

/// What a record says beside objects; `None` = as before.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Says {
    /// Why samples are missing before a keyframe, or will be after a gap-reason record.
    pub gap: Option<GapReason>,
    /// Planned time between samples, milliseconds, within the protocol's bounds.
    pub interval_ms: Option<u32>,
    /// Whether the host can do System V IPC.
    pub availability: Option<Availability>,
    /// What threatens the host.
    pub risks: Option<Vec<Risk>>,
    /// Use and limits of namespaces that it names.
    pub namespaces: Vec<NamespaceUse>,
}

/// Use and limits of one namespace; `None` = not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceUse {
    /// Its inode.
    pub inode: u64,
    /// Whether it is the host's own: the first of a whole state.
    pub own: bool,
    /// What is in use.
    pub totals: Option<Totals>,
    /// What may be.
    pub limits: Option<Limits>,
}

impl Arrival {
    /// Of a record and its unpacked body.
    pub fn new(record: Record, body: &Body) -> Self {
        let mut says = Says::of(&body.content);
        says.gap = says.gap.or(record.missing);
        Self {
            kind: record.kind,
            first: record.first_seq,
            seq: record.seq,
            next_chain: chain::after(record.chain, record.kind, &record.body),
            at: body.at,
            says,
            body: record.body.into(),
        }
    }

    /// Bytes it takes in a queue.
    pub fn weight(&self) -> usize {
        self.body.len() + 512
    }
}

impl Says {
    fn of(content: &Content) -> Self {
        match content {
            Content::Keyframe(keyframe) => Self { gap: keyframe.gap, ..Self::state(&keyframe.state) },
            Content::Delta(delta) => Self::delta(delta),
            Content::GapReason(reason) => Self { gap: Some(*reason), ..Self::default() },
            Content::Heartbeat | Content::Event(_) => Self::default(),
        }
    }

    /// What a whole state says.
    pub fn state(state: &State) -> Self {
        Self {
            gap: None,
            interval_ms: Some(within(state.interval_ms)),
            availability: Some(state.availability.clone()),
            risks: Some(state.risks.clone()),
            namespaces: state.namespaces.first().map(|n| use_of(n, true)).into_iter().collect(),
        }
    }

    fn delta(delta: &Delta) -> Self {
        let namespaces = delta.namespaces.iter().filter_map(|change| match change {
            NamespaceDelta::Gone(_) => None,
            NamespaceDelta::Appeared { position, namespace } => Some(use_of(namespace, *position == 0)),
            NamespaceDelta::Changed(change) => Some(change_of(change)),
        });
        Self {
            gap: None,
            interval_ms: delta.interval_ms.map(within),
            availability: delta.availability.clone(),
            risks: delta.risks.clone(),
            namespaces: namespaces.collect(),
        }
    }
}

fn use_of(namespace: &Namespace, own: bool) -> NamespaceUse {
    NamespaceUse { inode: namespace.id.inode, own, totals: namespace.totals, limits: namespace.limits }
}

fn change_of(change: &NamespaceChange) -> NamespaceUse {
    NamespaceUse {
        inode: change.id.inode,
        own: false,
        totals: change.totals.flatten(),
        limits: change.limits.flatten(),
    }
}

/// A host claims its interval; an absurd one must not hide gaps, nor make one of every sample.
fn within(interval_ms: u32) -> u32 {
    interval_ms.clamp(bounds::INTERVAL_MIN_MS, bounds::INTERVAL_MAX_MS)
}
