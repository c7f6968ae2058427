//! Which epoch this is: a counter in the state directory, durable before the epoch's first record, and how the one
//! before ended.
//!
//! File `epoch`, text, replaced whole:
//! ```text
//! highwater-epoch 1
//! epoch_no 7
//! epoch_id 00112233aabbccdd
//! boot_id 0011...ff (32 digits)
//! ended no | stopped
//! crc 1a2b3c4d (CRC-32C of the lines above)
//! ```

use std::io;

use highwater_proto::token::{from_hex, to_hex};

use super::crc::crc32c;
use super::disk::Disk;

const FILE: &str = "epoch";
const FILE_MAX: usize = 512;
const FORMAT: &str = "highwater-epoch 1";

/// The newest epoch that was ever begun in a state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastEpoch {
    /// Its number.
    pub no: u64,
    /// Its random id.
    pub id: u64,
    /// The boot it ran in.
    pub boot_id: [u8; 16],
    /// Whether it was ended in order.
    pub stopped: bool,
}

/// An epoch whose number is durable: records may be made in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    epoch: LastEpoch,
}

impl Begun {
    /// The epoch.
    pub fn epoch(&self) -> LastEpoch {
        self.epoch
    }
}

/// Why there are no records just before an epoch, as far as a state directory knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// No agent ran here and none did for this host.
    Never,
    /// The host had an agent whose state is gone.
    StateLost,
    /// The last one was stopped in order, in this boot.
    Stopped,
    /// The last one ended without saying so, in this boot.
    Killed,
    /// The last one ran in another boot.
    OtherBoot,
}

/// Reads which epoch was last; `None` = this state directory never had one.
pub fn load(state: &mut dyn Disk) -> Result<Option<LastEpoch>, EpochError> {
    let Some(bytes) = state.read_whole(FILE, FILE_MAX)? else { return Ok(None) };
    parse(&bytes).map(Some).ok_or(EpochError::Damaged)
}

/// Why an epoch that begins now, in boot `boot_id`, has nothing just before it.
pub fn before(last: Option<&LastEpoch>, enrolled_next_no: u64, boot_id: &[u8; 16]) -> Before {
    match last {
        // The collector numbers from 1: a higher number means that it knows epochs of this host.
        None if enrolled_next_no > 1 => Before::StateLost,
        None => Before::Never,
        // Enrolled again, and the collector knows epochs that this directory does not.
        Some(last) if last.no.saturating_add(1) < enrolled_next_no => Before::StateLost,
        Some(last) if last.boot_id != *boot_id => Before::OtherBoot,
        Some(last) if last.stopped => Before::Stopped,
        Some(_) => Before::Killed,
    }
}

/// Begins the epoch after `last` (at least number `at_least`), durably.
pub fn begin(
    state: &mut dyn Disk,
    last: Option<&LastEpoch>,
    at_least: u64,
    id: u64,
    boot_id: [u8; 16],
) -> Result<Begun, EpochError> {
    let after = last.map_or(1, |l| l.no.saturating_add(1));
    let epoch = LastEpoch { no: after.max(at_least), id, boot_id, stopped: false };
    state.replace(FILE, &render(&epoch))?;
    Ok(Begun { epoch })
}

/// Says that the epoch ended in order.
pub fn end(state: &mut dyn Disk, begun: &Begun) -> Result<(), EpochError> {
    Ok(state.replace(FILE, &render(&LastEpoch { stopped: true, ..begun.epoch }))?)
}

fn render(epoch: &LastEpoch) -> Vec<u8> {
    let ended = if epoch.stopped { "stopped" } else { "no" };
    let lines = format!(
        "{FORMAT}\nepoch_no {}\nepoch_id {:016x}\nboot_id {}\nended {ended}\n",
        epoch.no,
        epoch.id,
        to_hex(&epoch.boot_id)
    );
    format!("{lines}crc {:08x}\n", crc32c(&[lines.as_bytes()])).into_bytes()
}

fn parse(bytes: &[u8]) -> Option<LastEpoch> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut words = text.strip_prefix(FORMAT)?.split_ascii_whitespace();
    let mut field = |name| words.next().filter(|w| *w == name).and_then(|_| words.next());
    let no = field("epoch_no")?.parse().ok()?;
    let id = u64::from_str_radix(field("epoch_id")?, 16).ok()?;
    let boot_id = from_hex(field("boot_id")?)?;
    let stopped = match field("ended")? {
        "stopped" => true,
        "no" => false,
        _ => return None,
    };
    let epoch = LastEpoch { no, id, boot_id, stopped };
    // Whatever is written in it, only what this code writes counts; the CRC is in there.
    (render(&epoch) == bytes).then_some(epoch)
}

