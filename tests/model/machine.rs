//! One machine of a host and the agent on it. Journal, spool, session and outbox are the real ones; connecting, sending
//! and receiving follow `agent/src/agent/uplink.rs`, one message a step. A memory snapshot is made by doing again what
//! the process did since it started, on a copy of the disk as it was then.

mod uplink;

use std::sync::Arc;

use highwater::host::HostId;
use highwater_agent::agent::journal::Journal;
use highwater_agent::agent::outbox::Outbox;
use highwater_agent::sampler::Sample;
use highwater_agent::spool::Limits;
use highwater_agent::transport::session::Session;
use highwater_ipc::activity::Activity;
use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::object::{Key, Owner, Perms, SemArray};
use highwater_ipc::record::{EpochNo, GapReason, Seq};
use highwater_ipc::session::SpooledEpoch;
use highwater_ipc::snapshot::{BootId, LeftOut, Namespace, NamespaceId, Snapshot, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;

use crate::disk::ModelDisk;
use crate::ground::{Ground, Line, Sampled};
use crate::mutation::Mutation;

/// Planned time between samples.
pub(crate) const INTERVAL_MS: u32 = 1000;

/// A host's machine, or a copy of it.
pub(crate) struct Machine {
    pub(crate) number: usize,
    pub(crate) host: HostId,
    pub(crate) clock: HostClock,
    pub(crate) state: ModelDisk,
    pub(crate) spool: ModelDisk,
    pub(crate) limits: Limits,
    enrolled_next: u64,
    objects: Vec<SemArray>,
    pub(crate) process: Option<Process>,
    /// It sleeps since then (true time).
    pub(crate) asleep: Option<i64>,
    /// It is no more, or nobody may start it again.
    pub(crate) gone: bool,
    pub(crate) quarantined: bool,
    /// Since its last power failure nothing was dropped for want of room, so all that it made is held or acked.
    pub(crate) keeps_all: bool,
    /// Samples were taken, and then its state directory was lost; no agent has started since.
    lost: bool,
}

/// The clocks of a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostClock {
    pub(crate) boot_id: BootId,
    /// True time at which its boot clock showed 0.
    pub(crate) booted_ms: i64,
    pub(crate) slept_ms: i64,
    /// Its wall clock minus true time.
    pub(crate) wrong_ms: i64,
}

impl HostClock {
    /// Just booted.
    pub(crate) fn boot(ground: &mut Ground, wrong_ms: i64) -> Self {
        let (high, low) = (ground.chance.next().to_le_bytes(), ground.chance.next().to_le_bytes());
        let mut boot_id = [0; 16];
        boot_id[..8].copy_from_slice(&high);
        boot_id[8..].copy_from_slice(&low);
        Self { boot_id: BootId(boot_id), booted_ms: ground.now_ms - 5_000, slept_ms: 0, wrong_ms }
    }

    fn now(&self, now_ms: i64) -> At {
        let boot_us = u64::try_from(now_ms - self.booted_ms).unwrap() * 1000;
        At { wall_ms: now_ms + self.wrong_ms, boot_us }
    }

    fn awake_us(&self, now_ms: i64) -> u64 {
        u64::try_from(now_ms - self.booted_ms - self.slept_ms).unwrap() * 1000
    }
}

/// A running agent.
pub(crate) struct Process {
    pub(crate) journal: Journal,
    uplink: Option<Uplink>,
    refused_epochs: u32,
    pub(crate) stopping: bool,
    /// Its disks as they were when it started, and what it did since.
    began: (ModelDisk, ModelDisk),
    opened: (u64, BootId, u64),
    did: Vec<Did>,
}

/// What a process did that changed its memory or its disks.
#[derive(Clone, Debug)]
enum Did {
    Take(Box<Sample>),
    Settle(EpochNo, Seq),
    BeginEpoch(GapReason, u64, u64),
    RequestKeyframe,
    Stop(At),
    SpoolRoom(Option<usize>),
}

struct Uplink {
    line: Line,
    hello: Vec<SpooledEpoch>,
    session: Option<(Session, Outbox)>,
}

impl Machine {
    /// A machine with an empty state directory and no agent running.
    pub(crate) fn new(number: usize, host: HostId, limits: Limits, clock: HostClock, ground: &mut Ground) -> Self {
        ground.truth.made.push(Default::default());
        let forgets = ground.is(Mutation::CursorBeforeFsync);
        Self {
            number,
            host,
            clock,
            state: ModelDisk::new(false),
            spool: ModelDisk::new(forgets),
            limits,
            enrolled_next: ground.database.next_epoch_no(host),
            objects: vec![array(1)],
            process: None,
            asleep: None,
            gone: false,
            quarantined: false,
            keeps_all: true,
            lost: false,
        }
    }

