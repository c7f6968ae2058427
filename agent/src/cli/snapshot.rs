//! `highwater-agent snapshot`: this host now, alone: no collector, no configuration, no root.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::Args;
use highwater_ipc::object::{Kind, Owner};
use highwater_ipc::render::lsipc;
use highwater_ipc::session::HostFacts;
use highwater_ipc::snapshot::{Namespace, Snapshot, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::format_rfc3339_ms;
use highwater_proto::json::{Envelope, SnapshotJson};

use super::args::Output;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::kernel::identity::host_facts;
use crate::kernel::real::RealKernel;
use crate::sampler::Assembler;

/// Print what System V IPC objects this host holds now
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = "Examples:\n  highwater-agent snapshot\n  highwater-agent snapshot --json | jq .sysvipc\n  \
                  HIGHWATER_NAMESPACES=own highwater-agent snapshot   the IPC namespace it runs in alone")]
pub struct SnapshotArgs {
    #[command(flatten)]
    output: Output,
}

/// Samples once and prints. Whatever could not be read is part of the answer, not an error; only writing can fail.
pub fn run(args: &SnapshotArgs) -> anyhow::Result<()> {
    let mut kernel = RealKernel::new();
    let facts = host_facts(&mut kernel);
    // No next sample is planned.
    let scope = Config::from_environment(&|name| std::env::var_os(name))?.namespaces;
    let snapshot = Assembler::new(Box::new(kernel)).in_namespaces(scope).sample(&SystemClock, 0).snapshot;
    let text = if args.output.wants_json() {
        json(&facts, &snapshot).context("writing the snapshot as JSON")?
    } else {
        summary(&facts, &snapshot)
    };
    print(&text)
}

/// Writes an answer to standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that has seen enough (`| head`) is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

fn json(facts: &HostFacts, snapshot: &Snapshot) -> serde_json::Result<String> {
    let envelope = Envelope { host: Some(facts.hostname.clone()), ..Envelope::default() };
    serde_json::to_string_pretty(&SnapshotJson::new(snapshot, &envelope)).map(|json| json + "\n")
}

/// The answer for people: the host, whether it can do System V IPC and why, limits with their use, objects by owner.
fn summary(facts: &HostFacts, snapshot: &Snapshot) -> String {
    let Snapshot { at, took_us, state } = snapshot;
    let mut text = String::new();
    let zone = if state.zone == HostText::default() { "UTC".into() } else { state.zone.clone() };
    let availability = &state.availability;
    line(&mut text, format_args!("Host          {}", facts.hostname));
    let on = if facts.distro == HostText::default() { "" } else { "; " };
    line(&mut text, format_args!("Kernel        Linux {} {}{on}{}", facts.kernel, facts.arch, facts.distro));
    let time = format_rfc3339_ms(at.wall_ms);
    line(&mut text, format_args!("Time          {time} (zone {zone}), read in {took_us} us"));
    line(&mut text, format_args!("System V IPC  {}", availability.state.name()));
    for evidence in &availability.evidence {
        line(&mut text, format_args!("              - {evidence}"));
    }
    if availability.remedy != HostText::default() {
        line(&mut text, format_args!("Remedy        {}", availability.remedy));
    }
    for namespace in &state.namespaces {
        namespace_summary(&mut text, state, namespace);
    }
    text
}

fn namespace_summary(text: &mut String, state: &State, namespace: &Namespace) {
    line(text, format_args!("\nIPC namespace {} (instance {})", namespace.id.inode, namespace.id.instance));
    if namespace.torn {
        line(text, format_args!("Objects came or went while this was read."));
    }
    for unreadable in &namespace.unreadable {
        let place = if unreadable.line == 0 { String::new() } else { format!(" line {}", unreadable.line) };
        line(text, format_args!("Not read: {}{place}: {}", unreadable.source, unreadable.error));
    }
    let left = &namespace.left_out;
    if left.sem.max(left.shm).max(left.msg) > 0 {
        line(text, format_args!("Not listed: {} arrays, {} segments, {} queues", left.sem, left.shm, left.msg));
    }
    line(text, format_args!(""));
    text.push_str(&lsipc(namespace));
    line(text, format_args!(""));
    owners(text, state, namespace);
}

