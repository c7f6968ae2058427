//! Expressions and filters on random states: values from small sets, so that conditions are often fulfilled.

use std::collections::BTreeMap;

use highwater_ipc::object::{Key, Kind, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;
use highwater_ipc::who::{Doubt, Grade, Known, Orphan, Who};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::field::objects;
use super::{Expr, ExprError, Filter, MAX_BYTES};
use crate::host::HostId;
use crate::store::fleet::HostName;

const KEYS: [i32; 6] = [0, 0x0d4d_1234, 0x0d4d_1235, 0x0d4e_0000, -1, i32::MIN];
const IDS: [i32; 5] = [0, 1, 98_304, i32::MAX, -7];
const UIDS: [u32; 4] = [0, 33, 48, u32::MAX];
const SIZES: [u64; 5] = [0, 4096, 1 << 30, (1 << 30) + 1, u64::MAX];
const NAMES: [&str; 5] = ["root", "www-data", "httpd", "h", "ht,\u{e9}"];

fn owner() -> impl Strategy<Value = Owner> {
    let uid = || select(&UIDS[..]);
    (uid(), uid(), uid(), uid()).prop_map(|(uid, gid, cuid, cgid)| Owner { uid, gid, cuid, cgid })
}

fn perms() -> impl Strategy<Value = Perms> {
    select(&[0o600, 0o660, 0o1600, 0o2640][..]).prop_map(Perms)
}

fn sem() -> impl Strategy<Value = SemArray> {
    (select(&KEYS[..]), select(&IDS[..]), perms(), 1..5_u32, owner()).prop_map(|(key, semid, perms, nsems, owner)| {
        SemArray { key: Key(key), semid, perms, nsems, owner, otime: 0, ctime: 0 }
    })
}

fn shm() -> impl Strategy<Value = ShmSegment> {
    let numbers = (select(&SIZES[..]), 0..3_u64);
    (select(&KEYS[..]), select(&IDS[..]), perms(), numbers, owner()).prop_map(
        |(key, shmid, perms, (size, nattch), owner)| ShmSegment {
            key: Key(key),
            shmid,
            perms,
            size,
            cpid: 1,
            lpid: 1,
            nattch,
            owner,
            atime: 0,
            dtime: 0,
            ctime: 0,
            rss: 0,
            swap: 0,
        },
    )
}

fn msg() -> impl Strategy<Value = MsgQueue> {
    let numbers = (select(&SIZES[..]), 0..3_u64);
    (select(&KEYS[..]), select(&IDS[..]), perms(), numbers, owner()).prop_map(
        |(key, msqid, perms, (cbytes, qnum), owner)| MsgQueue {
            key: Key(key),
            msqid,
            perms,
            cbytes,
            qnum,
            qbytes: None,
            lspid: 0,
            lrpid: 0,
            owner,
            stime: 0,
            rtime: 0,
            ctime: 0,
        },
    )
}

fn name() -> impl Strategy<Value = HostText> {
    select(&NAMES[..]).prop_map(HostText::from)
}

fn known() -> impl Strategy<Value = Known> {
    let orphan = |grade| Orphan { grade, doubt: Doubt::None, last_pids: vec![] };
    let grades = [Grade::Certain, Grade::Likely, Grade::Unattached];
    (proptest::option::of(name()), proptest::option::of(select(grades.to_vec())))
        .prop_map(move |(comm, grade)| Known { comm, orphan: grade.map(orphan) })
}

fn who() -> impl Strategy<Value = Who> {
    let comms = proptest::collection::btree_map(select(&UIDS[..]), vec(name(), 0..3), 0..3);
    let object = (select(&Kind::ALL[..]), select(&IDS[..]));
    (comms, proptest::collection::btree_map(object, known(), 0..6)).prop_map(|(comms, objects)| Who { comms, objects })
}

fn namespace() -> impl Strategy<Value = Namespace> {
    use proptest::option::of;
    let lists = (of(vec(sem(), 0..4)), of(vec(shm(), 0..4)), of(vec(msg(), 0..4)));
    (1..3_u64, lists, of(who())).prop_map(|(inode, (sem, shm, msg), who)| {
        let id = NamespaceId { inode, instance: inode };
        Namespace { id, sem, shm, msg, who, ..Namespace::default() }
    })
}

fn state() -> impl Strategy<Value = State> {
    let users = || proptest::collection::btree_map(select(&UIDS[..]), name(), 0..3);
    (vec(namespace(), 0..3), users(), users()).prop_map(|(namespaces, users, groups)| State {
        namespaces,
        users,
        groups,
        ..State::default()
    })
}

fn number_term() -> impl Strategy<Value = String> {
    let op = select(&["=", "!=", ">", ">=", "<", "<="][..]);
    let small = |field: &'static str| (0..5_u64).prop_map(move |n| (field, n.to_string()));
    let field = prop_oneof![
        select(&IDS[..]).prop_map(|n| ("id", n.to_string())),
        (select(&["uid", "gid", "cuid", "cgid"][..]), select(&UIDS[..])).prop_map(|(f, n)| (f, n.to_string())),
        small("nsems"),
        small("nattch"),
        small("qnum"),
        small("namespace"),
        (select(&["size", "cbytes"][..]), select(&["0", "1G", "4096", "17T"][..])).prop_map(|(f, n)| (f, n.to_owned())),
    ];
    (field, op).prop_map(|((field, value), op)| format!("{field}{op}{value}"))
}

fn term() -> impl Strategy<Value = String> {
    let same = || select(&["=", "!="][..]);
    let keys = ["0x0d4d1234", "0x0d4d*", "0x0*", "0xf*", "private", "-1", "4294967295", "5"];
    let names = ["root", "httpd", "h", "h*", "ht*", "http*", "*", "ht\\x2c\u{e9}", "nobody"];
    let owners = ["uid", "gid", "cuid", "cgid", "user", "comm"];
    prop_oneof![
        number_term(),
        (same(), select(keys.to_vec())).prop_map(|(op, key)| format!("key{op}{key}")),
        (select(owners.to_vec()), same(), select(names.to_vec()))
            .prop_map(|(field, op, name)| format!("{field}{op}{name}")),
        (same(), select(&["600", "1600", "7"][..])).prop_map(|(op, perms)| format!("perms{op}{perms}")),
        (same(), select(&["certain", "likely", "unattached", "any", "none"][..]))
            .prop_map(|(op, grade)| format!("orphan{op}{grade}")),
        (same(), select(&["sem", "shm", "msg"][..])).prop_map(|(op, kind)| format!("kind{op}{kind}")),
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    let read = |terms: Vec<String>| terms.join(",").parse::<Expr>().ok();
    vec(term(), 1..4).prop_filter_map("fields of different kinds", read)
}

fn any_matches(state: &State, expr: &Expr) -> bool {
    let in_namespace = |n: &Namespace| objects(n).any(|object| expr.matches(state, n, &object));
    state.namespaces.iter().any(in_namespace)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_filter_never_hides_an_object_that_matches(states in vec(state(), 1..4), expr in expr()) {
        let mut builder = Filter::builder();
        let mut one_by_one = Filter::builder();
        for state in &states {
            builder.add(state);
            for namespace in &state.namespaces {
                objects(namespace).for_each(|object| one_by_one.add_object(state, namespace, &object));
            }
        }
        let any = states.iter().any(|state| any_matches(state, &expr));
        let life = expr.for_life();
        for bytes in [builder.finish(), one_by_one.finish()] {
            prop_assert!(!any || Filter::may_match(&bytes, &expr), "{expr:?} {states:?}");
            prop_assert!(!any || Filter::may_match(&bytes, &life), "{expr:?} {states:?}");
        }
    }

    #[test]
    fn a_filter_of_one_object_hides_it_from_what_it_does_not_match(sem in sem(), expr in expr()) {
        let namespace = Namespace { sem: Some(vec![sem]), ..Namespace::default() };
        let state = State { namespaces: vec![namespace], ..State::default() };
        let mut builder = Filter::builder();
        builder.add(&state);
        // Only of names that are not there nothing is told.
        let told = expr.tests.iter().all(|test| !matches!(test, super::expr::Test::Text { differs: true, .. }));
        prop_assert!(!told || Filter::may_match(&builder.finish(), &expr) == any_matches(&state, &expr), "{expr:?}");
    }

    #[test]
    fn damaged_bytes_hide_nothing_unless_they_read_and_never_panic(
        state in state(), expr in expr(), cut in any::<proptest::sample::Index>(), flip in any::<(proptest::sample::Index, u8)>(),
        noise in vec(any::<u8>(), 0..40),
    ) {
        let mut builder = Filter::builder();
        builder.add(&state);
        let mut bytes = builder.finish();
        let _ = Filter::may_match(&bytes[..cut.index(bytes.len())], &expr);
        let at = flip.0.index(bytes.len());
        bytes[at] ^= flip.1;
        let _ = Filter::may_match(&bytes, &expr);
        let _ = Filter::may_match(&[&[1, 7][..], &noise].concat(), &expr);
        prop_assert!(Filter::may_match(&[], &expr) && Filter::may_match(&[2, 0], &expr));
    }

    #[test]
    fn any_text_is_an_expression_or_refused_in_words(text in "(sem|shm|key|uid|size|host|comm|[.=!<>,*0x ]|[0-9a-f]|\\PC){0,30}") {
        match text.parse::<Expr>() {
            Ok(expr) => drop(any_matches(&State::default(), &expr)),
            Err(refused) => prop_assert!(!refused.to_string().is_empty()),
        }
    }
}

/// One array of uid 48, comm httpd, likely orphaned, and one segment marked for destruction.
fn scene() -> State {
    let owner = Owner { uid: 48, gid: 48, cuid: 0, cgid: 0 };
    let sem = SemArray { key: Key(0x0d4d_1234), semid: 5, perms: Perms(0o600), nsems: 3, owner, otime: 0, ctime: 0 };
    let zero = Key(0);
    let shm = ShmSegment {
        key: zero,
        shmid: 9,
        perms: Perms(0o1600),
        size: 3 << 30,
        cpid: 7,
        lpid: 7,
        nattch: 1,
        owner,
        atime: 0,
        dtime: 0,
        ctime: 0,
        rss: 0,
        swap: 0,
    };
    let orphan = Orphan { grade: Grade::Likely, doubt: Doubt::OwnerLives, last_pids: vec![4] };
    let known = Known { comm: Some("httpd".into()), orphan: Some(orphan) };
    let comms = BTreeMap::from([(48, vec![HostText::from("httpd"), HostText::from("rotatelogs")])]);
    let who = Who { comms, objects: BTreeMap::from([((Kind::Sem, 5), known)]) };
    let id = NamespaceId { inode: 4_026_531_839, instance: 1 };
    let namespace =
        Namespace { id, sem: Some(vec![sem]), shm: Some(vec![shm]), who: Some(who), ..Namespace::default() };
    let users = BTreeMap::from([(48, HostText::from("apache")), (0, HostText::from("root"))]);
    State { namespaces: vec![namespace], users, ..State::default() }
}

fn found(text: &str) -> String {
    let (expr, state) = (text.parse::<Expr>().unwrap_or_else(|e| panic!("{text}: {e}")), scene());
    let namespace = &state.namespaces[0];
    let found = objects(namespace).filter(|object| expr.matches(&state, namespace, object));
    found.map(|object| object.kind().name()).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_expression_finds_what_its_words_say() {
    let table = [
        ("sem.key=0x0d4d*", "sem"),
        ("key=0x0d4d1234", "sem"),
        ("key=0xd4d1234", "sem"),
        ("key=0xd4d*", ""),
        ("key=223154740", "sem"),
        ("key!=private", "sem"),
        ("key=private", "shm"),
        ("uid=48", "sem shm"),
        ("uid=apache", "sem shm"),
        ("user=apa*", "sem shm"),
        ("cuid=root", "sem shm"),
        ("cuid!=root", ""),
        ("gid=apache", ""),
        ("comm=httpd", "sem"),
        ("comm=*", "sem"),
        ("comm!=httpd", "shm"),
        ("shm.size>1G", "shm"),
        ("size>=3GiB,size<=3G", "shm"),
        ("size<3G", ""),
        ("nsems=3", "sem"),
        ("nattch!=0", "shm"),
        ("qnum=0", ""),
        ("perms=600", "sem"),
        ("perms=1600", "shm"),
        ("orphan=likely", "sem"),
        ("orphan=any", "sem"),
        ("orphan=none", "shm"),
        ("orphan!=certain", "sem shm"),
        ("namespace=4026531839, id<9", "sem"),
        ("kind!=sem", "shm"),
        ("host=web*,kind=sem", "sem"),
    ];
    for (text, kinds) in table {
        assert_eq!(found(text), kinds, "{text}");
    }
}

#[test]
fn what_is_no_expression_is_refused_with_the_word_and_the_remedy() {
    let table = [
        ("", "nothing is looked for"),
        (" , ", "nothing is looked for"),
        ("uid", "\"uid\" compares nothing: write FIELD=VALUE"),
        ("uid48!", "\"uid48!\" compares nothing"),
        ("pid=4", "\"pid\" is no field; there are key, id,"),
        ("foo.key=4", "\"foo.key\" is no field"),
        ("sem.size=4", "sem objects have no size: write size alone"),
        ("uid=", "uid is compared with nothing"),
        ("sem.key>0x4", "key is the same or not: write key=VALUE or key!=VALUE instead of >"),
        ("uid>root", "uid is the same or not"),
        ("key=0x123456789", "key: \"0x123456789\" is not a key: 0x0d4d1234,"),
        ("key=0x", "is not a key"),
        ("key=0x+1", "is not a key"),
        ("key=4294967296", "is not a key"),
        ("size>1X", "size: \"1X\" is not a number of bytes, e.g. 4096, 64K"),
        ("size>99999999T", "is not a number of bytes"),
        ("perms=888", "is not octal permissions"),
        ("orphan=yes", "is not certain, likely, unattached, any or none"),
        ("kind=pipe", "is not sem, shm or msg"),
        ("comm=a\\x", "is not a name of at most 256 bytes"),
        ("nsems=3,size=4", "no object is of two kinds"),
        ("sem.uid=3,kind!=sem", "no object is of two kinds"),
    ];
    for (text, words) in table {
        let refused = text.parse::<Expr>().unwrap_err();
        assert!(refused.to_string().contains(words), "{text}: {refused}");
    }
    let long = "uid=1,".repeat(MAX_BYTES);
    assert!(matches!(long.parse::<Expr>(), Err(ExprError::TooMuch { what: "bytes", .. })));
    assert!(matches!("uid=1,".repeat(17).parse::<Expr>(), Err(ExprError::TooMuch { what: "terms", .. })));
}

#[test]
fn a_host_is_wanted_by_how_its_name_begins_or_its_id() {
    let host = HostName { name: "web-17".into(), id: HostId(0xab) };
    let wants = |text: &str| text.parse::<Expr>().unwrap().wants_host(&host);
    for yes in ["uid=1", "host=web", "host=web-17", "host=web*", "host=00000000000000ab", "host!=db"] {
        assert!(wants(yes), "{yes}");
    }
    for no in ["host=db", "host!=web", "host=web-17x", "host=ab", "host=web,host!=web-1"] {
        assert!(!wants(no), "{no}");
    }
    assert_eq!("host!=a,host=web*".parse::<Expr>().unwrap().host_begins(), Some("web"));
}

#[test]
fn a_filter_of_a_busy_day_and_of_a_present_is_small() {
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        i32::from_le_bytes(seed.to_le_bytes()[4..8].try_into().unwrap())
    };
    let owner = Owner { uid: 1001, gid: 1001, cuid: 1001, cgid: 1001 };
    let mut sem = |number: i32| SemArray {
        key: Key(random()),
        semid: number * 32_768 + number % 40,
        perms: Perms(0o600),
        nsems: 17,
        owner,
        otime: 0,
        ctime: 0,
    };
    let state = |sem: Vec<SemArray>| {
        let namespace = Namespace { sem: Some(sem), ..Namespace::default() };
        State { namespaces: vec![namespace], ..State::default() }
    };
    let mut present = Filter::builder();
    present.add(&state((0..65).map(&mut sem).collect()));
    assert!(present.finish().len() <= 300, "{} bytes", present.finish().len());
    let mut day = Filter::builder();
    let all: Vec<SemArray> = (0..2_241).map(&mut sem).collect();
    all.windows(65).for_each(|window| day.add(&state(window.to_vec())));
    let bytes = day.finish();
    assert!(bytes.len() <= 5_000, "{} bytes", bytes.len());
    for array in all.iter().step_by(100) {
        assert!(Filter::may_match(&bytes, &format!("key={}", array.key).parse().unwrap()));
    }
    let wrong = (0..1_000).filter(|_| Filter::may_match(&bytes, &format!("key={}", Key(random())).parse().unwrap()));
    assert!(wrong.count() <= 3);
}
