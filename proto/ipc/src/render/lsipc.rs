//! `lsipc` without arguments, as util-linux 2.38.1 prints it under LC_ALL=C.
//!
//! USED comes from SEM_INFO, SHM_INFO and MSG_INFO, not from a sum over the listed objects: that program multiplies the
//! number of arrays with the first one's semaphores, and it rounds the pages of all segments together. A limit of 0 is
//! 100.00% used, where it prints `nan`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::limits::{Limits, Resource, Totals, Usage};
use crate::snapshot::Namespace;

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which parameter.
    pub parameter: Parameter,
    /// Its value; `None` = could not be read.
    pub limit: Option<u64>,
    /// How much of it is in use; `None` = could not be read, or nothing is counted against it.
    pub used: Option<u64>,
}

impl Row {
    /// USED over LIMIT, 0..1 and above; `None` where one of them is not known.
    pub fn ratio(&self) -> Option<f64> {
        let resource = self.parameter.resource()?;
        Some(Usage { resource, used: self.used?, limit: self.limit? }.ratio())
    }
}

/// A kernel parameter that `lsipc` lists, in its order.
#[allow(missing_docs, reason = "the kernel's names; what they are is in `Limits` and in `description`")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parameter {
    Msgmni,
    Msgmax,
    Msgmnb,
    Shmmni,
    Shmall,
    Shmmax,
    Shmmin,
    Semmni,
    Semmns,
    Semmsl,
    Semopm,
    Semvmx,
}

impl Parameter {
    /// All of them, in order.
    pub const ALL: [Parameter; 12] = [
        Parameter::Msgmni,
        Parameter::Msgmax,
        Parameter::Msgmnb,
        Parameter::Shmmni,
        Parameter::Shmall,
        Parameter::Shmmax,
        Parameter::Shmmin,
        Parameter::Semmni,
        Parameter::Semmns,
        Parameter::Semmsl,
        Parameter::Semopm,
        Parameter::Semvmx,
    ];

    /// The kernel's name, e.g. `SEMMNI`.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// The parameter of that name.
    pub fn from_name(name: &str) -> Option<Parameter> {
        Parameter::ALL.into_iter().find(|p| p.name() == name)
    }

    /// What `lsipc` calls it.
    pub fn description(self) -> &'static str {
        self.words().1
    }

    /// What runs out when it is reached; `None` where nothing is counted against it.
    pub fn resource(self) -> Option<Resource> {
        Resource::ALL.into_iter().find(|r| r.name() == self.name())
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Parameter::Msgmni => ("MSGMNI", "Number of message queues"),
            Parameter::Msgmax => ("MSGMAX", "Max size of message (bytes)"),
            Parameter::Msgmnb => ("MSGMNB", "Default max size of queue (bytes)"),
            Parameter::Shmmni => ("SHMMNI", "Shared memory segments"),
            Parameter::Shmall => ("SHMALL", "Shared memory pages"),
            Parameter::Shmmax => ("SHMMAX", "Max size of shared memory segment (bytes)"),
            Parameter::Shmmin => ("SHMMIN", "Min size of shared memory segment (bytes)"),
            Parameter::Semmni => ("SEMMNI", "Number of semaphore identifiers"),
            Parameter::Semmns => ("SEMMNS", "Total number of semaphores"),
            Parameter::Semmsl => ("SEMMSL", "Max semaphores per semaphore set."),
            Parameter::Semopm => ("SEMOPM", "Max number of operations per semop(2)"),
            Parameter::Semvmx => ("SEMVMX", "Semaphore max value"),
        }
    }

    fn limit(self, limits: &Limits) -> u64 {
        match self {
            Parameter::Msgmni => limits.msgmni,
            Parameter::Msgmax => limits.msgmax,
            Parameter::Msgmnb => limits.msgmnb,
            Parameter::Shmmni => limits.shmmni,
            Parameter::Shmall => limits.shmall,
            Parameter::Shmmax => limits.shmmax,
            Parameter::Shmmin => limits.shmmin,
            Parameter::Semmni => limits.semmni,
            Parameter::Semmns => limits.semmns,
            Parameter::Semmsl => limits.semmsl,
            Parameter::Semopm => limits.semopm,
            Parameter::Semvmx => limits.semvmx,
        }
    }

    fn used(self, totals: &Totals) -> Option<u64> {
        match self {
            Parameter::Msgmni => Some(totals.msg_queues),
            Parameter::Shmmni => Some(totals.shm_segments),
            Parameter::Shmall => Some(totals.shm_pages),
            Parameter::Semmni => Some(totals.sem_arrays),
            Parameter::Semmns => Some(totals.semaphores),
            _ => None,
        }
    }

    /// Whether its value is shown as a size (`8K`).
    fn is_size(self) -> bool {
        matches!(self, Parameter::Msgmax | Parameter::Msgmnb | Parameter::Shmmax | Parameter::Shmmin)
    }
}

