//! Find on a real database: hosts whose history lies in chunks, in frames or in both.

use std::os::unix::fs::PermissionsExt as _;

use highwater_ipc::activity::Activity;
use highwater_ipc::codec::encode_body;
use highwater_ipc::object::{Key, Owner, Perms, SemArray};
use highwater_ipc::record::{Body, Content, EpochNo, Keyframe, RecordKind, Seq};
use highwater_ipc::snapshot::{BootId, Snapshot, State};
use highwater_ipc::time::At;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use super::{Filter, Found, Mark, Question, When, find};
use crate::clock::{SystemClock, WallClock as _};
use crate::compact::pack::Packer;
use crate::embedded::supervise::Postgres;
use crate::host::HostId;
use crate::query::fold::Said;
use crate::query::past::Record;
use crate::query::scenes::state;
use crate::store::Db;
use crate::store::chunk::insert_fresh;
use crate::store::day::Day;
use crate::store::frame::{self, Frame};
use crate::store::history::Reading;
use crate::store::object_now::{self, ObjectNow};
use crate::store::partition::{Table, ensure};
use crate::store::stream::Base;

/// Now, in seconds of these stories.
const NOW: i64 = 1_795_000_000;

struct Bench {
    _directory: tempfile::TempDir,
    postgres: Postgres,
    db: Db,
}

/// A host and its samples, a second apart, the last one now.
struct Told<'t> {
    id: i64,
    name: &'t str,
    samples: &'t [&'t str],
    /// So many of the first are in fresh chunks of two samples each.
    compacted: usize,
    /// Seconds since it was seen last.
    silent: i64,
}

const INSERT_SQL: [&str; 4] = [
    "INSERT INTO host (host_id, name, enrolled_ms) VALUES ($1, $2, 0)",
    "INSERT INTO host_status (host_id, last_seen_ms, sampled_wall_ms, skew_ms, interval_ms, session)
     VALUES ($1, $2, $2, 0, 1000, 1)",
    "INSERT INTO stream (host_id, epoch_no, epoch_id, boot_id, next_seq, chain, covered_wall_ms, covered_boot_us,
        interval_ms, stretch, pending_detail, compacted_to, framed_to, session, opened_ms)
     VALUES ($1, 1, 1, $2, $3, '\\x0000000000000000', $4, 0, 1000, 0, '', $5, $3, 1, 0)",
    "INSERT INTO stretch (host_id, epoch_no, stretch, from_seq, from_wall_ms, from_boot_us) VALUES ($1, 1, 0, 0, $2, 0)",
];

