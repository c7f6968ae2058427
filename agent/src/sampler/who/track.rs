//! What is remembered of one object from scan to scan.

use highwater_ipc::object::{MsgQueue, Object, SemArray, ShmSegment};
use highwater_ipc::text::HostText;
use highwater_ipc::who::{Known, Orphan, Who};

use super::clock::{Changed, Watched};
use super::grade::{self, Found, Run, Users, Verdict};
use super::maker::{MAX_MAKERS, Maker};
use super::roster::{Look, Process, Roster};
use crate::kernel::Kernel;

/// A process recorded with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Its pid.
    pub pid: i32,
    /// What is known of it.
    pub is: Is,
}

/// Whether a recorded process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// It lives, and started then (microseconds since boot).
    Alive(u64),
    /// A process of that pid lives and started then, which by the wall clock is after the operation.
    Younger(u64),
    /// There is no such process any more.
    Dead,
}

impl User {
    /// Judges who is seen under that pid, given what was known before.
    pub fn seen(pid: i32, process: Option<&Process>, before: Option<Is>, changed: Changed) -> Self {
        let is = match (process.map(|process| process.start_us), before) {
            (None, _) => Is::Dead,
            (Some(start), Some(Is::Alive(known) | Is::Younger(known))) if start != known => Is::Dead,
            (Some(_), Some(same @ (Is::Alive(_) | Is::Younger(_)))) => same,
            // Started when the operation had been done already: another process with the pid of the one that did it.
            (Some(start), _) if start > changed.by_us => Is::Dead,
            (Some(start), _) if start > changed.about_us => Is::Younger(start),
            (Some(start), _) => Is::Alive(start),
        };
        Self { pid, is }
    }

    /// Whether it is the one that used the object, and lives.
    pub fn lives(&self) -> bool {
        matches!(self.is, Is::Alive(_))
    }
}

/// What all of them together mean.
pub fn together(users: &[User]) -> Users {
    let any = |wanted: fn(&Is) -> bool| users.iter().any(|user| wanted(&user.is));
    if users.is_empty() {
        Users::Unknown
    } else if any(|is| matches!(is, Is::Alive(_))) {
        Users::Live
    } else if any(|is| matches!(is, Is::Younger(_))) {
        Users::Unsure
    } else {
        Users::Dead
    }
}

/// The dead among them, ascending, as many as are told.
pub fn dead(users: &[User]) -> Vec<i32> {
    let mut pids: Vec<i32> = users.iter().filter(|user| user.is == Is::Dead).map(|user| user.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids.truncate(Who::MAX_PIDS);
    pids
}

/// The comm of a process that made or used an object.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Name {
    comm: Option<HostText>,
    of_maker: bool,
}

impl Name {
    /// That process used it; the first one seen stays, or it would change with each user.
    pub fn used_by(&mut self, comm: &HostText) {
        self.comm.get_or_insert_with(|| comm.clone());
    }

    /// That process made it.
    pub fn made_by(&mut self, comm: &HostText) {
        if !self.of_maker {
            (self.comm, self.of_maker) = (Some(comm.clone()), true);
        }
    }

    /// The comm, if any is known.
    pub fn get(&self) -> Option<&HostText> {
        self.comm.as_ref()
    }
}

/// A semaphore array.
#[derive(Clone, Debug)]
pub struct Array {
    /// As sampled last.
    pub row: SemArray,
    /// It was there at this time, microseconds since boot; the end of time in the sample that saw it first.
    pub there_by_us: u64,
    /// It was not there at this time, microseconds since boot; `None` = it was when its namespace was visited first.
    pub absent_us: Option<u64>,
    /// When it was changed last.
    pub changed: Changed,
    /// Who made it; empty = not known.
    pub makers: Vec<Maker>,
    /// Whether the trace named them.
    pub traced: bool,
    /// Who used it last; empty = none, not asked, or not to be asked.
    pub users: Vec<User>,
    /// What it said when it was asked.
    pub asked: Asked,
    /// Its comm.
    pub name: Name,
    /// How long it has looked abandoned.
    pub run: Run,
    /// What the latest scan said.
    pub verdict: Verdict,
    /// Its grade.
    pub orphan: Option<Orphan>,
}

