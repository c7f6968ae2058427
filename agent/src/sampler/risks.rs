//! What will go wrong on this host although nothing has yet: objects of a login user that systemd-logind will remove.
//!
//! A risk names uids and kinds, no counts: it is stored when it changes, and counts of a busy user change with every
//! sample. They are in the same sample's rows.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::object::{Kind, Object};
use highwater_ipc::risk::{Risk, RiskKind};
use highwater_ipc::snapshot::Namespace;
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;

use crate::kernel::logind::{self, RemoveIpc};
use crate::kernel::{Account, Kernel};

/// Remembers what the host's configuration says, which is read anew once a minute and only where it matters.
#[derive(Debug, Default)]
pub(super) struct Risks {
    /// When it was read last, microseconds since boot; `None` = never.
    read_us: Option<u64>,
    /// The setting where it is on.
    on: Option<RemoveIpc>,
    system_uid_max: u32,
    lingers: BTreeMap<u32, bool>,
}

/// A dozen files, so not with every sample; a risk that is mended goes within this time.
const READ_AGAIN_US: u64 = 60_000_000;

/// The kinds of objects that one uid owns.
type Held = BTreeMap<u32, BTreeSet<Kind>>;

impl Risks {
    /// The risks of this sample, by the objects of the host's own namespace: logind looks into no other.
    pub(super) fn of(&mut self, kernel: &mut dyn Kernel, host: &Namespace, at: At) -> Vec<Risk> {
        let mut held = Held::new();
        note(&mut held, Kind::Sem, host.sem.as_deref());
        note(&mut held, Kind::Shm, host.shm.as_deref());
        note(&mut held, Kind::Msg, host.msg.as_deref());
        held.remove(&0);
        held.remove(&NOBODY);
        held.remove(&u32::MAX);
        if held.is_empty() {
            return Vec::new();
        }
        if self.read_us.is_none_or(|read| at.boot_us.saturating_sub(read) >= READ_AGAIN_US) {
            self.read_us = Some(at.boot_us);
            self.on = logind::read(kernel).filter(|setting| setting.on);
            self.system_uid_max = logind::system_uid_max(kernel);
            self.lingers.clear();
        }
        let Some(setting) = self.on.clone() else { return Vec::new() };
        let mut risks = Vec::new();
        for (uid, kinds) in held.split_off(&self.system_uid_max.saturating_add(1)) {
            let user = kernel.name(Account::User(uid));
            let lingers = || user.as_ref().is_some_and(|name| logind::lingers(kernel, name));
            if !*self.lingers.entry(uid).or_insert_with(lingers) {
                risks.push(risk(uid, user.as_ref(), &kinds, &setting));
            }
            if risks.len() == Risk::MAX {
                break;
            }
        }
        risks.sort();
        risks
    }
}

/// The uid that no user has (`nobody`), which cannot log in.
const NOBODY: u32 = 65_534;

fn note<T: Object>(held: &mut Held, kind: Kind, objects: Option<&[T]>) {
    let mut last = None;
    for object in objects.unwrap_or_default() {
        let uid = object.owner().uid;
        // Neighbours often have the same owner.
        if last.replace(uid) != Some(uid) {
            held.entry(uid).or_default().insert(kind);
        }
    }
}