impl Bench {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let postgres = Postgres::start(directory.path(), |_| {}, &CancellationToken::new()).await.unwrap();
        let db = Db::connect(postgres.options(), 4).await.unwrap();
        db.migrate().await.unwrap();
        Self { _directory: directory, postgres, db }
    }

    async fn end(self) {
        self.db.close().await;
        self.postgres.stop().await.unwrap();
    }

    async fn host(&self, told: &Told<'_>) {
        let (host, count) = (HostId(told.id), i64::try_from(told.samples.len()).unwrap());
        let end_ms = (NOW - told.silent) * 1000;
        let first_ms = end_ms - (count - 1) * 1000;
        let mut connection = PgConnection::connect_with(&self.postgres.options()).await.unwrap();
        let [name, status, stream, stretch] = INSERT_SQL;
        sqlx::query(name).bind(told.id).bind(told.name).execute(&mut connection).await.unwrap();
        sqlx::query(status).bind(told.id).bind(end_ms).execute(&mut connection).await.unwrap();
        let compacted = i64::try_from(told.compacted).unwrap();
        let query = sqlx::query(stream).bind(told.id).bind(&[1_u8; 16][..]).bind(count).bind(end_ms).bind(compacted);
        query.execute(&mut connection).await.unwrap();
        sqlx::query(stretch).bind(told.id).bind(first_ms).execute(&mut connection).await.unwrap();
        let records: Vec<Record> = (0_u64..).zip(told.samples).map(|(seq, text)| record(seq, first_ms, text)).collect();
        let mut chunks = Vec::new();
        let mut before = None;
        for two in records[..told.compacted].chunks(2) {
            let mut packer = Packer::new(host, EpochNo(1), before.take());
            two.iter().for_each(|record| packer.take(0, (Day::FALLBACK, Day::FALLBACK), record).unwrap());
            before = two.last().map(|record| (0, record.clone()));
            chunks.extend(packer.finish());
        }
        let frames: Vec<Frame> = records[told.compacted..].iter().map(|record| frame_of(host, record)).collect();
        let mut dedicated = self.db.dedicated().await.unwrap();
        ensure(&mut dedicated, Table::ChunkFresh, Day::FALLBACK).await.unwrap();
        let mut write = dedicated.write().await.unwrap();
        insert_fresh(&mut write, &chunks).await.unwrap();
        frame::insert(&mut write, &frames.iter().collect::<Vec<_>>(), end_ms).await.unwrap();
        if let Some(last) = told.compacted.checked_sub(1) {
            let mut filter = Filter::builder();
            filter.add(records[last].state().unwrap());
            let (epoch, seq, objects) = (EpochNo(1), records[last].seq, filter.finish());
            let row = ObjectNow { host, epoch, seq, wall_ms: records[last].wall_ms, objects };
            object_now::upsert(&mut write, std::slice::from_ref(&row)).await.unwrap();
            let older = ObjectNow { epoch: EpochNo(0), objects: vec![1, 0], ..row };
            object_now::upsert(&mut write, &[older]).await.unwrap();
        }
        write.commit().await.unwrap();
    }

    async fn page(&self, expr: &str, when: When, most: usize, after: Option<Mark>) -> Found {
        let mut reading = Reading::begin(&self.db).await.unwrap();
        let question = Question { expr: expr.parse().unwrap(), when, most, after };
        find(&mut reading, &question, NOW * 1000).await.unwrap()
    }

    /// Everything, page after page: host, kind, id, begin and end in seconds before now.
    async fn all(&self, expr: &str, when: When, most: usize) -> Vec<String> {
        let (mut told, mut after) = (Vec::new(), None);
        for _ in 0..100 {
            let found = self.page(expr, when, most, after.take()).await;
            assert!(found.matches.len() <= most);
            told.extend(found.matches.iter().map(|found| {
                let ago = |ms: i64| NOW - ms / 1000;
                let life = &found.life;
                let to = life.to.map_or("still".to_owned(), |(ms, why)| format!("{} {}", ago(ms), why.name()));
                let from = format!("{} {}", ago(life.from_ms), life.from_is.name());
                format!("{} {} {}: {from} .. {to}", found.host.name, life.kind.name(), life.id)
            }));
            after = found.next;
            if after.is_none() {
                return told;
            }
        }
        panic!("pages without end: {told:?}");
    }
}

fn record(seq: u64, first_ms: i64, text: &str) -> Record {
    let wall_ms = first_ms + i64::try_from(seq).unwrap() * 1000;
    let at = At { wall_ms, boot_us: (seq + 1) * 1_000_000 };
    let state = State { boot_id: BootId([1; 16]), ..state(text) };
    let snapshot = std::sync::Arc::new(Snapshot { at, took_us: 1, state });
    let said = Said::Sample { snapshot, gap: None, activity: std::sync::Arc::default() };
    let prev_wall_ms = (seq > 0).then_some(wall_ms - 1000);
    Record { seq: Seq(seq), kind: RecordKind::Keyframe, wall_ms, prev_wall_ms, received_ms: wall_ms, said }
}

fn frame_of(host: HostId, record: &Record) -> Frame {
    let Said::Sample { snapshot, .. } = &record.said else { panic!("a sample") };
    let (state, activity) = (snapshot.state.clone(), Activity::default());
    let keyframe = Box::new(Keyframe { gap: None, took_us: 1, activity, state });
    let body = encode_body(&Body { at: snapshot.at, content: Content::Keyframe(*keyframe) });
    Frame {
        host,
        epoch: EpochNo(1),
        seq: record.seq,
        day: Day::FALLBACK,
        kind: RecordKind::Keyframe,
        stretch: 0,
        wall_ms: record.wall_ms,
        boot_us: snapshot.at.boot_us,
        prev_wall_ms: record.prev_wall_ms,
        base: Base { seq: record.seq, day: Day::FALLBACK },
        body: body.into(),
    }
}

