//! Spans in which one kind of objects of one namespace could not be read while samples were taken.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::record::EpochNo;
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};

use super::{Sample, kept};
use crate::host::HostId;
use crate::query::unread::{self, List, why};
use crate::store::gap_part::{GapPart, PartEnd, StretchEnd};

/// Where a list was last found unreadable: by an earlier step, or in this row.
#[derive(Clone, Copy, Debug)]
enum Open {
    Earlier,
    Here(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Parts {
    host: HostId,
    epoch: EpochNo,
    open: BTreeMap<List, Open>,
    /// The namespaces of the sample before.
    known: BTreeSet<NamespaceId>,
    /// Whether nothing was taken yet, and nothing is known of the time before.
    is_fresh: bool,
    stretch_end: Option<StretchEnd>,
    ends: Vec<PartEnd>,
    rows: Vec<GapPart>,
}

impl Parts {
    pub(super) fn new(host: HostId, epoch: EpochNo) -> Self {
        Self {
            host,
            epoch,
            open: BTreeMap::new(),
            known: BTreeSet::new(),
            is_fresh: true,
            stretch_end: None,
            ends: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub(super) fn resume(&mut self, state: &State) {
        self.is_fresh = false;
        self.open = unreadable(state).map(|(_, list)| (list, Open::Earlier)).collect();
        self.known = kept(state).map(|(_, n)| n.id).collect();
    }

    /// Takes a sample; `goes_on` = in the stretch of the one before, which was at `last_ms`.
    pub(super) fn sample(&mut self, goes_on: bool, last_ms: Option<i64>, sample: &Sample<'_>) {
        let before_ms = sample.prev_wall_ms.or(last_ms);
        if std::mem::take(&mut self.is_fresh) {
            let end = |to_wall_ms| StretchEnd { host: self.host, epoch: self.epoch, to_wall_ms };
            self.stretch_end = sample.prev_wall_ms.map(end);
        }
        if !goes_on {
            self.end_all(before_ms.unwrap_or(sample.wall_ms));
            self.known.clear();
        }
        let now: BTreeMap<List, &Namespace> = unreadable(sample.state).map(|(n, list)| (list, n)).collect();
        let over: Vec<List> = self.open.keys().filter(|list| !now.contains_key(list)).copied().collect();
        for list in over {
            self.end(list, sample.wall_ms);
        }
        for (list, namespace) in now {
            if self.open.contains_key(&list) {
                continue;
            }
            let read_ms = before_ms.filter(|_| goes_on && self.known.contains(&list.0));
            self.open.insert(list, Open::Here(self.rows.len()));
            self.rows.push(GapPart {
                host: self.host,
                epoch: self.epoch,
                seq: sample.seq,
                namespace: list.0,
                kind: list.1,
                from_wall_ms: read_ms.unwrap_or(sample.wall_ms),
                to_wall_ms: None,
                detail: why(namespace, list.1),
            });
        }
        self.known = kept(sample.state).map(|(_, n)| n.id).collect();
    }

    /// Ends whatever is open.
    pub(super) fn end_all(&mut self, wall_ms: i64) {
        let open: Vec<List> = self.open.keys().copied().collect();
        for list in open {
            self.end(list, wall_ms);
        }
    }

    fn end(&mut self, list: List, wall_ms: i64) {
        let (host, epoch) = (self.host, self.epoch);
        match self.open.remove(&list) {
            None => {}
            Some(Open::Earlier) => {
                self.ends.push(PartEnd { host, epoch, namespace: list.0, kind: list.1, to_wall_ms: wall_ms });
            }
            Some(Open::Here(index)) => {
                if let Some(row) = self.rows.get_mut(index) {
                    row.to_wall_ms = Some(wall_ms);
                }
            }
        }
    }

    pub(super) fn finish(self) -> (Option<StretchEnd>, Vec<PartEnd>, Vec<GapPart>) {
        (self.stretch_end, self.ends, self.rows)
    }
}

/// The lists of the namespaces that are kept that could not be read.
fn unreadable(state: &State) -> impl Iterator<Item = (&Namespace, List)> {
    unread::unreadable(state, kept(state).map(|(_, n)| n))
}
