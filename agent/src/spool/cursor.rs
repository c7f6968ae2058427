//! The ack cursor: what the collector has said is durable. The layout is in [`super`].

use std::io::{self, ErrorKind};

use super::crc::crc32c;
use super::disk::Disk;
use super::frame::{Position, u32_at, u64_at};

const FILE: &str = "cursor";
const MAGIC: &[u8; 8] = b"HWCURS\x01\x00";
const LEN: usize = 28;

/// A position whose cursor is durable: the permission to unlink what lies before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Durable(Position);

impl Durable {
    pub(super) fn position(self) -> Position {
        self.0
    }
}

/// Stores the cursor durably.
pub(super) fn store(disk: &mut dyn Disk, at: Position) -> io::Result<Durable> {
    let mut bytes = Vec::with_capacity(LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&at.epoch_no.to_le_bytes());
    bytes.extend_from_slice(&at.seq.to_le_bytes());
    let crc = crc32c(&[&bytes]);
    bytes.extend_from_slice(&crc.to_le_bytes());
    disk.replace(FILE, &bytes)?;
    Ok(Durable(at))
}

/// The cursor, `None` if there is none or it is damaged: the collector's welcome says the same.
pub fn load(disk: &mut dyn Disk) -> io::Result<Option<Position>> {
    let bytes = match disk.read_whole(FILE, LEN) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(e) if e.kind() == ErrorKind::InvalidData => return Ok(None),
        Err(e) => return Err(e),
    };
    let sound = bytes.len() == LEN && bytes.starts_with(MAGIC) && u32_at(&bytes, 24) == Some(crc32c(&[&bytes[..24]]));
    if !sound {
        return Ok(None);
    }
    Ok(u64_at(&bytes, 8).zip(u64_at(&bytes, 16)).map(|(epoch_no, seq)| Position { epoch_no, seq }))
}
