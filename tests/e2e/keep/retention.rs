//! History that is older than is kept goes, and the present stays, however old it is.

use std::sync::Arc;

use highwater::compact::retention::Retention;
use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::as_of::{Answer, Instant, as_of};
use highwater::query::gap::GapState;
use highwater::query::status::retention as dry_run;
use highwater::store::chunk::{Chunk, insert_merged};
use highwater::store::day::Day;
use highwater::store::keep::Keep;
use highwater::store::lease::{self, Fence, LeaseError};
use highwater::store::owner_usage::of_slots;
use highwater::store::partition::{Table, ensure, list};
use highwater_ipc::chunk::{ChunkWriter, Head, Told};
use highwater_ipc::record::{Content, EpochNo, GapReason, RecordKind, Seq};
use highwater_ipc::snapshot::{NamespaceId, State};
use highwater_ipc::time::At;
use highwater_tests::wait::now_ms;

use crate::ingest::Collector;
use crate::ingest::host::Host;

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// A state with so many arrays in all.
fn state(host: &Host, sem_arrays: u64) -> State {
    let Content::Keyframe(keyframe) = host.clone().keyframe(None).2.content else { panic!("a keyframe") };
    let mut state = keyframe.state;
    state.namespaces[0].totals.as_mut().unwrap().sem_arrays = sem_arrays;
    state
}

/// Samples of one stretch, as (position, wall time, arrays), as one merged chunk.
fn chunk(host: &Host, stretch: u32, samples: &[(u64, i64, u64)], week: Day) -> Chunk {
    let mut writer = ChunkWriter::new();
    let mut previous = None;
    for (seq, wall_ms, arrays) in samples {
        let head = Head {
            seq: Seq(*seq),
            kind: RecordKind::Keyframe,
            wall_ms: *wall_ms,
            prev_wall_ms: previous,
            received_ms: *wall_ms,
        };
        let told = Told::Sample { took_us: 1, gap: None, activity: Arc::default() };
        writer.push(&head, clock(*wall_ms), &told, Some(&state(host, *arrays))).unwrap();
        previous = Some(*wall_ms);
    }
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    Chunk {
        host: host.id(),
        epoch: EpochNo(1),
        stretch,
        from_wall_ms: first.1,
        from: Seq(first.0),
        part: week,
        to: Seq(last.0),
        to_wall_ms: last.1,
        prev_wall_ms: None,
        records: u32::try_from(samples.len()).unwrap(),
        baseline: false,
        objects: Vec::new(),
        body: writer.finish(),
    }
}

fn clock(wall_ms: i64) -> At {
    At { wall_ms, boot_us: u64::try_from(wall_ms).unwrap() * 1000 }
}

/// A merged stretch of an epoch that is covered until `end`.
fn stretch(collector: &Collector, host: &Host, number: u32, (from_seq, from, end): (u64, i64, i64), next: u64) {
    let id = host.id().0;
    collector.database.sql(&format!(
        "INSERT INTO stream (host_id, epoch_no, epoch_id, boot_id, next_seq, chain, covered_wall_ms, covered_boot_us,
            interval_ms, stretch, pending_detail, compacted_to, framed_to, merged_to, session, opened_ms)
        VALUES ({id}, 1, 1000, decode(repeat('01', 16), 'hex'), {next}, decode(repeat('00', 8), 'hex'), {end},
            {end} * 1000, 1000, {number}, '', {next}, {next}, {next}, 0, {from})
        ON CONFLICT (host_id, epoch_no) DO UPDATE SET next_seq = {next}, compacted_to = {next}, framed_to = {next},
            merged_to = {next}, covered_wall_ms = {end}, covered_boot_us = {end} * 1000, stretch = {number};
        UPDATE stretch SET to_wall_ms = from_wall_ms + {DAY_MS}, to_boot_us = from_boot_us WHERE host_id = {id};
        INSERT INTO stretch VALUES ({id}, 1, {number}, {from_seq}, {from}, {from} * 1000);
        INSERT INTO gap VALUES ({id}, 1, {from_seq}, (SELECT max(to_wall_ms) FROM stretch WHERE host_id = {id}), {from},
            2, '')"
    ));
}

