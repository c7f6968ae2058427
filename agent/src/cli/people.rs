//! A snapshot as a person reads it. Pure: a snapshot in, text out.
//!
//! The host first: can it do System V IPC, what threatens it, what is not seen. Then each namespace: which limit binds
//! next and how it is raised, limits with their use, who owns the objects, which of them nobody seems to hold.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use highwater_ipc::limits::{Usage, nearest};
use highwater_ipc::object::{Kind, Owner};
use highwater_ipc::remedy::raise;
use highwater_ipc::render::lsipc::{Parameter, lsipc};
use highwater_ipc::session::HostFacts;
use highwater_ipc::snapshot::{NamedBy, Namespace, Snapshot, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::format_rfc3339_ms;
use highwater_ipc::who::{Doubt, Grade, Known};

/// Columns of prose. Tables and commands may be wider: a command that is cut in two does not run.
const WIDTH: usize = 80;
/// Where what is said of the host begins.
const HANG: usize = 14;

/// The answer for people.
pub(super) fn summary(facts: &HostFacts, snapshot: &Snapshot) -> String {
    let Snapshot { at, took_us, state } = snapshot;
    let mut text = Text::default();
    let zone = if state.zone == HostText::default() { "UTC".into() } else { state.zone.clone() };
    let availability = &state.availability;
    text.said("Host", format_args!("{}", facts.hostname));
    let on = if facts.distro == HostText::default() { "" } else { "; " };
    text.said("Kernel", format_args!("Linux {} {}{on}{}", facts.kernel, facts.arch, facts.distro));
    let time = format_rfc3339_ms(at.wall_ms);
    text.said("Time", format_args!("{time} (zone {zone}), read in {took_us} us"));
    text.said("System V IPC", format_args!("{}", availability.state.name()));
    for evidence in &availability.evidence {
        text.said("", format_args!("- {evidence}"));
    }
    if availability.remedy != HostText::default() {
        text.said("Remedy", format_args!("{}", availability.remedy));
    }
    for risk in &state.risks {
        text.said("At risk", format_args!("{}: {}", risk.kind.name(), risk.why));
        text.said("Remedy", format_args!("{}", risk.remedy));
    }
    for unseen in &state.unseen {
        text.said("Not seen", format_args!("{}: {}", unseen.source, unseen.error));
    }
    for (index, namespace) in state.namespaces.iter().enumerate() {
        if index > 0 && is_idle(namespace) {
            idle(&mut text, state, namespace);
        } else {
            of_namespace(&mut text, state, namespace);
        }
    }
    text.0
}

fn of_namespace(text: &mut Text, state: &State, namespace: &Namespace) {
    text.line(format_args!(""));
    text.line(format_args!("IPC namespace {}, {}", namespace.id.inode, whose(state, namespace)));
    if namespace.torn {
        text.line(format_args!("Objects came or went while this was read."));
    }
    for unreadable in &namespace.unreadable {
        let place = if unreadable.line == 0 { String::new() } else { format!(" line {}", unreadable.line) };
        text.said("Not read", format_args!("{}{place}: {}", unreadable.source, unreadable.error));
    }
    let left = &namespace.left_out;
    if left.sem.max(left.shm).max(left.msg) > 0 {
        text.said("Not listed", format_args!("{} arrays, {} segments, {} queues", left.sem, left.shm, left.msg));
    }
    binds_next(text, namespace);
    text.line(format_args!(""));
    text.0.push_str(&lsipc(namespace));
    text.line(format_args!(""));
    owners(text, state, namespace);
    orphans(text, state, namespace);
}

/// Whether it was read whole and there is nothing in it: a host may have hundreds of those.
fn is_idle(namespace: &Namespace) -> bool {
    let Namespace {
        sem: Some(sem), shm: Some(shm), msg: Some(msg), totals: Some(totals), limits: Some(limits), ..
    } = namespace
    else {
        return false;
    };
    let none = sem.is_empty() && shm.is_empty() && msg.is_empty();
    none && namespace.complete() && nearest(totals, limits).severity().is_none()
}

/// One line, with the limits that a program would meet there.
fn idle(text: &mut Text, state: &State, namespace: &Namespace) {
    let whose = whose(state, namespace);
    let limits = namespace.limits.as_ref().map_or_else(String::new, |l| {
        format!(" (SEMMNI {}, SEMMNS {}, SHMMNI {}, MSGMNI {})", l.semmni, l.semmns, l.shmmni, l.msgmni)
    });
    text.line(format_args!(""));
    text.wrapped("", 0, &format!("IPC namespace {}, {whose}: no objects{limits}", namespace.id.inode));
}

/// Whose namespace it is, in words. A name was chosen by whoever runs there.
fn whose(state: &State, namespace: &Namespace) -> String {
    let claimed = |what: &str| {
        let name = namespace.name.as_ref().map_or_else(|| "without a name".to_owned(), HostText::escaped);
        format!("by its own claim {what} {name}")
    };
    match namespace.named_by {
        NamedBy::Nothing if state.unseen.iter().any(|unseen| unseen.source == HostText::from("/proc/1/ns/ipc")) => {
            "the agent's own, perhaps not process 1's".to_owned()
        }
        NamedBy::Nothing => "the host's own".to_owned(),
        NamedBy::Comm => claimed("of process"),
        NamedBy::Docker => claimed("Docker container"),
        NamedBy::Containerd => claimed("containerd container"),
        NamedBy::Crio => claimed("CRI-O container"),
        NamedBy::Podman => claimed("Podman container"),
        NamedBy::Lxc => claimed("LXC container"),
        NamedBy::Nspawn => claimed("systemd-nspawn machine"),
    }
}

/// Which limit binds next, and how it is raised.
fn binds_next(text: &mut Text, namespace: &Namespace) {
    let Some((totals, limits)) = namespace.totals.as_ref().zip(namespace.limits.as_ref()) else { return };
    let usage = nearest(totals, limits);
    let Usage { resource, used, limit } = usage;
    let (percent, name) = (usage.ratio() * 100.0, resource.name());
    let near = usage.severity().map_or_else(String::new, |severity| format!(" {}", severity.name().to_uppercase()));
    text.said("Binds next", format_args!("{name}: {used} of {limit} in use ({percent:.2} %){near}"));
    if used == 0 && near.is_empty() {
        return;
    }
    match Parameter::from_name(name).and_then(|parameter| raise(namespace, parameter, used)) {
        None => text.said("Raise it", format_args!("not possible: {limit} is the most that this kernel takes")),
        Some(raise) => {
            let keep = match namespace.name {
                None => "in a file in /etc/sysctl.d",
                Some(_) => "in the settings of the container (--sysctl)",
            };
            text.said("Raise it", format_args!("to {}, as root, until the next boot:", raise.to));
            text.line(format_args!("  {}", raise.command));
            text.said("Keep it", format_args!("{keep}: {}", raise.keep));
        }
    }
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
    orphans: u64,
}

/// What each uid owns, most arrays first, then most of the rest.
fn owned(namespace: &Namespace) -> Vec<(u32, Owned)> {
    let mut owners: BTreeMap<u32, Owned> = BTreeMap::new();
    let is_orphan = |kind, id| u64::from(known(namespace, kind, id).is_some_and(|known| known.orphan.is_some()));
    let mut of = |owner: &Owner, add: &dyn Fn(&mut Owned)| add(owners.entry(owner.uid).or_default());
    for array in namespace.sem.iter().flatten() {
        of(&array.owner, &|owned| {
            owned.arrays += 1;
            owned.semaphores = owned.semaphores.saturating_add(u64::from(array.nsems));
            owned.orphans += is_orphan(Kind::Sem, array.semid);
        });
    }
    for segment in namespace.shm.iter().flatten() {
        of(&segment.owner, &|owned| {
            owned.segments += 1;
            owned.segment_bytes = owned.segment_bytes.saturating_add(segment.size);
            owned.orphans += is_orphan(Kind::Shm, segment.shmid);
        });
    }
    for queue in namespace.msg.iter().flatten() {
        of(&queue.owner, &|owned| {
            owned.queues += 1;
            owned.queue_bytes = owned.queue_bytes.saturating_add(queue.cbytes);
        });
    }
    let mut owners: Vec<(u32, Owned)> = owners.into_iter().collect();
    owners.sort_by_key(|(_, o)| std::cmp::Reverse((o.arrays, o.segments + o.queues, o.segment_bytes)));
    owners
}

fn known(namespace: &Namespace, kind: Kind, id: i32) -> Option<&Known> {
    namespace.who.as_ref()?.objects.get(&(kind, id))
}

fn owners(text: &mut Text, state: &State, namespace: &Namespace) {
    let owners = owned(namespace);
    if owners.is_empty() {
        let unread = [Kind::Sem, Kind::Shm, Kind::Msg].iter().filter(|kind| !namespace.has(**kind)).count();
        let none = match unread {
            0 => "No objects.",
            3 => "Objects could not be read.",
            _ => "No objects in what could be read.",
        };
        text.line(format_args!("{none}"));
        return;
    }
    let [arrays, semaphores, segments, queues] = ["ARRAYS", "SEMAPHORES", "SEGMENTS", "QUEUES"];
    let [bytes, orphans] = ["BYTES", "ORPHANS"];
    text.line(format_args!(
        "{:<10} {:<12} {arrays:>6} {semaphores:>10} {segments:>8} {bytes:>14} {queues:>6} {bytes:>10} {orphans:>7} COMMS",
        "UID", "USER"
    ));
    for (uid, o) in owners {
        let user = state.users.get(&uid).map_or_else(|| "-".to_owned(), HostText::escaped);
        let comms = namespace.who.as_ref().and_then(|who| who.comms.get(&uid));
        let comms: Vec<String> = comms.into_iter().flatten().map(HostText::escaped).collect();
        let comms = if comms.is_empty() { "-".to_owned() } else { comms.join(",") };
        text.line(format_args!(
            "{uid:<10} {user:<12} {:>6} {:>10} {:>8} {:>14} {:>6} {:>10} {:>7} {comms}",
            o.arrays, o.semaphores, o.segments, o.segment_bytes, o.queues, o.queue_bytes, o.orphans
        ));
    }
}

/// Objects that look alike to whoever asks what nobody holds.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Like {
    kind: Kind,
    grade: Grade,
    doubt: Doubt,
    uid: u32,
    made_by: Option<HostText>,
}

