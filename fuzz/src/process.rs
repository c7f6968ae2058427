//! What `/proc` says of processes.

use highwater_agent::kernel::{cgroup, process as proc};
use highwater_agent::sampler::namespaces::schedule;
use highwater_agent::trace::caller;
use highwater_ipc::snapshot::NamedBy;
use highwater_ipc::text::HostText;

/// Every parser of a file of a process, on the same bytes.
pub fn process(data: &[u8]) {
    let start = caller::parse_start(data);
    if let Some(stat) = proc::parse_stat(data) {
        assert!(stat.comm.as_bytes().len() <= HostText::MAX);
        // The two readers of this file agree: both count from the last parenthesis.
        assert_eq!(start.map(|ticks| ticks.saturating_mul(10_000)), Some(stat.start_us));
    }
    if let Some(status) = proc::parse_status(data) {
        assert!(status.comm.as_bytes().len() <= HostText::MAX);
        assert!(status.tgid != 1 || status.takes_in, "process 1 takes in whose parent died");
    }
    if let Some((_, _, comm)) = caller::parse_status(data) {
        assert!(comm.as_bytes().len() <= HostText::MAX);
    }
    if let Some(inode) = proc::parse_namespace(data) {
        let link = format!("ipc:[{inode}]");
        assert_eq!(proc::parse_namespace(link.as_bytes()), Some(inode));
    }
    if let Some((by, name)) = cgroup::container(data) {
        assert_ne!(by, NamedBy::Nothing);
        assert_ne!(by, NamedBy::Comm);
        let name = name.as_bytes();
        assert!((1..=64).contains(&name.len()), "a container's name is a short one");
        assert!(name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte)));
        assert!(cgroup::container(&[data, b"x"].concat()).is_none(), "a file that is cut claims nothing");
    }
    if let Some(newest) = schedule::parse_newest(data) {
        assert!(newest >= 0);
    }
    for tid in [1, 77, 13_528] {
        if let Some(comm) = caller::parse_saved(data, tid) {
            assert!((1..=15).contains(&comm.as_bytes().len()));
        }
    }
    let _ = (proc::parse_may_look(data), proc::parse_hides(data));
}
