//! Chunks of records that make no state: kept as they came, so that nothing is lost and no partition waits for them. Whoever
//! asks for a state in one is told so, as before it was compacted. Pure.
//!
//! ```text
//! raw    = byte 255 (no version of highwater_ipc::chunk), record..
//! record = seq, kind (1 byte), wall_ms, received_ms, prev_wall_ms (1 byte 0 none, or 1 and the number), 4 bytes length, body
//! ```
//! Numbers have 8 bytes, the lowest first.

use highwater_ipc::record::{RecordKind, Seq};

use crate::store::history::StoredRecord;

/// What a raw chunk begins with.
const RAW: u8 = 255;

/// Begins a raw chunk.
pub fn begin() -> Vec<u8> {
    vec![RAW]
}

/// Whether that is a raw chunk.
pub fn is_raw(chunk: &[u8]) -> bool {
    chunk.first() == Some(&RAW)
}

/// Adds a record to a raw chunk.
pub fn push(chunk: &mut Vec<u8>, record: &StoredRecord) {
    chunk.extend_from_slice(&record.seq.0.to_le_bytes());
    chunk.push(record.kind.code());
    chunk.extend_from_slice(&record.wall_ms.to_le_bytes());
    chunk.extend_from_slice(&record.received_ms.to_le_bytes());
    match record.prev_wall_ms {
        None => chunk.push(0),
        Some(wall_ms) => {
            chunk.push(1);
            chunk.extend_from_slice(&wall_ms.to_le_bytes());
        }
    }
    chunk.extend_from_slice(&u32::try_from(record.body.len()).unwrap_or(u32::MAX).to_le_bytes());
    chunk.extend_from_slice(&record.body);
}

/// The records of a raw chunk; what does not read as such is left out from there on.
pub fn records(chunk: &[u8]) -> Vec<StoredRecord> {
    let mut rest = chunk.strip_prefix(&[RAW]).unwrap_or_default();
    std::iter::from_fn(|| record(&mut rest)).collect()
}

fn record(rest: &mut &[u8]) -> Option<StoredRecord> {
    let seq = Seq(u64::from_le_bytes(take(rest)?));
    let [kind] = take(rest)?;
    let (wall_ms, received_ms) = (i64::from_le_bytes(take(rest)?), i64::from_le_bytes(take(rest)?));
    let prev_wall_ms = match take(rest)? {
        [0] => None,
        _ => Some(i64::from_le_bytes(take(rest)?)),
    };
    let length = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
    let (body, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    let kind = RecordKind::from_code(kind)?;
    Some(StoredRecord { seq, kind, wall_ms, prev_wall_ms, received_ms, body: body.to_vec() })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_cut_bytes_give_those_before_the_cut() {
        let record = |seq: u64, prev_wall_ms, body: &[u8]| StoredRecord {
            seq: Seq(seq),
            kind: RecordKind::Delta,
            wall_ms: -5,
            prev_wall_ms,
            received_ms: i64::MAX,
            body: body.to_vec(),
        };
        let given = [record(7, None, &[]), record(u64::MAX, Some(i64::MIN), &[1, 255, 0])];
        let mut chunk = begin();
        given.iter().for_each(|r| push(&mut chunk, r));
        assert!(is_raw(&chunk) && !is_raw(&[1]) && !is_raw(&[]));
        assert_eq!(records(&chunk), given);
        for cut in 0..chunk.len() {
            assert!(given.starts_with(&records(&chunk[..cut])), "{cut}");
        }
    }
}