/// What one uid owns.
#[derive(Default)]
struct Owned {
    arrays: u64,
    semaphores: u64,
    segments: u64,
    segment_bytes: u64,
    queues: u64,
    queue_bytes: u64,
}

fn owners(text: &mut String, state: &State, namespace: &Namespace) {
    let mut owners: BTreeMap<u32, Owned> = BTreeMap::new();
    let mut of = |owner: &Owner, add: &dyn Fn(&mut Owned)| add(owners.entry(owner.uid).or_default());
    for array in namespace.sem.iter().flatten() {
        of(&array.owner, &|owned| {
            owned.arrays += 1;
            owned.semaphores = owned.semaphores.saturating_add(u64::from(array.nsems));
        });
    }
    for segment in namespace.shm.iter().flatten() {
        of(&segment.owner, &|owned| {
            owned.segments += 1;
            owned.segment_bytes = owned.segment_bytes.saturating_add(segment.size);
        });
    }
    for queue in namespace.msg.iter().flatten() {
        of(&queue.owner, &|owned| {
            owned.queues += 1;
            owned.queue_bytes = owned.queue_bytes.saturating_add(queue.cbytes);
        });
    }
    if owners.is_empty() {
        let unread = [Kind::Sem, Kind::Shm, Kind::Msg].iter().filter(|kind| !namespace.has(**kind)).count();
        let none = match unread {
            0 => "No objects.",
            3 => "Objects could not be read.",
            _ => "No objects in what could be read.",
        };
        line(text, format_args!("{none}"));
        return;
    }
    let [arrays, semaphores, segments] = ["ARRAYS", "SEMAPHORES", "SEGMENTS"];
    let [bytes, queues] = ["BYTES", "QUEUES"];
    line(
        text,
        format_args!(
            "{:10} {:16} {arrays:>8} {semaphores:>10} {segments:>8} {bytes:>20} {queues:>8} {bytes:>20}",
            "UID", "USER"
        ),
    );
    for (uid, o) in owners {
        let user = state.users.get(&uid).map_or_else(|| "-".to_owned(), HostText::escaped);
        line(
            text,
            format_args!(
                "{uid:<10} {user:16} {:>8} {:>10} {:>8} {:>20} {:>8} {:>20}",
                o.arrays, o.semaphores, o.segments, o.segment_bytes, o.queues, o.queue_bytes
            ),
        );
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kernel::fake::FakeKernel;

    fn of(machine: &str) -> (HostFacts, Snapshot) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kernels").join(machine);
        let mut kernel = FakeKernel::captured(&folder).unwrap();
        let facts = host_facts(&mut kernel);
        (facts, Assembler::new(Box::new(kernel)).sample(&SystemClock, 0).snapshot)
    }

    #[test]
    fn the_summary_names_state_limits_and_owners() {
        let (facts, snapshot) = of("busy");
        let text = summary(&facts, &snapshot);
        assert!(
            text.starts_with(
                "Host          web-17\nKernel        Linux 6.18.44 x86_64; Debian GNU/Linux 12 (bookworm)\n"
            )
        );
        assert!(text.contains("System V IPC  available\n"), "{text}");
        assert!(text.contains("SEMMNI"), "{text}");
        let owner = text.lines().find(|line| line.starts_with("33 ")).unwrap();
        assert_eq!(owner.split_whitespace().collect::<Vec<_>>(), ["33", "www-data", "1", "7", "0", "0", "0", "0"]);
    }

    #[test]
    fn an_absence_comes_with_evidence_and_remedy() {
        let (facts, snapshot) = of("absent");
        let text = summary(&facts, &snapshot);
        assert!(text.contains("System V IPC  absent\n"), "{text}");
        assert!(text.contains("- /proc/config.gz says CONFIG_SYSVIPC is not set\n"), "{text}");
        assert!(text.contains("rebuild it with CONFIG_SYSVIPC=y"), "{text}");
        assert!(text.contains("Objects could not be read.\n"), "{text}");
    }

    #[test]
    fn the_json_reads_back_as_what_was_sampled() {
        for machine in ["busy", "extremes", "absent"] {
            let (facts, snapshot) = of(machine);
            let read: SnapshotJson = serde_json::from_str(&json(&facts, &snapshot).unwrap()).unwrap();
            assert_eq!(read.to_snapshot().unwrap().0, snapshot);
        }
    }
}
