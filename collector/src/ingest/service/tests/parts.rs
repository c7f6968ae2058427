//! Records in parts: whose room is whose, for how long, and what ends the wait for it.

use super::*;

/// As many as the largest record has.
const PARTS: u32 = 86;

/// Messages with a record in so many parts, the first `full` of them of full size: what counts is what may come.
fn parts_of(record: &Record, parts: u32, full: u32) -> Vec<v1::Record> {
    let first = convert::record_to_wire(record).remove(0);
    let body = &record.body;
    let mut from = 0;
    (0..parts)
        .map(|part| {
            let size = if part < full { bounds::PART } else { 1 };
            let to = if part + 1 == parts { body.len() } else { from + size };
            let body = body[from..to].to_vec();
            from = to;
            v1::Record { part, more_parts: parts - 1, body, ..first.clone() }
        })
        .collect()
}

/// A stream of a new host whose largest record has begun and was given, or waits for, its room; and the parts after
/// the first.
async fn begun(bench: &Bench, name: &str) -> (Stream, Vec<v1::Record>, Channel) {
    let channel = bench.enrolled(name).await;
    let mut stream = Stream::greet(&channel, 1, 1).await.unwrap().0;
    let whole = convert::record_to_wire(&stream.make(keyframe(1))).remove(0);
    let mut parts = parts_of(&stream.make(keyframe(20)), PARTS, 0);
    let rest = parts.split_off(1);
    // The first part comes with a whole record: once that one is acked, the other's room was asked for.
    stream.say(Said::Records(v1::Records { epoch_no: 1, records: [vec![whole], parts].concat() })).await;
    stream.acked_to(1, 1).await;
    (stream, rest, channel)
}

async fn say_all(stream: &Stream, parts: &[v1::Record]) {
    for part in parts {
        stream.say(Said::Records(v1::Records { epoch_no: 1, records: vec![part.clone()] })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_in_parts_waits_for_the_room_that_others_hold_and_a_small_one_does_not() {
    let bench = Bench::start().await;
    let mut streams = Vec::new();
    for name in ["one", "two", "three", "four"] {
        streams.push(begun(&bench, name).await);
    }
    let mut four = streams.pop().unwrap();
    let (three, parts, _) = &mut streams[2];
    say_all(three, parts).await;
    // There is room for two of the largest, which the first two hold; whoever sends small records does not wait.
    let channel = bench.enrolled("five").await;
    let mut five = Stream::greet(&channel, 1, 1).await.unwrap().0;
    for _ in 0..10 {
        five.send(1, keyframe(1)).await;
        five.acked(1).await;
    }
    assert!(tokio::time::timeout(Duration::ZERO, three.hear()).await.is_err(), "there was room for three");
    streams.remove(0);
    let (three, _, _) = &mut streams[1];
    three.acked(1).await;
    // And whoever came behind it.
    say_all(&four.0, &four.1).await;
    four.0.acked(1).await;
    bench.stop().await;
}

/// A bound on the whole let no keyframe of a host behind a slow line through, ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_comes_through_as_slowly_as_it_likes_while_full_parts_come_and_trickles_lose_their_room() {
    let bench = Bench::start().await;
    let (mut one, bytes, _c) = begun(&bench, "trickles").await;
    let (mut two, _, _d) = begun(&bench, "silent").await;
    // Waits for the room that those two hold.
    let (mut waits, parts, _e) = begun(&bench, "waits").await;
    say_all(&waits, &parts).await;
    let trickle = async {
        for part in &bytes[..40] {
            let message = v1::FromAgent {
                message: Some(Said::Records(v1::Records { epoch_no: 1, records: vec![part.clone()] })),
            };
            if one.out.send(message).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let began = tokio::time::Instant::now();
    let refused = async { tokio::join!(one.answers.message(), two.refused()) };
    let lost = async {
        tokio::select! {
            () = trickle => panic!("the room is kept by a byte a second"),
            (one, two) = refused => [one.map(|_| ()).unwrap_err(), two],
        }
    };
    for status in within(lost).await {
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!(status.message().starts_with("the next part of a large record did not come within 15 s"), "{status}");
    }
    waits.acked(1).await;
    println!("others wait {:?} for the room of two that trickle", began.elapsed());

    let channel = bench.enrolled("slow").await;
    let mut slow = Stream::greet(&channel, 1, 1).await.unwrap().0;
    let record = slow.make(keyframe(60_000));
    let full = u32::try_from(record.body.len() / bounds::PART).unwrap();
    assert!(full >= 3, "{} bytes", record.body.len());
    let began = tokio::time::Instant::now();
    for part in parts_of(&record, full + 1, full) {
        slow.say(Said::Records(v1::Records { epoch_no: 1, records: vec![part] })).await;
        // Two of these waits are more than one part may take.
        tokio::time::sleep(Duration::from_secs(8)).await;
    }
    slow.acked(1).await;
    assert!(began.elapsed() > Duration::from_secs(24));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_waits_for_room_is_told_at_once_when_the_collector_stops() {
    let bench = Bench::start().await;
    // What is queued while the database is away holds its room past the end of its streams.
    let mut queued = Vec::new();
    for host in [HostId(1), HostId(2)] {
        queued.push(bench.writer.room(host, Record::MAX_BODY).await.unwrap());
    }
    let (mut three, _, _channel) = begun(&bench, "three").await;
    let began = tokio::time::Instant::now();
    let told = tokio::spawn(async move { (three.refused().await, began.elapsed()) });
    bench.stop().await;
    let (status, took) = within(told).await.unwrap();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the collector is stopping; connect again"));
    // Else it hears of it when the grace for streams and the one for connections are over, 2 s each.
    assert!(took < Duration::from_secs(2), "{took:?}");
}
