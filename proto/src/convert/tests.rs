//! Parts, spans, reasons and bounds.

use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::who::Who;
use prost::Message as _;

use super::*;

fn record(kind: RecordKind, first: u64, last: u64, body: Vec<u8>) -> Record {
    Record { kind, first_seq: Seq(first), seq: Seq(last), chain: Chain([1; 8]), missing: None, body }
}

#[test]
fn a_large_record_travels_in_parts_and_comes_out_whole() {
    let whole = record(RecordKind::Keyframe, 5, 5, (0..=255).cycle().take(bounds::PART * 2 + 7).collect());
    let parts = record_to_wire(&whole);
    assert_eq!(parts.len(), 3);
    let mut assembler = Assembler::default();
    let mut out = None;
    for part in parts {
        assert!(out.is_none());
        out = assembler.push(part).unwrap();
    }
    assert_eq!(out, Some(whole));
}

#[test]
fn what_a_record_can_take_is_known_from_its_first_part_and_never_grows() {
    let whole = record(RecordKind::Keyframe, 5, 5, vec![7; Record::MAX_BODY]);
    let mut parts = record_to_wire(&whole).into_iter();
    let mut assembler = Assembler::default();
    assert_eq!(assembler.expects(), None);
    assembler.push(parts.next().unwrap()).unwrap();
    assert_eq!(assembler.expects(), Some(Record::MAX_BODY));
    let mut more = parts.next().unwrap();
    more.more_parts += 1;
    let refused = assembler.clone().push(more.clone());
    assert!(matches!(refused, Err(WireError::Contradiction { .. } | WireError::TooLarge { .. })), "{refused:?}");
    more.more_parts -= 2;
    assert!(matches!(assembler.clone().push(more), Err(WireError::Contradiction { .. })));
    let second = record_to_wire(&whole).swap_remove(1);
    assembler.push(second).unwrap();
    let capacity = assembler.open.as_ref().unwrap().body.capacity();
    assert_eq!(capacity, Record::MAX_BODY);
    let out: Vec<_> = parts.filter_map(|part| assembler.push(part).unwrap()).collect();
    assert_eq!(out, [whole]);
    assert_eq!((out[0].body.capacity(), assembler.expects()), (capacity, None));
    let small = record_to_wire(&record(RecordKind::Delta, 6, 6, vec![0; bounds::PART + 1])).remove(0);
    assembler.push(small).unwrap();
    assert_eq!(assembler.expects(), Some(2 * bounds::PART));
}

#[test]
fn merged_heartbeats_keep_their_span() {
    let beats = record(RecordKind::Heartbeat, 3, 9, vec![1]);
    let mut parts = record_to_wire(&beats);
    assert_eq!(Assembler::default().push(parts.remove(0)).unwrap(), Some(beats));
}

#[test]
fn a_part_as_large_as_any_and_many_small_records_keep_within_a_message() {
    let reason = Some(GapReason::SpoolDamaged);
    let large = Record {
        missing: reason,
        ..record(RecordKind::Keyframe, bounds::NUMBER, bounds::NUMBER, vec![0; Record::MAX_BODY])
    };
    let message = |records| v1::FromAgent {
        message: Some(v1::from_agent::Message::Records(v1::Records { epoch_no: bounds::NUMBER, records })),
    };
    let parts = record_to_wire(&large);
    assert_eq!(parts.len(), Record::MAX_BODY.div_ceil(bounds::PART));
    for part in parts {
        assert!(message(vec![part]).encoded_len() <= bounds::MESSAGE);
    }
    // What a record takes beside its body: an agent counts 64 bytes.
    let beats = record(RecordKind::Heartbeat, 0, bounds::NUMBER, vec![0; 100]);
    let part = record_to_wire(&beats).remove(0);
    let most = message(vec![part; bounds::RECORDS]).encoded_len();
    assert!(most < bounds::RECORDS * (100 + 64), "{most}");
}

