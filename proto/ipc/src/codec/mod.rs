//! How a record is packed, version 1.
//!
//! ```text
//! body     = version time kind content          one record's content: hashed by the chain, sent, stored as it is
//! version  = byte 1
//! time     = S wall_ms, N boot_us               below 2^63
//! kind     = byte                               RecordKind::code
//! content  = keyframe | delta | (heartbeat: nothing) | event | reason
//!
//! keyframe = byte                               GapReason::code of the gap before it, 0 = none
//!            N took_us, boot_id, N interval_ms, N page_size, T zone, availability,
//!            names of uids, names of gids, N count, namespaces
//! delta    = N took_us, byte which              bit 0 boot_id, 1 interval_ms, 2 page_size, 3 zone, 4 availability,
//!                                               5 uids, 6 gids, 7 namespaces; each that is set follows, in this order
//! event    = byte 1, time before, S by_ms       the wall clock was set
//! reason   = byte                               GapReason::code
//!
//! boot_id      = 16 bytes
//! availability = byte state                     1 available, 2 absent, 3 proc_hidden, 4 blocked, 5 unknown
//!                N count, T each, T remedy
//! names        = N count, (N gap, T) each       id = the one before + 1 + gap; the first id = gap
//! names, delta = N count, (S step, O) each      id = the one before + 1 + step; the first id = step; O none = no name
//!
//! namespace    = id, byte has                   bit 0 name, 1 torn, 2 limits, 3 totals, 4 sem, 5 shm, 6 msg, 7 left_out;
//!                [T name] [limits] [totals] [list] [list] [list] [3 N left_out]  each as its bit says
//!                N count, unreadable
//! id           = S inode, S instance            less those of the id before in this body; the first less 4026531839, 0
//! unreadable   = T source, N line, T error
//! list         = N count, rows
//!
//! namespace, delta = byte 1 gone, id
//!                  | byte 2 appeared, N position, namespace
//!                  | byte 3 changed, id, N which   bit 0 totals, 1 sem, 2 shm, 3 msg, 4 limits, 5 torn, 6 name,
//!                                                  7 unreadable, 8 left_out; each that is set follows, in this order:
//!                    (byte 0 none | byte 1 totals), edits, edits, edits, (byte 0 none | byte 1 limits), byte torn 0|1,
//!                    O name, (N count, unreadable), 3 N left_out
//! edits            = byte 1 unreadable
//!                  | byte 2 whole, list
//!                  | byte 3 edits, N count, S id each (less the one before + 1; the first less 0),
//!                    list of the changed, N count, (S position, row) each of the added (position likewise)
//!
//! row, limits, totals = N which, S difference of each column whose bit is set
//! N = LEB128, shortest form, up to 64 bits.   S = N of the zigzag (0, -1, 1, -2 ..).
//! T = N length, bytes.                        O = N 0 none, or N length + 1, bytes.
//!
//! record   = byte 1, kind, N seq, N merged, 8 bytes chain, N length, body      for the spool
//! ```
//!
//! **Columns.** A row says how it differs from what is expected: bit i of `which` tells that column i does, and then
//! comes the difference modulo 2^64 (narrower numbers are widened, signed ones by their sign), never 0. Expected is the
//! row before in the same list, its id + 1; for the first row zeros, but for each time column the body's wall time in
//! whole seconds (towards the past). Limits expect the last limits in the body, or zeros; totals expect zeros. gid and
//! cuid stand less the uid, cgid less the gid, modulo 2^64. The columns, what moves most first:
//! ```text
//! sem     semid key ctime otime nsems uid gid cuid cgid perms
//! shm     shmid key ctime atime dtime lpid nattch size rss cpid uid gid cuid cgid perms swap
//! msg     msqid key ctime stime rtime lspid lrpid cbytes qnum uid gid cuid cgid perms known qbytes
//!         (known = 1 if qbytes is; else both are 0)
//! limits  semmsl semmns semopm semmni semvmx shmmax shmall shmmni shmmin msgmax msgmnb msgmni
//! totals  sem_arrays semaphores shm_segments shm_pages shm_resident msg_queues msg_messages msg_bytes shm_swapped
//!         swap_attempts swap_successes
//! ```
//! Measured on a busy day of 65 objects: a keyframe takes 1.1 KiB, a changed row 19 bytes; owner columns less the uid
//! are worth a fifth of that, times as ages 1 % (so they are not).
//!
//! **Invariants**
//! - C1 The same value gives the same bytes: bodies are hashed.
//! - C2 What unpacks is what packing gives: any other spelling (long numbers, differences of 0) is refused, so two
//!   bodies with different bytes differ in content.
//! - C3 Every body within the bounds unpacks to itself, every number of its type included.
//! - C4 No input panics.
//! - C5 Memory is taken as rows are read, never as a count claims: a count is refused if the bytes that are left cannot
//!   hold it, and a body holds at most `State::MAX_ENTRIES` rows, names and unreadable sources and
//!   `State::MAX_NAMESPACES` namespaces, whatever its lists say. Packing does not check bounds; the agent's budget lies
//!   far below them.
//! - C6 An unknown version, kind, code or bit is refused, and so is what follows the end.
//! - C7 A body needs no other to be read: differences are to what stands in it.
//! - C8 The bytes of `testdata/v1` never change.
//! - C9 The time can be read without the rest.
//!
//! **Versions.** Any change of this text is a new version byte with its own golden bytes. A reader keeps every version
//! that was released; a writer writes the newest. So collectors are upgraded before agents.

mod body;
mod delta;
mod error;
#[cfg(test)]
mod golden;
mod record;
mod rows;
mod state;
#[cfg(test)]
mod tests;
mod varint;

pub use body::{decode_at, decode_body, encode_body};
pub use error::CodecError;
pub use record::{decode_record, encode_record};
