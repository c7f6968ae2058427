//! What is older than all that is kept is new to nobody: neither to who asks for one host nor for the fleet.

use highwater::compact::retention::Retention;
use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::as_of::{Answer, Instant, as_of};
use highwater::query::blame::{BlameAnswer, blame};
use highwater::query::fleet_blame::{Question, fleet_blame};
use highwater::query::fold::Said;
use highwater::query::walk::{Begin, Walk};
use highwater::store::day::Day;
use highwater::store::keep::{Days, Keep};
use highwater::store::lease;
use highwater::store::partition::{Table, ensure};
use highwater_ipc::object::{Key, Kind, Owner, Perms, SemArray};
use highwater_ipc::record::GapReason;
use highwater_ipc::snapshot::{BootId, State};
use highwater_ipc::time::At;
use highwater_tests::scribe::Scribe;
use highwater_tests::wait::now_ms;

use crate::judged::stage::{EAGER, Stage};
use crate::judged::{DAY_MS, HOUR_MS, state};

const HOST: HostId = HostId(1);
const DAYS: i64 = 150;

/// Arrays of uid 33 that have been there all the time, and so many of uid 48 that come and go.
fn held(changing: u16) -> State {
    let row = |semid: i32, uid: u32| SemArray {
        key: Key(semid),
        semid,
        perms: Perms(0o600),
        nsems: 1,
        owner: Owner { uid, gid: uid, cuid: uid, cgid: uid },
        otime: 0,
        ctime: 0,
    };
    let mut state = state(3 + u64::from(changing), 128);
    state.interval_ms = 3_600_000;
    let others = (0..i32::from(changing)).map(|n| row(100 + n, 48));
    state.namespaces[0].sem = Some((0..3).map(|n| row(n, 33)).chain(others).collect());
    state
}

/// Lets go what is older than is kept, by the stage's clock; says how many partitions.
fn forget(stage: &Stage, keep: Keep) -> usize {
    let now_ms = stage.now_ms();
    stage.runtime.block_on(async {
        let mut connection = stage.db.dedicated().await.unwrap();
        let fence = lease::take(&mut connection, "retention", "test", now_ms, 0).await.unwrap().unwrap();
        let retention = Retention { keep, lease: "retention".into(), fence };
        retention.run(&mut connection, now_ms).await.unwrap()
    })
}

/// Of packed hours it is the row that goes on, whatever is in it.
#[test]
fn what_goes_on_from_a_year_that_is_forgotten_begins_the_next_one_and_what_is_gone_does_not() {
    let stage = Stage::new(&[], now_ms());
    let now_ms = stage.now_ms();
    let year = Day::of(now_ms - 5 * 366 * DAY_MS).year();
    let next = Table::UsagePack.next(year);
    let keep = Keep { rollups: Days(3 * 366), ..Keep::default() };
    stage.runtime.block_on(async {
        let mut connection = stage.db.dedicated().await.unwrap();
        for first in [year, next] {
            ensure(&mut connection, Table::UsagePack, first).await.unwrap();
        }
    });
    let (from_ms, first) = (year.start_ms(), year.0);
    stage.database.sql(&format!(
        "INSERT INTO usage_pack SELECT host, namespace, 7, {from_ms} + at, DATE '1970-01-01' + {first}, own, is_there, body
        FROM (VALUES (1, 1, 0, true, true, 'old'::bytea), (1, 1, 5, true, true, 'new'), (1, 1, 3, false, true, 'other'),
            (1, 2, 0, false, true, 'before'), (1, 2, 5, false, false, 'gone')) AS v (host, namespace, at, own, is_there, body)"
    ));
    assert!(forget(&stage, keep) >= 1);
    let left = "SELECT DISTINCT namespace, own, encode(body, 'escape') FROM usage_pack ORDER BY 1, 2 DESC";
    assert_eq!(stage.database.sql(left), "1|t|new\n1|f|other\n");
    let oldest = stage.database.sql("SELECT min(from_ms) FROM usage_pack");
    assert_eq!(oldest.trim(), (from_ms + 3).to_string(), "the row itself");
}

