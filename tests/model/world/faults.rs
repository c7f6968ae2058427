//! What may befall a world.

use highwater::host::HostId;
use highwater_ipc::record::GapReason;

use super::World;
use crate::collector::Collector;
use crate::ground::Kept;
use crate::machine::HostClock;
use crate::promises;

/// One of the things that may. Each world has a few of these, so that some worlds have a rare one often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Kill,
    KillWithinAWrite,
    Stop,
    PowerFailure,
    Reboot,
    Fork,
    Freeze,
    LoseState,
    CutLine,
    CutAgentEnd,
    KillCollector,
    DatabaseDown,
    LoseAnswers,
    Restore,
    StepClock,
    Suspend,
    Stall,
    FillDisk,
    DamageSpool,
    Unstorable,
}

pub(super) const FAULTS: [Fault; 20] = [
    Fault::Kill,
    Fault::KillWithinAWrite,
    Fault::Stop,
    Fault::PowerFailure,
    Fault::Reboot,
    Fault::Fork,
    Fault::Freeze,
    Fault::LoseState,
    Fault::CutLine,
    Fault::CutAgentEnd,
    Fault::KillCollector,
    Fault::DatabaseDown,
    Fault::LoseAnswers,
    Fault::Restore,
    Fault::StepClock,
    Fault::Suspend,
    Fault::Stall,
    Fault::FillDisk,
    Fault::DamageSpool,
    Fault::Unstorable,
];

impl World {
    pub(super) fn befall(&mut self, fault: Fault) -> Kept {
        let at = self.ground.chance.index(self.machines.len());
        self.ground.say(|| format!("machine {at}, or whoever it concerns: {fault:?}"));
        match fault {
            Fault::KillCollector => self.kill_collector(),
            Fault::DatabaseDown => self.ground.database.up = false,
            Fault::LoseAnswers => self.ground.answers_lost = self.ground.chance.pick(&[0, 2, 4]),
            Fault::Restore => self.restore(),
            Fault::Unstorable => {}
            _ if self.machines[at].gone => {}
            Fault::PowerFailure => return self.power_failure(at),
            Fault::Fork | Fault::Freeze => self.copy(at, fault == Fault::Freeze),
            Fault::KillWithinAWrite => return self.kill_within_a_write(at),
            _ => self.befall_machine(at, fault),
        }
        Ok(())
    }

    pub(super) fn befall_machine(&mut self, at: usize, fault: Fault) {
        let (machine, ground) = (&mut self.machines[at], &mut self.ground);
        match fault {
            Fault::Kill => machine.kill(ground),
            Fault::Stop => machine.stop(ground),
            Fault::Reboot => {
                machine.kill(ground);
                ground.befall(machine.host, GapReason::HostDown);
                machine.clock = HostClock::boot(ground, machine.clock.wrong_ms);
                (machine.asleep, machine.quarantined) = (None, false);
            }
            Fault::LoseState if ground.database.up => machine.lose_state(ground),
            Fault::CutLine | Fault::CutAgentEnd => {
                let Some(line) = machine.line() else { return };
                if fault == Fault::CutLine {
                    ground.connections[line].cut(&mut ground.chance);
                } else {
                    machine.disconnect(ground);
                }
            }
            Fault::StepClock => {
                let by = [-200, 200, -700, 700, -60_000, 3_600_000, -3_600_000, 86_400_000, -5_000];
                machine.clock.wrong_ms += ground.chance.pick(&by);
            }
            Fault::Suspend => {
                machine.asleep.get_or_insert(ground.now_ms);
                ground.befall(machine.host, GapReason::Suspended);
                ground.befall(machine.host, GapReason::Stalled);
            }
            Fault::Stall => {
                for host in [HostId(1), HostId(2)] {
                    ground.befall(host, GapReason::Stalled);
                }
                ground.now_ms += 3_500 + i64::try_from(ground.chance.below(20_000)).unwrap();
            }
            // Under a running agent a memory image would not be the same: it is made by doing all again.
            Fault::DamageSpool => {
                machine.kill(ground);
                machine.spool.damage(&mut ground.chance);
                machine.keeps_all = false;
                ground.befall(machine.host, GapReason::SpoolDamaged);
            }
            Fault::FillDisk => {
                let room = ground.chance.index(600);
                machine.set_room(Some(room), ground);
            }
            _ => {}
        }
    }

