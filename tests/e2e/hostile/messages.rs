//! What the protocol leaves no room for: writing as another host, ordering an agent about, more of everything than
//! there is.

use std::fs;

use highwater::host::HostId;
use highwater_ipc::codec;
use highwater_ipc::record::{Body, Content, Keyframe};
use highwater_ipc::time::At;
use highwater_proto::v1;
use highwater_tests::binaries;
use highwater_tests::collector::Up;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use v1::from_agent::Message as Said;

use super::peer::{Call, Client, STREAM, enrolled, framed, play};

fn said(message: Said) -> Vec<u8> {
    framed(&v1::FromAgent { message: Some(message) }.encode_to_vec())
}

/// The fields of a message in a .proto file, comments left out.
fn fields(file: &str, message: &str) -> Vec<String> {
    let text = fs::read_to_string(binaries::repository().join("proto/highwater/v1").join(file)).expect("a .proto file");
    let (_, rest) = text.split_once(&format!("\nmessage {message} {{")).expect("the message");
    let body = rest.split('}').next().unwrap_or_default();
    let lines = body.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    lines.filter(|line| line.contains('=')).map(|line| line.trim_end_matches(';').to_owned()).collect()
}

/// There is no command channel: whoever holds the collector cannot make an agent do anything else.
#[test]
fn a_collector_can_tell_an_agent_nothing_but_where_to_go_on_a_keyframe_an_interval_and_a_ping() {
    let told = [
        "Welcome welcome = 1",
        "Ack ack = 2",
        "KeyframeRequest keyframe = 3",
        "Interval interval = 4",
        "Ping ping = 5",
    ];
    assert_eq!(fields("stream.proto", "FromCollector"), told);
    let of_welcome =
        ["uint64 session = 1", "int64 server_wall_ms = 2", "uint32 interval_ms = 3", "repeated StoredEpoch epochs = 4"];
    assert_eq!(fields("stream.proto", "Welcome"), of_welcome);
    assert_eq!(fields("stream.proto", "KeyframeRequest"), Vec::<String>::new());
    assert_eq!(fields("stream.proto", "Interval"), ["uint32 interval_ms = 1"]);
    assert_eq!(fields("stream.proto", "Ping"), ["fixed64 nonce = 1"]);
}

/// The key stays where it is, and a host labels neither itself nor others.
#[test]
fn a_request_to_enrol_has_room_for_a_public_key_and_names_but_for_no_key_and_no_label() {
    let asked =
        ["string token_id = 1", "string secret = 2", "bytes csr = 3", "bytes hostname = 4", "bytes machine_id = 5"];
    assert_eq!(fields("enrol.proto", "EnrolRequest"), asked);
}

/// Nothing that an agent sends says who it is, but for its name, which is a fact like its kernel.
#[test]
fn no_message_of_an_agent_has_room_for_a_host_id() {
    let text =
        fs::read_to_string(binaries::repository().join("proto/highwater/v1/stream.proto")).expect("a .proto file");
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let named: Vec<&str> = code.filter(|line| line.contains("host")).map(str::trim).collect();
    assert_eq!(named, ["bytes hostname = 4;"]);
    let said = ["Hello hello = 1", "Records records = 2", "Now now = 3", "Pong pong = 4"];
    assert_eq!(fields("stream.proto", "FromAgent"), said);
}

fn hello(hostname: &str) -> v1::Hello {
    let boot_id = vec![7; 16];
    let epoch = v1::SpooledEpoch {
        epoch_no: 1,
        epoch_id: 9,
        chain: vec![0; 8],
        boot_id: boot_id.clone(),
        ..v1::SpooledEpoch::default()
    };
    v1::Hello {
        boot_id,
        hostname: hostname.as_bytes().to_vec(),
        machine_id: b"m".to_vec(),
        epochs: vec![epoch],
        wall_ms: now_ms(),
        ..v1::Hello::default()
    }
}