#[test]
fn blame_over_thirty_days_calls_nothing_new_that_is_older_than_what_is_kept() {
    let begin_ms = (now_ms() / DAY_MS - DAYS) * DAY_MS;
    let mut stage = Stage::new(&[HOST], begin_ms);
    let mut scribe = Scribe::new(HOST);
    scribe.begin_epoch(BootId([1; 16]));
    for hour in 0..DAYS * 24 {
        let at = At { wall_ms: begin_ms + hour * HOUR_MS, boot_us: (hour + 1).unsigned_abs() * 3_600_000_000 };
        // Something changes now and then; in the last days one array is new.
        let changing = u16::try_from(hour / 24 / 50 % 2 + i64::from(hour >= (DAYS - 10) * 24)).unwrap();
        scribe.sample(at, &held(changing), (hour == 0).then_some(GapReason::BeforeFirst));
    }
    while scribe.next_ms().is_some() {
        stage.send(&mut scribe, 24);
        stage.compact_all();
    }
    stage.pass(begin_ms + DAYS * DAY_MS - stage.now_ms());
    let now_ms = stage.now_ms();
    let keep = Keep { chunks: Days(40), usage: Days(40), rollups: Days(400) };
    let gone = forget(&stage, keep);
    assert!(gone >= 10, "{gone} partitions");
    let since_ms = now_ms - 30 * DAY_MS;
    stage.runtime.block_on(async {
        let mut reading = Reading::begin(&stage.db).await.unwrap();
        let span = (Some(Instant::At(since_ms)), Instant::At(now_ms - HOUR_MS));
        let BlameAnswer::Ranked(told) = blame(&mut reading, HOST, span, &[Kind::Sem], now_ms).await.unwrap() else {
            panic!("a gap")
        };
        let net: Vec<_> = told.owners.iter().map(|o| (o.uid, o.before.objects, o.after.objects)).collect();
        assert!(net.contains(&(33, 3, 3)) || !net.iter().any(|(uid, ..)| *uid == 33), "{net:?}");
        assert!(net.iter().any(|(uid, before, after)| (*uid, *after) == (48, before + 1)), "{net:?}");
        let question = Question { span_ms: (since_ms, now_ms), kinds: vec![], most: 10, after: None };
        let fleet = fleet_blame(&mut reading, &question).await.unwrap();
        let grown: Vec<_> =
            fleet.owners.iter().map(|o| (o.key.uid, o.before.objects, o.after.objects, o.from_first)).collect();
        assert!(grown.iter().all(|(uid, before, after, _)| *uid != 33 || before == after), "{grown:?}");
        assert!(
            grown.iter().any(|(uid, before, after, first)| (*uid, *after, *first) == (48, before + 1, false)),
            "{grown:?}"
        );
    });
}

/// Only what does not answer at all is no use asking for the next host.
#[test]
fn a_host_whose_derived_rows_do_not_read_keeps_no_other_from_being_compacted() {
    let hosts = [HostId(1), HostId(2)];
    let begin_ms = now_ms() / DAY_MS * DAY_MS - 2 * DAY_MS;
    let mut stage = Stage::new(&hosts, begin_ms);
    let mut scribes = hosts.map(Scribe::new);
    let mut sample = |stage: &Stage, minute: i64, arrays: u16| {
        for scribe in &mut scribes {
            if minute == 0 {
                scribe.begin_epoch(BootId([1; 16]));
            }
            let boot_us = (minute + 1).unsigned_abs() * 60_000_000;
            let at = At { wall_ms: begin_ms + minute * 60_000, boot_us };
            scribe.sample(at, &held(arrays), (minute == 0).then_some(GapReason::BeforeFirst));
            stage.send(scribe, usize::MAX);
        }
    };
    sample(&stage, 0, 1);
    stage.compact_all();
    stage
        .database
        .sql("UPDATE owner_usage SET kinds = array_fill(9::smallint, ARRAY[cardinality(kinds)]) WHERE host_id = 1");
    sample(&stage, 1, 2);
    stage.pass(1);
    let round = stage.compact_as(EAGER);
    assert_eq!(round.failed, 1, "{round:?}");
    let waiting = "SELECT host_id FROM stream WHERE framed_to > compacted_to";
    assert_eq!(stage.database.sql(waiting), "1\n");
}

