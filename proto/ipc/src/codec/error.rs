//! Why bytes are no record.

use crate::record::RecordKind;

/// Why bytes are no record. `offset` counts bytes from the start of the body or record, `what` names the field as
/// the format does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end within a field.
    #[error("the bytes end at {offset}, within {what}")]
    Truncated {
        /// Where the bytes end.
        offset: usize,
        /// The field.
        what: &'static str,
    },
    /// Bytes follow the end.
    #[error("{extra} bytes follow the end at {offset}")]
    Trailing {
        /// Where the value ends.
        offset: usize,
        /// How many bytes follow.
        extra: usize,
    },
    /// A version that this reader does not have: written by a newer agent, or no record at all.
    #[error("format version {version} is not known here, only 1 is")]
    UnknownVersion {
        /// The first byte.
        version: u8,
    },
    /// A code or bit that names nothing.
    #[error("{what} at {offset} is {value}, which names nothing in this version")]
    UnknownCode {
        /// Where.
        offset: usize,
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// The body is of another kind than the record says.
    #[error("the body is a {found:?}, the record says {said:?}")]
    WrongKind {
        /// What the record says.
        said: RecordKind,
        /// What the body is.
        found: RecordKind,
    },
    /// A number, length or count beyond its bound.
    #[error("{what} at {offset} is {value}, the bound is {bound}")]
    TooLarge {
        /// Where.
        offset: usize,
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The most it can be here.
        bound: u64,
    },
    /// A column outside the range of its type.
    #[error("{what} at {offset} is {value}, not within {low}..={high}")]
    OutOfRange {
        /// Where its row begins.
        offset: usize,
        /// The column.
        what: &'static str,
        /// Its value.
        value: i64,
        /// The least it can be.
        low: i64,
        /// The most it can be.
        high: i64,
    },
    /// A number of more than 64 bits.
    #[error("{what} at {offset} does not fit 64 bits")]
    Overlong {
        /// Where.
        offset: usize,
        /// The field.
        what: &'static str,
    },
    /// A value that is not written the one way in which it is written.
    #[error("{what} at {offset} is not in its shortest form")]
    NotCanonical {
        /// Where.
        offset: usize,
        /// The field.
        what: &'static str,
    },
}
