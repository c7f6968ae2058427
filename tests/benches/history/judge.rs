//! What judging costs: one host's ten minutes, as compaction hands them over, with two weeks behind it.

use std::time::Instant as Clock;

use highwater::evaluate::feed;
use highwater::evaluate::judge::{Judge, Memory, Sample};
use highwater::evaluate::rules::Ruling;
use highwater::evaluate::state;
use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::walk::{Place, Position};
use highwater::store::flag;
use highwater_ipc::activity::{Act, Activity, Actor, Did};
use highwater_ipc::limits::Totals;
use highwater_ipc::object::{Key, Kind};
use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::snapshot::State;
use highwater_ipc::text::HostText;

use crate::cost::Cpu;
use crate::day;
use crate::host::FIRST_DAY_MS;
use crate::stack::Stack;

/// Ten minutes of a host that is sampled each 10 s.
const SAMPLES: u64 = 60;
const STEP_MS: i64 = 10_000;
/// Steps of two weeks.
const STEPS: u64 = 14 * 24 * 6;
const HOSTS: f64 = 10_000.0;

pub fn measure() {
    println!("{:44} {:>12} {:>12} {:>14}", "", "us a step", "bytes", "cores, 10k hosts");
    let scenes = [
        ("nothing changes", false, 0),
        ("each sample is another one", true, 0),
        ("and 16 programs are seen to make arrays", true, 16),
    ];
    for (what, changes, programs) in scenes {
        let mut state = day::made()[0].state.clone();
        state.interval_ms = 10_000;
        let (mut memory, mut bytes, mut dice) = (Memory::default(), Vec::new(), 1_u64);
        let (mut last_day, mut counted) = (std::time::Duration::ZERO, 0_u32);
        for step in 0..STEPS {
            let begun = Clock::now();
            if let Some(read) = state::unpack(&bytes) {
                memory = read;
            }
            let mut judge = Judge::new(HostId(1), memory, Ruling::default());
            for nth in 0..SAMPLES {
                let number = step * SAMPLES + nth;
                let wall_ms = FIRST_DAY_MS + i64::try_from(number).unwrap() * STEP_MS;
                if changes {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let few = (dice >> 40) % 400;
                    let totals = Totals {
                        sem_arrays: 100 + few,
                        semaphores: 2_000 + 3 * few,
                        shm_segments: 50 + few / 2,
                        shm_pages: 100_000 + 77 * few,
                        msg_queues: 10 + few / 9,
                        ..Totals::default()
                    };
                    state.namespaces[0].totals = Some(totals);
                }
                let prev_wall_ms = (number > 0).then_some(wall_ms - STEP_MS);
                let boot_us = 60_000_000 + number * 10_000_000;
                let sample =
                    feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch: number == 0, state: &state };
                let position = Position { place: Place::own(EpochNo(1), 0), seq: Seq(number) };
                judge.sample(&Sample { position, sample, activity: &seen(&state, programs, number) });
            }
            let (_, left) = judge.finish(Some(&state));
            bytes = state::pack(&left).unwrap();
            memory = Memory::default();
            if step + 144 >= STEPS {
                last_day += begun.elapsed();
                counted += 1;
            }
        }
        let each = last_day.as_secs_f64() / f64::from(counted);
        println!("{what:44} {:12.0} {:12} {:14.3}", each * 1e6, bytes.len(), each * HOSTS / 600.0);
        stored(&bytes);
    }
}

/// What it costs that each step reads what is remembered of its host, and stores it again: here and in PostgreSQL.
fn stored(bytes: &[u8]) {
    const STORED: i64 = 1_000;
    const ROUNDS: i64 = 3;
    let stack = Stack::start(FIRST_DAY_MS);
    stack.database.sql(&format!(
        "INSERT INTO host (host_id, name, enrolled_ms) SELECT n, 'host-' || n, 0 FROM generate_series(1, {STORED}) AS n"
    ));
    let begun = Cpu::now(&stack.database);
    stack.runtime.block_on(async {
        let mut connection = stack.db.dedicated().await.unwrap();
        for id in (1..=STORED).cycle().take(usize::try_from(STORED * ROUNDS).unwrap()) {
            let mut reading = Reading::begin(&stack.db).await.unwrap();
            let known = reading.judged(HostId(id)).await.unwrap().unwrap().memory;
            assert!(known.is_none_or(|known| known == bytes));
            drop(reading);
            let mut tx = connection.write().await.unwrap();
            flag::remember(&mut tx, HostId(id), 0.5, bytes).await.unwrap();
            tx.commit().await.unwrap();
        }
        connection.close().await;
    });
    let (here, server) = begun.since(&stack.database);
    let each = |seconds: f64| seconds / (STORED * ROUNDS) as f64;
    let (here, server) = (each(here), each(server));
    let cores = (here + server) * HOSTS / 600.0;
    println!(
        "{:44} {:12.0} {:12} {cores:14.3}",
        "  to read that and store it, and in PostgreSQL",
        here * 1e6,
        format!("+ {:.0} us", server * 1e6)
    );
}

/// What was traced before a sample: each program made one array, in a process of its own, and removed the one before.
fn seen(state: &State, programs: u32, number: u64) -> Activity {
    let act = |(did, id): (Did, u64), program: u32| Act {
        did,
        kind: Kind::Sem,
        namespace: Some(state.namespaces[0].id),
        by: Actor {
            pid: i32::try_from(u64::from(program) * 100 + number % 7).unwrap(),
            comm: HostText::from(&*format!("worker-{program}")),
            uid: Some(1_000 + program),
            parent: HostText::default(),
        },
        first_us: 60_000_000 + number * 10_000_000 - 1_000,
        last_us: 60_000_000 + number * 10_000_000 - 1_000,
        count: 1,
        key: Key(0),
        size: 1,
        ids: vec![i32::try_from(id * 16 + u64::from(program)).unwrap()],
        bound_by: None,
    };
    let acts = (0..programs).flat_map(|program| {
        [act((Did::Created, number), program), act((Did::Removed, number.saturating_sub(1)), program)]
    });
    Activity { acts: acts.collect(), ..Activity::default() }
}