    /// Starts the agent.
    pub(crate) fn start(&mut self, ground: &mut Ground) {
        let began = (self.state.copy(), self.spool.copy());
        let opened = (self.enrolled_next, self.clock.boot_id, ground.chance.next());
        match open(&self.state, &self.spool, self.limits, opened) {
            Ok(journal) => {
                if self.state.has_blown() || self.spool.has_blown() {
                    return;
                }
                if std::mem::take(&mut self.lost) {
                    ground.count("began without its state");
                }
                ground.say(|| format!("machine {}: starts with {}", self.number, uplink::spooled(&journal.spooled())));
                self.process = Some(Process {
                    journal,
                    uplink: None,
                    refused_epochs: 0,
                    stopping: false,
                    began,
                    opened,
                    did: Vec::new(),
                });
            }
            Err(why) => ground.say(|| format!("machine {}: does not start: {why}", self.number)),
        }
    }

    /// The process dies; the kernel keeps what was written and closes its sockets.
    pub(crate) fn kill(&mut self, ground: &mut Ground) {
        self.disconnect(ground);
        if self.process.take().is_some() {
            ground.befall(self.host, GapReason::AgentKilled);
        }
        self.state.set_fuse(None);
        self.spool.set_fuse(None);
    }

    /// Kills the process if its fuse has blown; whether it has.
    pub(crate) fn burn(&mut self, ground: &mut Ground) -> bool {
        let blown = self.state.has_blown() || self.spool.has_blown();
        if blown {
            if let Some(last) = ground.truth.samples.last_mut().filter(|last| last.machine == self.number) {
                last.certain = false;
            }
            ground.say(|| format!("machine {}: died within a write", self.number));
            ground.count("died within a write");
            ground.befall(self.host, GapReason::AgentKilled);
            self.kill(ground);
        }
        blown
    }

    /// The last record of a stop in order; it goes on sending until it exits.
    pub(crate) fn stop(&mut self, ground: &mut Ground) {
        let at = self.clock.now(ground.now_ms);
        let Some(process) = &mut self.process else { return };
        process.journal.stop(at);
        process.did.push(Did::Stop(at));
        process.stopping = true;
        ground.befall(self.host, GapReason::AgentStopped);
    }

    /// The end of a stop.
    pub(crate) fn exit(&mut self, ground: &mut Ground) {
        if let Some(process) = &mut self.process {
            process.journal.close(self.clock.now(ground.now_ms).boot_us);
        }
        self.disconnect(ground);
        self.process = None;
    }

    /// The state directory is lost and the host enrols again.
    pub(crate) fn lose_state(&mut self, ground: &mut Ground) {
        self.kill(ground);
        // A late hello of the lost state can take the number that the new one was given: then that is a fork.
        for reason in [GapReason::StateLost, GapReason::Forked] {
            ground.befall(self.host, reason);
        }
        (self.state, self.spool) = (ModelDisk::new(false), ModelDisk::new(ground.is(Mutation::CursorBeforeFsync)));
        self.enrolled_next = ground.database.next_epoch_no(self.host);
        self.keeps_all = false;
        self.lost |= !ground.truth.made[self.number].is_empty();
    }

    /// A machine with the same memory and the same disks.
    pub(crate) fn copy(&self, number: usize, ground: &mut Ground) -> Option<Machine> {
        let process = self.process.as_ref()?;
        let (state, spool) = (process.began.0.copy(), process.began.1.copy());
        let mut journal = open(&state, &spool, self.limits, process.opened).ok()?;
        for did in &process.did {
            match did.clone() {
                Did::Take(sample) => {
                    journal.take(*sample);
                }
                Did::Settle(no, next) => journal.settle(no, next),
                Did::BeginEpoch(reason, id, step) => drop(journal.begin_epoch(reason, id, step)),
                Did::RequestKeyframe => journal.request_keyframe(),
                Did::Stop(at) => journal.stop(at),
                Did::SpoolRoom(room) => spool.set_room(room),
            }
        }
        assert_eq!(journal.spooled(), process.journal_spooled(), "a process that does the same again is the same");
        let made = ground.truth.made[self.number].clone();
        ground.truth.made.push(made);
        let (began, opened) = ((process.began.0.copy(), process.began.1.copy()), process.opened);
        let (did, refused_epochs, stopping) = (process.did.clone(), process.refused_epochs, process.stopping);
        Some(Machine {
            number,
            host: self.host,
            clock: self.clock,
            state,
            spool,
            limits: self.limits,
            enrolled_next: self.enrolled_next,
            objects: self.objects.clone(),
            process: Some(Process { journal, uplink: None, refused_epochs, stopping, began, opened, did }),
            asleep: None,
            gone: false,
            quarantined: false,
            keeps_all: self.keeps_all,
            lost: false,
        })
    }

