//! A page of `per_cpu/cpuN/trace_pipe_raw`: a header, then events one behind another, each with the time since the one
//! before.
//!
//! Each event begins with 32 bits: 5 of type and length, 27 of time. Types 1 to 28 are data of so many times 4 bytes; 0 is
//! data whose length (counting itself) is in the next word; 29 is padding, 30 more time, 31 absolute time. Sources:
//! `include/linux/ring_buffer.h`, `kernel/trace/ring_buffer.c`, and `kbuffer-parse.c` of libtraceevent. On a big-endian
//! machine the two bit fields lie the other way round: such pages are refused, and the agent does not trace there.

use super::format::PageHeader;

/// Where in a page's commit word its length is; above it are flags.
const COMMIT_LENGTH: u64 = (1 << 27) - 1;
/// Events were dropped before this page.
const MISSED: u64 = 1 << 31;
/// How many is stored behind the last event.
const MISSED_STORED: u64 = 1 << 30;

const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;
/// An absolute time has 59 bits; the rest is that of the time before it.
const STAMP_BITS: u32 = 59;

/// What stands in a page beside its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Summary {
    /// The kernel dropped events before it.
    pub missed: bool,
    /// How many, where the page says so.
    pub missed_count: u64,
    /// The page does not hold together: what comes after the flaw is not known.
    pub broken: bool,
}

/// Hands each event of the page to `sink`: its time, nanoseconds of the instance's clock, and its bytes.
pub fn read(header: &PageHeader, page: &[u8], sink: &mut dyn FnMut(u64, &[u8])) -> Summary {
    if cfg!(target_endian = "big") {
        return Summary { broken: true, ..Summary::default() };
    }
    let (Some(time), Some(commit)) = (header.timestamp.of(page), header.commit.of(page)) else {
        return Summary { broken: !page.is_empty(), ..Summary::default() };
    };
    let length = usize::try_from(commit & COMMIT_LENGTH).unwrap_or(usize::MAX);
    let missed = commit & MISSED != 0;
    let Some(events) = page.get(header.data..).and_then(|data| data.get(..length)) else {
        return Summary { missed, missed_count: 0, broken: true };
    };
    let stored = page.get(header.data + length..).and_then(|rest| rest.first_chunk::<8>());
    let missed_count = match stored {
        Some(count) if missed && commit & MISSED_STORED != 0 => u64::from_le_bytes(*count),
        _ => 0,
    };
    let broken = walk(time, events, sink).is_none();
    Summary { missed, missed_count, broken }
}