#[test]
fn why_records_are_missing_travels_with_a_keyframe_alone_and_is_a_known_reason() {
    let body = vec![7; bounds::PART + 1];
    let keyframe = Record { missing: Some(GapReason::SpoolDamaged), ..record(RecordKind::Keyframe, 3, 3, body) };
    let mut assembler = Assembler::default();
    let whole = record_to_wire(&keyframe).into_iter().filter_map(|part| assembler.push(part).unwrap()).last();
    assert_eq!(whole, Some(keyframe.clone()));
    let mut part = record_to_wire(&Record { body: vec![1], ..keyframe }).remove(0);
    part.missing = 200;
    let unknown = WireError::UnknownCode { field: "Record.missing", value: 200 };
    assert_eq!(Assembler::default().push(part.clone()), Err(unknown));
    (part.missing, part.kind) = (1, RecordKind::Delta.code().into());
    assert!(matches!(Assembler::default().push(part), Err(WireError::Contradiction { .. })));
}

#[test]
fn refuses_what_contradicts_itself_or_exceeds_a_bound() {
    let mut part = record_to_wire(&record(RecordKind::Delta, 3, 3, vec![1])).remove(0);
    part.merged = 1;
    assert!(matches!(Assembler::default().push(part.clone()), Err(WireError::Contradiction { .. })));
    part.merged = 0;
    part.seq = u64::MAX;
    assert!(matches!(Assembler::default().push(part.clone()), Err(WireError::TooLarge { field: "Record.seq", .. })));
    part.seq = 1;
    part.chain = vec![0; 9];
    assert!(matches!(Assembler::default().push(part.clone()), Err(WireError::WrongLength { .. })));
    part.chain = vec![0; 8];
    part.part = 1;
    assert!(matches!(Assembler::default().push(part.clone()), Err(WireError::Contradiction { .. })));
    part.part = 0;
    part.more_parts = u32::MAX;
    assert!(matches!(Assembler::default().push(part), Err(WireError::TooLarge { .. })));
}

#[test]
fn the_present_of_a_host_with_many_namespaces_fits_and_names_the_first() {
    let namespace = |inode| Namespace {
        id: NamespaceId { inode, instance: inode },
        name: Some(HostText::cut(&[b'a'; 64])),
        sem: Some(vec![]),
        who: Some(Who::default()),
        ..Namespace::default()
    };
    let state = State { namespaces: (0..5_000).map(namespace).collect(), ..State::default() };
    let wire = now_to_wire(&Now { backlog_from_ms: 5, at: At { wall_ms: 7, boot_us: 9 }, state });
    let now = now_from_wire(&wire).unwrap();
    assert_eq!((wire.wall_ms, now.backlog_from_ms, now.at.boot_us), (7, 5, 9));
    assert_eq!(now.state.namespaces.len(), 625);
    let bare = Namespace { sem: None, who: None, ..namespace(624) };
    assert_eq!(now.state.namespaces.last(), Some(&bare));
}

#[test]
fn an_epoch_with_a_number_of_imported_history_is_refused() {
    let hello = |no| Hello {
        facts: HostFacts {
            agent_version: HostText::from("1"),
            machine_id: HostText::default(),
            boot_id: BootId([1; 16]),
            hostname: HostText::from("h"),
            kernel: HostText::default(),
            arch: HostText::default(),
            distro: HostText::default(),
        },
        now: At { wall_ms: 1, boot_us: 1 },
        epochs: vec![SpooledEpoch {
            epoch: Epoch { no: EpochNo(no), id: EpochId(7) },
            boot_id: BootId([1; 16]),
            first: Seq(0),
            next: Seq(1),
            chain: Chain::default(),
        }],
    };
    let read = |no| hello_from_wire(hello_to_wire(&hello(no)));
    assert!(read(EpochNo::IMPORTED.0 - 1).is_ok());
    let refused = read(EpochNo::IMPORTED.0).unwrap_err().to_string();
    assert_eq!(refused, "SpooledEpoch.epoch_no is 4611686018427387904, the bound is 4611686018427387903");
}
