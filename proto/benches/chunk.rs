//! What a chunk takes and costs: bytes of a busy host-day, time to write and to read it, and where its bits go.
//!
//! `cargo bench -p highwater-proto --bench chunk` makes a day of its own, 65 objects that change as a busy host's do;
//! `-- FILE` reads a day from JSON lines instead, one snapshot a line: `{"at":seconds,"sem":[..],"shm":[..],"msg":[..],
//! "limits":{..}}` with the columns of `/proc/sysvipc` by their names, as numbers but for `perms`, an octal text.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measuring program: it may panic anywhere"
)]
#![allow(clippy::disallowed_methods, reason = "measuring is reading a clock")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of a few digits")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with few digits")]

mod day;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use day::Sample;
use highwater_ipc::activity::Activity;
use highwater_ipc::chunk::{ChunkReader, ChunkWriter, Head, Told};
use highwater_ipc::record::{RecordKind, Seq};
use highwater_ipc::time::At;

const ROUNDS: usize = 7;

fn main() {
    // `cargo bench` hands down options of its own.
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let (name, day) = match &file {
        Some(file) => (file.as_str(), day::from_json(&std::fs::read_to_string(file).unwrap())),
        None => ("made", day::made()),
    };
    println!("a busy day, {name}: {} samples, {} bytes of records' bodies", day.len(), day::bodies(&day));
    for hours in [1, 2, 4, 8, 24] {
        let chunks: Vec<Vec<u8>> = day.chunks(hours * 60).map(|part| written(part).finish()).collect();
        let bytes: usize = chunks.iter().map(Vec::len).sum();
        println!("  chunks of {hours:2} h: {bytes:7} bytes a day");
    }
    costs(&day);
    ledger(&day);
    let idle = day.iter().take(1).cloned().collect::<Vec<_>>();
    println!("an idle day, one keyframe: {} bytes", written(&idle).finish().len());
    let crowd = day::crowd(30_000, 1_000);
    println!("30,000 objects, 1 change a sample, {} samples: {} bytes", crowd.len(), written(&crowd).finish().len());
    costs(&crowd);
}

fn written(samples: &[Sample]) -> ChunkWriter {
    let mut writer = ChunkWriter::new();
    push_all(&mut writer, samples);
    writer
}

fn push_all(writer: &mut ChunkWriter, samples: &[Sample]) {
    let activity = Arc::new(Activity::default());
    let mut prev_wall_ms = None;
    for Sample { seq, at, state } in samples {
        let kind = if prev_wall_ms.is_none() { RecordKind::Keyframe } else { RecordKind::Delta };
        let At { wall_ms, .. } = *at;
        let head = Head { seq: Seq(*seq), kind, wall_ms, prev_wall_ms, received_ms: wall_ms + 35 };
        let told = Told::Sample { took_us: 0, gap: None, activity: activity.clone() };
        writer.push(&head, *at, &told, Some(state)).unwrap();
        prev_wall_ms = Some(wall_ms);
    }
}

fn costs(samples: &[Sample]) {
    let bytes = written(samples).finish();
    let mut reader = ChunkReader::new(&bytes).unwrap();
    for Sample { at, state, .. } in samples {
        assert_eq!(reader.next().unwrap().unwrap().at, *at);
        assert!(reader.state() == Some(state), "the state at {at:?}");
    }
    assert_eq!(reader.next(), Ok(None));
    let count = u32::try_from(samples.len()).unwrap();
    let written = least(|| drop(black_box(written(samples).finish())));
    let read = least(|| {
        let mut reader = ChunkReader::new(&bytes).unwrap();
        while let Some(step) = reader.next().unwrap() {
            black_box(step);
        }
    });
    println!("  write {:.2} us a record, read {:.2} us", micros(written / count), micros(read / count));
    let segments = reader.directory().segments.clone();
    let whole = segments.iter().enumerate().map(|(place, segment)| {
        let until = segments.get(place + 1).map(|next| next.first_seq);
        let took = least(|| {
            let mut reader = ChunkReader::new(&bytes).unwrap();
            reader.seek_wall(segment.first_wall_ms).unwrap();
            while let Some(step) = reader.next().unwrap() {
                if until.is_some_and(|until| step.head.seq.0 + 1 >= until.0) {
                    break;
                }
            }
            black_box(reader.state());
        });
        (took, segment.len)
    });
    let worst = whole.max().unwrap();
    let first = least(|| {
        let mut reader = ChunkReader::new(&bytes).unwrap();
        black_box(reader.next().unwrap());
    });
    println!(
        "  {} segments; the worst as-of reads one whole: {:.0} us, {} bytes; the first state: {:.0} us",
        segments.len(),
        micros(worst.0),
        worst.1,
        micros(first)
    );
}

fn ledger(samples: &[Sample]) {
    let mut writer = ChunkWriter::counting();
    push_all(&mut writer, samples);
    writer.cut();
    println!("  where the bits go     decisions    bytes");
    let mut lines: Vec<_> = writer.ledger().collect();
    lines.sort_by_key(|(_, _, bits)| -bits);
    for (what, decisions, bits) in lines {
        println!("    {what:20} {decisions:8} {:8.0}", bits as f64 / 2048.0);
    }
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

/// The least of [`ROUNDS`] times: what else the machine does only adds.
fn least(mut f: impl FnMut()) -> Duration {
    let times = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        f();
        begun.elapsed()
    });
    times.min().unwrap()
}