    /// An object appears, goes or changes.
    pub(crate) fn change(&mut self, ground: &mut Ground) {
        let chance = &mut ground.chance;
        let at = chance.index(self.objects.len() + 1);
        match chance.below(3) {
            0 if at < self.objects.len() => drop(self.objects.remove(at)),
            1 if at < self.objects.len() => self.objects[at].otime += 1,
            _ if self.objects.len() < 8 => {
                self.objects.push(array(i32::try_from(chance.below(1 << 30)).unwrap()));
            }
            _ => {}
        }
    }

    /// Takes a sample; whether it can be stored is decided here, once and for all.
    pub(crate) fn sample(&mut self, unstorable: bool, ground: &mut Ground) {
        let number = ground.truth.samples.len();
        let at = self.clock.now(ground.now_ms);
        let Some(process) = self.process.as_mut().filter(|process| !process.stopping) else { return };
        let state = state(self.clock.boot_id, &self.objects);
        let took_us = u32::try_from(number).unwrap();
        let snapshot = Snapshot { at, took_us, state: state.clone() };
        let sample = Sample { snapshot, awake_us: self.clock.awake_us(ground.now_ms), activity: Activity::default() };
        let Some(current) = process.journal.spooled().pop() else { return };
        let (epoch, seq) = (current.epoch, current.next);
        process.did.push(Did::Take(Box::new(sample.clone())));
        process.journal.take(sample);
        ground.truth.made[self.number].insert((epoch, seq), number);
        let (host, machine, true_ms) = (self.host, self.number, ground.now_ms);
        ground.say(|| {
            format!(
                "machine {machine}: sample {number} is {}/{} at wall {} boot {}",
                epoch.no.0,
                seq.0,
                at.wall_ms - crate::world::BEGIN_MS,
                at.boot_us / 1000
            )
        });
        if let Some(last) = ground.truth.samples.iter().rfind(|last| last.machine == machine) {
            let (was_wrong_ms, went_back) = (last.at.wall_ms - last.true_ms, at.wall_ms < last.at.wall_ms);
            if self.clock.wrong_ms > was_wrong_ms {
                ground.count("clock stepped forward");
            } else if went_back {
                ground.count("clock stepped back");
            }
        }
        ground.truth.samples.push(Sampled {
            host,
            machine,
            true_ms,
            at,
            state: Arc::new(state),
            unstorable,
            certain: true,
        });
    }

    /// The spool's disk fills up, or is freed.
    pub(crate) fn set_room(&mut self, room: Option<usize>, ground: &mut Ground) {
        self.spool.set_room(room);
        self.keeps_all &= room.is_none();
        if let Some(process) = &mut self.process {
            process.did.push(Did::SpoolRoom(room));
        }
        ground.befall(self.host, GapReason::SpoolOverflow);
    }

    /// Whether everything that was made is acked and stored, and what comes can be stored too.
    pub(crate) fn is_drained(&self, ground: &Ground) -> bool {
        let Some(process) = self.process.as_ref().filter(|process| process.journal.all_acked()) else { return false };
        let Some(current) = process.journal.spooled().pop() else { return false };
        let rows = ground.database.streams(self.host);
        let row = rows.iter().find(|row| row.epoch == current.epoch);
        row.is_some_and(|row| row.next == current.next && row.base.is_some())
    }

    /// Where its connection is.
    pub(crate) fn line(&self) -> Option<Line> {
        self.process.as_ref().and_then(|process| process.uplink.as_ref()).map(|uplink| uplink.line)
    }
}

impl Process {
    fn journal_spooled(&self) -> Vec<SpooledEpoch> {
        self.journal.spooled()
    }
}

fn open(
    state: &ModelDisk,
    spool: &ModelDisk,
    limits: Limits,
    (enrolled_next, boot_id, epoch_id): (u64, BootId, u64),
) -> Result<Journal, String> {
    let opened =
        Journal::open(Box::new(state.clone()), Box::new(spool.clone()), limits, enrolled_next, boot_id, epoch_id);
    opened.map_err(|e| e.to_string())
}

fn array(semid: i32) -> SemArray {
    SemArray { key: Key(semid), semid, perms: Perms(0o600), nsems: 1, owner: Owner::default(), otime: 0, ctime: 1 }
}

fn state(boot_id: BootId, objects: &[SemArray]) -> State {
    let availability = Availability { state: SysvipcState::Available, evidence: vec![], remedy: HostText::default() };
    let namespace = Namespace {
        id: NamespaceId { inode: 4_026_531_839, instance: 1 },
        name: None,
        torn: false,
        limits: None,
        totals: None,
        sem: Some(objects.to_vec()),
        shm: Some(vec![]),
        msg: Some(vec![]),
        unreadable: vec![],
        left_out: LeftOut::default(),
        ..Namespace::default()
    };
    State {
        boot_id,
        interval_ms: INTERVAL_MS,
        page_size: 4096,
        zone: HostText::default(),
        availability,
        users: Default::default(),
        groups: Default::default(),
        namespaces: vec![namespace],
        risks: Vec::new(),
        unseen: Vec::new(),
    }
}