const HELD: &str = "sem 5 key=1 uid=33\n sem 6 key=2 uid=33";
const DAY: i64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn the_present_of_a_fleet_is_found_in_order_of_hosts_page_after_page() {
    let bench = Bench::start().await;
    let host = |id, name, samples, compacted, silent| Told { id, name, samples, compacted, silent };
    // Compacted, with a tail that its filter does not know, never compacted, silent, and gone.
    bench.host(&host(4, "a", &[HELD, HELD], 2, 0)).await;
    bench.host(&host(3, "b", &["", HELD], 1, 0)).await;
    bench.host(&host(2, "b", &[HELD], 0, 0)).await;
    bench.host(&host(1, "c", &[HELD], 1, 3_600)).await;
    bench.host(&host(5, "d", &[HELD], 1, 8 * DAY)).await;
    bench.host(&host(6, "e", &["sem 5 key=3"], 1, 0)).await;
    let all = [
        "a sem 5: 1 seen .. still",
        "a sem 6: 1 seen .. still",
        "b sem 5: 0 seen .. still",
        "b sem 6: 0 seen .. still",
        "b sem 5: 0 seen .. still",
        "b sem 6: 0 seen .. still",
        "c sem 5: 3600 seen .. 3600 last_sample",
        "c sem 6: 3600 seen .. 3600 last_sample",
    ];
    // The sample that first read the state is told: of equal ones each is stored here.
    let now = bench.all("uid=33", When::Now, 100).await;
    let strip = |line: &String| line.split(':').next().unwrap().to_owned();
    assert_eq!(now.iter().map(strip).collect::<Vec<_>>(), all.map(|line| strip(&line.to_owned())));
    assert_eq!(now[6..], all[6..]);
    for most in [1, 2, 3, 5] {
        assert_eq!(bench.all("uid=33", When::Now, most).await, now, "{most}");
    }
    assert_eq!(bench.all("key=1,host=b", When::Now, 100).await.len(), 2);
    assert_eq!(bench.all("key=1,host=0000000000000003", When::Now, 100).await.len(), 1);
    assert_eq!(bench.all("key=9", When::Now, 100).await, [""; 0]);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_in_the_past_is_the_same_wherever_its_records_are() {
    let bench = Bench::start().await;
    let (one, two) = ("sem 5 key=1 uid=33", "sem 5 key=1 uid=33\n sem 6 key=2");
    let none = "sem 6 key=2";
    let samples = [one, one, two, none, none, none, none, none, none, none, none, one, two, "", one, one];
    let count = i64::try_from(samples.len()).unwrap();
    for (id, compacted) in [(1, 0), (2, 2), (3, 10), (4, 16)] {
        let name = format!("h{compacted:02}");
        bench.host(&Told { id, name: &name, samples: &samples, compacted, silent: 0 }).await;
    }
    let at = |ago: i64| (NOW - ago) * 1000;
    let host = |name: &str, rows: &[&str]| rows.iter().map(|row| format!("{name} {row}")).collect::<Vec<_>>();
    let check = async |expr: &str, when: When, rows: &[&str]| {
        for name in ["h00", "h02", "h10", "h16"] {
            let found = bench.all(&format!("{expr},host={name}"), when, 100).await;
            assert_eq!(found, host(name, rows), "{expr} {when:?}");
        }
        let four: Vec<String> = ["h00", "h02", "h10", "h16"].iter().flat_map(|name| host(name, rows)).collect();
        for most in [1, 2, 100] {
            assert_eq!(bench.all(expr, when, most).await, four, "{expr} {when:?} {most}");
        }
    };
    check(
        "key=1",
        When::Between(0, NOW * 1000),
        &["sem 5: 15 seen .. 13 removed", "sem 5: 4 created .. 3 removed", "sem 5: 1 created .. still"],
    )
    .await;
    check("key=1", When::Between(at(14), at(5)), &["sem 5: 14 seen .. 13 removed"]).await;
    check("key=1", When::Between(at(9), at(5)), &[]).await;
    check("uid=33", When::Between(at(9), at(4)), &["sem 5: 4 created .. still"]).await;
    check("key=2", When::Between(at(12), at(4)), &["sem 6: 12 seen .. 5 removed"]).await;
    check("key=2", When::At(at(10)), &["sem 6: 10 seen .. still"]).await;
    check("key=2", When::At(at(count)), &[]).await;
    check("key=1", When::At(at(13)), &["sem 5: 13 seen .. still"]).await;
    check("key=1", When::At(at(12)), &[]).await;
    bench.end().await;
}

/// World 5677: where a clock is days behind, the chunks of a span lie that many days before it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_held_is_found_however_far_behind_its_clock_is() {
    let bench = Bench::start().await;
    let behind = 40 * DAY;
    let samples = [HELD, HELD, "sem 9 key=9", "sem 9 key=9"];
    bench.host(&Told { id: 1, name: "h", samples: &samples, compacted: 4, silent: behind }).await;
    let mut dedicated = bench.db.dedicated().await.unwrap();
    ensure(&mut dedicated, Table::ChunkFresh, Day::of((NOW - behind) * 1000)).await.unwrap();
    dedicated.close().await;
    let mut connection = PgConnection::connect_with(&bench.postgres.options()).await.unwrap();
    for sql in [
        "UPDATE chunk_fresh SET day = to_timestamp(from_wall_ms / 1000) AT TIME ZONE 'UTC'",
        "UPDATE host_status SET last_seen_ms = $1, skew_ms = last_seen_ms - $1",
    ] {
        let query = if sql.contains("$1") { sqlx::query(sql).bind(NOW * 1000) } else { sqlx::query(sql) };
        query.execute(&mut connection).await.unwrap();
    }
    let ago = |seconds: i64| (NOW - seconds) * 1000;
    let found = bench.page("key=1", When::Between(ago(20), ago(0)), 100, None).await;
    assert_eq!(found.matches.len(), 1, "{:?}", found.matches);
    let found = bench.page("key=9", When::At(ago(0)), 100, None).await;
    assert_eq!(found.matches.len(), 1, "{:?}", found.matches);
    bench.end().await;
}

