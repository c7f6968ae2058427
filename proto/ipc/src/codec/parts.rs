//! Parts of bodies that a chunk packs: a whole state and a difference, without what stands before them in a body.

use alloc::vec::Vec;

use super::state::Context;
use super::varint::{Reader, Writer};
use super::{CodecError, delta, state};
use crate::delta::Delta;
use crate::snapshot::State;
use crate::time::At;

/// A state as a keyframe's body at that time holds it.
pub(crate) fn pack_state(at: &At, whole: &State) -> Vec<u8> {
    let mut out = Writer::default();
    state::write_state(&mut out, &mut Context::new(at), whole);
    out.finish()
}

/// Unpacks [`pack_state`].
pub(crate) fn unpack_state(at: &At, bytes: &[u8]) -> Result<State, CodecError> {
    let mut bytes = Reader::new(bytes);
    let whole = state::read_state(&mut bytes, &mut Context::new(at))?;
    bytes.finish().map(|()| whole)
}

/// A difference as a delta's body at that time holds it.
pub(crate) fn pack_delta(at: &At, difference: &Delta) -> Vec<u8> {
    let mut out = Writer::default();
    delta::write_delta(&mut out, &mut Context::new(at), difference);
    out.finish()
}

/// Unpacks [`pack_delta`].
pub(crate) fn unpack_delta(at: &At, bytes: &[u8]) -> Result<Delta, CodecError> {
    let mut bytes = Reader::new(bytes);
    let difference = delta::read_delta(&mut bytes, &mut Context::new(at))?;
    bytes.finish().map(|()| difference)
}
