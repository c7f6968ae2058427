//! How a record is packed. TODO(helper): format spec byte by byte.

use alloc::vec::Vec;

use crate::record::{Body, Record, RecordKind};
use crate::time::At;

/// Packs a body.
pub fn encode_body(body: &Body) -> Vec<u8> {
    todo!()
}

/// Unpacks a body of that kind; every length, count and number is checked against its bound before memory is taken.
pub fn decode_body(kind: RecordKind, bytes: &[u8]) -> Result<Body, CodecError> {
    todo!()
}

/// Reads only the time at the start of a body.
pub fn decode_at(bytes: &[u8]) -> Result<At, CodecError> {
    todo!()
}

/// Packs a whole record (place, chain, body) for the spool.
pub fn encode_record(record: &Record) -> Vec<u8> {
    todo!()
}

/// Unpacks [`encode_record`].
pub fn decode_record(bytes: &[u8]) -> Result<Record, CodecError> {
    todo!()
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// TODO(helper): precise variants with offset, field, value.
    #[error("placeholder")]
    Placeholder,
}