fn risk(uid: u32, user: Option<&HostText>, kinds: &BTreeSet<Kind>, setting: &RemoveIpc) -> Risk {
    let names = kinds.iter().map(|kind| match kind {
        Kind::Sem => "semaphore arrays",
        Kind::Shm => "shared memory segments",
        Kind::Msg => "message queues",
    });
    let names: Vec<&str> = names.collect();
    let mut why = format!("uid {uid} ").into_bytes();
    if let Some(user) = user {
        // A longer name would push out what matters.
        why.extend_from_slice(b"(");
        why.extend(user.as_bytes().iter().take(32));
        why.extend_from_slice(b") ");
    }
    let words =
        format!("owns {}; systemd-logind removes them when its last session ends: RemoveIPC=yes ", names.join(", "));
    why.extend_from_slice(words.as_bytes());
    match &setting.file {
        Some(file) => {
            why.extend_from_slice(b"in ");
            why.extend_from_slice(file.as_bytes());
        }
        None => why.extend_from_slice(b"by default"),
    }
    // Without a backslash: host text is shown with each doubled.
    let remedy = format!(
        "mkdir -p /etc/systemd/logind.conf.d && {{ echo '[Login]'; echo RemoveIPC=no; }} > \
         /etc/systemd/logind.conf.d/zz-removeipc.conf && systemctl restart systemd-logind; or for this user alone: \
         loginctl enable-linger {uid}"
    );
    Risk { kind: RiskKind::RemoveIpc, why: HostText::cut(&why), remedy: HostText::cut(remedy.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::FakeKernel;
    use highwater_ipc::object::{Key, Owner, Perms, SemArray};

    fn array(uid: u32) -> SemArray {
        let owner = Owner { uid, gid: 0, cuid: uid, cgid: 0 };
        SemArray { key: Key(0), semid: 1, perms: Perms(0o600), nsems: 1, owner, otime: 0, ctime: 0 }
    }

    fn of_uids(uids: &[u32]) -> Namespace {
        Namespace { sem: Some(uids.iter().map(|uid| array(*uid)).collect()), ..Namespace::default() }
    }

    fn host() -> FakeKernel {
        let mut kernel = FakeKernel::new();
        kernel.files.insert("/run/systemd/system/any".into(), Ok(Vec::new()));
        kernel.names.insert(Account::User(1001), "oracle".into());
        kernel
    }

    fn at(seconds: u64) -> At {
        At { wall_ms: 0, boot_us: seconds * 1_000_000 }
    }

    #[test]
    fn a_login_user_with_objects_is_at_risk_and_nobody_else() {
        let uids = [0, 33, 999, 1000, 1001, 65_534, u32::MAX];
        let risks = Risks::default().of(&mut host(), &of_uids(&uids), at(1));
        let why: Vec<String> = risks.iter().map(|risk| risk.why.escaped()).collect();
        assert_eq!(
            why,
            [
                "uid 1000 owns semaphore arrays; systemd-logind removes them when its last session ends: RemoveIPC=yes by \
                 default",
                "uid 1001 (oracle) owns semaphore arrays; systemd-logind removes them when its last session ends: \
                 RemoveIPC=yes by default",
            ]
        );
        let remedy = risks[1].remedy.escaped();
        assert!(remedy.ends_with("loginctl enable-linger 1001"), "{remedy}");
        assert_eq!(remedy, String::from_utf8_lossy(risks[1].remedy.as_bytes()), "a command is shown as it is typed");
    }

    #[test]
    fn one_that_lingers_is_not() {
        let mut kernel = host();
        let mut risks = Risks::default();
        let mut of = |kernel: &mut FakeKernel, seconds| risks.of(kernel, &of_uids(&[1001]), at(seconds)).len();
        assert_eq!(of(&mut kernel, 1), 1);
        kernel.files.insert("/var/lib/systemd/linger/oracle".into(), Ok(Vec::new()));
        assert_eq!([of(&mut kernel, 60), of(&mut kernel, 61)], [1, 0]);
    }

    #[test]
    fn a_mended_host_is_not_within_a_minute() {
        let mut kernel = host();
        let mut risks = Risks::default();
        let mut of = |kernel: &mut FakeKernel, seconds| risks.of(kernel, &of_uids(&[1001]), at(seconds)).len();
        assert_eq!(of(&mut kernel, 1), 1);
        kernel.files.insert("/etc/systemd/logind.conf".into(), Ok(b"[Login]\nRemoveIPC=no\n".to_vec()));
        assert_eq!([of(&mut kernel, 60), of(&mut kernel, 61)], [1, 0]);
    }

    #[test]
    fn a_crowd_is_bounded() {
        let uids: Vec<u32> = (1000..2000).collect();
        assert_eq!(Risks::default().of(&mut host(), &of_uids(&uids), at(1)).len(), Risk::MAX);
    }
}
