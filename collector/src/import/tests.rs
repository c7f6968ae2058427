//! From the lines of a file to what would be stored of them, without a database.

use std::collections::BTreeMap;
use std::convert::Infallible;

use highwater_ipc::chunk::{ChunkReader, Told};
use highwater_ipc::limits::Totals;
use highwater_ipc::record::{EpochNo, GapReason, Seq};
use highwater_ipc::snapshot::{BootId, Namespace, NamespaceId, Snapshot, State};
use highwater_ipc::time::At;
use highwater_proto::json::{Envelope, SnapshotJson};
use proptest::prelude::*;

use super::build::{Built, Context, build};
use super::feed::{Bounds, Feed};
use super::gather::{Gathered, fill};
use super::hole::{Gap, High, Hole};
use super::{Form, ImportError};
use crate::compact::derive::Derived;
use crate::host::HostId;

const NOW: i64 = 1_795_558_861_000;
const BOOT: BootId = BootId([9; 16]);

fn flat(at: i64, arrays: u32) -> String {
    let sem: Vec<String> = (0..arrays)
        .map(|i| {
            format!(
                r#"{{"key":{i},"semid":{i},"perms":"600","nsems":1,"uid":0,"gid":0,"cuid":0,"cgid":0,"otime":0,"ctime":1}}"#
            )
        })
        .collect();
    format!(
        r#"{{"at":{at},"sem":[{}],"shm":[],"msg":[],"limits":{{"semmsl":1,"semmns":1,"semopm":1,"semmni":1,"shmmax":1,"shmall":1,"shmmni":1,"msgmax":1,"msgmnb":1,"msgmni":1}}}}"#,
        sem.join(",")
    )
}

type Pieces = tokio_stream::Iter<std::vec::IntoIter<Result<Vec<u8>, Infallible>>>;

fn feed(lines: &[String], own_ms: Option<i64>) -> Feed<Pieces> {
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let pieces: Vec<_> = text.into_bytes().chunks(7).map(|piece| Ok(piece.to_vec())).collect();
    Feed::new(tokio_stream::iter(pieces), Bounds { now_ms: NOW, own_ms, boot_id: BOOT })
}

fn endless() -> Hole {
    Hole { after: (EpochNo(0), -1), low_ms: None, high: None }
}

/// All of a file into one hole.
fn built(lines: &[String], hole: Hole) -> Result<Built, ImportError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut feed = feed(lines, None);
        let mut gathered = Gathered::default();
        fill(hole, &mut feed, &mut gathered).await?;
        let median_ms = feed.steps.median_ms();
        let is_flat = feed.form == Some(Form::Flat);
        let context = Context { host: HostId(1), now_ms: NOW, median_ms, is_flat, seed: 5 };
        let mut built = Built::default();
        for piece in gathered.pieces {
            build(piece, &context, &mut built, None)?;
        }
        Ok(built)
    })
}

/// The states of one epoch by the time from which on they hold.
fn states(built: &Built, epoch: EpochNo) -> BTreeMap<i64, State> {
    let mut states = BTreeMap::new();
    let mut next = Seq(0);
    for chunk in built.chunks.iter().filter(|chunk| chunk.epoch == epoch) {
        assert_eq!(chunk.from, next);
        let mut reader = ChunkReader::new(chunk.body.clone()).unwrap();
        let mut records = 0;
        while let Some(step) = reader.next().unwrap() {
            assert_eq!(step.head.seq, next);
            assert!(matches!(step.told, Told::Sample { .. }));
            (next, records) = (next.next(), records + 1);
            states.insert(step.head.wall_ms, reader.state().unwrap().clone());
        }
        assert_eq!((chunk.records, chunk.to.next()), (records, next));
    }
    states
}

#[test]
fn equal_samples_of_the_flat_form_become_one_record_that_covers_them() {
    let lines: Vec<String> = [(0, 1), (60, 1), (120, 2), (180, 2)].map(|(at, n)| flat(at, n)).into();
    let built = built(&lines, endless()).unwrap();
    let [epoch] = &built.epochs[..] else { panic!("{:?}", built.epochs) };
    assert!(epoch.epoch.no.is_imported());
    assert_eq!((epoch.from.wall_ms, epoch.end.wall_ms, epoch.records), (0, 180_000, 2));
    assert_eq!((epoch.interval_ms, epoch.end_reason, epoch.boot_id), (60_000, GapReason::Unexplained, BOOT));
    let states = states(&built, epoch.epoch.no);
    assert_eq!(states.keys().copied().collect::<Vec<_>>(), [0, 120_000]);
    assert!(states.values().all(|state| state.interval_ms == 60_000));
    let gaps: Vec<_> = built.gaps.iter().map(|g| (g.from_wall_ms, g.to_wall_ms, g.reason)).collect();
    assert_eq!(gaps, [(None, 0, GapReason::BeforeFirst)]);
}

/// One line of an export, with a container beside the host's own namespace or without.
fn whole(at: i64, with_container: bool) -> String {
    let namespace = |inode| Namespace {
        id: NamespaceId { inode, instance: 1 },
        totals: Some(Totals { sem_arrays: 9, ..Totals::default() }),
        ..Namespace::default()
    };
    let namespaces = [1].into_iter().chain(with_container.then_some(77)).map(namespace).collect();
    let state = State { interval_ms: 60_000, boot_id: BOOT, namespaces, ..State::default() };
    let at = At { wall_ms: at * 1_000, boot_us: at.unsigned_abs() * 1_000_000 };
    let json = SnapshotJson::new(&Snapshot { at, took_us: 3, state }, &Envelope::default());
    serde_json::to_string(&json).unwrap()
}

