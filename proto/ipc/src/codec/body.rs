//! Bodies: version, time, kind, and what the kind holds.

use alloc::vec::Vec;

use super::CodecError;
use super::activity::{read_activity, write_activity};
use super::state::Context;
use super::varint::{Reader, Writer};
use super::{delta, state};
use crate::record::{Body, Content, Event, GapReason, Keyframe, Record, RecordKind};
use crate::time::At;

/// Packs a body. Equal bodies give equal bytes.
pub fn encode_body(body: &Body) -> Vec<u8> {
    let mut out = Writer::default();
    let mut context = Context::new(&body.at);
    out.byte(VERSION);
    write_at(&mut out, &body.at);
    out.byte(body.content.kind().code());
    match &body.content {
        Content::Keyframe(Keyframe { gap, took_us, activity, state }) => {
            out.byte(gap.map_or(0, GapReason::code));
            out.number((*took_us).into());
            write_activity(&mut out, &mut context, activity);
            state::write_state(&mut out, &mut context, state);
        }
        Content::Delta(delta) => delta::write_delta(&mut out, &mut context, delta),
        Content::Heartbeat => {}
        Content::Event(Event::ClockStep { before, by_ms }) => {
            out.byte(CLOCK_STEP);
            write_at(&mut out, before);
            out.signed(*by_ms);
        }
        Content::GapReason(reason) => out.byte(reason.code()),
    }
    out.finish()
}

/// Unpacks a body of that kind; every length, count and number is checked against its bound before memory is taken.
///
/// # Errors
/// [`CodecError`], for bytes that [`encode_body`] does not give for any body of that kind.
pub fn decode_body(kind: RecordKind, bytes: &[u8]) -> Result<Body, CodecError> {
    if bytes.len() > Record::MAX_BODY {
        let (value, bound) = (bytes.len() as u64, Record::MAX_BODY as u64);
        return Err(CodecError::TooLarge { offset: 0, what: "the body's length", value, bound });
    }
    let mut bytes = Reader::new(bytes);
    let at = read_start(&mut bytes)?;
    let found = bytes.code("kind", RecordKind::from_code)?;
    if found != kind {
        return Err(CodecError::WrongKind { said: kind, found });
    }
    let content = read_content(&mut bytes, kind, &at)?;
    bytes.finish()?;
    Ok(Body { at, content })
}

/// Reads only the time at the start of a body.
///
/// # Errors
/// [`CodecError`] if the version is unknown or the time broken.
pub fn decode_at(bytes: &[u8]) -> Result<At, CodecError> {
    read_start(&mut Reader::new(bytes))
}

/// The one version there is.
const VERSION: u8 = 1;
/// The one event there is.
const CLOCK_STEP: u8 = 1;
/// Boot times are `bigint` in the database.
const MAX_BOOT_US: u64 = u64::MAX >> 1;

fn read_content(bytes: &mut Reader<'_>, kind: RecordKind, at: &At) -> Result<Content, CodecError> {
    let mut context = Context::new(at);
    Ok(match kind {
        RecordKind::Keyframe => Content::Keyframe(Keyframe {
            gap: bytes.code("gap", |code| match code {
                0 => Some(None),
                code => GapReason::from_code(code).map(Some),
            })?,
            took_us: bytes.u32("took_us")?,
            activity: read_activity(bytes, &mut context)?,
            state: state::read_state(bytes, &mut context)?,
        }),
        RecordKind::Delta => Content::Delta(delta::read_delta(bytes, &mut context)?),
        RecordKind::Heartbeat => Content::Heartbeat,
        RecordKind::Event => {
            bytes.code("event", |code| (code == CLOCK_STEP).then_some(()))?;
            Content::Event(Event::ClockStep { before: read_at(bytes)?, by_ms: bytes.signed("by_ms")? })
        }
        RecordKind::GapReason => Content::GapReason(bytes.code("reason", GapReason::from_code)?),
    })
}

fn read_start(bytes: &mut Reader<'_>) -> Result<At, CodecError> {
    read_version(bytes)?;
    read_at(bytes)
}

pub(super) fn read_version(bytes: &mut Reader<'_>) -> Result<(), CodecError> {
    match bytes.byte("version")? {
        VERSION => Ok(()),
        version => Err(CodecError::UnknownVersion { version }),
    }
}

fn write_at(out: &mut Writer, at: &At) {
    out.signed(at.wall_ms);
    out.number(at.boot_us);
}

fn read_at(bytes: &mut Reader<'_>) -> Result<At, CodecError> {
    Ok(At { wall_ms: bytes.signed("wall_ms")?, boot_us: bytes.at_most("boot_us", MAX_BOOT_US)? })
}
