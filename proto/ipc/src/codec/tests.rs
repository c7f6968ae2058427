//! The invariants of the format, by their numbers.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{CodecError, decode_at, decode_body, decode_record, encode_body, encode_record};
use crate::activity::{Act, Activity, Actor, Did};
use crate::arbitrary;
use crate::delta::Delta;
use crate::limits::{Resource, Usage};
use crate::object::{Key, Kind};
use crate::record::{Body, Content, Keyframe, Record, RecordKind};
use crate::snapshot::{Namespace, NamespaceId, State};
use crate::time::At;
use crate::who::{Doubt, Grade, Known, Orphan, Who};

fn body(content: Content) -> Body {
    Body { at: At { wall_ms: 1_795_560_000_000, boot_us: 86_400_000_000 }, content }
}

/// A body's version, time and kind, before what the kind holds.
fn start(kind: RecordKind) -> Vec<u8> {
    let mut bytes = encode_body(&body(Content::Heartbeat));
    bytes.pop();
    bytes.push(kind.code());
    bytes
}

/// A keyframe up to its namespaces.
fn keyframe_start() -> Vec<u8> {
    let mut bytes = start(RecordKind::Keyframe);
    bytes.extend([0, 0, 0, 0, 0, 0]);
    bytes.extend([0; 16]);
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    bytes
}

fn with(mut bytes: Vec<u8>, tail: &[u8]) -> Vec<u8> {
    bytes.extend_from_slice(tail);
    bytes
}

/// Whatever unpacks must be what packing gives.
fn only_spelling(kind: RecordKind, bytes: &[u8]) {
    if let Ok(body) = decode_body(kind, bytes) {
        assert_eq!(encode_body(&body), bytes);
    }
}

proptest! {
    #[test]
    fn c1_c3_every_body_unpacks_to_itself(body in arbitrary::body()) {
        let bytes = encode_body(&body);
        prop_assert_eq!(&encode_body(&body.clone()), &bytes);
        prop_assert_eq!(decode_at(&bytes), Ok(body.at));
        prop_assert_eq!(decode_body(body.content.kind(), &bytes), Ok(body));
    }

    #[test]
    fn c1_c3_every_record_unpacks_to_itself(record in arbitrary::record()) {
        prop_assert_eq!(decode_record(&encode_record(&record)), Ok(record));
    }

    #[test]
    fn c2_c4_damaged_bytes_are_refused_or_mean_what_they_spell(
        body in arbitrary::body(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..4),
    ) {
        let mut bytes = encode_body(&body);
        for (place, bit) in flips {
            *place.get_mut(&mut bytes) ^= 1 << bit;
        }
        for kind in RecordKind::ALL {
            only_spelling(kind, &bytes);
        }
    }

    #[test]
    fn c2_c4_any_bytes_are_refused_or_mean_what_they_spell(
        kind in prop::sample::select(RecordKind::ALL.to_vec()),
        tail in proptest::collection::vec(prop_oneof![3 => 0..6u8, 1 => any::<u8>()], 0..80),
        deep in any::<bool>(),
    ) {
        only_spelling(kind, &tail);
        let start = if deep && kind == RecordKind::Keyframe { keyframe_start() } else { start(kind) };
        only_spelling(kind, &with(start, &tail));
        let _ = decode_record(&tail);
        let _ = decode_record(&with(vec![1, kind.code()], &tail));
    }

    #[test]
    fn c4_c6_every_truncation_is_refused(body in arbitrary::body(), record in arbitrary::record()) {
        let bytes = encode_body(&body);
        for len in 0..bytes.len() {
            prop_assert!(decode_body(body.content.kind(), &bytes[..len]).is_err());
        }
        let bytes = encode_record(&record);
        for len in 0..bytes.len() {
            prop_assert!(decode_record(&bytes[..len]).is_err());
        }
    }
}

#[test]
fn c2_numbers_have_one_spelling() {
    let reason = |tail: &[u8]| decode_body(RecordKind::Heartbeat, &with(vec![1], tail));
    assert!(reason(&[0, 0, 3]).is_ok());
    assert_eq!(reason(&[0x80, 0, 0, 3]), Err(CodecError::NotCanonical { offset: 1, what: "wall_ms" }));
    let long = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 3];
    assert_eq!(reason(&long), Err(CodecError::Overlong { offset: 1, what: "wall_ms" }));
    let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 3];
    assert_eq!(reason(&largest).unwrap().at.wall_ms, i64::MIN);
}

