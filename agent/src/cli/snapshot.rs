//! `highwater-agent snapshot`: this host now, alone: no collector, no configuration, no root.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::Args;
use highwater_ipc::session::HostFacts;
use highwater_ipc::snapshot::Snapshot;
use highwater_proto::json::{Envelope, SnapshotJson};

use super::args::Output;
use super::people::summary;
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
    fn the_json_reads_back_as_what_was_sampled() {
        for machine in ["busy", "extremes", "absent"] {
            let (facts, snapshot) = of(machine);
            let read: SnapshotJson = serde_json::from_str(&json(&facts, &snapshot).unwrap()).unwrap();
            assert_eq!(read.to_snapshot().unwrap().0, snapshot);
        }
    }
}
