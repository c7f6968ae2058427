//! What the texts are put together from: lines, padded columns, names, times.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::snapshot::State;
use crate::text::HostText;
use crate::time::{Civil, Zone};

/// Where `ipcs` cuts an owner, bytes.
const OWNER: usize = 10;

/// A growing text.
#[derive(Default)]
pub(super) struct Page(Vec<u8>);

impl Page {
    /// The bytes of the text.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Appends formatted text.
    pub(super) fn put(&mut self, text: fmt::Arguments<'_>) {
        // A vector takes everything: this write cannot fail.
        let _ = fmt::Write::write_fmt(self, text);
    }

    /// Appends formatted text and ends the line.
    pub(super) fn line(&mut self, text: fmt::Arguments<'_>) {
        self.put(text);
        self.0.push(b'\n');
    }

    /// The owner's name in a column of 10 bytes, cut there; the number if it has no name.
    pub(super) fn owner(&mut self, state: &State, uid: u32) {
        match state.users.get(&uid) {
            Some(name) => self.name(name, OWNER),
            None => self.put(format_args!("{uid:<10}")),
        }
    }

    /// A user's name uncut in a column of at least 10 bytes; the number if it has no name.
    pub(super) fn user(&mut self, state: &State, uid: u32) {
        match state.users.get(&uid) {
            Some(name) => self.name(name, HostText::MAX),
            None => self.put(format_args!("{uid:<10}")),
        }
    }

    /// A group's name, likewise.
    pub(super) fn group(&mut self, state: &State, gid: u32) {
        match state.groups.get(&gid) {
            Some(name) => self.name(name, HostText::MAX),
            None => self.put(format_args!("{gid:<10}")),
        }
    }

    /// At most `most` bytes of a name, padded to 10. A name that is not printable as a whole is escaped after the cut;
    /// the backslash alone needs no escape here (`DOMAIN\user` is what people know).
    fn name(&mut self, name: &HostText, most: usize) {
        let bytes = name.as_bytes();
        let cut = bytes.get(..most).unwrap_or(bytes);
        let start = self.0.len();
        if is_printable(name) {
            self.0.extend_from_slice(cut);
        } else {
            self.put(format_args!("{}", HostText::cut(cut)));
        }
        let end = self.0.len().max(start + OWNER);
        self.0.resize(end, b' ');
    }
}

/// Whether escaping a name changes nothing but backslashes.
fn is_printable(name: &HostText) -> bool {
    let bytes = name.as_bytes();
    let backslashes = bytes.iter().filter(|b| **b == b'\\').count();
    name.escaped().len() == bytes.len() + backslashes
}

impl fmt::Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// A time as ctime(3) writes it, without its newline: `Tue Nov 24 23:24:02 2026`; `Not set` for 0.
pub(super) fn ctime(seconds: i64, zone: &dyn Zone) -> String {
    if seconds == 0 { String::from("Not set") } else { day_and_time(seconds, zone) }
}

/// The same without the weekday, cut after the seconds and one blank: `Nov 24 23:24:02 `.
pub(super) fn short_time(seconds: i64, zone: &dyn Zone) -> String {
    if seconds == 0 {
        return String::from("Not set");
    }
    let whole = day_and_time(seconds, zone);
    String::from(whole.get(4..20).unwrap_or(&whole))
}

fn day_and_time(seconds: i64, zone: &dyn Zone) -> String {
    let t = Civil::at(seconds, zone);
    let (weekday, month) = (t.weekday_name(), t.month_name());
    format!("{weekday} {month}{:3} {:02}:{:02}:{:02} {}", t.day, t.hour, t.minute, t.second, t.year)
}