/// Why there is no epoch.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// The state directory refused.
    #[error("the state directory: {0}")]
    Io(#[from] io::Error),
    /// The file is not as it was written. Its number must not be used twice, so nobody guesses.
    #[error(
        "the state directory's file {FILE} is damaged: remove it, make a token with `highwater token create --host \
         HOST` and enrol again; the collector then says which epoch is next"
    )]
    Damaged,
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeDisk;
    use super::*;

    const BOOT: [u8; 16] = [1; 16];

    #[test]
    fn each_way_to_end_is_told_apart_by_the_next_run() {
        let mut state = FakeDisk::default();
        assert_eq!(load(&mut state).unwrap(), None);
        assert_eq!(before(None, 1, &BOOT), Before::Never);
        assert_eq!(before(None, 7, &BOOT), Before::StateLost);
        let begun = begin(&mut state, None, 1, 99, BOOT).unwrap();
        let last = load(&mut state).unwrap().unwrap();
        assert_eq!((last.no, last.id), (1, 99));
        assert_eq!(before(Some(&last), 1, &BOOT), Before::Killed);
        assert_eq!(before(Some(&last), 1, &[2; 16]), Before::OtherBoot);
        assert_eq!(before(Some(&last), 2, &BOOT), Before::Killed);
        assert_eq!(before(Some(&last), 9, &BOOT), Before::StateLost);
        end(&mut state, &begun).unwrap();
        assert_eq!(before(load(&mut state).unwrap().as_ref(), 1, &BOOT), Before::Stopped);
    }

    #[test]
    fn a_begun_epoch_survives_a_crash_of_the_machine_and_its_number_is_never_used_again() {
        let mut state = FakeDisk::default();
        let mut numbers = Vec::new();
        for _ in 0..3 {
            let last = load(&mut state).unwrap();
            numbers.push(begin(&mut state, last.as_ref(), 5, 1, BOOT).unwrap().epoch().no);
            state.crash(0);
        }
        assert_eq!(numbers, [5, 6, 7]);
    }

    #[test]
    fn whenever_the_power_goes_the_counter_is_the_old_or_the_new_one_and_no_number_is_used_twice() {
        // Removing, creating, writing, forcing, renaming, forcing the name; then it has begun.
        for changes in 0..=6 {
            for (torn, names) in [(0, 0), (0, u64::MAX), (40, 0), (40, u64::MAX), (999, 1), (999, 2)] {
                let mut state = FakeDisk::default();
                let first = begin(&mut state, None, 1, 7, BOOT).unwrap();
                assert_eq!(first.epoch().no, 1);
                state.power_for(Some(changes));
                let second = begin(&mut state, Some(&first.epoch()), 1, 8, BOOT);
                assert_eq!(second.is_ok(), changes == 6, "it has begun if and only if it is durable");
                let mut state = state.crashed(torn, names);
                let last = load(&mut state).unwrap_or_else(|e| panic!("power for {changes} changes: {e}"));
                let found = last.map(|l| (l.no, l.id));
                assert!(found == Some((2, 8)) || (found == Some((1, 7)) && second.is_err()), "{found:?}");
                let next = begin(&mut state, last.as_ref(), 1, 9, BOOT).unwrap().epoch().no;
                assert!(next > second.map_or(1, |begun| begun.epoch().no), "{next} was used before");
            }
        }
    }

    #[test]
    fn a_counter_that_is_torn_or_cannot_be_read_or_written_begins_no_epoch_and_is_let_alone() {
        let sound = render(&LastEpoch { no: 12, id: 3, boot_id: BOOT, stopped: false });
        for len in 0..sound.len() {
            let mut state = FakeDisk::with(&[(FILE.to_owned(), sound[..len].to_vec())].into());
            let error = load(&mut state).unwrap_err();
            assert!(error.to_string().contains("highwater token create --host"), "{error}");
            assert_eq!(state.contents()[FILE], sound[..len]);
        }
        let mut state = FakeDisk::with(&[(FILE.to_owned(), sound.clone())].into());
        state.spoil(FILE, 0..1);
        assert!(matches!(load(&mut state), Err(EpochError::Io(_))));
        let mut state = FakeDisk::with(&[(FILE.to_owned(), sound.clone())].into());
        let last = load(&mut state).unwrap();
        state.set_room(Some(10));
        assert!(matches!(begin(&mut state, last.as_ref(), 1, 4, BOOT), Err(EpochError::Io(_))));
        assert_eq!(state.contents()[FILE], sound);
        state.set_room(None);
        assert_eq!(begin(&mut state, last.as_ref(), 1, 4, BOOT).unwrap().epoch().no, 13);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let sound = render(&LastEpoch { no: 12, id: 3, boot_id: BOOT, stopped: true });
        assert!(parse(&sound).is_some());
        for bit in 0..sound.len() * 8 {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&flipped), None, "bit {bit}");
        }
    }
}