/// The rows of a namespace.
pub fn rows(namespace: &Namespace) -> Vec<Row> {
    let (limits, totals) = (namespace.limits.as_ref(), namespace.totals.as_ref());
    let row = |parameter: Parameter| Row {
        parameter,
        limit: limits.map(|limits| parameter.limit(limits)),
        used: totals.and_then(|totals| parameter.used(totals)),
    };
    Parameter::ALL.into_iter().map(row).collect()
}

/// The table of a namespace.
pub fn lsipc(namespace: &Namespace) -> String {
    table(&rows(namespace))
}

/// Rows as a table: columns as wide as their widest cell, numbers to the right.
pub fn table(rows: &[Row]) -> String {
    let mut lines = Vec::with_capacity(rows.len() + 1);
    lines.push(["RESOURCE", "DESCRIPTION", "LIMIT", "USED", "USE%"].map(String::from));
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| lines.iter().map(|line| line.get(column).map_or(0, String::len)).max().unwrap_or(0);
    let [name, description, limit, used, percent] = [0, 1, 2, 3, 4].map(width);
    let mut out = String::new();
    for [a, b, c, d, e] in &lines {
        out += &format!("{a:<name$} {b:<description$} {c:>limit$} {d:>used$} {e:>percent$}\n");
    }
    out
}

fn cells(row: &Row) -> [String; 5] {
    let parameter = row.parameter;
    let unknown = || String::from("-");
    let limit = row.limit.map(|n| if parameter.is_size() { human(n) } else { format!("{n}") });
    let used = row.used.map(|n| format!("{n}"));
    let percent = row.ratio().map(|ratio| format!("{:.2}%", ratio * 100.0));
    [
        String::from(parameter.name()),
        String::from(parameter.description()),
        limit.unwrap_or_else(unknown),
        used.unwrap_or_else(unknown),
        percent.unwrap_or_else(unknown),
    ]
}

/// A size as util-linux shortens it: a power of 1024, one decimal where it is not 0 (`1B`, `8K`, `1.5G`, `16E`).
fn human(bytes: u64) -> String {
    let power = bytes.checked_ilog2().unwrap_or(0) / 10;
    let letter = ["B", "K", "M", "G", "T", "P", "E"].get(power as usize).copied().unwrap_or("E");
    let unit = 1_u128 << (10 * power);
    let thousandths = u128::from(bytes) % unit * 1_000 / unit;
    let tenths = (u128::from(bytes) / unit) * 10 + (thousandths + 50) / 100;
    match tenths % 10 {
        0 => format!("{}{letter}", tenths / 10),
        tenth => format!("{}.{tenth}{letter}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `lsipc` printed SHMMAX of these values.
    #[test]
    fn sizes_are_shortened_as_people_know_them() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (1025, "1K"),
            (1_048_575, "1024K"),
            (1_153_434, "1.1M"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn a_limit_of_zero_is_full() {
        let row = Row { parameter: Parameter::Semmni, limit: Some(0), used: Some(0) };
        assert!(table(&[row]).ends_with("    0    0 100.00%\n"), "{}", table(&[row]));
    }
}