/// `None` = the events do not hold together.
fn walk(mut time: u64, mut events: &[u8], sink: &mut dyn FnMut(u64, &[u8])) -> Option<()> {
    while !events.is_empty() {
        let word = u32::from_le_bytes(*events.first_chunk()?);
        let (kind, delta) = (word & 31, u64::from(word >> 5));
        let rest = events.get(4..)?;
        let more = rest.first_chunk().map(|word| u32::from_le_bytes(*word));
        let taken = match kind {
            // Padding without time fills the page.
            PADDING if delta == 0 => return Some(()),
            PADDING => {
                time = time.wrapping_add(delta);
                usize::try_from(more?).ok()?
            }
            TIME_EXTEND => {
                time = time.wrapping_add((u64::from(more?) << 27) + delta);
                4
            }
            TIME_STAMP => {
                let stamp = (u64::from(more?) << 27) + delta;
                time = (time & !((1 << STAMP_BITS) - 1)) | stamp;
                4
            }
            0 => {
                time = time.wrapping_add(delta);
                let length = usize::try_from(more?).ok()?;
                sink(time, rest.get(4..length)?);
                length
            }
            words => {
                time = time.wrapping_add(delta);
                let length = usize::try_from(words).ok()? * 4;
                sink(time, rest.get(..length)?);
                length
            }
        };
        // Each event has at least its word, so this ends.
        events = rest.get(taken..)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::format::Field;
    use super::*;

    const HEADER: PageHeader = PageHeader {
        timestamp: Field { offset: 0, size: 8 },
        commit: Field { offset: 8, size: 8 },
        data: 16,
        page: 4096,
    };

    fn word(kind: u32, delta: u32) -> [u8; 4] {
        (kind | delta << 5).to_le_bytes()
    }

    fn page(time: u64, flags: u64, events: &[u8]) -> Vec<u8> {
        let commit = events.len() as u64 | flags;
        [&time.to_le_bytes()[..], &commit.to_le_bytes(), events].concat()
    }

    fn events(page: &[u8]) -> (Vec<(u64, Vec<u8>)>, Summary) {
        let mut seen = Vec::new();
        let summary = read(&HEADER, page, &mut |time, bytes| seen.push((time, bytes.to_vec())));
        (seen, summary)
    }

    #[test]
    fn events_carry_their_times_and_bytes() {
        let body = [
            &word(2, 5)[..],
            b"abcdefgh",
            &word(TIME_EXTEND, 1),
            &1_u32.to_le_bytes(),
            &word(0, 3),
            &8_u32.to_le_bytes(),
            b"long",
            &word(PADDING, 2),
            &4_u32.to_le_bytes(),
            &word(TIME_STAMP, 9),
            &2_u32.to_le_bytes(),
            &word(1, 1),
            b"last",
        ]
        .concat();
        let (seen, summary) = events(&page(1000, 0, &body));
        let long = 1005 + 1 + (1 << 27) + 3;
        let last = 9 + (2 << 27) + 1;
        assert_eq!(seen, [(1005, b"abcdefgh".to_vec()), (long, b"long".to_vec()), (last, b"last".to_vec())]);
        assert_eq!(summary, Summary::default());
    }

    #[test]
    fn padding_without_time_ends_the_page_and_bytes_behind_the_commit_are_none() {
        let body = [&word(1, 1)[..], b"good", &word(PADDING, 0), &[0xff; 40]].concat();
        let mut whole = page(0, 0, &body);
        whole.extend([0xff; 100]);
        let (seen, summary) = events(&whole);
        assert_eq!((seen.len(), summary.broken), (1, false));
    }

    #[test]
    fn dropped_events_are_told_with_their_number() {
        let mut whole = page(7, MISSED | MISSED_STORED, &[&word(1, 1)[..], b"good"].concat());
        whole.extend(17_u64.to_le_bytes());
        let (seen, summary) = events(&whole);
        assert_eq!((seen.len(), summary), (1, Summary { missed: true, missed_count: 17, broken: false }));
        assert_eq!(events(&page(7, MISSED, &[])).1, Summary { missed: true, missed_count: 0, broken: false });
    }

    #[test]
    fn a_page_that_ends_amid_an_event_is_broken_and_keeps_what_came_before() {
        let body = [&word(1, 1)[..], b"good", &word(3, 1), b"half"].concat();
        let (seen, summary) = events(&page(7, 0, &body));
        assert_eq!((seen.len(), summary.broken), (1, true));
        assert!(events(&page(7, 4096, &body)).1.broken, "a commit longer than the page");
        assert!(events(&[1, 2, 3]).1.broken);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_hand_out_more_than_the_page(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let mut out = 0;
            read(&HEADER, &bytes, &mut |_, event| out += event.len());
            prop_assert!(out <= bytes.len());
        }

        #[test]
        fn nor_do_any_events_within_a_sound_header(
            words in proptest::collection::vec((0_u32..32, 0_u32..4, any::<u32>()), 0..200),
        ) {
            let body: Vec<u8> = words.iter().flat_map(|(kind, delta, more)| [word(*kind, *delta), (more % 64).to_le_bytes()].concat()).collect();
            let mut out = 0;
            read(&HEADER, &page(u64::MAX - 3, 0, &body), &mut |_, event| out += event.len());
            prop_assert!(out <= body.len());
        }
    }
}
