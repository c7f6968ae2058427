//! Where wire and domain meet, both ways; hostile input is refused here with an error that names the field.

use highwater_ipc::activity::Activity;
use highwater_ipc::codec::{self, CodecError};
use highwater_ipc::record::{
    Body, Chain, Content, Epoch, EpochId, EpochNo, GapReason, Keyframe, Record, RecordKind, Seq,
};
use highwater_ipc::session::{Hello, HostFacts, Now, SpooledEpoch, StoredEpoch, Verdict, Welcome};
use highwater_ipc::snapshot::{BootId, Namespace, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;

use crate::{bounds, v1};

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field is longer or larger than its bound.
    #[error("{field} is {value}, the bound is {bound}")]
    TooLarge {
        /// The field, as the .proto file calls it.
        field: &'static str,
        /// Its length or value.
        value: u64,
        /// The bound.
        bound: u64,
    },
    /// A field of fixed length has another one.
    #[error("{field} has {len} bytes, not {expected}")]
    WrongLength {
        /// The field.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The only right one.
        expected: usize,
    },
    /// A number that names nothing.
    #[error("{field} is {value}, which names nothing this version knows")]
    UnknownCode {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// Fields that contradict each other.
    #[error("{what}")]
    Contradiction {
        /// What is wrong.
        what: &'static str,
    },
    /// A packed body that is none.
    #[error("a record's body cannot be read: {0}")]
    Body(#[from] CodecError),
}

/// Writes a hello.
pub fn hello_to_wire(hello: &Hello) -> v1::Hello {
    let facts = &hello.facts;
    v1::Hello {
        agent_version: facts.agent_version.as_bytes().to_vec(),
        machine_id: facts.machine_id.as_bytes().to_vec(),
        boot_id: facts.boot_id.0.to_vec(),
        hostname: facts.hostname.as_bytes().to_vec(),
        kernel: facts.kernel.as_bytes().to_vec(),
        arch: facts.arch.as_bytes().to_vec(),
        distro: facts.distro.as_bytes().to_vec(),
        wall_ms: hello.now.wall_ms,
        boot_us: hello.now.boot_us,
        epochs: hello
            .epochs
            .iter()
            .map(|e| v1::SpooledEpoch {
                epoch_no: e.epoch.no.0,
                epoch_id: e.epoch.id.0,
                first_seq: e.first.0,
                next_seq: e.next.0,
                chain: e.chain.0.to_vec(),
                boot_id: e.boot_id.0.to_vec(),
            })
            .collect(),
    }
}

/// Reads a hello.
pub fn hello_from_wire(hello: v1::Hello) -> Result<Hello, WireError> {
    within("Hello.epochs", hello.epochs.len(), bounds::EPOCHS)?;
    let mut epochs: Vec<SpooledEpoch> = Vec::with_capacity(hello.epochs.len());
    for e in &hello.epochs {
        let epoch = Epoch { no: EpochNo(epoch_no(e.epoch_no)?), id: EpochId(e.epoch_id) };
        if epochs.last().is_some_and(|before| before.epoch.no >= epoch.no) {
            return Err(WireError::Contradiction { what: "Hello.epochs does not ascend" });
        }
        if e.first_seq > e.next_seq {
            return Err(WireError::Contradiction { what: "SpooledEpoch.first_seq is beyond next_seq" });
        }
        epochs.push(SpooledEpoch {
            epoch,
            boot_id: boot_id("SpooledEpoch.boot_id", &e.boot_id)?,
            first: Seq(e.first_seq),
            next: Seq(number("SpooledEpoch.next_seq", e.next_seq)?),
            chain: chain("SpooledEpoch.chain", &e.chain)?,
        });
    }
    if epochs.is_empty() {
        return Err(WireError::Missing { field: "Hello.epochs" });
    }
    Ok(Hello {
        facts: HostFacts {
            agent_version: text("Hello.agent_version", &hello.agent_version, bounds::SHORT_TEXT)?,
            machine_id: text("Hello.machine_id", &hello.machine_id, bounds::SHORT_TEXT)?,
            boot_id: boot_id("Hello.boot_id", &hello.boot_id)?,
            hostname: text("Hello.hostname", &hello.hostname, HostText::MAX)?,
            kernel: text("Hello.kernel", &hello.kernel, HostText::MAX)?,
            arch: text("Hello.arch", &hello.arch, HostText::MAX)?,
            distro: text("Hello.distro", &hello.distro, HostText::MAX)?,
        },
        now: At { wall_ms: hello.wall_ms, boot_us: number("Hello.boot_us", hello.boot_us)? },
        epochs,
    })
}

/// Writes a welcome.
pub fn welcome_to_wire(welcome: &Welcome) -> v1::Welcome {
    v1::Welcome {
        session: welcome.session,
        server_wall_ms: welcome.server_wall_ms,
        interval_ms: welcome.interval_ms.unwrap_or(0),
        epochs: welcome
            .epochs
            .iter()
            .map(|e| v1::StoredEpoch {
                epoch_no: e.no.0,
                next_seq: e.next.0,
                chain: e.chain.0.to_vec(),
                verdict: match e.verdict {
                    Verdict::Continue => v1::Verdict::Continue,
                    Verdict::Forked => v1::Verdict::Forked,
                    Verdict::HistoryRestored => v1::Verdict::HistoryRestored,
                }
                .into(),
            })
            .collect(),
    }
}

/// Reads a welcome.
pub fn welcome_from_wire(welcome: &v1::Welcome) -> Result<Welcome, WireError> {
    within("Welcome.epochs", welcome.epochs.len(), bounds::EPOCHS)?;
    let epochs = welcome
        .epochs
        .iter()
        .map(|e| {
            let verdict = match v1::Verdict::try_from(e.verdict) {
                Ok(v1::Verdict::Continue) => Verdict::Continue,
                Ok(v1::Verdict::Forked) => Verdict::Forked,
                Ok(v1::Verdict::HistoryRestored) => Verdict::HistoryRestored,
                Ok(v1::Verdict::Unspecified) | Err(_) => {
                    return Err(WireError::UnknownCode { field: "StoredEpoch.verdict", value: e.verdict.into() });
                }
            };
            Ok(StoredEpoch {
                no: EpochNo(e.epoch_no),
                next: Seq(e.next_seq),
                chain: chain("StoredEpoch.chain", &e.chain)?,
                verdict,
            })
        })
        .collect::<Result<_, _>>()?;
    let interval_ms = match welcome.interval_ms {
        0 => None,
        ms => Some(interval("Welcome.interval_ms", ms)?),
    };
    Ok(Welcome { session: welcome.session, server_wall_ms: welcome.server_wall_ms, interval_ms, epochs })
}

/// Checks a sampling interval, milliseconds.
pub fn interval(field: &'static str, ms: u32) -> Result<u32, WireError> {
    if ms < bounds::INTERVAL_MIN_MS {
        return Err(WireError::UnknownCode { field, value: ms.into() });
    }
    within(field, ms as usize, bounds::INTERVAL_MAX_MS as usize)?;
    Ok(ms)
}

/// Writes a record as one part, or as several if its body exceeds [`bounds::PART`].
pub fn record_to_wire(record: &Record) -> Vec<v1::Record> {
    let parts = record.body.len().div_ceil(bounds::PART).max(1);
    let more_parts = u32::try_from(parts - 1).unwrap_or(u32::MAX);
    (0..=more_parts)
        .map(|part| {
            let from = part as usize * bounds::PART;
            let to = record.body.len().min(from + bounds::PART);
            v1::Record {
                kind: i32::from(record.kind.code()),
                seq: record.seq.0,
                merged: record.seq.0 - record.first_seq.0,
                chain: record.chain.0.to_vec(),
                body: record.body[from..to].to_vec(),
                part,
                more_parts,
                missing: record.missing.filter(|_| part == 0).map_or(0, |reason| reason.code().into()),
            }
        })
        .collect()
}

/// Puts the parts of records together again; holds at most one record, at most [`Record::MAX_BODY`] bytes.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    open: Option<Record>,
    next_part: u32,
    /// Parts of the open record after its first.
    more_parts: u32,
}

impl Assembler {
    /// The most bytes that the body of the record under way can have; `None` between two records.
    pub fn expects(&self) -> Option<usize> {
        self.open.as_ref().map(|_| most_bytes(self.more_parts))
    }

    /// Takes the next part of the stream. `Ok(None)`: more parts are to come.
    pub fn push(&mut self, part: v1::Record) -> Result<Option<Record>, WireError> {
        within("Record.body", part.body.len(), bounds::PART)?;
        let more = u64::from(part.more_parts);
        let most = (Record::MAX_BODY / bounds::PART) as u64;
        if more > most {
            return Err(WireError::TooLarge { field: "Record.more_parts", value: more, bound: most });
        }
        if self.open.is_some() && part.more_parts != self.more_parts {
            return Err(WireError::Contradiction { what: "Record.more_parts differs between the parts of a record" });
        }
        self.more_parts = part.more_parts;
        if part.part != self.next_part || part.part > part.more_parts {
            return Err(WireError::Contradiction { what: "Record.part is not the next part of its record" });
        }
        let last = part.part == part.more_parts;
        let whole = match self.open.take() {
            None => first_part(part)?,
            Some(mut open) => {
                if part.seq != open.seq.0 || part.kind != i32::from(open.kind.code()) {
                    return Err(WireError::Contradiction { what: "the parts of a record differ in seq or kind" });
                }
                within("the parts' bodies together", open.body.len() + part.body.len(), Record::MAX_BODY)?;
                if part.part == 1 {
                    // Once and for all: growing as it fills would take up to twice as much.
                    open.body.reserve_exact(most_bytes(part.more_parts).saturating_sub(open.body.len()));
                }
                open.body.extend_from_slice(&part.body);
                open
            }
        };
        if last {
            self.next_part = 0;
            Ok(Some(whole))
        } else {
            self.next_part += 1;
            self.open = Some(whole);
            Ok(None)
        }
    }
}

fn most_bytes(more_parts: u32) -> usize {
    (more_parts as usize + 1).saturating_mul(bounds::PART).min(Record::MAX_BODY)
}

fn first_part(part: v1::Record) -> Result<Record, WireError> {
    let kind = u8::try_from(part.kind)
        .ok()
        .and_then(RecordKind::from_code)
        .ok_or(WireError::UnknownCode { field: "Record.kind", value: part.kind.into() })?;
    let seq = number("Record.seq", part.seq)?;
    if part.merged > 0 && kind != RecordKind::Heartbeat {
        return Err(WireError::Contradiction { what: "Record.merged is set on a record that is no heartbeat" });
    }
    let first = seq.checked_sub(part.merged);
    let first = first.ok_or(WireError::Contradiction { what: "Record.merged exceeds Record.seq" })?;
    if part.missing > 0 && kind != RecordKind::Keyframe {
        return Err(WireError::Contradiction { what: "Record.missing is set on a record that is no keyframe" });
    }
    let reason = |code| u8::try_from(code).ok().and_then(GapReason::from_code);
    let unknown = WireError::UnknownCode { field: "Record.missing", value: part.missing.into() };
    Ok(Record {
        kind,
        first_seq: Seq(first),
        seq: Seq(seq),
        chain: chain("Record.chain", &part.chain)?,
        missing: if part.missing == 0 { None } else { Some(reason(part.missing).ok_or(unknown)?) },
        body: part.body,
    })
}

/// Writes the present of a host that is behind, without objects, owners and names; of many namespaces as many of the
/// first ones as fit.
pub fn now_to_wire(now: &Now) -> v1::Now {
    let (wall_ms, backlog_from_ms) = (now.at.wall_ms, now.backlog_from_ms);
    let mut most = now.state.namespaces.len();
    let mut summary = summary_of(now, most);
    while summary.len() > bounds::SUMMARY && most > 0 {
        most /= 2;
        summary = summary_of(now, most);
    }
    v1::Now { wall_ms, backlog_from_ms, summary }
}

fn summary_of(now: &Now, most: usize) -> Vec<u8> {
    let bare = |n: &Namespace| {
        let (name, unreadable) = (n.name.clone(), n.unreadable.clone());
        let Namespace { id, named_by, skipped, torn, limits, totals, left_out, .. } = *n;
        Namespace { id, name, named_by, skipped, torn, limits, totals, unreadable, left_out, ..Namespace::default() }
    };
    let State { boot_id, interval_ms, page_size, ref zone, ref availability, ref risks, ref unseen, .. } = now.state;
    let (zone, availability, risks, unseen) = (zone.clone(), availability.clone(), risks.clone(), unseen.clone());
    let namespaces = now.state.namespaces.iter().take(most).map(bare).collect();
    let state =
        State { boot_id, interval_ms, page_size, zone, availability, risks, unseen, namespaces, ..State::default() };
    let content = Content::Keyframe(Keyframe { gap: None, took_us: 0, state, activity: Activity::default() });
    codec::encode_body(&Body { at: now.at, content })
}

/// Reads the present of a host that is behind.
pub fn now_from_wire(now: &v1::Now) -> Result<Now, WireError> {
    within("Now.summary", now.summary.len(), bounds::SUMMARY)?;
    let body = codec::decode_body(RecordKind::Keyframe, &now.summary)?;
    let state: State = match body.content {
        Content::Keyframe(keyframe) => keyframe.state,
        _ => return Err(WireError::Contradiction { what: "Now.summary is no keyframe" }),
    };
    number("Now.summary's boot time", body.at.boot_us)?;
    Ok(Now { backlog_from_ms: now.backlog_from_ms, at: body.at, state })
}

fn text(field: &'static str, bytes: &[u8], bound: usize) -> Result<HostText, WireError> {
    within(field, bytes.len(), bound)?;
    Ok(HostText::cut(bytes))
}

fn within(field: &'static str, value: usize, bound: usize) -> Result<(), WireError> {
    if value > bound {
        return Err(WireError::TooLarge { field, value: value as u64, bound: bound as u64 });
    }
    Ok(())
}

fn number(field: &'static str, value: u64) -> Result<u64, WireError> {
    if value >= bounds::NUMBER {
        return Err(WireError::TooLarge { field, value, bound: bounds::NUMBER - 1 });
    }
    Ok(value)
}

/// An agent that has lost count could otherwise write into what was imported.
fn epoch_no(value: u64) -> Result<u64, WireError> {
    if value >= bounds::EPOCH_NO {
        return Err(WireError::TooLarge { field: "SpooledEpoch.epoch_no", value, bound: bounds::EPOCH_NO - 1 });
    }
    Ok(value)
}

fn chain(field: &'static str, bytes: &[u8]) -> Result<Chain, WireError> {
    fixed(field, bytes).map(Chain)
}

fn boot_id(field: &'static str, bytes: &[u8]) -> Result<BootId, WireError> {
    fixed(field, bytes).map(BootId)
}

fn fixed<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::WrongLength { field, len: bytes.len(), expected: N })
}

#[cfg(test)]
mod tests;
