//! What the findings mean: fine, a note, or trouble with what is lost and what helps.

use highwater_ipc::availability::SysvipcState;
use highwater_ipc::text::HostText;
use highwater_ipc::time::format_rfc3339_ms;
use serde::Serialize;

use super::findings::{Enrolled, Findings, Price, Spool, State, Trace};
use super::needs::{Capability, Feature, Need, need};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Works.
    Fine,
    /// Worth knowing; nothing is lost.
    Note,
    /// Something is lost.
    Trouble,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, safe to show.
    pub found: Vec<String>,
    /// What is lost; `None` = nothing.
    pub lost: Option<String>,
    /// What a person can do; `None` = nothing needs to be done.
    pub remedy: Option<String>,
}

/// All checks, in the order in which they are shown.
pub fn checks(findings: &Findings) -> Vec<Check> {
    let mut checks = vec![
        availability(findings),
        namespaces(findings),
        others(findings),
        processes(findings),
        last_users(findings),
        trace(findings),
        removal(findings),
        clock(findings),
    ];
    match &findings.state {
        Some(state) => {
            checks.extend([enrolment(state, findings.clock.now_ms), collector(state), spool(state, findings)])
        }
        None => checks.push(note(
            "enrolment",
            "no state directory: this host is not enrolled here (snapshot and doctor need none)".into(),
        )),
    }
    checks
}

/// Whether anything is lost.
pub fn trouble(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.verdict == Verdict::Trouble)
}

fn fine(check: &'static str, found: String) -> Check {
    Check { check, verdict: Verdict::Fine, found: vec![found], lost: None, remedy: None }
}

fn note(check: &'static str, found: String) -> Check {
    Check { verdict: Verdict::Note, ..fine(check, found) }
}

fn lost(check: &'static str, found: String, lost: &str, remedy: String) -> Check {
    Check { verdict: Verdict::Trouble, lost: Some(lost.to_owned()), remedy: Some(remedy), ..fine(check, found) }
}

/// What that feature lacks, by the capabilities this process has not.
fn lacking(findings: &Findings, need: &Need) -> String {
    let names = |held: Option<bool>| {
        need.takes.iter().filter(|c| findings.has(**c) == held).map(|c| c.name()).collect::<Vec<_>>().join(", ")
    };
    let (missing, unknown) = (names(Some(false)), names(None));
    if !missing.is_empty() {
        format!("run the agent with {missing}, as the systemd unit does, or as root")
    } else if !unknown.is_empty() {
        format!("run the agent with {unknown}; which it has now cannot be read (/proc/self/status)")
    } else {
        "this process has every capability it takes: a security module or a sandbox refuses it (ausearch -m avc -ts recent, \
         journalctl -k)"
            .to_owned()
    }
}

fn availability(findings: &Findings) -> Check {
    let sysvipc = &findings.availability;
    let found = std::iter::once(sysvipc.state.name().to_owned()).chain(sysvipc.evidence.iter().map(HostText::escaped));
    let found = found.collect();
    let remedy = Some(sysvipc.remedy.escaped()).filter(|remedy| !remedy.is_empty());
    let lost = match sysvipc.state {
        SysvipcState::Available => None,
        SysvipcState::ProcHidden => Some("resident and swapped bytes of segments"),
        SysvipcState::Absent => Some("everything: there are no objects on this host"),
        SysvipcState::Blocked | SysvipcState::Unknown => Some("totals and whatever /proc does not show"),
    };
    let verdict = if lost.is_none() { Verdict::Fine } else { Verdict::Trouble };
    Check { check: "System V IPC", verdict, found, lost: lost.map(str::to_owned), remedy }
}