/// What a host held then: its arrays, or why nobody knows.
fn told(collector: &Collector, host: HostId, instant: Instant) -> Result<u64, String> {
    collector.runtime.block_on(async {
        let mut reading = Reading::begin(&collector.db).await.unwrap();
        match as_of(&mut reading, host, instant, now_ms()).await.unwrap().answer {
            Answer::Held(held) => Ok(held.snapshot.state.namespaces[0].totals.as_ref().unwrap().sem_arrays),
            Answer::Gap(gap) => Err(gap.reason.map_or("pending", |reason| reason.name()).to_owned()),
        }
    })
}

fn retain(collector: &Collector, fence: Fence, now_ms: i64) -> Result<usize, LeaseError> {
    let retention = Retention { keep: Keep::default(), lease: "retention".into(), fence };
    collector.runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        retention.run(&mut connection, now_ms).await
    })
}

fn take(collector: &Collector, wall_ms: i64) -> Fence {
    collector.runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        lease::take(&mut connection, "retention", "test", wall_ms, 1_000).await.unwrap().unwrap()
    })
}

/// Weeks with chunks, from the oldest on.
fn weeks(collector: &Collector) -> Vec<Day> {
    collector.runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        list(&mut connection, Table::Chunk).await.unwrap()
    })
}

fn store(collector: &Collector, rows: Vec<Chunk>) {
    collector.runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        for row in &rows {
            ensure(&mut connection, Table::Chunk, row.part).await.unwrap();
        }
        let mut tx = connection.write().await.unwrap();
        insert_merged(&mut tx, &rows).await.unwrap();
        tx.commit().await.unwrap();
    });
}

/// Everything that retention may touch.
fn everything(collector: &Collector) -> String {
    let tables = ["chunk", "stretch", "gap", "stream", "host_facts", "usage", "owner_usage"];
    tables
        .map(|t| collector.database.sql(&format!("SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {t} t")))
        .concat()
}

