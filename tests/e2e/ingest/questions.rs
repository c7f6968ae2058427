//! Questions about hosts whose history the writer stored: who a name means, how much one answer may read, whose clock
//! counts.

use highwater::host::HostId;
use highwater::query::as_of::Instant;
use highwater::query::diff::{DiffAnswer, diff};
use highwater::query::fleet::{Question, fleet};
use highwater::query::host::{Meaning, Resolved, resolve};
use highwater::query::{AskError, Reading};
use highwater_ipc::availability::SysvipcState;
use highwater_ipc::record::GapReason;
use highwater_tests::wait::now_ms;

use super::*;

const HOUR_MS: i64 = 3_600_000;

impl Collector {
    fn meant(&self, name: &str, at_ms: Option<i64>) -> Resolved {
        let meaning = self.runtime.block_on(async {
            let mut reading = Reading::begin(&self.db).await.unwrap();
            resolve(&mut reading, name, at_ms, now_ms()).await.unwrap()
        });
        let Meaning::One(resolved) = meaning else { panic!("{name} at {at_ms:?}: {meaning:?}") };
        resolved
    }

    fn diff(&self, host: i64, span: (Instant, Instant), most_records: usize) -> Result<DiffAnswer, AskError> {
        self.runtime.block_on(async {
            let mut reading = Reading::begin(&self.db).await.unwrap();
            diff(&mut reading, HostId(host), span, now_ms(), most_records).await
        })
    }
}

/// Stores one sample of a host that calls itself so, at that time, as its epoch of that number.
fn sampled(collector: &Collector, host: &mut Host, name: &'static str, wall_ms: i64, epoch: u64) {
    host.name = name;
    host.set_clock(wall_ms);
    if epoch > 1 {
        host.clock.boot_us += 1_000_000_000;
        host.begin_epoch(epoch, host.boot_id);
    }
    let gap = (epoch > 1).then_some(GapReason::AgentStopped);
    collector.store(host, epoch, |host| vec![host.keyframe(gap)]);
}

#[test]
fn a_name_means_who_bore_it_at_the_instant_asked_for() {
    let collector = Collector::shared();
    let now = now_ms();
    let (mut first, mut second) = (collector.host(81), collector.host(82));
    sampled(&collector, &mut first, "moved", now - 3 * HOUR_MS, 1);
    sampled(&collector, &mut first, "retired", now - 2 * HOUR_MS, 2);
    sampled(&collector, &mut second, "moved", now - HOUR_MS, 1);
    assert_eq!(collector.meant("moved", None).host.id, HostId(82));
    assert_eq!(collector.meant("moved", Some(now)).host.id, HostId(82));
    let then = collector.meant("moved", Some(now - 2 * HOUR_MS - 1000));
    assert_eq!(then.host.id, HostId(81));
    assert!(then.notes[0].contains("retired") && then.notes[1].contains(&HostId(82).to_string()), "{then:?}");
    // Nobody bore it before: who bears it now is meant, and a gap will be the answer.
    assert_eq!(collector.meant("moved", Some(now - 9 * HOUR_MS)).host.id, HostId(82));
    sampled(&collector, &mut second, "renamed", now - HOUR_MS / 2, 2);
    // An old name stays an alias, of the host that was enrolled last.
    assert_eq!(collector.meant("moved", None).host.id, HostId(82));
    assert_eq!(collector.meant("moved", Some(now - 3 * HOUR_MS + 5000)).host.id, HostId(81));
}

#[test]
fn of_two_live_hosts_of_one_name_the_last_enrolled_stays_the_one_that_is_meant() {
    let collector = Collector::shared();
    let (mut older, mut newer) = (collector.host(84), collector.host(83));
    collector.database.sql("UPDATE host SET enrolled_ms = host_id % 2");
    for (epoch, host) in [(1, &mut newer), (1, &mut older)] {
        sampled(&collector, host, "twin", now_ms(), epoch);
    }
    let meant = collector.meant("twin", None);
    assert_eq!(meant.host.id, HostId(83), "84 was heard last");
    assert!(meant.notes[0].contains(&HostId(84).to_string()), "{meant:?}");
}

#[test]
fn a_diff_of_more_records_than_one_answer_may_read_is_refused_with_the_remedy() {
    let collector = Collector::shared();
    let mut host = collector.host(85);
    let start = now_ms() - HOUR_MS;
    host.set_clock(start);
    collector.store(&mut host, 1, |host| {
        let mut records = vec![host.keyframe(None)];
        records.extend((1..=20).map(|n| host.delta(n)));
        records
    });
    let span = (Instant::At(start + 1000), Instant::Last);
    assert!(matches!(collector.diff(85, span, 20), Ok(DiffAnswer::Compared(_))));
    let refused = collector.diff(85, span, 19).unwrap_err();
    assert_eq!(refused.to_string(), "that span holds more than 19 records; ask for a shorter span");
    let backwards = collector.diff(85, (Instant::Now, Instant::At(start - 60_000)), 20).unwrap_err();
    assert!(matches!(backwards, AskError::Backwards { .. }), "{backwards}");
}

#[test]
fn facts_of_the_fleet_at_an_instant_are_chosen_by_the_collectors_clock() {
    let collector = Collector::shared();
    let mut host = collector.host(86);
    let now = now_ms();
    // Its clock is an hour ahead: what it said of itself a moment ago bears a time that has not come here.
    sampled(&collector, &mut host, "ahead", now + HOUR_MS, 1);
    let asked = collector.runtime.block_on(async {
        let mut reading = Reading::begin(&collector.db).await.unwrap();
        let question = Question { at_ms: Some(now_ms() + 1000), most: 10, ..Question::default() };
        fleet(&mut reading, &question, now_ms()).await.unwrap()
    });
    let facts = asked.hosts[0].row.facts.as_ref().expect("facts");
    assert_eq!(facts.name, "ahead");
}

#[test]
fn a_host_that_has_only_enrolled_is_listed_and_lacks_nothing_for_all_anybody_knows() {
    let collector = Collector::shared();
    collector.host(87);
    let asked = |reported: bool| {
        collector.runtime.block_on(async {
            let mut reading = Reading::begin(&collector.db).await.unwrap();
            let states = vec![SysvipcState::Unknown];
            let question = Question { states, reported, all: true, most: 10, ..Question::default() };
            fleet(&mut reading, &question, now_ms()).await.unwrap().hosts.len()
        })
    };
    assert_eq!((asked(false), asked(true)), (1, 0));
}
