//! `/proc/sys/kernel/{sem,shmmax,shmall,shmmni,msgmax,msgmnb,msgmni}`: the limits of one IPC namespace.
//!
//! Kernel source: `ipc/ipc_sysctl.c`. A kernel without CONFIG_SYSVIPC_SYSCTL has no such files: then IPC_INFO is asked,
//! which says the same. SEMVMX and SHMMIN are compiled in (`include/uapi/linux/{sem,shm}.h`).
//!
//! Seven files a sample would be a third of its cost, so they are read again only when IPC_INFO says otherwise than
//! when they were read last ([`Known`]).

use highwater_ipc::limits::Limits;
use highwater_ipc::text::HostText;

use super::Kernel;
use super::sysvipc::shown;
use crate::sys::errno::Errno;
use crate::sys::sysvipc::{MsgLimits, SemLimits, ShmLimits};

/// Highest value of a semaphore.
pub const SEMVMX: u64 = 32_767;
/// Smallest segment, bytes.
pub const SHMMIN: u64 = 1;

/// Reads all limits; `buffer` is scratch. On failure the list says each source that could not be read and why, at
/// most one for each kind.
pub fn read(kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) -> Result<Limits, Vec<LimitsError>> {
    let sem = sem(kernel, buffer).or_else(|error| error.or_ask(|| kernel.sem_limits()));
    let shm = shm(kernel, buffer).or_else(|error| error.or_ask(|| kernel.shm_limits()));
    let msg = msg(kernel, buffer).or_else(|error| error.or_ask(|| kernel.msg_limits()));
    match (sem, shm, msg) {
        (Ok(sem), Ok(shm), Ok(msg)) => Ok(Limits {
            semmsl: sem.semmsl,
            semmns: sem.semmns,
            semopm: sem.semopm,
            semmni: sem.semmni,
            semvmx: SEMVMX,
            shmmax: shm.shmmax,
            shmall: shm.shmall,
            shmmni: shm.shmmni,
            shmmin: SHMMIN,
            msgmax: msg.msgmax,
            msgmnb: msg.msgmnb,
            msgmni: msg.msgmni,
        }),
        (sem, shm, msg) => Err([sem.err(), shm.err(), msg.err()].into_iter().flatten().collect()),
    }
}

/// The limits as they were read last, and what IPC_INFO said then.
#[derive(Debug, Default)]
pub struct Known(Option<(Calls, Limits)>);

/// The three answers of IPC_INFO.
type Calls = (SemLimits, ShmLimits, MsgLimits);

impl Known {
    /// As [`read`], from memory where IPC_INFO says what it said before.
    pub fn read(&mut self, kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) -> Result<Limits, Vec<LimitsError>> {
        let calls = match (kernel.sem_limits(), kernel.shm_limits(), kernel.msg_limits()) {
            (Ok(sem), Ok(shm), Ok(msg)) => Some((sem, shm, msg)),
            _ => None,
        };
        match (self.0, calls) {
            (Some((before, limits)), Some(now)) if before == now => Ok(limits),
            _ => {
                let limits = read(kernel, buffer);
                self.0 = calls.zip(limits.as_ref().ok().copied());
                limits
            }
        }
    }
}

/// Parses a file of exactly `N` numbers.
pub fn parse<const N: usize>(file: &'static str, bytes: &[u8]) -> Result<[u64; N], LimitsError> {
    let wrong = || LimitsError { file, problem: Problem::Value { numbers: N, value: shown(bytes.trim_ascii()) } };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
    let mut numbers = [0; N];
    let mut fields = text.split_ascii_whitespace();
    for number in &mut numbers {
        let parsed = fields.next().filter(|field| !field.starts_with('+')).and_then(|field| field.parse().ok());
        *number = parsed.ok_or_else(wrong)?;
    }
    if fields.next().is_some() { Err(wrong()) } else { Ok(numbers) }
}

/// Why limits are not known, and which file should have said them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct LimitsError {
    /// The file.
    pub file: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file of limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error("{0}")]
    File(Errno),
    /// It cannot be read, and the call that says the same failed too.
    #[error("{file}; IPC_INFO: {call}")]
    FileAndCall {
        /// Of the file.
        file: Errno,
        /// Of the call.
        call: Errno,
    },
    /// It holds something else than that many numbers from 0 to 2^64-1.
    #[error("wanted {numbers} of the numbers from 0 to 18446744073709551615, found {value}")]
    Value {
        /// How many it should hold.
        numbers: usize,
        /// What it holds, cut at 64 bytes.
        value: HostText,
    },
}

impl LimitsError {
    /// Takes the call's answer where the file could not be read; a file that reads nonsense is not passed over.
    fn or_ask<T>(self, ask: impl FnOnce() -> Result<T, Errno>) -> Result<T, LimitsError> {
        let Problem::File(file) = self.problem else { return Err(self) };
        ask().map_err(|call| LimitsError { file: self.file, problem: Problem::FileAndCall { file, call } })
    }
}

/// Seven numbers have 20 digits at most.
const MAX_BYTES: usize = 4096;

fn sem(kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) -> Result<SemLimits, LimitsError> {
    let [semmsl, semmns, semopm, semmni] = numbers(kernel, "/proc/sys/kernel/sem", buffer)?;
    Ok(SemLimits { semmsl, semmns, semopm, semmni })
}

fn shm(kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) -> Result<ShmLimits, LimitsError> {
    let [shmmax] = numbers(kernel, "/proc/sys/kernel/shmmax", buffer)?;
    let [shmall] = numbers(kernel, "/proc/sys/kernel/shmall", buffer)?;
    let [shmmni] = numbers(kernel, "/proc/sys/kernel/shmmni", buffer)?;
    Ok(ShmLimits { shmmax, shmall, shmmni })
}

fn msg(kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) -> Result<MsgLimits, LimitsError> {
    let [msgmax] = numbers(kernel, "/proc/sys/kernel/msgmax", buffer)?;
    let [msgmnb] = numbers(kernel, "/proc/sys/kernel/msgmnb", buffer)?;
    let [msgmni] = numbers(kernel, "/proc/sys/kernel/msgmni", buffer)?;
    Ok(MsgLimits { msgmax, msgmnb, msgmni })
}

fn numbers<const N: usize>(
    kernel: &mut dyn Kernel,
    file: &'static str,
    buffer: &mut Vec<u8>,
) -> Result<[u64; N], LimitsError> {
    kernel.read(file, MAX_BYTES, buffer).map_err(|error| LimitsError { file, problem: Problem::File(error) })?;
    parse(file, buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_numbers_up_to_2_64() {
        assert_eq!(parse("sem", b"32000\t1024000000\t500\t32000\n"), Ok([32_000, 1_024_000_000, 500, 32_000]));
        assert_eq!(parse("shmall", b"18446744073709551615\n"), Ok([u64::MAX]));
    }

    #[test]
    fn says_what_stood_there_instead() {
        let error = parse::<1>("/proc/sys/kernel/shmmni", b"-1\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "/proc/sys/kernel/shmmni: wanted 1 of the numbers from 0 to 18446744073709551615, found -1"
        );
        assert!(parse::<4>("sem", b"1 2 3\n").is_err());
        assert!(parse::<4>("sem", b"1 2 3 4 5\n").is_err());
        assert!(parse::<1>("x", b"18446744073709551616\n").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (parse::<4>("sem", &bytes), parse::<1>("shmmax", &bytes));
        }
    }
}