/// What nobody seems to hold: how many, of whom, how sure, why not surer.
fn orphans(text: &mut Text, state: &State, namespace: &Namespace) {
    if namespace.who.is_none() {
        text.line(format_args!("Who holds them is not known: processes could not be looked at."));
        return;
    }
    let mut groups: BTreeMap<Like, (u64, u64)> = BTreeMap::new();
    let mut add = |kind, id, owner: &Owner, bytes| {
        let Some((orphan, known)) = known(namespace, kind, id).and_then(|k| Some((k.orphan.as_ref()?, k))) else {
            return;
        };
        let made_by = known.comm.clone();
        let like = Like { kind, grade: orphan.grade, doubt: orphan.doubt, uid: owner.uid, made_by };
        let (count, sum) = groups.entry(like).or_default();
        (*count, *sum) = (*count + 1, sum.saturating_add(bytes));
    };
    namespace.sem.iter().flatten().for_each(|array| add(Kind::Sem, array.semid, &array.owner, 0));
    namespace.shm.iter().flatten().for_each(|segment| add(Kind::Shm, segment.shmid, &segment.owner, segment.size));
    if groups.is_empty() {
        return;
    }
    text.line(format_args!("\nHeld by nobody, as it seems:"));
    for (like, (count, bytes)) in &groups {
        let user = state.users.get(&like.uid).map_or_else(|| like.uid.to_string(), HostText::escaped);
        let by = like.made_by.as_ref().map_or_else(String::new, |comm| format!(" (comm {comm})"));
        let (name, reason) = (like.grade.name(), like.doubt.reason());
        let what = match (like.kind, count) {
            (Kind::Sem, 1) => "1 array".to_owned(),
            (Kind::Sem, count) => format!("{count} arrays"),
            (_, 1) => format!("1 segment, {bytes} bytes,"),
            (_, count) => format!("{count} segments, {bytes} bytes,"),
        };
        text.wrapped("- ", 2, &format!("{what} of {user}{by}, {name}: {reason}"));
    }
    let watching = "None of them is named for removal: one look proves nothing. An agent that runs sees who makes an \
                    array and whether all of them die; `highwater blame` then names what is certain, with the command.";
    text.wrapped("", 0, watching);
}

/// Lines of text.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, content: fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{content}");
    }

    /// `Label   what is said of it`, wrapped.
    fn said(&mut self, label: &str, content: fmt::Arguments<'_>) {
        self.wrapped(&format!("{label:HANG$}"), HANG, &content.to_string());
    }

    /// Words in lines of [`WIDTH`]: the first begins with `first`, the others with `hang` spaces. A word that is longer
    /// stays whole.
    fn wrapped(&mut self, first: &str, hang: usize, words: &str) {
        let mut line = first.to_owned();
        let mut is_new = true;
        for word in words.split(' ') {
            let columns = line.chars().count() + 1 + word.chars().count();
            if !is_new && columns > WIDTH {
                self.line(format_args!("{line}"));
                (line, is_new) = (" ".repeat(hang), true);
            }
            if !is_new {
                line.push(' ');
            }
            line.push_str(word);
            is_new = false;
        }
        self.line(format_args!("{line}"));
    }
}

#[cfg(test)]
#[path = "people_tests.rs"]
mod tests;