/// Found by a world: what was carried over a border by the retention before kept what came since from being carried.
#[test]
fn the_newest_sample_of_a_host_whose_clock_is_far_behind_outlives_every_retention() {
    let begin_ms = (now_ms() / DAY_MS - DAYS) * DAY_MS;
    let mut stage = Stage::new(&[HOST], begin_ms);
    let mut scribe = Scribe::new(HOST);
    scribe.begin_epoch(BootId([1; 16]));
    let keep = Keep { chunks: Days(40), ..Keep::default() };
    stage.pass(DAYS * DAY_MS);
    for hour in 0..4 {
        let at = At { wall_ms: begin_ms + hour * HOUR_MS, boot_us: (hour + 1).unsigned_abs() * 3_600_000_000 };
        let arrays = u16::try_from(hour).unwrap();
        scribe.sample(at, &held(arrays), (hour == 0).then_some(GapReason::BeforeFirst));
        stage.send(&mut scribe, usize::MAX);
        stage.compact_all();
        stage.pass(2 * DAY_MS);
        stage.compact_all();
        assert!(forget(&stage, keep) >= 1, "the week that it was written to again");
        let now_ms = stage.now_ms();
        stage.runtime.block_on(async {
            let mut reading = Reading::begin(&stage.db).await.unwrap();
            let newest = as_of(&mut reading, HOST, Instant::Last, now_ms).await.unwrap().answer;
            let Answer::Held(newest) = newest else { panic!("{newest:?}") };
            assert_eq!((newest.snapshot.at, &newest.snapshot.state), (at, &held(arrays)));
        });
        assert_eq!(stage.database.sql("SELECT count(*), bool_and(baseline) FROM chunk"), "1|t\n", "and nothing older");
    }
}

/// Found by a world: a chunk that begins with a sample of before, because what follows it is none, did not have its gap.
#[test]
fn why_a_sample_came_after_a_gap_is_known_of_what_retention_leaves_of_its_stretch() {
    let begin_ms = (now_ms() / DAY_MS - DAYS) * DAY_MS;
    let mut stage = Stage::new(&[HOST], begin_ms);
    let mut scribe = Scribe::new(HOST);
    scribe.begin_epoch(BootId([1; 16]));
    let at = At { wall_ms: begin_ms, boot_us: 1 };
    scribe.sample(at, &held(1), Some(GapReason::BeforeFirst));
    stage.pass(DAYS * DAY_MS);
    for record in 0..2 {
        if record == 1 {
            scribe.stop(At { wall_ms: begin_ms + 1, boot_us: 1_001 });
        }
        stage.send(&mut scribe, usize::MAX);
        stage.compact_all();
        stage.pass(2 * DAY_MS);
        stage.compact_all();
        assert!(forget(&stage, Keep { chunks: Days(40), ..Keep::default() }) >= 1);
    }
    stage.runtime.block_on(async {
        let mut reading = Reading::begin(&stage.db).await.unwrap();
        let mut walk = Walk::new(&mut reading, HOST, Begin::At(i64::MIN), i64::MAX);
        let first = walk.next().await.unwrap().unwrap();
        assert!(matches!(first.said, Said::Sample { gap: Some(GapReason::BeforeFirst), .. }), "{first:?}");
    });
}

/// Found in review: one host's damaged chunk kept every host's weeks.
#[test]
fn a_chunk_that_does_not_read_is_kept_whole_and_keeps_no_week_of_others() {
    let hosts = [HostId(1), HostId(2)];
    let begin_ms = (now_ms() / DAY_MS - DAYS) * DAY_MS;
    let mut stage = Stage::new(&hosts, begin_ms);
    for mut scribe in hosts.map(Scribe::new) {
        scribe.begin_epoch(BootId([1; 16]));
        for hour in 0..3_u16 {
            let at = At { wall_ms: begin_ms + i64::from(hour) * HOUR_MS, boot_us: u64::from(hour + 1) * 3_600_000_000 };
            scribe.sample(at, &held(hour), (hour == 0).then_some(GapReason::BeforeFirst));
        }
        stage.send(&mut scribe, usize::MAX);
    }
    stage.compact_all();
    stage.pass(2 * DAY_MS);
    stage.compact_all();
    stage.database.sql("UPDATE chunk SET body = '\\xfedcba' WHERE host_id = 1");
    stage.pass(DAYS * DAY_MS);
    assert!(forget(&stage, Keep { chunks: Days(40), ..Keep::default() }) >= 1);
    let left = "SELECT host_id, baseline, week > DATE '1970-01-01' + 100, body = '\\xfedcba', from_seq, to_seq FROM chunk ORDER BY 1";
    assert_eq!(stage.database.sql(left), "1|t|t|t|0|2\n2|t|t|f|2|2\n");
}
