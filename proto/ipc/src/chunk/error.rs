//! Why records are no chunk, and bytes neither.

use crate::codec::CodecError;
use crate::delta::DeltaError;
use crate::record::{RecordKind, Seq};

/// Why records are no chunk, or bytes are none. `offset` counts bytes from the start of the chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Written: the first record is no sample, so that nothing says what the state is.
    #[error("a chunk begins with a sample, not with a record of kind {kind:?}")]
    NoSampleYet {
        /// The record's kind.
        kind: RecordKind,
    },
    /// Written: a sample without its state, a state with what is no sample, a kind that says something else than what is
    /// told, or a heartbeat, which is no record of its own here.
    #[error("a record of kind {kind:?} does not go with what is told")]
    Mismatch {
        /// The record's kind.
        kind: RecordKind,
    },
    /// Written: positions do not ascend.
    #[error("record {} follows record {}", seq.0, after.0)]
    NotAscending {
        /// The record's position.
        seq: Seq,
        /// That of the record before.
        after: Seq,
    },
    /// A state, an activity or a part of one that is larger than it may be.
    #[error("{what} at {offset} is {value}, the bound is {bound}")]
    TooLarge {
        /// Where; 0 when it is written.
        offset: usize,
        /// What is.
        what: &'static str,
        /// How large.
        value: u64,
        /// The bound.
        bound: u64,
    },
    /// Written: an error before left the chunk without an end; nothing more can be added and what there is, is lost.
    #[error("the chunk was given up after an error")]
    GivenUp,
    /// The bytes end within something.
    #[error("the bytes end at {offset}, within {what}")]
    Truncated {
        /// Where the bytes end.
        offset: usize,
        /// Within what.
        what: &'static str,
    },
    /// A version that this reader does not have: written by a newer collector, or no chunk at all.
    #[error("chunk version {version} is not known here, only 1 is")]
    UnknownVersion {
        /// The first byte.
        version: u8,
    },
    /// The bytes are not those that were written.
    #[error("the checksum of {what} at {offset} does not fit its bytes")]
    Checksum {
        /// Where it begins.
        offset: usize,
        /// What the checksum is of.
        what: &'static str,
    },
    /// The bytes say what cannot be.
    #[error("{what} before {offset} cannot be")]
    Broken {
        /// How far the bytes were read.
        offset: usize,
        /// What is said.
        what: &'static str,
    },
    /// A part that is packed as in a record is broken.
    #[error("the part that ends before {offset} is broken: {source}")]
    Part {
        /// How far the bytes were read.
        offset: usize,
        /// What is wrong, with an offset within the part.
        source: CodecError,
    },
    /// A difference does not fit the state before it.
    #[error("the difference that ends before {offset} does not fit: {source}")]
    Unfit {
        /// How far the bytes were read.
        offset: usize,
        /// What does not fit.
        source: DeltaError,
    },
}
