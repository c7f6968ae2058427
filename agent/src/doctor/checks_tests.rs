use super::*;
use crate::doctor::findings::{Clock, LastUsers, Namespaces, Sight};
use crate::doctor::report;
use crate::sys::errno::Errno;
use highwater_ipc::availability::Availability;
use highwater_ipc::risk::{Risk, RiskKind};

const NOW_MS: i64 = 1_800_000_000_000;

/// A host on which everything works.
fn healthy() -> Findings {
    Findings {
        capabilities: Some(u64::MAX),
        availability: Availability { state: SysvipcState::Available, ..Availability::default() },
        namespaces: Namespaces {
            processes: 10,
            others: 1,
            entered: Some(Ok(())),
            is_hosts: Some(true),
            ..Namespaces::default()
        },
        last_users: LastUsers { asked: 3, refused: 0 },
        sight: Sight { hidepid: Some(false), initial: Some(true) },
        trace: Trace::Works(Price { per_call_ns: 9.26, call_ns: 60.0, buffer_bytes: 139_264, others: false }),
        risks: Vec::new(),
        state: Some(State {
            path: "/var/lib/highwater-agent".into(),
            enrolment: Ok(Some(Enrolled { host_id: "h1".into(), not_after_ms: NOW_MS + 2 * SOON_MS })),
            dialled: Some(Ok("https://collector:8443".into())),
            spool: Ok(Spool { limit: 100, ..Spool::default() }),
        }),
        clock: Clock { now_ms: NOW_MS, synchronized: Some(true) },
    }
}

fn without(capability: Capability) -> Findings {
    Findings { capabilities: Some(!capability.bit()), ..healthy() }
}

/// The names of the checks in trouble.
fn troubled(findings: &Findings) -> Vec<&'static str> {
    checks(findings).iter().filter(|c| c.verdict == Verdict::Trouble).map(|c| c.check).collect()
}

#[test]
fn a_healthy_host_is_fine_in_every_check() {
    let checks = checks(&healthy());
    assert!(checks.iter().all(|c| c.verdict == Verdict::Fine && c.lost.is_none() && c.remedy.is_none()), "{checks:?}");
    let trace = checks.iter().find(|c| c.check == "trace events").unwrap();
    assert!(trace.found[0].contains("9.3 ns (the cheapest takes 60 ns) and 136 KiB"), "{trace:?}");
}

#[test]
fn each_refusal_is_told_with_what_is_lost_and_what_helps() {
    let trouble: [(&str, Findings); 14] = [
        ("IPC namespaces found", {
            let namespaces = Namespaces { unreadable: 7, refusal: Some(Errno::EACCES), ..healthy().namespaces };
            Findings { namespaces, ..without(Capability::SysPtrace) }
        }),
        ("other IPC namespaces", {
            let namespaces = Namespaces { entered: Some(Err(Errno::EPERM)), ..healthy().namespaces };
            Findings { namespaces, ..without(Capability::SysAdmin) }
        }),
        ("other IPC namespaces", {
            let namespaces = Namespaces { entered: None, ..healthy().namespaces };
            Findings { namespaces, ..without(Capability::SysAdmin) }
        }),
        ("processes", {
            Findings { sight: Sight { hidepid: Some(true), initial: Some(true) }, ..without(Capability::SysPtrace) }
        }),
        ("processes", Findings { sight: Sight { hidepid: Some(false), initial: Some(false) }, ..healthy() }),
        ("last users of semaphores", without(Capability::IpcOwner)),
        ("last users of semaphores", Findings { last_users: LastUsers { asked: 3, refused: 1 }, ..healthy() }),
        ("trace events", Findings { trace: Trace::Refused("tracefs is not mounted".into()), ..healthy() }),
        ("removal at logout", {
            let risk = Risk { kind: RiskKind::RemoveIpc, why: "uid 1001".into(), remedy: "RemoveIPC=no".into() };
            Findings { risks: vec![risk], ..healthy() }
        }),
        ("clock", Findings { clock: Clock { now_ms: 0, synchronized: Some(true) }, ..healthy() }),
        ("enrolment", with_state(|s| s.enrolment = Ok(None))),
        ("enrolment", with_state(|s| s.enrolment = Ok(Some(Enrolled { host_id: "h".into(), not_after_ms: NOW_MS })))),
        ("collector", with_state(|s| s.dialled = Some(Err("refused".into())))),
        ("spool", with_state(|s| s.spool = Ok(Spool { bytes: 95, limit: 100, ..Spool::default() }))),
    ];
    for (check, findings) in trouble {
        assert_eq!(troubled(&findings), [check], "{findings:?}");
        let told = checks(&findings).into_iter().find(|c| c.check == check).unwrap();
        assert!(told.lost.is_some_and(|l| !l.is_empty()) && told.remedy.is_some_and(|r| !r.is_empty()));
    }
}

