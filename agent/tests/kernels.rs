//! Every captured machine of `testdata/kernels` gives the snapshot, and the text of `ipcs`, that its folder holds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: it may panic anywhere")]

use std::fs;
use std::path::{Path, PathBuf};

use highwater_agent::clock::HostClock;
use highwater_agent::kernel::fake::FakeKernel;
use highwater_agent::sampler::Assembler;
use highwater_ipc::render::{Question, View, ipcs};
use highwater_ipc::snapshot::Snapshot;
use highwater_ipc::text::HostText;
use highwater_ipc::time::{At, Clock, Utc};
use highwater_proto::json::{Envelope, SnapshotJson};

/// 2026-11-24T03:12:00Z, two days after boot.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> At {
        At { wall_ms: 1_795_489_920_000, boot_us: 172_800_000_000 }
    }
}

impl HostClock for Standing {
    fn awake_us(&self) -> u64 {
        172_800_000_000
    }
}

#[test]
fn each_captured_machine_gives_its_snapshot() {
    let mut wrong = Vec::new();
    for machine in machines() {
        let snapshot = snapshot_of(&machine);
        let host = HostText::from(machine.file_name().unwrap().to_str().unwrap());
        let envelope = Envelope { host: Some(host), ..Envelope::default() };
        let json = serde_json::to_string_pretty(&SnapshotJson::new(&snapshot, &envelope)).unwrap() + "\n";
        let golden = machine.join("snapshot.json");
        if std::env::var_os("HIGHWATER_BLESS").is_some() {
            fs::write(&golden, &json).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != json {
            wrong.push(format!("{}:\n{json}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "not as its golden file (HIGHWATER_BLESS=1 rewrites it): {}", wrong.join("\n"));
}

#[test]
fn each_captured_machine_prints_what_ipcs_printed_there() {
    let mut compared = 0;
    for machine in machines() {
        let views = [
            ("ipcs.txt", View::Default),
            ("ipcs-c.txt", View::Creator),
            ("ipcs-t.txt", View::Time),
            ("ipcs-p.txt", View::Pid),
            ("ipcs-u.txt", View::Summary),
            ("ipcs-l.txt", View::Limits),
        ];
        for (file, view) in views {
            let Ok(printed) = fs::read_to_string(machine.join(file)) else { continue };
            let state = snapshot_of(&machine).state;
            let ours = ipcs(&state, &state.namespaces[0], &Question { kinds: Vec::new(), view }, &Utc);
            assert_eq!(String::from_utf8_lossy(&ours), printed, "{} of {}", file, machine.display());
            compared += 1;
        }
    }
    assert!(compared >= 6, "only {compared} outputs of ipcs were found");
}

fn snapshot_of(machine: &Path) -> Snapshot {
    let kernel = FakeKernel::captured(machine).unwrap_or_else(|error| panic!("{}: {error}", machine.display()));
    let mut assembler = Assembler::new(Box::new(kernel));
    let first = assembler.sample(&Standing, 10_000).snapshot;
    assert_eq!(assembler.sample(&Standing, 10_000).snapshot, first, "a second sample of the same machine differs");
    first
}

fn machines() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kernels");
    let mut machines: Vec<PathBuf> =
        fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    machines.sort();
    assert!(machines.len() >= 8, "machines are missing: {machines:?}");
    machines
}
