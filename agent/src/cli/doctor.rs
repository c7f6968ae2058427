//! `highwater-agent doctor`: tries everything that the features need, as this user, and says what is lost.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use highwater_ipc::codec::{decode_at, decode_record};
use highwater_ipc::snapshot::State as Sampled;
use highwater_ipc::time::Clock as _;

use super::args::{Output, Places};
use super::snapshot;
use crate::agent::SPOOL_DIR;
use crate::clock::SystemClock;
use crate::config::{Config, Overrides};
use crate::doctor::findings::{Clock, Enrolled, Findings, LastUsers, Namespaces, Price, Sight, Spool, State, Trace};
use crate::doctor::{checks, report};
use crate::kernel::Kernel;
use crate::kernel::process::{MAX_PROCESS_FILE, parse_hides, parse_namespace};
use crate::kernel::real::RealKernel;
use crate::kernel::surroundings::parse_capabilities;
use crate::sampler::{Assembler, Scope};
use crate::spool::disk::PrivateDir;
use crate::spool::recover;
use crate::sys::errno::Errno;
use crate::sys::host;
use crate::trace::cost;
use crate::transport::address::Address;
use crate::transport::enrolment::Enrolment;

/// Say what can and cannot be read here, why, what is lost without it, and what helps
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  highwater-agent doctor\n  runuser -u highwater-agent -- highwater-agent doctor\n  \
                  highwater-agent doctor --json | jq '.checks[] | select(.verdict == \"trouble\")'\n\nExit codes: 0 \
                  nothing is lost, 3 something is, 1 an error, 2 wrong usage. It takes a second: tracing is measured."
)]
pub struct DoctorArgs {
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    output: Output,
}

/// Exit code of "yes, trouble".
const TROUBLE: u8 = 3;

/// Tries, and answers.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = args.places.load(Overrides::default())?;
    let named = args.places.state_dir.is_some();
    let checks = checks::checks(&examine(&config, named));
    let text = if args.output.wants_json() { report::json(&checks)? } else { report::text(&checks) };
    snapshot::print(&text)?;
    Ok(if checks::trouble(&checks) { ExitCode::from(TROUBLE) } else { ExitCode::SUCCESS })
}

fn examine(config: &Config, named: bool) -> Findings {
    let mut kernel = RealKernel::new();
    let sampled =
        Assembler::new(Box::new(RealKernel::new())).in_namespaces(Scope::Own).sample(&SystemClock, 0).snapshot.state;
    let mut status = Vec::new();
    let status_read = kernel.read("/proc/self/status", MAX_PROCESS_FILE, &mut status);
    let state = (named || config.state_dir.exists()).then(|| state(config));
    Findings {
        capabilities: status_read.ok().and_then(|_| parse_capabilities(&status)),
        namespaces: namespaces(&mut kernel),
        last_users: last_users(&mut kernel, &sampled),
        sight: sight(&mut kernel),
        trace: trace(config),
        availability: sampled.availability,
        risks: sampled.risks,
        state,
        clock: Clock { now_ms: SystemClock.now().wall_ms, synchronized: host::clock_is_kept().ok() },
    }
}

fn inode(kernel: &mut dyn Kernel, path: &str) -> Result<Option<u64>, Errno> {
    kernel.read_link(path).map(|target| parse_namespace(&target))
}

/// Reads the namespace of every process, and enters the first other one that lets it.
fn namespaces(kernel: &mut dyn Kernel) -> Namespaces {
    let mut found = Namespaces::default();
    let mut pids = Vec::new();
    let own = inode(kernel, "/proc/self/ns/ipc").ok().flatten();
    if kernel.pids(&mut pids).is_err() {
        return found;
    }
    let mut others = BTreeSet::new();
    for pid in pids {
        let read = inode(kernel, &format!("/proc/{pid}/ns/ipc"));
        if pid == 1 {
            found.is_hosts = read.ok().flatten().map(|first| Some(first) == own);
        }
        match read {
            Ok(inode) => {
                found.processes += 1;
                if inode != own && others.insert(inode) && found.entered != Some(Ok(())) {
                    found.entered = Some(kernel.enter(pid).map(|_| ()));
                    kernel.home();
                }
            }
            // It ended, or (a thread of the kernel) has none.
            Err(Errno::ENOENT) => {}
            Err(errno) => {
                found.processes += 1;
                found.unreadable += 1;
                found.refusal.get_or_insert(errno);
            }
        }
    }
    found.others = others.len();
    found
}

