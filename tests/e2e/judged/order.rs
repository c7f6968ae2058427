//! The order in which records are judged is that of history, whatever is due first.

use highwater::compact::job::Config;
use highwater::host::HostId;
use highwater_ipc::record::GapReason;
use highwater_ipc::snapshot::BootId;
use highwater_ipc::time::At;
use highwater_tests::scribe::Scribe;
use highwater_tests::wait::now_ms;

use super::stage::{EAGER, Stage};
use super::{Change, DAY_MS, state, stored};

const SECOND_MS: i64 = 1_000;
/// What compaction takes of one epoch before others have their turn.
const AT_ONCE: u64 = 8_192;

/// Samples a second apart; a flag goes up with the last of the first epoch, and down with the first of the second.
fn two_runs(begin_ms: i64, first: u64, second: u64) -> Scribe {
    let mut scribe = Scribe::new(HostId(1));
    let mut at = At { wall_ms: begin_ms, boot_us: 60_000_000 };
    let mut sample = |scribe: &mut Scribe, used: u64, gap| {
        scribe.sample(at, &state(used, 40), gap);
        at = At { wall_ms: at.wall_ms + SECOND_MS, boot_us: at.boot_us + 1_000_000 };
    };
    for (count, last, reason) in [(first, 39, GapReason::BeforeFirst), (second, 5, GapReason::AgentKilled)] {
        scribe.begin_epoch(BootId([1; 16]));
        for n in 1..=count {
            let used = if n == count { last } else { 3 + n % 2 };
            sample(&mut scribe, used, (n == 1).then_some(reason));
        }
    }
    scribe
}

fn judged(first: u64, second: u64, rounds: usize, config: Config) -> Vec<Change> {
    let begin_ms = (now_ms() / DAY_MS - 3) * DAY_MS;
    let mut stage = Stage::new(&[HostId(1)], begin_ms);
    stage.send(&mut two_runs(begin_ms, first, second), usize::MAX);
    stage.pass(SECOND_MS);
    for _ in 0..rounds {
        assert_eq!(stage.compact_as(config).failed, 0);
    }
    let up_ms = begin_ms + i64::try_from(first - 1).unwrap() * SECOND_MS;
    let mut all = stored(&stage.database);
    let changes = all.remove(&(1, 0, "SEMMNI".to_owned())).unwrap_or_default();
    changes.into_iter().map(|change| Change { at_ms: change.at_ms - up_ms, ..change }).collect()
}

fn up_and_down() -> Vec<Change> {
    let change = |at_ms, what: &str| Change { at_ms, what: what.to_owned(), severity: "warning".to_owned() };
    vec![change(0, "raised"), change(SECOND_MS, "cleared")]
}

#[test]
fn an_epoch_is_judged_after_those_before_it_though_it_alone_is_due() {
    let config = Config { tail_age_ms: DAY_MS, tail_positions: 8, ..EAGER };
    assert_eq!(judged(3, 12, 1, config), up_and_down());
}

#[test]
fn an_epoch_is_judged_after_those_before_it_though_one_of_them_takes_many_steps() {
    assert_eq!(judged(AT_ONCE + 2, 3, 2, EAGER), up_and_down());
}