/// One with name, machine id, boot id, epoch number and epoch id of another writes its own rows and no others.
#[test]
fn a_host_that_says_it_is_another_writes_as_itself() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let directory = tempfile::tempdir().expect("a temporary directory");
    play(async {
        let (thief, thief_id) = enrolled(&up, &directory.path().join("a"), "host-a").await;
        let (victim, victim_id) = enrolled(&up, &directory.path().join("b"), "host-b").await;
        let one_message = |name: &str, seq: u64| {
            let state = state();
            let content = Content::Keyframe(Keyframe { gap: None, took_us: 1, state, activity: Default::default() });
            let at = At { wall_ms: now_ms(), boot_us: 1_000_000 * (seq + 1) };
            let kind = i32::from(content.kind().code());
            let body = codec::encode_body(&Body { at, content });
            let record = v1::Record { kind, seq, chain: vec![0; 8], body, ..v1::Record::default() };
            let records = vec![record];
            (said(Said::Hello(hello(name))), said(Said::Records(v1::Records { epoch_no: 1, records })))
        };
        let stored = |host: HostId| database.sql(&format!("SELECT count(*) FROM frame WHERE host_id = {}", host.0));
        for (proof, host, from) in [(&victim, victim_id, "127.0.0.71"), (&thief, thief_id, "127.0.0.72")] {
            let mut http2 = Client::new(&up, from).with(proof).http2().await;
            let mut call = Call::begin(&mut http2, STREAM, &[]);
            let (hello, records) = one_message("host-b", 0);
            call.say(&hello, false);
            call.welcome().await;
            call.say(&records, false);
            until("it is stored under its own certificate", PATIENCE, || stored(host).trim() == "1");
        }
        assert_eq!(stored(victim_id).trim(), "1", "the victim's rows are as they were");
        assert_eq!(database.sql("SELECT count(DISTINCT host_id) FROM stream").trim(), "2");
        assert_eq!(database.sql("SELECT count(*) FROM frame").trim(), "2");
        // The machine id is a fact, and both have the same.
        assert_eq!(database.sql("SELECT count(*) FROM host").trim(), "2");
    });
}

/// A keyframe of a host that holds nothing.
fn state() -> highwater_ipc::snapshot::State {
    use highwater_ipc::availability::{Availability, SysvipcState};
    highwater_ipc::snapshot::State {
        boot_id: highwater_ipc::snapshot::BootId([7; 16]),
        interval_ms: 1000,
        page_size: 4096,
        zone: Default::default(),
        availability: Availability { state: SysvipcState::Available, evidence: Vec::new(), remedy: Default::default() },
        users: Default::default(),
        groups: Default::default(),
        namespaces: Vec::new(),
        risks: Vec::new(),
        unseen: Vec::new(),
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of HTTP/2: length, type, flags, stream, bytes.
fn frame(kind: u8, flags: u8, stream: u32, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), bytes].concat()
}

/// A request's headers, each spelled out; `more` bytes in one of them.
fn headers(more: usize) -> Vec<u8> {
    let filler = "x".repeat(more);
    let all = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", STREAM),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("filler", &filler),
    ];
    let mut out = Vec::new();
    for (name, value) in all {
        out.push(0x10);
        for text in [name, value] {
            // The length as a prefix integer of 7 bits.
            match u8::try_from(text.len()) {
                Ok(short) if short < 127 => out.push(short),
                _ => {
                    out.push(127);
                    let mut rest = text.len() - 127;
                    while rest >= 128 {
                        out.push(u8::try_from(rest % 128).expect("7 bits") | 128);
                        rest /= 128;
                    }
                    out.push(u8::try_from(rest).expect("7 bits"));
                }
            }
            out.extend(text.as_bytes());
        }
    }
    out
}

/// What comes back of the frames with these types until the peer ends the connection or nothing comes for two seconds.
async fn answers(client: &Client, said: &[u8]) -> (Vec<(u8, u32, Vec<u8>)>, bool) {
    let (mut from, mut to) = tokio::io::split(client.tls().await.expect("TLS"));
    let saying = async {
        // What the peer no longer wants to hear is lost.
        let _ = to.write_all(&[PREFACE, &frame(4, 0, 0, &[]), said].concat()).await;
    };
    let hearing = async {
        let mut bytes = Vec::new();
        loop {
            let mut more = [0; 16 << 10];
            match tokio::time::timeout(std::time::Duration::from_secs(2), from.read(&mut more)).await {
                Ok(Ok(0) | Err(_)) => return (bytes, true),
                Ok(Ok(read)) => bytes.extend_from_slice(&more[..read]),
                Err(_) => return (bytes, false),
            }
        }
    };
    let ((), (bytes, ended)) = tokio::join!(saying, hearing);
    let mut frames = Vec::new();
    let mut rest = bytes.as_slice();
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let stream = u32::from_be_bytes(rest[5..9].try_into().expect("four bytes"));
        frames.push((rest[3], stream, rest[9..(9 + length).min(rest.len())].to_vec()));
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    (frames, ended)
}

