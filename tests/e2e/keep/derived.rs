//! What is derived of an epoch ends with it: nothing is unreadable, or in use, for ever after.

use highwater::compact::lease::{Keeper, Now};
use highwater::compact::tail::{Moved, compact};
use highwater::compact::{Held, job};
use highwater::evaluate::rules::Rules;
use highwater::store::link::Link;
use highwater_ipc::limits::Totals;
use highwater_ipc::record::{EpochNo, GapReason};
use highwater_ipc::snapshot::{BootId, Namespace, NamespaceId, State};
use highwater_tests::wait::now_ms;

use crate::ingest::Collector;
use crate::ingest::host::Host;

const HOUR_MS: i64 = 3_600_000;

/// The compactor's lease.
fn lease(collector: &Collector) -> Held {
    let now = Now { wall_ms: now_ms(), steady_ms: 0 };
    let fence = collector.runtime.block_on(Keeper::new(job::LEASE, "test").hold(&collector.db, now));
    Held { name: job::LEASE.to_owned(), fence: fence.unwrap().expect("nobody else compacts") }
}

/// Moves what an epoch has in frames, and derives what follows from it.
fn move_all(collector: &Collector, held: &Held, host: &Host, epoch: u64) {
    let mut link = Link::new(collector.db.clone());
    let of = (host.id(), EpochNo(epoch));
    let moved = collector.runtime.block_on(compact(&collector.db, &mut link, of, (held, &Rules::default()), now_ms()));
    assert!(matches!(moved, Ok(Moved::Some { more: false, .. })), "{moved:?}");
}

/// Spans in which a list could not be read: epoch, seq and how long they took.
fn parts(collector: &Collector, host: &Host) -> String {
    let id = host.id().0;
    collector.database.sql(&format!(
        "SELECT epoch_no, seq, to_wall_ms - from_wall_ms FROM gap_part WHERE host_id = {id} ORDER BY epoch_no, seq"
    ))
}

/// Another boot, an hour later.
fn reboot(host: &mut Host) {
    host.set_clock(host.clock.wall_ms + HOUR_MS);
    host.begin_epoch(2, BootId([2; 16]));
}

/// Epoch 1: its last samples cannot read the arrays, for four seconds of which three are heartbeats.
fn ends_unreadable(collector: &Collector, host: &mut Host) {
    host.set_clock(now_ms() - 3 * HOUR_MS);
    collector.store(host, 1, |host| {
        vec![host.keyframe(None), host.change(|state| state.namespaces[0].sem = None), host.heartbeats(3)]
    });
}

#[test]
fn a_list_that_could_not_be_read_when_its_epoch_ended_ends_with_it_and_not_never() {
    let collector = Collector::shared();
    let held = lease(&collector);
    let [mut before, mut after, mut still] = [71, 72, 73].map(|id| collector.host(id));
    for host in [&mut before, &mut after, &mut still] {
        ends_unreadable(&collector, host);
    }
    move_all(&collector, &held, &before, 1);
    assert_eq!(parts(&collector, &before), "1|1|\n", "the epoch may go on");
    for host in [&mut before, &mut after] {
        reboot(host);
        collector.store(host, 2, |host| vec![host.keyframe(Some(GapReason::HostDown)), host.delta(1)]);
    }
    move_all(&collector, &held, &before, 2);
    assert_eq!(parts(&collector, &before), "1|1|4000\n");
    // The other one's tail waited, and the next epoch's moved first.
    move_all(&collector, &held, &after, 2);
    assert_eq!(parts(&collector, &after), "");
    move_all(&collector, &held, &after, 1);
    assert_eq!(parts(&collector, &after), "1|1|4000\n");
    // An epoch that has no record yet may follow one that has more to come.
    reboot(&mut still);
    collector.runtime.block_on(async { still.open(collector.writer()).await.unwrap().close().await });
    move_all(&collector, &held, &still, 1);
    assert_eq!(parts(&collector, &still), "1|1|\n");
}

/// The last row of that container, and how much it had at most.
fn last_use(collector: &Collector, host: &Host, view: &str) -> String {
    let of = format!("FROM {view} WHERE host_id = '{}' AND namespace = 77 AND resource = 'SEMMNI'", host.id());
    collector.database.sql(&format!("SELECT used, limit_, (SELECT max(peak) {of}) {of} ORDER BY slot_ms DESC LIMIT 1"))
}

fn with_container(state: &mut State) {
    let totals = Totals { sem_arrays: 9, ..Totals::default() };
    let id = NamespaceId { inode: 77, instance: 5 };
    let limits = state.namespaces[0].limits;
    state.namespaces.push(Namespace { id, totals: Some(totals), limits, ..state.namespaces[0].clone() });
}

#[test]
fn a_container_that_went_in_a_gap_or_with_a_boot_is_not_in_use_for_ever() {
    let collector = Collector::shared();
    let held = lease(&collector);
    let [mut gap, mut boot] = [74, 75].map(|id| collector.host(id));
    for host in [&mut gap, &mut boot] {
        host.set_clock(now_ms() - 5 * HOUR_MS);
        collector.store(host, 1, |host| vec![host.keyframe(None), host.change(with_container), host.heartbeats(3)]);
        move_all(&collector, &held, host, 1);
        assert_eq!(last_use(&collector, host, "v_usage"), "9|32000|9\n");
    }
    reboot(&mut boot);
    collector.store(&mut boot, 2, |host| vec![host.keyframe(Some(GapReason::HostDown))]);
    move_all(&collector, &held, &boot, 2);
    gap.set_clock(gap.clock.wall_ms + HOUR_MS);
    gap.clock.boot_us += 3_600_000_000;
    collector.store(&mut gap, 1, |host| vec![host.keyframe(Some(GapReason::Stalled))]);
    move_all(&collector, &held, &gap, 1);
    for (host, view) in [(&gap, "v_usage"), (&gap, "v_usage_hour"), (&boot, "v_usage"), (&boot, "v_usage_hour")] {
        assert_eq!(last_use(&collector, host, view), "||9\n", "{view} of {:?}", host.id());
    }
    // What is still there goes on as it was.
    let own = "SELECT count(*) FROM v_usage WHERE namespace <> 77 AND resource = 'SEMMNI' AND used IS NULL";
    assert_eq!(collector.database.sql(own), "0\n");
}
