//! Hosts on which nothing changes any more: what time alone decides is decided all the same.

use highwater::host::HostId;
use highwater_ipc::record::GapReason;
use highwater_ipc::snapshot::BootId;
use highwater_ipc::time::At;
use highwater_tests::collector::Up;
use highwater_tests::scribe::Scribe;
use highwater_tests::wait::now_ms;

use super::stage::Stage;
use super::{DAY_MS, HOUR_MS, backtested, export, state, stored};

const HOST: HostId = HostId(1);
const TEN_MINUTES_MS: i64 = 600_000;

/// What is known of the one flag: its state, when it will be full, when it was raised and cleared.
fn flag(stage: &Stage) -> String {
    stage.database.sql("SELECT state, eta_ms, raised_ms, cleared_ms FROM flag WHERE resource = 'SEMMNI'")
}

/// A policy holds from the next judgement on, though not even time has passed, and so no flag was touched.
fn holds_at_once(stage: &mut Stage) {
    for (notify, audible) in [(false, "f\n"), (true, "t\n")] {
        stage.judge_by_telling(notify);
        stage.compact();
        assert_eq!(stage.database.sql("SELECT audible FROM flag WHERE resource = 'SEMMNI'"), audible);
    }
}

#[test]
fn a_flag_of_a_host_on_which_nothing_changes_is_refreshed_and_cleared_by_time_alone() {
    let begin_ms = (now_ms() / DAY_MS - 20) * DAY_MS;
    let mut stage = Stage::new(&[HOST], begin_ms);
    let mut scribe = Scribe::new(HOST);
    scribe.begin_epoch(BootId([1; 16]));
    let mut steps = 0_i64;
    let mut sample = |scribe: &mut Scribe, used: u64| {
        let boot_us = 60_000_000 + (steps * TEN_MINUTES_MS).unsigned_abs() * 1_000;
        let at = At { wall_ms: begin_ms + steps * TEN_MINUTES_MS, boot_us };
        scribe.sample(at, &state(used, 128), (steps == 0).then_some(GapReason::BeforeFirst));
        steps += 1;
    };
    // Three quiet days, then 14 arrays a day for four and a half.
    for row in 0..1_080_u64 {
        sample(&mut scribe, 24 + row.saturating_sub(432) * 14 / 144);
    }
    stage.send(&mut scribe, usize::MAX);
    stage.compact_all();
    let raised = flag(&stage);
    assert!(raised.starts_with("open|"), "{raised}");

    // Then heartbeats alone: no record waits to be moved.
    let mut seen = vec![raised];
    for hour in 0..72 {
        for _ in 0..6 {
            sample(&mut scribe, 24 + 647 * 14 / 144);
        }
        stage.send(&mut scribe, usize::MAX);
        stage.pass(HOUR_MS);
        assert_eq!(stage.compact().compacted, 0, "there is nothing but time");
        seen.push(flag(&stage));
        if hour == 2 {
            holds_at_once(&mut stage);
        }
    }
    assert_ne!(seen[0], seen[3], "its forecast is refreshed");
    let last = seen.last().unwrap();
    assert!(last.starts_with("cleared|"), "{seen:#?}");

    // By the last record there is.
    let by = "SELECT count(*) FROM flag_event e JOIN stream s USING (host_id, epoch_no)
        WHERE e.what = 'cleared' AND e.seq = s.framed_to - 1";
    assert_eq!(stage.database.sql(by), "1\n");
    let live = stored(&stage.database).remove(&(1, 0, "SEMMNI".to_owned())).unwrap();
    let up = Up::collector(&stage.database);
    let file = up.directory().join("quiet.csv");
    let end_ms = begin_ms + (steps - 1) * TEN_MINUTES_MS;
    assert!(export(&up.cli(), HOST, end_ms, ("SEMMNI", None), &file));
    assert_eq!(backtested(&up.cli(), &[file])["quiet"], live);
}