/// The most arrays asked.
const MAX_ARRAYS: usize = 10_000;

fn last_users(kernel: &mut dyn Kernel, sampled: &Sampled) -> LastUsers {
    let mut found = LastUsers::default();
    let arrays = sampled.namespaces.first().and_then(|own| own.sem.as_deref()).unwrap_or_default();
    for array in arrays.iter().take(MAX_ARRAYS) {
        match kernel.sem_pid(array.semid, 0) {
            Ok(_) => found.asked += 1,
            Err(Errno::EACCES) => {
                found.asked += 1;
                found.refused += 1;
            }
            // Removed meanwhile, or refused as every call is: that is told elsewhere.
            Err(_) => {}
        }
    }
    found
}

fn sight(kernel: &mut dyn Kernel) -> Sight {
    let mut mounts = Vec::new();
    let hidepid = match kernel.read("/proc/self/mountinfo", MAX_MOUNTS, &mut mounts) {
        Ok(true) => parse_hides(&mounts),
        _ => None,
    };
    let initial = match inode(kernel, "/proc/self/ns/pid") {
        Ok(inode) => inode.map(|inode| inode == INITIAL_PID_NAMESPACE),
        // A kernel built without pid namespaces has one; without /proc nothing is known.
        Err(Errno::ENOENT) if hidepid.is_some() => Some(true),
        Err(_) => None,
    };
    Sight { hidepid, initial }
}

/// PROC_PID_INIT_INO of `linux/nsfs.h`.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Most bytes of the table of mounts.
const MAX_MOUNTS: usize = 4 << 20;

fn trace(config: &Config) -> Trace {
    if !config.trace {
        return Trace::Off;
    }
    match cost::measure() {
        Ok(cost) => Trace::Works(Price {
            per_call_ns: cost.per_call_ns,
            call_ns: cost.call_ns,
            buffer_bytes: cost.buffer_bytes,
            others: cost.others,
        }),
        Err(why) => Trace::Refused(why.to_string()),
    }
}

fn state(config: &Config) -> State {
    let path = config.state_dir.display().to_string();
    let opened = PrivateDir::open(&config.state_dir);
    let enrolment = match opened {
        Ok(mut dir) => Enrolment::load(&mut dir),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    };
    let enrolment = enrolment.map_err(|e| format!("{path}: {e}"));
    let collector = config.collector.clone();
    let collector = collector.or_else(|| enrolment.as_ref().ok().and_then(|e| e.as_ref()).map(|e| e.collector.clone()));
    State {
        dialled: collector.map(|address| dial(&address)),
        enrolment: enrolment.map(|e| {
            e.map(|e| Enrolled { host_id: e.host_id.escape_debug().to_string(), not_after_ms: e.not_after_ms })
        }),
        spool: spool(&config.state_dir.join(SPOOL_DIR), config.spool_bytes),
        path,
    }
}

/// What a collector is given to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens a connection and closes it again: a stream would take the place of the agent that runs.
fn dial(address: &str) -> Result<String, String> {
    let address = Address::parse(address).map_err(|e| e.to_string())?;
    let places = (address.host.as_str(), address.port).to_socket_addrs().map_err(|e| format!("{address}: {e}"))?;
    let mut refused = format!("{address}: the name has no address");
    for place in places {
        match TcpStream::connect_timeout(&place, PATIENCE) {
            Ok(_) => return Ok(address.to_string()),
            Err(e) => refused = format!("{address} ({place}): {e}"),
        }
    }
    Err(refused)
}

fn spool(path: &Path, limit: u64) -> Result<Spool, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut dir = match PrivateDir::open(path) {
        Ok(dir) => dir,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Spool { limit, ..Spool::default() }),
        Err(e) => return Err(failed(e)),
    };
    let found = recover::scan(&mut dir).map_err(failed)?;
    let newest = found.segments.last().map(|segment| recover::last_entry(&mut dir, segment)).transpose();
    let newest = newest.map_err(failed)?.flatten().and_then(|entry| {
        let record = decode_record(&entry.bytes).ok()?;
        Some(decode_at(&record.body).ok()?.wall_ms)
    });
    let (bytes, records) = (found.bytes(), found.entries);
    Ok(Spool { bytes, limit, records, damaged: found.damaged, newest_ms: newest })
}