fn with_state(change: impl FnOnce(&mut State)) -> Findings {
    let mut findings = healthy();
    if let Some(state) = &mut findings.state {
        change(state);
    }
    findings
}

#[test]
fn a_remedy_names_the_capability_that_is_missing_and_no_other() {
    let findings = without(Capability::SysAdmin);
    let remedy = lacking(&findings, need(Feature::Others));
    assert!(remedy.contains("CAP_SYS_ADMIN") && !remedy.contains("CAP_SYS_PTRACE"), "{remedy}");
    assert!(lacking(&healthy(), need(Feature::Others)).contains("a security module or a sandbox"));
    let unknown = Findings { capabilities: None, ..healthy() };
    assert!(lacking(&unknown, need(Feature::LastUsers)).contains("cannot be read"));
}

#[test]
fn one_process_that_a_policy_hides_is_a_note_where_the_capability_is_there() {
    let namespaces = Namespaces { unreadable: 1, refusal: Some(Errno::EACCES), is_hosts: None, ..healthy().namespaces };
    let findings = Findings { namespaces, ..healthy() };
    assert_eq!(troubled(&findings), Vec::<&str>::new());
    let told = checks(&findings).into_iter().find(|c| c.check == "IPC namespaces found").unwrap();
    assert_eq!(told.verdict, Verdict::Note);
    assert!(told.found[0].contains("9 of 10 processes") && told.found[0].contains("EACCES (13)"), "{told:?}");
}

#[test]
fn a_sandbox_that_hides_nearly_everybody_is_trouble_whatever_the_capability() {
    let namespaces = Namespaces { unreadable: 9, refusal: Some(Errno::EACCES), ..healthy().namespaces };
    assert_eq!(troubled(&Findings { namespaces, ..healthy() }), ["IPC namespaces found"]);
}

#[test]
fn hidepid_hides_nothing_from_who_may_look_at_everybody() {
    let findings = Findings { sight: Sight { hidepid: Some(true), initial: Some(true) }, ..healthy() };
    assert_eq!(troubled(&findings), Vec::<&str>::new());
}

#[test]
fn a_switch_that_is_off_and_no_enrolment_are_no_trouble() {
    let findings = Findings { trace: Trace::Off, state: None, ..healthy() };
    assert_eq!(troubled(&findings), Vec::<&str>::new());
}

#[test]
fn text_and_json_tell_the_same() {
    let findings = without(Capability::IpcOwner);
    let checks = checks(&findings);
    let text = report::text(&checks);
    let trouble = text.lines().find(|line| line.starts_with("TROUBLE")).unwrap();
    assert!(trouble.starts_with("TROUBLE  last users of semaphores   GETPID of 3 arrays answers"), "{trouble}");
    assert!(text.contains("remedy: run the agent with CAP_IPC_OWNER"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&report::json(&checks).unwrap()).unwrap();
    assert_eq!(json["trouble"], true);
    let told = json["checks"].as_array().unwrap().iter().find(|c| c["verdict"] == "trouble").unwrap();
    assert_eq!(told["check"], "last users of semaphores");
    assert!(told["remedy"].as_str().unwrap().contains("CAP_IPC_OWNER"));
}
