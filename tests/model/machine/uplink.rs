//! `agent/uplink.rs`: connects, says hello, understands the welcome, sends and takes acks, one message a step.

use highwater_agent::agent::outbox::{Filled, Outbox};
use highwater_agent::transport::session::{FromCollector, Session, Start, ToCollector};
use highwater_ipc::session::{Hello, HostFacts, SpooledEpoch, Welcome};

use super::{Did, INTERVAL_MS, Machine, Uplink};
use crate::ground::{Connection, Ground, Kept, broken};
use crate::mutation::Mutation;

impl Machine {
    /// Connects, or takes one message, or sends one.
    pub(crate) fn act(&mut self, collectors: &[usize], ground: &mut Ground) -> Kept {
        let Some(process) = &mut self.process else { return Ok(()) };
        let Some(uplink) = &mut process.uplink else {
            if let Some(collector) = collectors.get(ground.chance.index(collectors.len())) {
                self.connect(*collector, ground);
            }
            return Ok(());
        };
        let connection = &mut ground.connections[uplink.line];
        let may_send = connection.agent_open && connection.collector_open && uplink.session.is_some();
        if may_send && ground.chance.one_in(2) {
            self.send(ground);
            return Ok(());
        }
        match connection.to_agent.pop_front() {
            Some(message) => self.receive(message, ground),
            None if !connection.collector_open || !connection.agent_open => {
                self.quarantined = connection.quarantined;
                self.disconnect(ground);
                Ok(())
            }
            None => {
                self.send(ground);
                Ok(())
            }
        }
    }

    fn connect(&mut self, collector: usize, ground: &mut Ground) {
        let Some(process) = &mut self.process else { return };
        let hello = process.journal.spooled();
        let facts = HostFacts { boot_id: self.clock.boot_id, ..HostFacts::default() };
        let now = self.clock.now(ground.now_ms);
        let said = ToCollector::Hello(Hello { facts, now, epochs: hello.clone() });
        let line = ground.connections.len();
        ground.say(|| format!("machine {}: line {line} to collector {collector}: {}", self.number, spooled(&hello)));
        ground.connections.push(Connection {
            host: self.host,
            machine: self.number,
            collector,
            to_collector: [said].into(),
            to_agent: Default::default(),
            agent_open: true,
            collector_open: true,
            quarantined: false,
            heard: false,
        });
        process.uplink = Some(Uplink { line, hello, session: None });
    }

    /// This end of the connection closes.
    pub(crate) fn disconnect(&mut self, ground: &mut Ground) {
        if let Some(uplink) = self.process.as_mut().and_then(|process| process.uplink.take()) {
            ground.connections[uplink.line].agent_open = false;
            ground.connections[uplink.line].to_agent.clear();
        }
    }

    fn send(&mut self, ground: &mut Ground) {
        let boot_us = self.clock.now(ground.now_ms).boot_us;
        let Some(process) = &mut self.process else { return };
        let Some(Uplink { line, session: Some((session, outbox)), .. }) = &mut process.uplink else { return };
        let (no, next) = session.acked();
        outbox.acked(no, next);
        if !outbox.has_room() {
            return ground.count("window full");
        }
        let full = loop {
            match outbox.fill(&mut process.journal, session, boot_us) {
                Filled::More => {}
                Filled::Full => break true,
                Filled::Drained => break false,
            }
        };
        let ripe = full || process.stopping || outbox.is_ripe(boot_us, INTERVAL_MS);
        // A message may go earlier than pacing has it: only its order matters.
        if !ripe && ground.chance.one_in(2) {
            return;
        }
        if let Some(message) = outbox.take() {
            let (line, machine) = (*line, self.number);
            ground.say(|| format!("machine {machine}: line {line} sends {}", words(&message)));
            ground.connections[line].to_collector.push_back(message);
        }
    }

    fn receive(&mut self, message: FromCollector, ground: &mut Ground) -> Kept {
        let Some(process) = &mut self.process else { return Ok(()) };
        let Some(uplink) = &mut process.uplink else { return Ok(()) };
        match (message, &mut uplink.session) {
            (FromCollector::Welcome(welcome), None) => return self.welcome(&welcome, ground),
            (FromCollector::Ack(no, next), Some((session, _))) => match session.ack(no, next) {
                Ok((no, next)) => {
                    process.did.push(Did::Settle(no, next));
                    process.journal.settle(no, next);
                }
                Err(why) => return broken(format!("machine {}: {why}", self.number)),
            },
            (FromCollector::Keyframe, _) => {
                process.did.push(Did::RequestKeyframe);
                process.journal.request_keyframe();
            }
            (message, _) => return broken(format!("machine {}: {message:?} out of turn", self.number)),
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: &Welcome, ground: &mut Ground) -> Kept {
        let Some(process) = &mut self.process else { return Ok(()) };
        let Some(uplink) = &mut process.uplink else { return Ok(()) };
        let (hello, mut welcome) = (uplink.hello.clone(), welcome.clone());
        let blind = ground.is(Mutation::ChainNotChecked);
        if blind {
            for (ours, theirs) in hello.iter().zip(&mut welcome.epochs).filter(|(o, t)| o.next == t.next) {
                theirs.chain = ours.chain;
            }
        }
        let journal = &mut process.journal;
        let started = Session::start(&hello, &welcome, |no, seq| if blind { None } else { journal.chain_at(no, seq) });
        match started {
            Ok(Start::Go(mut session)) => {
                process.refused_epochs = 0;
                self.quarantined = false;
                for (no, next) in session.take_settled() {
                    process.did.push(Did::Settle(no, next));
                    process.journal.settle(no, next);
                }
                let outbox = Outbox::new(&session);
                uplink.session = Some((session, outbox));
            }
            Ok(Start::NewEpoch(reason)) => {
                let step = 2_u64.saturating_pow(process.refused_epochs).min(1024);
                process.refused_epochs += 1;
                let id = ground.chance.next();
                process.did.push(Did::BeginEpoch(reason, id, step));
                let begun = process.journal.begin_epoch(reason, id, step);
                ground.say(|| format!("machine {}: a new epoch, {reason:?}: {begun:?}", self.number));
                self.disconnect(ground);
            }
            Err(why) => return broken(format!("machine {}: {why}", self.number)),
        }
        Ok(())
    }
}

pub(super) fn spooled(epochs: &[SpooledEpoch]) -> String {
    let words = |e: &SpooledEpoch| format!("{}({:x}) {}..{}", e.epoch.no.0, e.epoch.id.0 >> 48, e.first.0, e.next.0);
    epochs.iter().map(words).collect::<Vec<_>>().join(", ")
}

fn words(message: &ToCollector) -> String {
    let ToCollector::Records(no, records) = message else { return format!("{message:?}") };
    let records: Vec<_> = records.iter().map(|r| format!("{:?} {}..={}", r.kind, r.first_seq.0, r.seq.0)).collect();
    format!("epoch {}: {}", no.0, records.join(", "))
}