#[test]
fn a_container_that_went_where_the_file_has_a_pause_is_not_in_use_for_ever() {
    let lines: Vec<String> =
        [(60, true), (120, true), (7_200, false), (7_260, false)].map(|(at, c)| whole(at, c)).into();
    let built = built(&lines, endless()).unwrap();
    let [before, after] = &built.derived[..] else { panic!("{:?}", built.derived) };
    let of_it = |derived: &Derived| -> Vec<(i64, Option<u64>)> {
        let rows = derived.usage.iter().filter(|row| row.namespace.inode == 77);
        rows.map(|row| (row.slot_ms, row.used[0].last)).collect()
    };
    assert_eq!((of_it(before), of_it(after)), (vec![(0, Some(9))], vec![(7_200_000, None)]));
}

#[test]
fn what_remains_of_the_gap_that_was_filled_keeps_its_reason() {
    let stored = Gap { from_ms: Some(1_000), reason: GapReason::HostDown, detail: "d".into() };
    let high = High { first: (EpochNo(3), Seq(8)), from_ms: 1_000_000, gap: Some(stored) };
    let hole = Hole { after: (EpochNo(2), 1), low_ms: Some(1_000), high: Some(high) };
    let lines: Vec<String> = [60, 120, 600, 660].map(|at| flat(at, 1)).into();
    let built = built(&lines, hole).unwrap();
    assert_eq!(built.filled, [(EpochNo(3), Seq(8))]);
    let gaps: Vec<_> =
        built.gaps.iter().map(|g| (g.from_wall_ms.unwrap(), g.to_wall_ms, g.reason, g.detail.as_str())).collect();
    assert_eq!(
        gaps,
        [
            (1_000, 60_000, GapReason::HostDown, "d"),
            (120_000, 600_000, GapReason::Unexplained, ""),
            (660_000, 1_000_000, GapReason::HostDown, "d"),
        ]
    );
    let keys: Vec<_> = built.gaps.iter().map(|g| (g.epoch, g.seq)).collect();
    let numbers: Vec<EpochNo> = built.epochs.iter().map(|e| e.epoch.no).collect();
    assert_eq!(keys, [(numbers[0], Seq(0)), (numbers[1], Seq(0)), (EpochNo(3), Seq(8))]);
    assert!(numbers[0] < numbers[1], "the order of time is the order of history");
    assert!(built.epochs.iter().all(|e| e.after == (EpochNo(2), 1)));
}

#[test]
fn lines_that_do_not_ascend_lie_ahead_or_are_the_agents_own_time_are_refused_by_number() {
    let refused = |lines: &[String], own_ms| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut feed = feed(lines, own_ms);
            fill(endless(), &mut feed, &mut Gathered::default()).await.unwrap_err().to_string()
        })
    };
    let order = refused(&[flat(120, 1), flat(180, 1), String::new(), flat(180, 2)], None);
    assert!(order.starts_with("line 4 is of 1970-01-01T00:03:00.000Z, which is not after line 2 "), "{order}");
    let ahead = refused(&[flat(60, 1), flat(NOW / 1_000 + 86_401, 1)], None);
    assert!(ahead.starts_with("line 2 is of ") && ahead.contains("has not come yet"), "{ahead}");
    let own = refused(&[flat(60, 1), flat(120, 1)], Some(100_000));
    assert!(own.starts_with("line 2 is of ") && own.contains("1970-01-01T00:01:40.000Z"), "{own}");
    let broken = refused(&[flat(60, 1), "{".into()], None);
    assert!(broken.starts_with("line 2: "), "{broken}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_line_is_read_back_at_its_time_and_nothing_where_the_file_has_a_pause(
        steps in proptest::collection::vec((1_i64..200, 0_u32..4), 1..60),
    ) {
        let mut at = 1_600_000_000;
        let mut samples = Vec::new();
        for (step, arrays) in steps {
            // Some pauses, and the border of a day.
            at += if step > 190 { step * 400 } else { step };
            samples.push((at, arrays));
        }
        let lines: Vec<String> = samples.iter().map(|(at, arrays)| flat(*at, *arrays)).collect();
        let built = built(&lines, endless()).unwrap();
        for (at, arrays) in &samples {
            let holds = |e: &&crate::store::imported::Imported| (e.from.wall_ms..=e.end.wall_ms).contains(&(at * 1_000));
            let holding: Vec<_> = built.epochs.iter().filter(holds).collect();
            prop_assert_eq!(holding.len(), 1);
            let states = states(&built, holding[0].epoch.no);
            let (_, state) = states.range(..=at * 1_000).next_back().unwrap();
            prop_assert_eq!(state.namespaces[0].sem.as_ref().unwrap().len(), usize::try_from(*arrays).unwrap());
        }
        let covered: i64 = built.epochs.iter().map(|e| e.end.wall_ms - e.from.wall_ms).sum();
        let mut near = built.gaps.iter().filter_map(|g| g.from_wall_ms.map(|from| g.to_wall_ms - from)).sum::<i64>();
        near += covered;
        prop_assert_eq!(near, (samples.last().unwrap().0 - samples[0].0) * 1_000);
    }
}
