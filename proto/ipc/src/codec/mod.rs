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
//!            N took_us, activity, boot_id, N interval_ms, N page_size, T zone, availability,
//!            names of uids, names of gids, risks, N count, unseen, N count, namespaces
//! delta    = N took_us, N which                 bit 0 namespaces, 1 activity, 2 uids, 3 gids, 4 availability, 5 risks,
//!                                               6 unseen, 7 zone, 8 interval_ms, 9 page_size, 10 boot_id; each that is
//!                                               set follows, in this order; never empty but risks and unseen
//! event    = byte 1, time before, S by_ms       the wall clock was set
//! reason   = byte                               GapReason::code
//!
//! boot_id      = 16 bytes
//! availability = byte state                     1 available, 2 absent, 3 proc_hidden, 4 blocked, 5 unknown
//!                N count, T each, T remedy
//! names        = N count, (N gap, T) each       id = the one before + 1 + gap; the first id = gap
//! names, delta = N count, (S step, O) each      id = the one before + 1 + step; the first id = step; O none = no name
//! risks        = N count, (byte RiskKind, T why, T remedy) each
//! unseen       = unreadable                     with its N count before it
//!
//! namespace    = id, N has                      bit 0 limits, 1 totals, 2 sem, 3 shm, 4 msg, 5 torn, 6 name, 7 who,
//!                                               8 named_by, 9 skipped, 10 left_out;
//!                [limits] [totals] [list] [list] [list] [T name] [who] [byte NamedBy, not 0] [N skipped, not 0]
//!                [3 N left_out, not all 0]      each as its bit says
//!                N count, unreadable
//! id           = S inode, S instance            less those of the id before in this body; the first less 4026531839, 0
//! unreadable   = T source, N line, T error
//! list         = N count, rows
//!
//! namespace, delta = byte 1 gone, id
//!                  | byte 2 appeared, N position, namespace
//!                  | byte 3 changed, id, N which   bit 0 totals, 1 sem, 2 shm, 3 msg, 4 limits, 5 torn, 6 name,
//!                                                  7 unreadable, 8 left_out, 9 who, 10 named_by, 11 skipped; each that
//!                                                  is set follows, in this order:
//!                    (byte 0 none | byte 1 totals), edits, edits, edits, (byte 0 none | byte 1 limits), byte torn 0|1,
//!                    O name, (N count, unreadable), 3 N left_out, who edits, byte NamedBy, N skipped
//! edits            = byte 1 unreadable
//!                  | byte 2 whole, list
//!                  | byte 3 edits, N count, S id each (less the one before + 1; the first less 0),
//!                    list of the changed, N count, (S position, row) each of the added (position likewise)
//!
//! who              = N count, comms row each (uids ascend), N count, known row each (kinds, then ids ascend); none of
//!                    them says nothing
//! who edits        = byte 1 unknown | byte 2 whole, who
//!                  | byte 3 edits, N count, comms row each, N count, known row each
//! comms row        = S step, N                   uid = the one before + 1 + step; the first = step
//!                    0 nothing, or N comms + 1, X each
//! known row        = row, [T comm]
//!
//! activity         = N count, act each, N more, N lost, N count, peak each
//! act              = row, [T comm], X parent, S id each    less the one before + 1; the first less 0
//! peak             = id, S boot_us, N sem_arrays, N semaphores          boot_us less the body's
//!
//! row, limits, totals = N which, S difference of each column whose bit is set
//! N = LEB128, shortest form, up to 64 bits.   S = N of the zigzag (0, -1, 1, -2 ..).
//! T = N length, bytes.                        O = N 0 none, or N length + 1, bytes.
//! X = N place, [T]                            place among the comms that the body named before, or their number and T
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
//! known   id comm grade pids kind pid..          (eight pids, each less the one before it in the row; unused ones 0)
//! act     first_us pid comm call limit resource key uid size span count ids inode instance known left
//! ```
//! A known row expects zeros first. Its grade is 0 nothing known (in edits), 1 no orphan, else 16 times the number of the
//! grade plus that of the doubt. Its kind is 0 sem, 1 shm, 2 msg. An act's call is 3 times (0 created, 1 removed, 2 + errno
//! refused) plus the kind; span is last_us less first_us; uid is one more, 0 = not known; inode and instance are 0 unless
//! known is 1; resource is 0 none, 1 SEMMNI, 2 SEMMNS, 3 SHMMNI, 4 SHMALL, 5 MSGMNI, limit and left (limit less used) are 0
//! with none. The first act expects: the body's boot_us, call a semget refused with errno 28, uid 0, size 1, count 1, the
//! id before, known.
//! comm is 0 none (never of an act, where the place stands as it is), else 1 + the place as in X; where that is the number
//! of comms so far, T follows the row. A body remembers its first 4,096 different comms of at most 16 bytes; another
//! stands with the number of those so far, each time.
//!
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
//!   hold it, and a body holds at most `State::MAX_ENTRIES` rows, names, owners, comms of owners, acts and unreadable
//!   sources and `State::MAX_NAMESPACES` namespaces, whatever its lists say; a comm that is named by its place is short. Packing does not check bounds; the agent's budget lies
//!   far below them.
//! - C6 An unknown version, kind, code or bit is refused, and so is what follows the end.
//! - C7 A body needs no other to be read: differences are to what stands in it.
//! - C8 The bytes of `testdata/v1` never change once a version is released.
//! - C9 The time can be read without the rest.
//!
//! **Versions.** Any change of this text is a new version byte with its own golden bytes. A reader keeps every version
//! that was released; a writer writes the newest. So collectors are upgraded before agents.

mod activity;
mod body;
mod delta;
mod error;
#[cfg(test)]
mod golden;
mod parts;
mod record;
pub(crate) mod rows;
mod state;
#[cfg(test)]
mod tests;
mod texts;
mod varint;
mod who;

pub use body::{decode_at, decode_body, encode_body};
pub use error::CodecError;
pub(crate) use parts::{pack_delta, pack_state, unpack_delta, unpack_state};
pub use record::{decode_record, encode_record};
