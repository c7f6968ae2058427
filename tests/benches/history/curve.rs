//! Bytes against latency: how much of a busy host's history one chunk holds, and how many records one segment.

use std::sync::Arc;
use std::time::Instant as Clock;

use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::as_of::{Instant, as_of};
use highwater::store::chunk::{self, Chunk};
use highwater::store::day::Day;
use highwater_ipc::activity::Activity;
use highwater_ipc::chunk::{ChunkWriter, Head, Told};
use highwater_ipc::record::{EpochNo, RecordKind, Seq};
use highwater_ipc::snapshot::State;
use highwater_ipc::time::At;

use crate::day;
use crate::host::{Days, FIRST_DAY_MS};
use crate::stack::{DAY_MS, HOUR_MS, Stack};
use crate::stopwatch::Times;

/// Days of each host, which never boots again in them.
const DAYS: i64 = 7;
const HOSTS: i64 = 20;
const ASKS: usize = 2_000;

pub fn measure(file: Option<&str>) {
    let day = file.map_or_else(day::made, |file| day::from_json(&std::fs::read_to_string(file).unwrap()));
    let mut stack = Stack::start(FIRST_DAY_MS);
    let mut host = stack.enrol(1);
    let mut days = Days::busy(day);
    let mut samples = Vec::new();
    for day in 0..DAYS {
        days.make(&mut host, day, (0, DAY_MS));
        stack.store_and(&mut host, FIRST_DAY_MS + (day + 1) * DAY_MS, |reference| {
            if let highwater::query::fold::Said::Sample { snapshot, .. } = &reference.said {
                let (seq, prev) = (reference.position.seq, reference.prev_wall_ms);
                samples.push((seq, snapshot.at, prev, snapshot.state.clone()));
            }
        });
    }
    stack.compact(FIRST_DAY_MS + DAYS * DAY_MS + 3 * HOUR_MS);
    stack.clone_host(1, (2, HOSTS));
    println!("{HOSTS} busy hosts of {DAYS} days; bytes a host-day as PostgreSQL counts table chunk");
    let whole = usize::MAX;
    for (hours, records) in
        [(1, whole), (2, whole), (4, whole), (8, whole), (24, whole), (168, whole), (24, 30), (24, 60), (24, 120)]
    {
        stack.database.sql("TRUNCATE chunk");
        let chunks = packed(&samples, hours, records);
        let (rows, bodies) = (chunks.len(), chunks.iter().map(|c| c.body.len()).sum::<usize>());
        stack.runtime.block_on(async {
            let mut connection = stack.db.dedicated().await.unwrap();
            for host in 1..=HOSTS {
                let mine: Vec<_> = chunks.iter().cloned().map(|c| Chunk { host: HostId(host), ..c }).collect();
                let mut tx = connection.write().await.unwrap();
                chunk::insert_merged(&mut tx, &mine).await.unwrap();
                tx.commit().await.unwrap();
            }
        });
        stack.settle();
        let bytes = stack.database.sql("SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('chunk')");
        let bytes: i64 = bytes.trim().parse().unwrap();
        let segments = if records == whole { "as the writer cuts".to_owned() } else { format!("{records} records") };
        let what = format!(
            "{hours:3} h, {rows:3} rows, segments {segments:18} {:6} {:6}",
            bytes / HOSTS / DAYS,
            bodies / usize::try_from(DAYS).unwrap()
        );
        ask(&stack, &what);
    }
}

fn ask(stack: &Stack, what: &str) {
    let now_ms = FIRST_DAY_MS + DAYS * DAY_MS;
    let mut dice = 5_u64;
    let mut roll = |sides: i64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(dice >> 33).unwrap() % sides
    };
    let mut times = Times::default();
    for _ in 0..ASKS {
        let (host, at_ms) = (HostId(1 + roll(HOSTS)), now_ms - 1 - roll(DAYS * DAY_MS - HOUR_MS));
        let begun = Clock::now();
        stack.runtime.block_on(async {
            let mut reading = Reading::begin(&stack.db).await.unwrap();
            as_of(&mut reading, host, Instant::At(at_ms), now_ms).await.unwrap();
        });
        times.add(begun);
    }
    let [half, most] = [50, 99].map(|percent| times.percentile(percent));
    println!("{what}  as-of p50 {half:6.2} ms, p99 {most:6.2} ms");
}

/// Chunks of so many hours each, cut into segments of so many records at most.
fn packed(samples: &[(Seq, At, Option<i64>, State)], hours: i64, records: usize) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut open: Option<(i64, Chunk, ChunkWriter)> = None;
    let activity = Arc::new(Activity::default());
    for (seq, at, prev_wall_ms, state) in samples {
        let (seq, prev_wall_ms, wall_ms) = (*seq, *prev_wall_ms, at.wall_ms);
        let part = (wall_ms - FIRST_DAY_MS) / (hours * HOUR_MS);
        if let Some((_, chunk, writer)) = open.take_if(|(of, ..)| *of != part) {
            chunks.push(closed(chunk, writer));
        }
        let (_, chunk, writer) =
            open.get_or_insert_with(|| (part, begun(seq, wall_ms, prev_wall_ms), ChunkWriter::new()));
        if writer.records() > 0 && writer.records() % records == 0 {
            writer.cut();
        }
        let kind = if prev_wall_ms.is_none() { RecordKind::Keyframe } else { RecordKind::Delta };
        let head = Head { seq, kind, wall_ms, prev_wall_ms, received_ms: wall_ms + 35 };
        let told = Told::Sample { took_us: 250, gap: None, activity: Arc::clone(&activity) };
        writer.push(&head, *at, &told, Some(state)).unwrap();
        (chunk.to, chunk.to_wall_ms) = (seq, wall_ms);
    }
    chunks.extend(open.map(|(_, chunk, writer)| closed(chunk, writer)));
    chunks
}

fn begun(from: Seq, from_wall_ms: i64, prev_wall_ms: Option<i64>) -> Chunk {
    Chunk {
        host: HostId(1),
        epoch: EpochNo(1),
        stretch: 0,
        from_wall_ms,
        from,
        part: Day::of(from_wall_ms).week(),
        to: from,
        to_wall_ms: from_wall_ms,
        prev_wall_ms,
        records: 0,
        baseline: false,
        objects: Vec::new(),
        body: Vec::new(),
    }
}

fn closed(mut chunk: Chunk, writer: ChunkWriter) -> Chunk {
    chunk.records = u32::try_from(writer.records()).unwrap();
    chunk.body = writer.finish();
    chunk
}
