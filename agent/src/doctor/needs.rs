//! Which feature takes which capability (`capabilities(7)`), found by running each with and without it.

use std::fmt::Write as _;

/// The capabilities that a feature can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Pass permission checks of files; instead of it the unit gives the agent tracefs's `instances`.
    DacOverride,
    /// Read objects whose mode does not let the agent.
    IpcOwner,
    /// Look at processes of other users.
    SysPtrace,
    /// `setns(2)`.
    SysAdmin,
}

impl Capability {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::IpcOwner => "CAP_IPC_OWNER",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        }
    }

    /// Its bit in `CapEff:` of `/proc/PID/status` (`linux/capability.h`).
    pub fn bit(self) -> u64 {
        let number = match self {
            Self::DacOverride => 1,
            Self::IpcOwner => 15,
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
        };
        1 << number
    }
}

/// A feature of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Objects, limits and totals of the agent's own IPC namespace.
    Own,
    /// Comms of processes that own objects.
    Owners,
    /// Which IPC namespaces there are.
    Namespaces,
    /// Objects, limits and totals of the others.
    Others,
    /// GETPID, GETNCNT, GETZCNT of arrays that only their owner may read.
    LastUsers,
    /// Trace events.
    Trace,
}

/// What a feature takes and is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which.
    pub feature: Feature,
    /// What it does, for people.
    pub does: &'static str,
    /// What it takes, all of them.
    pub takes: &'static [Capability],
    /// What may stand in for them, or restricts the need; empty = nothing.
    pub or: &'static str,
    /// What is lost without.
    pub lost: &'static str,
}

/// Every feature, in the order of the documents.
pub const NEEDS: [Need; 6] = [
    Need {
        feature: Feature::Own,
        does: "objects, limits and totals of its own IPC namespace (the host's)",
        takes: &[],
        or: "",
        lost: "",
    },
    Need {
        feature: Feature::Owners,
        does: "processes that own objects, orphans",
        takes: &[Capability::SysPtrace],
        or: "nothing where /proc is mounted without hidepid",
        lost: "processes of other users are not seen: no owners by name, and no orphan is called certain",
    },
    Need {
        feature: Feature::Namespaces,
        does: "which IPC namespaces there are",
        takes: &[Capability::SysPtrace],
        or: "",
        lost: "namespaces of other users' processes (containers) are not found",
    },
    Need {
        feature: Feature::Others,
        does: "objects, limits and totals of other IPC namespaces",
        takes: &[Capability::SysAdmin, Capability::SysPtrace],
        or: "",
        lost: "objects and limits inside containers are not read: exhaustion there is not seen",
    },
    Need {
        feature: Feature::LastUsers,
        does: "last users of semaphores that only their owner may read",
        takes: &[Capability::IpcOwner],
        or: "",
        lost: "arrays without read permission for others have no last users and are never graded as orphans",
    },
    Need {
        feature: Feature::Trace,
        does: "refused calls, and who made and removed what (tracefs)",
        takes: &[Capability::DacOverride],
        or: "the directory /sys/kernel/tracing/instances owned by the agent's user, as the unit arranges",
        lost: "refused calls, creators, removers and peaks between two samples are not seen",
    },
];

/// What is known of that feature's needs.
pub fn need(feature: Feature) -> &'static Need {
    // The table has every feature: a test counts them.
    NEEDS.iter().find(|need| need.feature == feature).unwrap_or(&NEEDS[0])
}

/// The table as `PRIVILEGES.md` shows it.
pub fn markdown() -> String {
    let mut table = "| what the agent does | takes | or | lost without it |\n|---|---|---|---|\n".to_owned();
    for Need { does, takes, or, lost, .. } in NEEDS {
        let names: Vec<&str> = takes.iter().map(|capability| capability.name()).collect();
        let takes = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let dash = |text: &'static str| if text.is_empty() { "-" } else { text };
        // Writing to a String does not fail.
        let _ = writeln!(table, "| {does} | {takes} | {} | {} |", dash(or), dash(lost));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_prints_this_very_table() {
        let document = include_str!("../../PRIVILEGES.md");
        assert!(document.contains(&markdown()), "agent/PRIVILEGES.md lacks:\n{}", markdown());
    }

    #[test]
    fn the_unit_grants_what_the_features_take_and_nothing_else() {
        let unit = include_str!("../../../packaging/systemd/highwater-agent.service");
        // Files of tracefs are given by owner instead.
        let takes = NEEDS.iter().flat_map(|need| need.takes).filter(|c| **c != Capability::DacOverride);
        let takes: BTreeSet<&str> = takes.map(|capability| capability.name()).collect();
        for setting in ["AmbientCapabilities=", "CapabilityBoundingSet="] {
            let granted: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix(setting)).collect();
            assert_eq!(granted.len(), 1, "{setting}");
            assert_eq!(granted[0].split(' ').collect::<BTreeSet<_>>(), takes, "{setting}");
        }
        assert!(unit.contains("chown highwater-agent /sys/kernel/tracing/instances"));
    }

    #[test]
    fn every_feature_has_its_row() {
        use Feature::{LastUsers, Namespaces, Others, Own, Owners, Trace};
        for feature in [Own, Owners, Namespaces, Others, LastUsers, Trace] {
            assert_eq!(need(feature).feature, feature);
            assert_eq!(need(feature).takes.is_empty(), feature == Own);
        }
    }
}