/// How far an array was asked who used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Asked {
    /// In which scan; `None` = not since it changed.
    pub scan: Option<u64>,
    /// By which scan, or since which, its users are known to live or not.
    pub resolved: u64,
    /// Whether that was all of its semaphores.
    pub all: bool,
    /// Whether two scans gave the same answer: a second of the clock may hold two operations, of which the first was
    /// asked about.
    pub twice: bool,
    /// Whether anybody waited.
    pub awaited: bool,
}

impl Array {
    /// One that is seen for the first time.
    pub fn new(row: SemArray, changed: Changed, absent_us: Option<u64>) -> Self {
        Self {
            row,
            there_by_us: u64::MAX,
            absent_us,
            changed,
            makers: Vec::new(),
            traced: false,
            users: Vec::new(),
            asked: Asked::default(),
            name: Name::default(),
            run: Run::default(),
            verdict: Verdict::Held,
            orphan: None,
        }
    }

    /// It is there again. `changed` says when it was changed last if it was since.
    pub fn again(&mut self, row: SemArray, at_us: u64, changed: impl FnOnce() -> Changed) {
        self.there_by_us = self.there_by_us.min(at_us);
        let reading = |row: &SemArray| (row.otime, row.ctime, row.owner, row.perms);
        if reading(&self.row) == reading(&row) {
            self.changed.by_us = self.changed.by_us.min(at_us);
        } else {
            if self.row.owner != row.owner {
                self.makers.retain(|maker| !maker.stands_in);
            }
            self.changed = changed();
            (self.users, self.asked, self.run) = (Vec::new(), Asked::default(), Run::default());
            (self.verdict, self.orphan) = (Verdict::Held, None);
        }
        self.row = row;
    }

    /// It was used within the second in which it was used before.
    pub fn used_again(&mut self) {
        self.changed.by_us = u64::MAX;
        self.run = Run::default();
        self.orphan = None;
    }

    /// The trace named who made it: one of these.
    pub fn made_by(&mut self, makers: Vec<Maker>) {
        if let Some(maker) = makers.first() {
            self.name.made_by(&maker.comm);
        }
        self.makers = if makers.len() <= MAX_MAKERS { makers } else { Vec::new() };
        self.traced = true;
        self.run = Run::default();
    }

    /// Whether it was made when that process made something.
    pub fn may_be_of(&self, maker: &Maker) -> bool {
        self.absent_us.is_none_or(|absent_us| maker.until_us >= absent_us) && maker.from_us <= self.there_by_us
    }

    /// A process that used it last is seen alive; `alone` = no other is recorded.
    pub fn used_by(&mut self, process: &Process, alone: bool) {
        self.name.used_by(&process.comm);
        if !self.makers.is_empty() || self.traced {
            return;
        }
        let owner = self.row.owner;
        if self.row.otime == 0 && alone {
            self.makers.push(Maker::living(process, false));
        } else if owner.uid == owner.cuid && owner.uid != 0 && process.uids.contains(&owner.uid) {
            self.makers.push(Maker::living(process, true));
        }
    }

    /// Judges it by a scan, as far as processes go.
    pub fn found(&mut self, roster: &Roster, scan: u64, own: i32, all_seen: bool) -> Found {
        // Who was looked at after that scan is known better.
        if self.asked.resolved < scan {
            for user in &mut self.users {
                *user = User::seen(user.pid, roster.get(user.pid), Some(user.is), self.changed);
            }
        }
        let users = together(&self.users);
        let creator = self.row.owner.cuid;
        let owner = roster.has_uid(self.row.owner.uid);
        let by_us = self.changed.by_us;
        let maker = match users {
            // Nobody asks.
            Users::Unknown | Users::Live => None,
            _ if self.makers.is_empty() => None,
            _ if creator != 0 && roster.has_uid(creator) == Some(true) => Some(true),
            _ => Some(self.makers.iter().any(|maker| maker.lives(roster, by_us, own))),
        };
        // A uid that this agent cannot name is shown as the highest number, which no process has.
        let all_seen = all_seen && self.row.owner.uid != u32::MAX;
        let asked = self.asked.all && self.asked.twice;
        Found { users, asked, awaited: self.asked.awaited, owner, maker, all_seen }
    }
}