    /// The process dies at one of the changes that the next thing it does makes to its disks.
    pub(super) fn kill_within_a_write(&mut self, at: usize) -> Kept {
        let machine = &mut self.machines[at];
        if machine.asleep.is_some() {
            return Ok(());
        }
        let fuse = Some(1 + self.ground.chance.below(6));
        machine.spool.set_fuse(fuse);
        if machine.process.is_none() {
            machine.state.set_fuse(fuse);
            machine.start(&mut self.ground);
        } else if self.ground.chance.one_in(2) {
            machine.sample(false, &mut self.ground);
        } else {
            self.act(at)?;
        }
        let machine = &mut self.machines[at];
        if !machine.burn(&mut self.ground) {
            machine.state.set_fuse(None);
            machine.spool.set_fuse(None);
        }
        Ok(())
    }

    pub(super) fn power_failure(&mut self, at: usize) -> Kept {
        let (machine, ground) = (&mut self.machines[at], &mut self.ground);
        ground.count("power failures");
        machine.kill(ground);
        machine.state.crash(&mut ground.chance);
        machine.spool.crash(&mut ground.chance);
        promises::after_power_failure(machine, ground)?;
        // A tail of zeros, where the length reached the device before the bytes, looks like damage.
        for reason in [GapReason::HostDown, GapReason::AgentKilled, GapReason::SpoolDamaged] {
            ground.befall(machine.host, reason);
        }
        machine.clock = HostClock::boot(ground, machine.clock.wrong_ms);
        (machine.asleep, machine.quarantined) = (None, false);
        Ok(())
    }

    /// A memory snapshot is taken: it goes on at once beside the machine, or is kept for later.
    pub(super) fn copy(&mut self, at: usize, frozen: bool) {
        let number = self.ground.truth.made.len();
        if number >= 5 || self.machines[at].asleep.is_some() {
            return;
        }
        let Some(copy) = self.machines[at].copy(number, &mut self.ground) else { return };
        self.ground.say(|| format!("machine {at}: copied to machine {number}"));
        self.images.push((copy, self.ground.now_ms));
        if !frozen {
            self.thaw();
        }
    }

    /// A memory image wakes; its original lives on, or died long ago.
    pub(super) fn thaw(&mut self) {
        let Some((mut copy, since)) = self.images.pop() else { return };
        let ground = &mut self.ground;
        let passed_ms = ground.now_ms - since;
        ground.count("memory images woken");
        // The boot clock goes on where it was; somebody sets the wall clock, or nobody does.
        copy.clock.booted_ms += passed_ms;
        if ground.chance.one_in(2) {
            copy.clock.wrong_ms -= passed_ms;
        }
        for reason in [GapReason::Forked, GapReason::Quarantined] {
            ground.befall(copy.host, reason);
        }
        if ground.chance.one_in(2) {
            for machine in self.machines.iter_mut().filter(|machine| machine.host == copy.host) {
                machine.kill(ground);
                machine.gone = true;
            }
        }
        ground.say(|| format!("machine {} wakes", copy.number));
        self.ground.befall(copy.host, GapReason::AgentKilled);
        self.machines.push(copy);
        self.machines.sort_by_key(|machine| machine.number);
    }

    pub(super) fn kill_collector(&mut self) {
        let at = self.ground.chance.index(self.collectors.len());
        self.collectors[at] = Collector::new(at);
        self.ground.count("collectors killed");
        for connection in self.ground.connections.iter_mut().filter(|c| c.collector == at) {
            connection.collector_open = false;
            let left = self.ground.chance.index(connection.to_agent.len() + 1);
            connection.to_agent.truncate(left);
        }
    }

    /// The database is copied, or an older copy takes its place.
    pub(super) fn restore(&mut self) {
        if self.backups.is_empty() || self.ground.chance.one_in(3) {
            self.backups.push(self.ground.database.clone());
            return;
        }
        let at = self.ground.chance.index(self.backups.len());
        self.ground.say(|| format!("the database is restored from backup {at}"));
        self.ground.count("database restored");
        let version = self.ground.database.version;
        self.ground.database = self.backups[at].clone();
        (self.ground.database.up, self.ground.database.version) = (true, version + 1);
        for host in [HostId(1), HostId(2)] {
            self.ground.befall(host, GapReason::HistoryRestored);
        }
    }
}
