//! Whole records, for the spool. (On the wire a record is a protobuf message.)

use alloc::vec::Vec;

use super::CodecError;
use super::body::read_version;
use super::varint::{Reader, Writer};
use crate::record::{Chain, Record, RecordKind, Seq};

/// Packs a whole record (place, chain, body) for the spool. What is missing before it is not known there.
pub fn encode_record(record: &Record) -> Vec<u8> {
    let mut out = Writer::default();
    out.byte(VERSION);
    out.byte(record.kind.code());
    out.number(record.seq.0);
    out.number(record.seq.0.wrapping_sub(record.first_seq.0));
    out.bytes(&record.chain.0);
    out.count(record.body.len());
    out.bytes(&record.body);
    out.finish()
}

/// Unpacks [`encode_record`]; the body is not looked into.
///
/// # Errors
/// [`CodecError`], for bytes that are no record, or a record that merges what cannot be merged.
pub fn decode_record(bytes: &[u8]) -> Result<Record, CodecError> {
    let mut bytes = Reader::new(bytes);
    read_version(&mut bytes)?;
    let kind = bytes.code("kind", RecordKind::from_code)?;
    let seq = bytes.number("seq")?;
    let merged = bytes.at_most("merged", if kind == RecordKind::Heartbeat { seq } else { 0 })?;
    let chain = Chain(bytes.array("chain")?);
    let len = bytes.length("the body's length", Record::MAX_BODY)?;
    let body = bytes.bytes(len, "body")?.to_vec();
    bytes.finish()?;
    Ok(Record { kind, first_seq: Seq(seq - merged), seq: Seq(seq), chain, missing: None, body })
}

/// The one version there is.
const VERSION: u8 = 1;