#[test]
fn an_array_unchanged_for_longer_than_is_kept_is_still_there_and_what_is_older_says_retention() {
    let collector = Collector::shared();
    let now = now_ms();
    let (unchanged, returned, silent) = (collector.host(21), collector.host(22), collector.host(23));
    // A Wednesday some 130 days ago, so that two days lie in one week.
    let old = Day::of(now - 130 * DAY_MS).week().start_ms() + 2 * DAY_MS;
    let week = Day::of(old).week();
    let samples = [(0, old, 1), (1, old + DAY_MS, 2)];
    stretch(&collector, &unchanged, 0, (0, old, now), 2);
    stretch(&collector, &returned, 0, (0, old, old + DAY_MS), 2);
    stretch(&collector, &returned, 1, (2, now - 5 * DAY_MS, now), 3);
    stretch(&collector, &silent, 0, (0, old, old + DAY_MS), 2);
    let mut rows: Vec<Chunk> = [&unchanged, &returned, &silent].map(|h| chunk(h, 0, &samples, week)).into();
    let back = now - 5 * DAY_MS;
    rows.push(chunk(&returned, 1, &[(2, back, 7)], Day::of(back).week()));
    store(&collector, rows);
    assert_eq!(told(&collector, unchanged.id(), Instant::At(old + HOUR_MS)), Ok(1));

    let before = everything(&collector);
    let planned = collector.runtime.block_on(async {
        let mut reading = Reading::begin(&collector.db).await.unwrap();
        dry_run(&mut reading, &Keep::default(), now).await.unwrap()
    });
    assert_eq!(everything(&collector), before, "a dry run changes nothing");
    let drop = planned[0].drops[0];
    assert_eq!((planned[0].table, planned[0].drops.len(), drop.span.0), (Table::Chunk, 1, week));
    assert_eq!(drop.baselines, Some(2));

    let lost = retain(&collector, Fence(9), now).unwrap_err();
    assert!(matches!(lost, LeaseError::Lost { .. }), "{lost}");
    assert_eq!(everything(&collector), before, "without the lease nothing goes");

    let fence = take(&collector, now);
    assert!(retain(&collector, fence, now).unwrap() >= 1);
    assert!(!weeks(&collector).contains(&week));
    let reason = || Err("retention".to_owned());
    for hours in [0, 12, 23] {
        assert_eq!(told(&collector, unchanged.id(), Instant::At(old + hours * HOUR_MS)), reason(), "{hours}");
    }
    for days in [1, 3, 20, 60, 129] {
        assert_eq!(told(&collector, unchanged.id(), Instant::At(old + days * DAY_MS)), Ok(2), "{days}");
    }
    assert_eq!(told(&collector, returned.id(), Instant::At(old + HOUR_MS)), reason());
    assert_eq!(told(&collector, returned.id(), Instant::At(now - DAY_MS)), Ok(7));
    assert_eq!(told(&collector, silent.id(), Instant::Last), Ok(2));
    assert_eq!(told(&collector, silent.id(), Instant::At(old + HOUR_MS)), reason());

    let after = everything(&collector);
    retain(&collector, fence, now).unwrap();
    assert_eq!(everything(&collector), after, "done once is done");
    // The baselines of the present move on from week to week.
    for week in 1..=20 {
        let later = now + week * 7 * DAY_MS;
        retain(&collector, fence, later).unwrap();
        assert_eq!(told(&collector, silent.id(), Instant::Last), Ok(2), "{week}");
        assert_eq!(told(&collector, unchanged.id(), Instant::At(now - DAY_MS)), Ok(2), "{week}");
    }
    assert_eq!(collector.database.sql("SELECT count(*) FROM chunk WHERE host_id IN (21, 23)"), "2\n");
    assert_eq!(collector.database.sql("SELECT count(*), min(reason) FROM gap WHERE host_id = 21"), "1|15\n");
}

#[test]
fn what_went_before_a_clock_was_set_forward_is_told_as_forgotten_up_to_its_new_time() {
    let collector = Collector::shared();
    let now = now_ms();
    let host = collector.host(25);
    let old = Day::of(now - 130 * DAY_MS).week().start_ms() + 2 * DAY_MS;
    let set_to = now - 5 * DAY_MS;
    stretch(&collector, &host, 0, (0, old, old + DAY_MS), 2);
    stretch(&collector, &host, 1, (2, set_to, now), 3);
    // A clock that is set leaves no gap: the agent sampled on.
    collector.database.sql("DELETE FROM gap WHERE host_id = 25 AND seq = 2");
    let before = chunk(&host, 0, &[(0, old, 1), (1, old + DAY_MS, 2)], Day::of(old).week());
    store(&collector, vec![before, chunk(&host, 1, &[(2, set_to, 7)], Day::of(set_to).week())]);
    assert_eq!(told(&collector, host.id(), Instant::At(old + HOUR_MS)), Ok(1));

    let fence = take(&collector, now);
    assert!(retain(&collector, fence, now).unwrap() >= 1);
    assert_eq!(told(&collector, host.id(), Instant::At(set_to)), Ok(7));
    for asked_ms in [set_to - 1, set_to - DAY_MS, old + DAY_MS + HOUR_MS, old + HOUR_MS, old - 1] {
        let answer = collector.runtime.block_on(async {
            let mut reading = Reading::begin(&collector.db).await.unwrap();
            as_of(&mut reading, host.id(), Instant::At(asked_ms), now).await.unwrap().answer
        });
        let Answer::Gap(gap) = answer else { panic!("{asked_ms}: {answer:?}") };
        assert_eq!((gap.state, gap.reason), (GapState::Closed, Some(GapReason::Retention)), "{asked_ms}: {gap:?}");
    }
}