#[test]
fn c2_what_did_not_change_cannot_be_spelled_as_a_change() {
    let row = with(keyframe_start(), &[1, 0, 0, 4, 1, 1, 0, 0]);
    let offset = keyframe_start().len() + 6;
    let refused = Err(CodecError::NotCanonical { offset, what: "semid" });
    assert_eq!(decode_body(RecordKind::Keyframe, &row), refused);
    let left_out = with(keyframe_start(), &[1, 0, 0, 0x80, 8, 0, 0, 0, 0]);
    let refused = decode_body(RecordKind::Keyframe, &left_out);
    assert!(matches!(refused, Err(CodecError::NotCanonical { what: "left_out", .. })), "{refused:?}");
    let no_users = with(start(RecordKind::Delta), &[0, 1 << 2, 0]);
    let refused = decode_body(RecordKind::Delta, &no_users);
    assert!(matches!(refused, Err(CodecError::NotCanonical { what: "changed names", .. })), "{refused:?}");
}

#[test]
fn c3_a_column_beyond_its_type_is_refused_with_its_value() {
    // Column 4, nsems, of the first row: less than 0.
    let bytes = with(keyframe_start(), &[1, 0, 0, 4, 1, 0x10, 1, 0]);
    let offset = keyframe_start().len() + 5;
    let (low, high) = (0, i64::from(u32::MAX));
    assert_eq!(
        decode_body(RecordKind::Keyframe, &bytes),
        Err(CodecError::OutOfRange { offset, what: "nsems", value: -1, low, high })
    );
}

#[test]
fn c5_a_count_beyond_the_bytes_or_the_bound_is_refused_before_memory_is_taken() {
    let million = [0xff, 0xff, 0x3f];
    let rows = with(with(keyframe_start(), &[1, 0, 0, 4]), &million);
    let offset = keyframe_start().len() + 4;
    let refused = Err(CodecError::TooLarge { offset, what: "rows", value: (1 << 20) - 1, bound: 0 });
    assert_eq!(decode_body(RecordKind::Keyframe, &rows), refused);
    let namespaces = with(keyframe_start(), &[0xff; 9]);
    let refused = decode_body(RecordKind::Keyframe, &with(namespaces, &[1]));
    let bound = State::MAX_NAMESPACES as u64;
    assert!(
        matches!(refused, Err(CodecError::TooLarge { what: "namespaces", value: u64::MAX, bound: b, .. }) if b == bound)
    );
    let text = with(start(RecordKind::Delta), &[0, 0x80, 1, 0x81, 2]);
    let refused = decode_body(RecordKind::Delta, &text);
    assert!(matches!(refused, Err(CodecError::TooLarge { what: "zone", value: 257, bound: 256, .. })), "{refused:?}");
    let long = vec![1; Record::MAX_BODY + 1];
    let refused = decode_body(RecordKind::Delta, &long);
    assert!(matches!(refused, Err(CodecError::TooLarge { what: "the body's length", .. })), "{refused:?}");
}

#[test]
fn c5_the_lists_of_a_body_share_one_bound() {
    // Two lists of 600,000 rows of one byte: each within the bound, both together not.
    let mut bytes = with(keyframe_start(), &[1, 0, 0, 0xc]);
    for _ in 0..2 {
        bytes.extend([0xc0, 0xcf, 0x24]);
        bytes.extend(core::iter::repeat_n(0, 600_000));
    }
    bytes.push(0);
    let refused = decode_body(RecordKind::Keyframe, &bytes);
    let left = (1 << 20) - 600_000;
    assert!(
        matches!(refused, Err(CodecError::TooLarge { what: "rows", value: 600_000, bound, .. }) if bound == left),
        "{refused:?}"
    );
}

/// A delta of one changed namespace whose owners change by these bytes.
fn owners(edits: &[u8]) -> Result<Body, CodecError> {
    let bytes = with(start(RecordKind::Delta), &[0, 1, 1, 3, 0, 0, 0x80, 4]);
    decode_body(RecordKind::Delta, &with(bytes, edits))
}