fn namespaces(findings: &Findings) -> Check {
    const CHECK: &str = "IPC namespaces found";
    let (seen, need) = (&findings.namespaces, need(Feature::Namespaces));
    let own = match seen.is_hosts {
        Some(true) => "the agent's own is process 1's",
        Some(false) => "the agent's own is not process 1's",
        None => "whether the agent's own is process 1's cannot be read",
    };
    let readable = seen.processes.saturating_sub(seen.unreadable);
    let found = format!(
        "{readable} of {} processes say theirs, {} besides the agent's own; {own}",
        seen.processes, seen.others
    );
    let Some(refusal) = seen.refusal.filter(|_| seen.unreadable > 0) else {
        return match seen.is_hosts {
            Some(false) => note(CHECK, found),
            _ => fine(CHECK, found),
        };
    };
    let found = format!("{found}; the rest: {refusal}");
    // With the capability only a policy of the kernel can refuse, and of single processes: others are in there as well.
    if findings.has(Capability::SysPtrace) == Some(true) && seen.unreadable < readable {
        return note(CHECK, found);
    }
    lost(CHECK, found, need.lost, lacking(findings, need))
}

fn others(findings: &Findings) -> Check {
    const CHECK: &str = "other IPC namespaces";
    let need = need(Feature::Others);
    match findings.namespaces.entered {
        Some(Ok(())) => fine(CHECK, "entered one and came home".into()),
        Some(Err(errno)) => lost(CHECK, format!("entering one: {errno}"), need.lost, lacking(findings, need)),
        None => match need.takes.iter().map(|c| findings.has(*c)).min() {
            Some(Some(true)) => fine(CHECK, "there is none to try; what it takes is there".into()),
            _ => {
                lost(CHECK, "there is none to try, and it would be refused".into(), need.lost, lacking(findings, need))
            }
        },
    }
}

fn processes(findings: &Findings) -> Check {
    const CHECK: &str = "processes";
    let need = need(Feature::Owners);
    let sees_others = findings.has(Capability::SysPtrace) == Some(true);
    match (findings.sight.hidepid, findings.sight.initial) {
        (Some(true), _) if !sees_others => {
            let remedy = format!("{}; or mount -o remount,hidepid=0 /proc", lacking(findings, need));
            lost(CHECK, "/proc is mounted with hidepid".into(), need.lost, remedy)
        }
        (_, Some(false)) => lost(
            CHECK,
            "this is not the initial pid namespace: processes outside of it are not seen".into(),
            need.lost,
            "run the agent on the host, or its container with the host's pid namespace (--pid=host, hostPID)".into(),
        ),
        (Some(_), Some(true)) => fine(CHECK, "all are seen".into()),
        _ => lost(
            CHECK,
            "whether all are seen cannot be read".into(),
            need.lost,
            "mount proc on /proc for the agent".into(),
        ),
    }
}

fn last_users(findings: &Findings) -> Check {
    const CHECK: &str = "last users of semaphores";
    let (seen, need) = (findings.last_users, need(Feature::LastUsers));
    if seen.refused > 0 {
        let found = format!("GETPID of {} of {} arrays: EACCES", seen.refused, seen.asked);
        return lost(CHECK, found, need.lost, lacking(findings, need));
    }
    if findings.has(Capability::IpcOwner) == Some(true) {
        return fine(CHECK, format!("GETPID of {} arrays answers; of others it would", seen.asked));
    }
    let found = format!("GETPID of {} arrays answers; of one without read permission it would not", seen.asked);
    lost(CHECK, found, need.lost, lacking(findings, need))
}

fn trace(findings: &Findings) -> Check {
    const CHECK: &str = "trace events";
    let need = need(Feature::Trace);
    match &findings.trace {
        Trace::Off => {
            note(CHECK, "turned off by the configuration: refused calls and their makers are not seen".into())
        }
        Trace::Works(Price { per_call_ns, call_ns, buffer_bytes, others }) => {
            let paid = if *others { "; somebody traces already, so most of it is paid" } else { "" };
            let kib = buffer_bytes / 1024;
            fine(
                CHECK,
                format!(
                    "an instance could be made; it costs each system call of the host {per_call_ns:.1} ns (the cheapest \
                     takes {call_ns:.0} ns) and {kib} KiB of buffers{paid}; trace = \"off\" turns it off"
                ),
            )
        }
        Trace::Refused(why) => {
            let remedy = "mount -t tracefs nodev /sys/kernel/tracing if it is not mounted; use the systemd unit, which gives \
                          the agent its instances directory, or run the agent as root or with CAP_DAC_OVERRIDE";
            lost(CHECK, why.clone(), need.lost, remedy.to_owned())
        }
    }
}