#[test]
fn a_week_whose_records_still_wait_to_be_moved_stays() {
    let collector = Collector::shared();
    let now = now_ms();
    let host = collector.host(24);
    let old = now - 130 * DAY_MS;
    let week = Day::of(old).week();
    stretch(&collector, &host, 0, (0, old, old), 1);
    store(&collector, vec![chunk(&host, 0, &[(0, old, 1)], week)]);
    collector.runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        ensure(&mut connection, Table::Frame, Day::of(old)).await.unwrap();
    });
    let day = Day::of(old).0;
    collector.database.sql(&format!(
        "INSERT INTO frame VALUES (24, 1, 1, DATE '1970-01-01' + {day}, 1, 0, {old}, 1, NULL, 1,
            DATE '1970-01-01' + {day}, {old}, ''); UPDATE stream SET next_seq = 2, framed_to = 2 WHERE host_id = 24"
    ));
    let fence = take(&collector, now);
    assert_eq!(retain(&collector, fence, now).unwrap(), 0);
    assert!(weeks(&collector).contains(&week));
    collector.database.sql("UPDATE stream SET compacted_to = 2 WHERE host_id = 24");
    assert!(retain(&collector, fence, now).unwrap() >= 1);
    assert!(!weeks(&collector).contains(&week));
}

#[test]
fn the_last_row_of_each_series_begins_the_month_after_the_one_that_goes() {
    let collector = Collector::shared();
    let now = now_ms();
    let month = Day::of(now - 500 * DAY_MS).month();
    let next = Table::Usage.next(month);
    collector.runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        for table in [Table::Usage, Table::OwnerUsage] {
            ensure(&mut connection, table, month).await.unwrap();
        }
        ensure(&mut connection, Table::Usage, Day::of(now - 400 * DAY_MS)).await.unwrap();
    });
    let (at, day) = (month.start_ms(), month.0);
    // The first that stays. Its row of one namespace does not begin with it.
    let stays = Day::of(now - 400 * DAY_MS).month();
    let (stays_at, stays_day) = (stays.start_ms(), stays.0);
    collector.database.sql(&format!(
        "INSERT INTO usage SELECT h, 1, 1, at, DATE '1970-01-01' + day, true, slots, used, most,
            n, n, n, n, n, n, n, n, n, n, n, n, n
        FROM (VALUES
            (1, {at}, {day}, '{{6,71}}'::smallint[], '{{8,7}}'::numeric[], '{{13,14}}'::numeric[]),
            (1, {at} + 43200000, {day}, '{{6,70}}', '{{8,9}}', '{{13,14}}'),
            (2, {at}, {day}, '{{6,70}}', '{{8,NULL}}', '{{13,NULL}}'),
            (3, {at}, {day}, '{{6}}', '{{4}}', '{{NULL}}'),
            (3, {stays_at}, {stays_day}, '{{5}}', '{{3}}', '{{6}}')) AS v (h, at, day, slots, used, most),
            array_fill(NULL::numeric, ARRAY[cardinality(slots)]) AS n;
        INSERT INTO owner_usage (host_id, slot_ms, month, wall_ms, boot_id, own, own_instance, kinds, uids, objects,
            objects_max)
        SELECT h, {at}, DATE '1970-01-01' + {day}, {at}, '\\x{boot}', 7, 8, kinds, kinds, objects, most
        FROM (VALUES (1, '{{0,1}}'::smallint[], '{{3,NULL}}'::int[], '{{9,4}}'::int[]), (2, '{{}}', '{{}}', NULL))
            AS v (h, kinds, objects, most)",
        boot = "00".repeat(16)
    ));
    let fence = take(&collector, now);
    assert_eq!(retain(&collector, fence, now).unwrap(), 2 * months_to(now - 400 * DAY_MS, month));
    let rows = collector.database.sql("SELECT host_id, slots, sem_arrays, sem_arrays_max FROM usage ORDER BY 1");
    assert_eq!(rows, "1|{0}|{9}|{NULL}\n3|{0,5}|{4,3}|{NULL,6}\n", "of host 2 the namespace is gone");
    let held = collector.runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        let mut tx = connection.write().await.unwrap();
        let [one] = &of_slots(&mut tx, HostId(1), &[stays_at]).await.unwrap()[..] else { panic!("a row of host 1") };
        let own = NamespaceId { inode: 7, instance: 8 };
        let owners: Vec<_> = one.owners.iter().map(|(k, h)| (k.namespace, h.now.map(|n| n.objects), h.most)).collect();
        assert_eq!(owners, [(own, Some(3), 3), (own, None, 0)]);
        assert_eq!(of_slots(&mut tx, HostId(2), &[stays_at]).await.unwrap(), []);
        tx.commit().await.unwrap();
        list(&mut connection, Table::Usage).await.unwrap()
    });
    assert!(held[0] > next, "{held:?}");
}