#[test]
fn c2_owners_are_spelled_in_order_and_a_comm_once() {
    // One uid with one comm "a": place 0, one byte.
    assert!(owners(&[2, 1, 4, 2, 0, 1, b'a', 0]).is_ok());
    let refused = |edits: &[u8], what: &str| match owners(edits) {
        Err(CodecError::NotCanonical { what: found, .. } | CodecError::OutOfRange { what: found, .. }) => {
            assert_eq!(found, what);
        }
        other => panic!("{what}: {other:?}"),
    };
    // The second spells "a" again; its place is 0.
    assert!(owners(&[2, 1, 4, 3, 0, 1, b'a', 0, 0]).is_ok());
    refused(&[2, 1, 4, 3, 0, 1, b'a', 1, 1, b'a', 0], "a comm");
    // uid 2 again, below itself.
    refused(&[2, 2, 4, 1, 1, 1, 0], "owners");
    refused(&[2, 1, 4, 0, 0], "owners");
    // Nothing is known of an object: only edits say so, and then without a comm.
    assert!(owners(&[3, 0, 1, 1, 2]).is_ok());
    refused(&[2, 0, 1, 1, 2], "owners");
    refused(&[3, 0, 1, 2, 2, 1, b'a'], "an object's comm");
    // A grade that names nothing, a pid beyond the count.
    refused(&[3, 0, 1, 4, 6], "an orphan's grade");
    refused(&[3, 0, 1, 36, 2, 2], "the pid of an orphan");
    let nothing = with(start(RecordKind::Delta), &[0, 2, 0, 0, 0, 0]);
    let refused = decode_body(RecordKind::Delta, &nothing);
    assert!(matches!(refused, Err(CodecError::NotCanonical { what: "activity", .. })), "{refused:?}");
}

#[test]
fn c5_more_than_a_type_holds_is_refused() {
    let refused = |result: Result<Body, CodecError>, what: &str, bound: u64| match result {
        Err(CodecError::TooLarge { what: found, bound: b, .. }) => assert_eq!((found, b), (what, bound)),
        Err(CodecError::OutOfRange { what: found, high, .. }) => {
            assert_eq!((found, high.cast_unsigned()), (what, bound));
        }
        other => panic!("{what}: {other:?}"),
    };
    let room = [0; 600];
    let delta = |tail: &[u8]| decode_body(RecordKind::Delta, &with(with(start(RecordKind::Delta), tail), &room));
    refused(owners(&with(vec![2, 1, 4, 10], &room)), "an owner's comms", 9);
    refused(owners(&[3, 0, 1, 12, 0x22, 18]), "an orphan's pids", 8);
    refused(delta(&[0, 0x20, 17]), "risks", 16);
    refused(delta(&[0, 0x40, 17]), "unseen", 16);
    refused(delta(&[0, 2, 0x81, 2]), "acts", 256);
    refused(delta(&[0, 2, 1, 0x80, 0x10, 0x82, 1]), "the ids of an act", 64);
    refused(delta(&[0, 2, 0, 0, 1, 0x81, 2]), "peaks", 256);
    // Comms count as entries: 150,000 owners with seven each are too many.
    let mut many = vec![2, 0xf0, 0x93, 9, 0, 8, 0, 1, b'a', 0, 0, 0, 0, 0, 0];
    many.extend([0, 8, 0, 0, 0, 0, 0, 0, 0].repeat(149_999));
    many.push(0);
    let refused = owners(&many);
    assert!(matches!(refused, Err(CodecError::TooLarge { what: "an owner's comms", .. })), "{refused:?}");
}

/// What Apache's story costs: 40 arrays of 5 owners, each with the two dead pids that used it last.
#[test]
fn owners_and_a_refusal_are_small() {
    let empty = Keyframe { gap: None, took_us: 310, activity: Activity::default(), state: State::default() };
    let size = |keyframe: &Keyframe| encode_body(&body(Content::Keyframe(keyframe.clone()))).len();
    let namespace = |who| Namespace { who, ..Namespace::default() };
    let state = |who| State { namespaces: vec![namespace(who)], ..State::default() };
    let mut who = Who::default();
    for (i, comm) in (0..5).zip(["apache2", "postgres", "ipcs-exporter", "oracle", "zabbix_agentd"]) {
        who.comms.insert(33 + i, vec![comm.into()]);
        for array in 0..8 {
            let pids = vec![20_000 + 13 * array, 20_003 + 13 * array];
            let orphan =
                (array > 0).then_some(Orphan { grade: Grade::Likely, doubt: Doubt::OwnerLives, last_pids: pids });
            let id = (array * 5 + i.cast_signed()) * 32_769;
            who.objects.insert((Kind::Sem, id), Known { comm: Some(comm.into()), orphan });
        }
    }
    let without = size(&Keyframe { state: state(None), ..empty.clone() });
    let with_who = size(&Keyframe { state: state(Some(who)), ..empty.clone() });
    assert_eq!(with_who - without, 280);

    let at = body(Content::Heartbeat).at;
    let refused = Act {
        did: Did::Refused(28),
        kind: Kind::Sem,
        namespace: Some(NamespaceId { inode: 0xEFFF_FFFF, instance: 1 }),
        by: Actor { pid: 18_791, comm: "apache2".into(), uid: Some(0), ..Actor::default() },
        first_us: at.boot_us - 400_000,
        last_us: at.boot_us - 400_000,
        count: 1,
        key: Key(0),
        size: 1,
        ids: vec![],
        bound_by: Some(Usage { resource: Resource::Semmni, used: 12, limit: 12 }),
    };
    let activity = Activity { acts: vec![refused], ..Activity::default() };
    let delta = Delta { took_us: 310, activity, ..Delta::default() };
    let size = |delta: &Delta| encode_body(&body(Content::Delta(delta.clone()))).len();
    assert_eq!(size(&delta) - size(&Delta { activity: Activity::default(), ..delta.clone() }), 25);
    assert_eq!(encode_body(&body(Content::Heartbeat)).len(), 14);
}