/// `HIGHWATER_FIND_HOSTS=100000` measures; without it the fleet is small.
#[tokio::test(flavor = "multi_thread")]
async fn one_host_is_found_among_the_presents_of_a_fleet() {
    let bench = Bench::start().await;
    let hosts: i64 = std::env::var("HIGHWATER_FIND_HOSTS").map_or(3_000, |text| text.parse().unwrap());
    let mut connection = PgConnection::connect_with(&bench.postgres.options()).await.unwrap();
    let make = "INSERT INTO host (host_id, name, enrolled_ms) SELECT n, 'host-' || n, 0 FROM generate_series(1, $1) n";
    sqlx::query(make).bind(hosts).execute(&mut connection).await.unwrap();
    let make = "INSERT INTO host_status (host_id, last_seen_ms, sampled_wall_ms, skew_ms, interval_ms, session)
        SELECT n, $2, $2, 0, 1000, 1 FROM generate_series(1, $1) n";
    sqlx::query(make).bind(hosts).bind(NOW * 1000).execute(&mut connection).await.unwrap();
    let make = "INSERT INTO stream (host_id, epoch_no, epoch_id, boot_id, next_seq, chain, covered_wall_ms,
            covered_boot_us, interval_ms, stretch, pending_detail, compacted_to, framed_to, session, opened_ms)
        SELECT n, 1, 1, $2, 9, '\\x0000000000000000', $3, 0, 1000, 0, '', 9, 9, 1, 0 FROM generate_series(1, $1) n";
    let query = sqlx::query(make).bind(hosts).bind(&[1_u8; 16][..]).bind(NOW * 1000);
    query.execute(&mut connection).await.unwrap();
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        i32::from_le_bytes(seed.to_le_bytes()[4..8].try_into().unwrap())
    };
    let (mut dedicated, mut bytes) = (bench.db.dedicated().await.unwrap(), 0_usize);
    for some in (1..=hosts).collect::<Vec<_>>().chunks(2_000) {
        let rows: Vec<ObjectNow> = some
            .iter()
            .map(|id| {
                let mut state = state("name 33 www-data\n runs 33 httpd");
                let array = |semid: i32, key: i32| {
                    let owner = Owner { uid: 33, gid: 33, cuid: 33, cgid: 33 };
                    SemArray { key: Key(key), semid, perms: Perms(0o600), nsems: 9, owner, otime: 0, ctime: 0 }
                };
                state.namespaces[0].sem = Some((0..65).map(|semid| array(semid * 32_768, random())).collect());
                let mut filter = Filter::builder();
                filter.add(&state);
                let objects = filter.finish();
                bytes += objects.len();
                ObjectNow { host: HostId(*id), epoch: EpochNo(1), seq: Seq(8), wall_ms: NOW * 1000, objects }
            })
            .collect();
        let mut write = dedicated.write().await.unwrap();
        object_now::upsert(&mut write, &rows).await.unwrap();
        write.commit().await.unwrap();
    }
    sqlx::query("VACUUM ANALYZE").execute(&mut connection).await.unwrap();
    bench
        .host(&Told { id: hosts + 1, name: "needle", samples: &["sem 5 key=7 uid=48"], compacted: 1, silent: 0 })
        .await;
    println!("{hosts} hosts, {} bytes each", bytes / usize::try_from(hosts).unwrap());
    for expr in ["key=7", "uid=48", "key=0x0000000*,nsems=0", "orphan=any", "comm=nobody", "uid=33,nsems>9"] {
        let began_ms = SystemClock.now_ms();
        let found = bench.page(expr, When::Now, 1_000, None).await;
        println!("{expr}: {} found in {} ms", found.matches.len(), SystemClock.now_ms() - began_ms);
        assert_eq!(found.next, None, "{expr}");
        let wanted = usize::from(["key=7", "uid=48", "key=0x0000000*,nsems=0"].contains(&expr));
        assert_eq!(found.matches.len(), wanted, "{expr}");
    }
    bench.end().await;
}