/// What a segment or queue says of its use.
pub trait Used: Object {
    /// When it was used last, seconds since 1970.
    fn used(&self) -> i64;
    /// Who made it, where the kernel keeps that, and who used it last; 0 = not known.
    fn pids(&self) -> [i32; 2];
    /// Whether the first of them made it.
    const FIRST_MADE_IT: bool;
}

impl Used for ShmSegment {
    fn used(&self) -> i64 {
        self.atime.max(self.dtime).max(self.ctime)
    }
    fn pids(&self) -> [i32; 2] {
        [self.cpid, self.lpid]
    }
    const FIRST_MADE_IT: bool = true;
}

impl Used for MsgQueue {
    fn used(&self) -> i64 {
        self.stime.max(self.rtime).max(self.ctime)
    }
    fn pids(&self) -> [i32; 2] {
        [self.lspid, self.lrpid]
    }
    const FIRST_MADE_IT: bool = false;
}

/// A segment or queue.
#[derive(Clone, Debug)]
pub struct Held<T> {
    /// As sampled last.
    pub row: T,
    /// It was there at this time, microseconds since boot; the end of time in the sample that saw it first.
    there_by_us: u64,
    changed: Changed,
    /// Who made it and used it last; `None` = they were not looked at yet.
    users: Option<Vec<User>>,
    /// By which scan, or since which, they are known to live or not.
    resolved: u64,
    /// Its comm.
    pub name: Name,
}

impl<T: Used> Held<T> {
    /// One that is seen for the first time.
    pub fn new(row: T, changed: Changed) -> Self {
        Self { row, there_by_us: u64::MAX, changed, users: None, resolved: 0, name: Name::default() }
    }

    /// It is there again.
    pub fn again(&mut self, row: T, at_us: u64, clock: &Watched) {
        self.there_by_us = self.there_by_us.min(at_us);
        if (self.row.pids(), self.row.used()) == (row.pids(), row.used()) {
            self.changed.by_us = self.changed.by_us.min(at_us);
        } else {
            self.changed = clock.changed(row.used());
            if self.row.pids() != row.pids() {
                self.users = None;
            }
        }
        self.row = row;
    }

    /// The trace named who made it; made later than it was seen, it is another that looks the same.
    pub fn made_by(&mut self, maker: &Maker) {
        if maker.from_us > self.there_by_us {
            *self = Self::new(self.row, self.changed);
        }
        self.name.made_by(&maker.comm);
    }

    /// Looks at its processes, if that is due and calls are left.
    pub fn look(&mut self, kernel: &mut dyn Kernel, look: &mut Look<'_>) {
        if self.users.is_some() || *look.calls == 0 {
            return;
        }
        let mut users = Vec::new();
        for (place, pid) in self.row.pids().into_iter().enumerate().filter(|(_, pid)| *pid != 0) {
            *look.calls = look.calls.saturating_sub(1);
            let Ok(process) = look.roster.look(kernel, pid) else { continue };
            let user = User::seen(pid, process.as_ref(), None, self.changed);
            users.push(user);
            match process.filter(|_| user.lives()) {
                Some(process) if place == 0 && T::FIRST_MADE_IT => self.name.made_by(&process.comm),
                Some(process) => self.name.used_by(&process.comm),
                None => {}
            }
        }
        (self.users, self.resolved) = (Some(users), look.scan);
    }

    /// Judges its processes by a scan.
    pub fn judge(&mut self, roster: &Roster, scan: u64) {
        if self.resolved < scan {
            for user in self.users.iter_mut().flatten() {
                *user = User::seen(user.pid, roster.get(user.pid), Some(user.is), self.changed);
            }
        }
    }
}

impl Held<ShmSegment> {
    /// Its grade.
    pub fn orphan(&self) -> Option<Orphan> {
        let users = self.users.as_deref()?;
        let (grade, doubt) = grade::segment(self.row.nattch, self.row.perms.dest(), together(users))?;
        Some(Orphan { grade, doubt, last_pids: dead(users) })
    }
}

/// What is known of an object, if anything is.
pub fn known(name: &Name, orphan: Option<Orphan>) -> Option<Known> {
    let comm = name.get().cloned();
    (comm.is_some() || orphan.is_some()).then_some(Known { comm, orphan })
}