fn removal(findings: &Findings) -> Check {
    const CHECK: &str = "removal at logout";
    let Some(first) = findings.risks.first() else {
        return fine(CHECK, "no object of a login user that systemd-logind would remove".into());
    };
    Check {
        check: CHECK,
        verdict: Verdict::Trouble,
        found: findings.risks.iter().map(|risk| risk.why.escaped()).collect(),
        lost: Some("these objects, as the last session of their user ends".into()),
        remedy: Some(first.remedy.escaped()),
    }
}

/// 2020-01-01: no host that runs this has an earlier day.
const EARLIEST_MS: i64 = 1_577_836_800_000;

fn clock(findings: &Findings) -> Check {
    const CHECK: &str = "clock";
    let now = format_rfc3339_ms(findings.clock.now_ms);
    let remedy = || "start a time service (systemctl enable --now systemd-timesyncd, chronyd)".to_owned();
    if findings.clock.now_ms < EARLIEST_MS {
        let what = "history is kept at that time, and a certificate is not valid yet";
        return lost(CHECK, format!("{now}, years ago"), what, remedy());
    }
    match findings.clock.synchronized {
        Some(true) => fine(CHECK, format!("{now}, synchronized")),
        Some(false) => {
            let found = format!("{now}; the kernel knows of no time service that keeps it");
            Check { remedy: Some(remedy()), ..note(CHECK, found) }
        }
        None => note(CHECK, format!("{now}; whether a time service keeps it is not known")),
    }
}

/// Less than this before its end a certificate is told of.
const SOON_MS: i64 = 30 * 86_400_000;

fn enrolment(state: &State, now_ms: i64) -> Check {
    const CHECK: &str = "enrolment";
    const LOST: &str = "nothing reaches a collector";
    let again = || "highwater-agent enrol --collector URL --token-file FILE, as the agent's user".to_owned();
    match &state.enrolment {
        Err(why) => lost(CHECK, why.clone(), LOST, format!("run this as the agent's user; else {}", again())),
        Ok(None) => lost(CHECK, format!("{} holds none", state.path), LOST, again()),
        Ok(Some(Enrolled { host_id, not_after_ms })) => {
            let found = format!("host {host_id}, certificate until {}", format_rfc3339_ms(*not_after_ms));
            if *not_after_ms <= now_ms {
                return lost(CHECK, format!("{found}, which is past"), LOST, again());
            }
            if not_after_ms.saturating_sub(now_ms) < SOON_MS {
                return Check { remedy: Some(again()), ..note(CHECK, found) };
            }
            fine(CHECK, found)
        }
    }
}

fn collector(state: &State) -> Check {
    const CHECK: &str = "collector";
    match &state.dialled {
        None => note(CHECK, "none is named".into()),
        Some(Ok(place)) => fine(CHECK, format!("{place} answers")),
        Some(Err(why)) => lost(
            CHECK,
            why.clone(),
            "records wait in the spool; when it is full the oldest are dropped",
            "start the collector, or mend name, route or firewall".into(),
        ),
    }
}

fn spool(state: &State, findings: &Findings) -> Check {
    const CHECK: &str = "spool";
    let now_ms = findings.clock.now_ms;
    match &state.spool {
        Err(why) => lost(
            CHECK,
            why.clone(),
            "what waits to be sent is not known",
            "run this as the agent's user, or mend the directory".into(),
        ),
        Ok(Spool { bytes, limit, records, damaged, newest_ms }) => {
            let found = format!("{records} records, {bytes} of at most {limit} bytes");
            if *damaged > 0 {
                let found = format!("{found}, {damaged} damaged places");
                return lost(CHECK, found, "what the damage held: a gap in history", "look at the disk (dmesg)".into());
            }
            if newest_ms.is_some_and(|newest| newest > now_ms.saturating_add(2000)) {
                return note(CHECK, format!("{found}; the newest is of a time to come: the clock was set back since"));
            }
            if bytes.saturating_mul(10) > limit.saturating_mul(9) {
                let remedy = "mend the way to the collector, or raise spool_bytes".to_owned();
                return lost(CHECK, found, "the oldest records, as soon as it is full", remedy);
            }
            fine(CHECK, found)
        }
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