#[test]
fn c6_what_this_version_does_not_know_is_refused() {
    let beat = encode_body(&body(Content::Heartbeat));
    let other = with(vec![2], &beat[1..]);
    assert_eq!(decode_body(RecordKind::Heartbeat, &other), Err(CodecError::UnknownVersion { version: 2 }));
    assert_eq!(decode_at(&other), Err(CodecError::UnknownVersion { version: 2 }));
    assert_eq!(
        decode_body(RecordKind::Delta, &beat),
        Err(CodecError::WrongKind { said: RecordKind::Delta, found: RecordKind::Heartbeat })
    );
    let offset = beat.len();
    let longer = with(beat, &[0]);
    assert_eq!(decode_body(RecordKind::Heartbeat, &longer), Err(CodecError::Trailing { offset, extra: 1 }));
    let code = |kind, tail: &[u8]| match decode_body(kind, &with(start(kind), tail)) {
        Err(CodecError::UnknownCode { what, value, .. }) => (what, value),
        other => panic!("{other:?}"),
    };
    assert_eq!(code(RecordKind::GapReason, &[18]), ("reason", 18));
    assert_eq!(code(RecordKind::GapReason, &[0]), ("reason", 0));
    assert_eq!(code(RecordKind::Keyframe, &[18]), ("gap", 18));
    assert_eq!(code(RecordKind::Event, &[2]), ("event", 2));
    assert_eq!(code(RecordKind::Delta, &[0, 1 << 4, 6]), ("availability", 6));
    assert_eq!(code(RecordKind::Delta, &[0, 0x80, 0x10]), ("what a delta changes", 1 << 11));
    assert_eq!(code(RecordKind::Delta, &[0, 1 << 5, 1, 2, 0, 0]), ("a risk", 2));
    assert_eq!(code(RecordKind::Delta, &[0, 1, 1, 3, 0, 0, 0x80, 0x20]), ("what changed in a namespace", 1 << 12));
    assert_eq!(code(RecordKind::Delta, &[0, 1, 1, 3, 0, 0, 0x80, 4, 4]), ("what became of the owners", 4));
    assert_eq!(code(RecordKind::Delta, &[0, 1, 1, 3, 0, 0, 0x80, 8, 8]), ("what a name is", 8));
    assert_eq!(code(RecordKind::Delta, &[0, 1, 1, 4, 0, 0]), ("what became of a namespace", 4));
    let unknown = decode_body(RecordKind::Heartbeat, &[1, 0, 0, 9]);
    assert_eq!(unknown, Err(CodecError::UnknownCode { offset: 3, what: "kind", value: 9 }));
}

#[test]
fn c6_a_record_merges_only_heartbeats_and_only_what_is_there() {
    let record = |kind: RecordKind, seq, merged| {
        decode_record(&with(vec![1, kind.code(), seq, merged], &[0, 0, 0, 0, 0, 0, 0, 0, 0]))
    };
    assert_eq!(record(RecordKind::Heartbeat, 9, 6).unwrap().first_seq.0, 3);
    assert!(matches!(record(RecordKind::Heartbeat, 9, 10), Err(CodecError::TooLarge { what: "merged", bound: 9, .. })));
    assert!(matches!(record(RecordKind::Delta, 9, 1), Err(CodecError::TooLarge { what: "merged", bound: 0, .. })));
}

#[test]
fn c9_the_time_is_read_without_the_rest() {
    let body = body(Content::Delta(Delta::default()));
    assert_eq!(decode_at(&encode_body(&body)[..13]), Ok(body.at));
    let late = with(vec![1, 0], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    assert!(matches!(decode_at(&late), Err(CodecError::TooLarge { what: "boot_us", value: u64::MAX, .. })));
}