#[test]
fn flags_that_are_over_are_forgotten_with_their_transitions_and_one_that_is_up_never() {
    let collector = Collector::shared();
    let now = now_ms();
    let (old, new) = (now - 401 * DAY_MS, now - 399 * DAY_MS);
    let imported = 1_i64 << 62;
    // Up since long ago; over since long ago; since then; and since long ago in a past that was imported, then and now.
    collector.database.sql(&format!(
        "INSERT INTO host (host_id, name, enrolled_ms) VALUES (31, 'h', 0);
        INSERT INTO flag (host_id, flag_id, namespace, resource, kind, severity, state, raised_ms, cleared_ms, why, remedy)
        SELECT 31, n, 1, 'SEMMNI', 'tight', 'warning', state, {old}, at, '', '[]' FROM (VALUES
            (1, 'open', NULL::bigint), (2, 'acknowledged', NULL), (3, 'cleared', {old}), (4, 'cleared', {new}),
            (5, 'cleared', {old}), (6, 'cleared', {old})) AS v (n, state, at);
        INSERT INTO flag_event (host_id, flag_id, no, at_ms, epoch_no, seq, what, severity)
        SELECT 31, n, no, {old}, CASE n WHEN 5 THEN {imported} WHEN 6 THEN {imported} + 1 ELSE 1 END, 0, 'raised', 'warning'
        FROM generate_series(1, 6) AS n, generate_series(0, 1) AS no;
        INSERT INTO stream (host_id, epoch_no, epoch_id, boot_id, next_seq, chain, interval_ms, stretch, session,
            opened_ms, pending_detail, compacted_to, framed_to, merged_to, covered_wall_ms)
        SELECT 31, {imported} + n, 1, '\\x{boot}', 1, '\\x0000000000000000', 1000, 0, 0, at, '', 1, 1, 1, {old}
        FROM (VALUES (0, {old}), (1, {new})) AS v (n, at)",
        boot = "00".repeat(16)
    ));
    let fence = take(&collector, now);
    assert!(matches!(retain(&collector, Fence(9), now), Err(LeaseError::Lost { .. })));
    assert_eq!(collector.count("flag"), 6, "without the lease nothing goes");
    // What of the epochs goes with the chunks is another matter.
    let keep = Keep { chunks: "100y".parse().unwrap(), ..Keep::default() };
    let retention = Retention { keep, lease: "retention".into(), fence };
    collector.runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        retention.run(&mut connection, now).await.unwrap();
    });
    let left = |table: &str| collector.database.sql(&format!("SELECT DISTINCT flag_id FROM {table} ORDER BY 1"));
    assert_eq!(left("flag"), "1\n2\n4\n6\n");
    assert_eq!(left("flag_event"), left("flag"));
}

/// How many months from `first` on end before that time.
fn months_to(end_ms: i64, first: Day) -> usize {
    let mut count = 0;
    let mut month = first;
    while Table::Usage.next(month).start_ms() < end_ms {
        month = Table::Usage.next(month);
        count += 1;
    }
    count
}
