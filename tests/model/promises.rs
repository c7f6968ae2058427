//! What must hold beside history itself: acks, what a machine keeps, and that at the end every sample is somewhere.
//! Numbers as in the head of `main.rs`.

use std::collections::{BTreeMap, BTreeSet};

use highwater::host::HostId;
use highwater_agent::spool::{Position, cursor, recover};
use highwater_ipc::record::{EpochId, EpochNo, GapReason, Seq};

use crate::database::Rows;
use crate::ground::{Ground, Kept, Line, broken};
use crate::history::History;
use crate::machine::Machine;

/// 1: what is acked is durable, or was until an older backup took its place.
pub(crate) fn acked(
    ground: &Ground,
    durable: &BTreeMap<(HostId, EpochNo, EpochId), Seq>,
    line: Line,
    (no, next): (EpochNo, Seq),
) -> Kept {
    let connection = &ground.connections[line];
    let made = &ground.truth.made[connection.machine];
    let of_epoch = |(host, epoch, id): &(HostId, EpochNo, EpochId)| {
        let theirs = made.keys().any(|(made, _)| made.no == no && made.id == *id);
        *host == connection.host && *epoch == no && theirs
    };
    let furthest = durable.iter().filter(|(key, _)| of_epoch(key)).map(|(_, next)| *next).max().unwrap_or_default();
    if next > furthest {
        return broken(format!("{} was acked up to {no:?} {next:?}; durable is {furthest:?}", connection.host));
    }
    Ok(())
}

/// 5: a machine that lost power holds all it made, or had it acked. Only where nothing was dropped for want of room and
/// every record was forced.
pub(crate) fn after_power_failure(machine: &Machine, ground: &Ground) -> Kept {
    if !machine.keeps_all || !machine.spool.had_room(machine.limits.bytes) {
        return Ok(());
    }
    let mut disk = machine.spool.copy();
    let (Ok(found), Ok(acked)) = (recover::scan(&mut disk), cursor::load(&mut disk)) else {
        return broken("a spool cannot be read");
    };
    let acked = acked.unwrap_or_default();
    for ((epoch, seq), number) in &ground.truth.made[machine.number] {
        let at = Position { epoch_no: epoch.no.0, seq: seq.0 };
        let held = found.segments.iter().any(|segment| {
            segment.label.epoch_no == epoch.no.0 && (segment.first_seq..segment.next_seq).contains(&seq.0)
        });
        if at >= acked && !held && ground.truth.samples[*number].certain {
            return broken(format!("machine {}: sample {number} is neither held nor acked ({acked})", machine.number));
        }
    }
    Ok(())
}

/// 4: of what a machine sampled everything is stored, or covered, or lies in a gap.
pub(crate) fn at_the_end(machine: &Machine, ground: &Ground) -> Kept {
    if machine.gone {
        // Nobody will ever tell what it still held.
        return Ok(());
    }
    let (host, none) = (machine.host, Rows::default());
    let rows = ground.database.hosts.get(&host).unwrap_or(&none);
    let held = History::of(ground, host, rows)?.places();
    let places: BTreeMap<usize, (EpochNo, Seq)> = held.iter().map(|(place, number)| (*number, *place)).collect();
    let made = &ground.truth.made[machine.number];
    let own: BTreeSet<usize> = made.values().copied().filter(|number| places.contains_key(number)).collect();
    // Another machine of the host, or another epoch of the same number, may have taken a place.
    let apart = [GapReason::Forked, GapReason::StateLost, GapReason::HistoryRestored];
    let apart = apart.iter().any(|reason| ground.truth.has_befallen(host, *reason));
    for ((epoch, seq), number) in made.iter().filter(|(_, number)| !own.contains(number)) {
        let place = (epoch.no, *seq);
        let in_its_place = held.get(&place).map(|other| &ground.truth.samples[*other]);
        if apart && in_its_place.is_some_and(|other| other.state == ground.truth.samples[*number].state) {
            // Two machines that woke from one image sampled the same: the collector cannot tell them apart.
            continue;
        }
        // The gap ends where the next sample begins: the next in order, or the next that this machine took.
        let next = if apart {
            own.range(number..).next().map(|number| places[number])
        } else {
            held.range(place..).next().map(|(place, _)| *place)
        };
        if !next.is_some_and(|next| (apart || next > place) && rows.gaps.contains_key(&next)) {
            return broken(format!("{host}: sample {number} at {place:?} is nowhere: next is {next:?}"));
        }
    }
    Ok(())
}
