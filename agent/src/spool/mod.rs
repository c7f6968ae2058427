//! Keeps records until they are acked, bounded and damage-proof. It stores opaque bytes by (epoch, seq) and knows
//! neither IPC nor sockets; an entry that its maker flags as a *keyframe* can be read without those before it.
//!
//! # Files
//! A spool is one private directory ([`disk`]): segments `NNNNNNNNNNNNNNNN.seg` (their number, 16 hexadecimal digits,
//! ascending, never reused while a higher one exists) and `cursor`. All numbers are little endian, every CRC is CRC-32C.
//!
//! Segment header, 64 bytes ([`segment`]):
//! ```text
//!  0  8  "HWSPOOL" and the format version, 1
//!  8  8  number of the segment, as in its name
//! 16  8  epoch_no of all its entries
//! 24 24  tag of that epoch, opaque (the agent puts epoch id and boot id there)
//! 48 12  zero
//! 60  4  CRC of bytes 0..60
//! ```
//! Then frames, 32 bytes and their payload each ([`frame`]):
//! ```text
//!  0  4  bytes of payload, at most 17 MiB
//!  4  1  flags: 1 = keyframe; the others are zero
//!  5  3  zero
//!  8  8  first_seq
//! 16  8  last_seq, at least first_seq
//! 24  4  CRC of the payload
//! 28  4  CRC of the segment's number (8 bytes) and bytes 0..28: a block of another file is no frame
//! ```
//! Cursor, 28 bytes ([`cursor`]): "HWCURS" and the version (u16, 1), epoch_no, next_seq, CRC of bytes 0..24.
//!
//! # Limits
//! `spool_bytes` for all segments together (64 MiB unless configured), 1,000 segments, 4 MiB in memory while the disk
//! refuses. A segment asks for a keyframe once it holds 1 MiB, or twice its first frame if that is more.
//!
//! # Invariants
//! - **S1** Each segment begins with a whole keyframe and holds one epoch; so the oldest can go without the next
//!   becoming unreadable.
//! - **S2** Reading yields what was appended, in order, byte for byte; after damage it resumes at the next keyframe
//!   (the next segment's, where a frame's header is damaged, for nothing then says where the next frame begins). Never
//!   an entry that was not appended, never one whose base is missing, never a panic. A disk that cannot be read just
//!   now (no open file left, no memory) is no damage: nothing is given up, the reader tries again. Bytes that the device
//!   refuses at the third try (EIO) are damage, and only those.
//! - **S3** A torn tail is cut off at opening. The entries before it are all there.
//! - **S4** Segments together never exceed the limit; what goes is whole oldest segments, and the reader is told
//!   ([`Hole::Overflow`]), also where the end of an epoch went and the next one is whole.
//! - **S5** What [`Synced`] names survives a crash of the machine, but for a segment that the device failed to force
//!   ([`Spool::trouble`] said so): what the kernel did not write it may have forgotten. With [`FsyncPolicy::Every`] that
//!   is every entry on disk. What a killed process had not forced is forced at opening.
//! - **S6** A segment is unlinked for an ack only after a cursor saying so is durable. (On a disk too full for a new
//!   cursor the oldest acked segment goes first: the collector's welcome repeats what the cursor would have said.)
//! - **S7** When the disk refuses, entries stay in memory in order, up to 4 MiB; beyond that all of those are dropped
//!   and a keyframe that says why is asked for ([`KeyframeDue::Overflow`]).
//!
//! # What each crash point leaves
//! Killed while appending: a torn tail (S3). While making a segment: a file without a whole keyframe, removed at
//! opening. While writing the cursor: `cursor.new`, ignored. Between cursor and unlink: an acked segment, freed by the
//! next welcome. Machine crash: the same, and under the weaker policies the loss they state.

mod crc;
pub mod cursor;
#[cfg(test)]
mod damage_tests;
pub mod disk;
pub mod epoch;
#[cfg(test)]
pub(crate) mod fake;
pub mod frame;
mod memory;
mod outcome;
mod policy;
#[cfg(test)]
mod random_tests;
mod reader;
#[cfg(test)]
mod reader_tests;
pub mod recover;
#[cfg(test)]
mod regression_tests;
pub mod segment;
mod store;
#[cfg(test)]
mod store_tests;

pub use frame::{Entry, Position};
pub use outcome::{Appended, Dropped, Hole, Kept, KeyframeDue, Limits, Read, SpoolError, Spooled, Synced};
pub use policy::FsyncPolicy;
pub use reader::Reader;
pub use segment::{Label, Segment};
pub use store::Spool;