#[test]
fn more_streams_resets_and_headers_than_allowed_are_refused_on_that_connection_alone() {
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const GO_AWAY: u8 = 7;
    // `:status`, name 8 of HPACK's static table, is 431: in Huffman's code, and as it is.
    const STATUS_431: [&[u8]; 2] = [&[0x48, 0x83, 0x69, 0x90, 0xff], &[0x48, 3, b'4', b'3', b'1']];
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let directory = tempfile::tempdir().expect("a temporary directory");
    play(async {
        let proof = enrolled(&up, &directory.path().join("host"), "raw").await.0;
        let client = Client::new(&up, "127.0.0.81").with(&proof);
        let mut good = client.http2().await;
        let open = |count: u32| (0..count).map(|n| (2 * n + 1, frame(HEADERS, 4, 2 * n + 1, &headers(1))));

        // Ten at once: four are taken, the others told REFUSED_STREAM (7).
        let all: Vec<u8> = open(10).flat_map(|(_, bytes)| bytes).collect();
        let (frames, _) = answers(&client, &all).await;
        let settings = frames.iter().find(|(kind, ..)| *kind == SETTINGS).expect("SETTINGS").2.clone();
        let of = |id: u16| {
            let found = settings.chunks_exact(6).find(|s| s[..2] == id.to_be_bytes());
            found.map(|s| u32::from_be_bytes(s[2..6].try_into().expect("four bytes")))
        };
        assert_eq!((of(3), of(6)), (Some(4), Some(8 << 10)), "streams at once, bytes of headers");
        let mut refused: Vec<u32> = Vec::new();
        for (kind, stream, bytes) in &frames {
            if *kind == RESET && bytes.as_slice() == 7_u32.to_be_bytes() {
                refused.push(*stream);
            }
        }
        assert_eq!(refused, [9, 11, 13, 15, 17, 19], "{frames:?}");

        // Opened and reset at once, again and again (CVE-2023-44487): the connection ends with ENHANCE_YOUR_CALM (11).
        let reset = |stream| frame(RESET, 0, stream, &8_u32.to_be_bytes());
        let rapid: Vec<u8> = open(200).flat_map(|(stream, bytes)| [bytes, reset(stream)].concat()).collect();
        let (frames, ended) = answers(&client, &rapid).await;
        let farewell = frames.iter().find(|(kind, ..)| *kind == GO_AWAY).map(|(_, _, bytes)| bytes[4..8].to_vec());
        assert!(ended && farewell == Some(11_u32.to_be_bytes().to_vec()), "{ended} {farewell:?}");

        // 12 KiB of headers where 8 are allowed: 431, which HPACK's static table does not know, as a literal.
        let (frames, _) = answers(&client, &frame(HEADERS, 4, 1, &headers(12 << 10))).await;
        let too_large = |bytes: &[u8]| STATUS_431.iter().any(|status| bytes.windows(5).any(|w| w.starts_with(status)));
        let mut answers_to = frames.iter().filter(|(kind, stream, _)| *kind == HEADERS && *stream == 1).peekable();
        let reset = frames.iter().any(|(kind, stream, _)| *kind == RESET && *stream == 1);
        assert!(answers_to.peek().is_some() || reset || frames.iter().any(|f| f.0 == GO_AWAY), "{frames:?}");
        assert!(answers_to.all(|(.., bytes)| too_large(bytes)), "an answer that is not 431: {frames:?}");

        // A header block that never ends (CVE-2024-27316).
        let endless: Vec<u8> = (0..64).flat_map(|_| frame(9, 0, 1, &[0x10; 16 << 10])).collect();
        let (frames, ended) = answers(&client, &[frame(HEADERS, 0, 1, &headers(1)), endless].concat()).await;
        assert!(ended || frames.iter().any(|(kind, ..)| *kind == GO_AWAY), "{frames:?}");

        // The connection beside them never noticed.
        let mut call = Call::begin(&mut good, STREAM, &[]);
        call.say(&said(Said::Hello(hello("raw"))), false);
        call.welcome().await;
    });
}
