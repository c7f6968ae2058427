//! What is said of who holds objects, story by story.

use std::collections::BTreeMap;

use highwater_ipc::object::{Key, Kind, Owner, Perms, SemArray};
use highwater_ipc::time::At;
use highwater_ipc::who::{Doubt, Grade};
use proptest::prelude::*;

use super::model::{Traced, World};
use super::*;
use crate::kernel::Entry;
use crate::kernel::fake::{FakeKernel, HOME};
use crate::sys::errno::Errno;

fn grade(world: &World, semid: i32) -> Option<(Grade, Doubt)> {
    world.orphan(semid).map(|orphan| (orphan.grade, orphan.doubt))
}

const CERTAIN: Option<(Grade, Doubt)> = Some((Grade::Certain, Doubt::None));

fn likely(doubt: Doubt) -> Option<(Grade, Doubt)> {
    Some((Grade::Likely, doubt))
}

/// A service of a user that makes an array, initialises and uses it.
fn plain(world: &mut World) -> (i32, i32) {
    let pid = world.service(0, "postgres", 1007).unwrap();
    let semid = world.create(pid, 0, 2, true).unwrap();
    world.seconds(2);
    world.semop(pid, semid, 0);
    world.seconds(3);
    (pid, semid)
}

#[test]
fn what_a_dead_service_left_is_certain_after_the_waiting_period_and_not_before() {
    for traced in [Traced::Off, Traced::Lossy, Traced::Whole] {
        let mut world = World::new(traced, false);
        let (pid, semid) = plain(&mut world);
        assert_eq!((grade(&world, semid), world.who.comms.get(&1007).map(Vec::len)), (None, Some(1)));
        world.exit(pid, true);
        world.seconds(2);
        assert_eq!(grade(&world, semid), likely(Doubt::Waiting));
        world.seconds(2);
        assert_eq!(grade(&world, semid), likely(Doubt::Waiting));
        world.seconds(4);
        assert_eq!(grade(&world, semid), CERTAIN);
        assert_eq!(world.orphan(semid).unwrap().last_pids, [pid]);
        assert_eq!(world.who.objects[&(Kind::Sem, semid)].comm, Some("postgres".into()), "the dead one's name stays");
    }
}

#[test]
fn a_zombie_that_nobody_waited_for_counts() {
    let mut world = World::new(Traced::Whole, false);
    let (pid, semid) = plain(&mut world);
    world.exit(pid, false);
    world.seconds(12);
    assert_eq!(grade(&world, semid), None);
}

#[test]
fn while_the_master_of_dead_children_is_stopped_nothing_is_certain() {
    for traced in [Traced::Off, Traced::Lossy, Traced::Whole] {
        let mut world = World::new(traced, false);
        let master = world.service(0, "apache2", 0).unwrap();
        let semid = world.create(master, 0, 1, true).unwrap();
        world.chown(semid, 33);
        let child = world.fork(master, 0).unwrap();
        world.setuid(child, 33);
        world.seconds(3);
        world.semop(child, semid, 0);
        world.seconds(3);
        assert_eq!(grade(&world, semid), None);
        world.exit(child, true);
        world.seconds(20);
        // A stopped process is in /proc as any other.
        assert_eq!(grade(&world, semid), likely(Doubt::MakerLives), "{traced:?}");
        world.exit(master, true);
        world.seconds(12);
        assert_eq!(grade(&world, semid), CERTAIN, "{traced:?}");
    }
}

#[test]
fn a_new_apache_of_the_same_name_does_not_hold_what_the_old_one_left_but_its_uid_does() {
    let mut world = World::new(Traced::Whole, false);
    let old = world.service(0, "apache2", 0).unwrap();
    let semid = world.create(old, 0, 1, true).unwrap();
    world.chown(semid, 33);
    world.seconds(3);
    world.exit(old, true);
    world.seconds(12);
    assert_eq!(grade(&world, semid), CERTAIN);
    // Daemons begin by leaving their parent: until it has a child of that uid it might have descended from the old one.
    let new = world.service(7, "apache2", 0).unwrap();
    world.seconds(2);
    assert_eq!(grade(&world, semid), likely(Doubt::MakerLives));
    let child = world.fork(new, 0).unwrap();
    world.setuid(child, 33);
    world.seconds(2);
    assert_eq!(grade(&world, semid), likely(Doubt::OwnerLives));
}

#[test]
fn an_array_whose_maker_was_never_seen_is_at_most_likely() {
    let mut world = World::new(Traced::Off, false);
    let master = world.service(0, "apache2", 0).unwrap();
    let semid = world.create(master, 0, 1, true).unwrap();
    world.chown(semid, 33);
    world.semop(master, semid, 0);
    world.exit(master, true);
    world.seconds(20);
    assert_eq!(grade(&world, semid), likely(Doubt::MakerUnknown));
}

#[test]
fn hidden_processes_keep_everything_from_being_certain() {
    let mut world = World::new(Traced::Whole, true);
    let (pid, semid) = plain(&mut world);
    world.exit(pid, true);
    world.seconds(20);
    assert_eq!(grade(&world, semid), likely(Doubt::NotAllSeen));
}

/// A kernel with one array of uid 1007, which pid 300 of that uid used last at each semaphore.
fn kernel(nsems: u32) -> FakeKernel {
    let mut kernel = FakeKernel::new();
    let owner = Owner { uid: 1007, gid: 1007, cuid: 1007, cgid: 1007 };
    let row = SemArray { key: Key(7), semid: 5, perms: Perms(0o600), nsems, owner, otime: 90, ctime: 90 };
    kernel.sem.push(row);
    for index in 0..nsems {
        kernel.semaphores.insert((5, index), Ok((300, 0)));
    }
    process(&mut kernel, 300, 1007, "cook");
    let mount = "22 27 0:21 / /proc rw - proc proc rw";
    kernel.files.insert("/proc/self/mountinfo".into(), Ok(mount.into()));
    kernel.files.insert("/proc/self/status".into(), Ok(b"Uid:\t0\t0\t0\t0\n".to_vec()));
    kernel
}

fn process(kernel: &mut FakeKernel, pid: i32, uid: u32, comm: &str) {
    kernel.process(pid, HOME.inode);
    kernel.entries.insert(pid, Entry { mark: (pid.unsigned_abs().into(), 0), uid });
    let stat = format!("{pid} ({comm}) S 1 0 {pid} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 5000 0");
    let status = format!("Name:\t{comm}\nTgid:\t{pid}\nPPid:\t1\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nNSpid:\t{pid}\n");
    kernel.files.insert(format!("/proc/{pid}/stat"), Ok(stat.into_bytes()));
    kernel.files.insert(format!("/proc/{pid}/status"), Ok(status.into_bytes()));
}

/// Samples that kernel at that second since boot, which was at second 0 of 1970.
fn sample(watch: &mut Watch, kernel: &mut FakeKernel, second: u64) -> Who {
    let at = At { wall_ms: i64::try_from(second * 1000).unwrap(), boot_us: second * 1_000_000 };
    watch.scan_if_due(kernel, at);
    let sem = kernel.sem.clone();
    let objects = Objects { sem: Some(&sem), shm: Some(&[]), msg: Some(&[]) };
    watch.of(kernel, HOME, objects, at).unwrap()
}

fn grade_of(who: &Who) -> Option<(Grade, Doubt)> {
    let orphan = who.objects.get(&(Kind::Sem, 5))?.orphan.as_ref()?;
    Some((orphan.grade, orphan.doubt))
}

/// Samples each second from the 100th, with pid 300 dead from the 105th on.
fn after_its_death(mut kernel: FakeKernel) -> Option<(Grade, Doubt)> {
    let mut watch = Watch::new(Duration::from_secs(4));
    for second in 100..105 {
        sample(&mut watch, &mut kernel, second);
    }
    kernel.processes.remove(&300);
    (105..125).map(|second| sample(&mut watch, &mut kernel, second)).last().as_ref().and_then(grade_of)
}

#[test]
fn a_process_with_its_makers_name_that_is_older_than_the_last_change_may_be_the_maker() {
    let with = |comm: &str, began: u32| {
        let mut machine = kernel(1);
        process(&mut machine, 50, 0, "init-of-it");
        process(&mut machine, 51, 0, comm);
        // Its parent lives: it is no orphan that the maker might have left behind.
        let stat = format!("51 ({comm}) S 50 0 50 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 {began} 0");
        machine.files.insert("/proc/51/stat".into(), Ok(stat.into_bytes()));
        let status = format!("Name:\t{comm}\nTgid:\t51\nPPid:\t50\nUid:\t0\t0\t0\t0\nNSpid:\t51\n");
        machine.files.insert("/proc/51/status".into(), Ok(status.into_bytes()));
        after_its_death(machine)
    };
    assert_eq!(with("cook", 5_000), likely(Doubt::MakerLives));
    assert_eq!(with("cook", 10_300), CERTAIN, "it began when the array had been seen unchanged");
    assert_eq!(with("waiter", 5_000), CERTAIN);
}

#[test]
fn an_array_that_is_awaited_or_may_not_be_asked_is_not_graded() {
    assert_eq!(after_its_death(kernel(3)), CERTAIN);
    let mut awaited = kernel(3);
    awaited.semaphores.insert((5, 2), Ok((300, 1)));
    assert_eq!(after_its_death(awaited), None);
    let mut closed = kernel(3);
    closed.semaphores.insert((5, 1), Err(Errno::EACCES));
    assert_eq!(after_its_death(closed), None);
    let mut unused = kernel(1);
    unused.semaphores.insert((5, 0), Ok((0, 0)));
    assert_eq!(after_its_death(unused), None, "pid 0 is unknown, never dead");
}

#[test]
fn an_array_of_too_many_semaphores_is_never_certain() {
    assert_eq!(after_its_death(kernel(space::MAX_SEMAPHORES)), CERTAIN);
    assert_eq!(after_its_death(kernel(space::MAX_SEMAPHORES + 1)), likely(Doubt::Waiting));
}

#[test]
fn a_process_that_cannot_be_read_may_be_anybody() {
    let mut closed = kernel(1);
    process(&mut closed, 77, 0, "x");
    closed.fail("/proc/77/status", Errno::EACCES);
    assert_eq!(after_its_death(closed), likely(Doubt::NotAllSeen));
}

#[test]
fn a_saved_uid_is_found_by_a_deep_scan() {
    let mut kernel = kernel(1);
    process(&mut kernel, 77, 0, "su");
    let status = "Name:\tsu\nTgid:\t77\nPPid:\t1\nUid:\t0\t0\t1007\t0\nNSpid:\t77\n";
    kernel.files.insert("/proc/77/status".into(), Ok(status.into()));
    assert_eq!(after_its_death(kernel), likely(Doubt::OwnerLives));
}

#[test]
fn a_pid_that_an_older_process_has_is_its_own_and_one_that_began_after_the_operation_may_be_another() {
    let first = |start_tick: u32, otime: i64| {
        let mut kernel = kernel(1);
        kernel.sem[0].otime = otime;
        let stat = format!("300 (x) S 1 0 300 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 {start_tick} 0");
        kernel.files.insert("/proc/300/stat".into(), Ok(stat.into_bytes()));
        let status = "Name:\tx\nTgid:\t300\nPPid:\t1\nUid:\t0\t0\t0\t0\nNSpid:\t300\n";
        kernel.files.insert("/proc/300/status".into(), Ok(status.into()));
        kernel.entries.insert(300, Entry { mark: (300, 0), uid: 0 });
        grade_of(&sample(&mut Watch::default(), &mut kernel, 1000))
    };
    assert_eq!(first(89_00, 90), None);
    assert_eq!(first(91_00, 90), None, "within the second");
    assert_eq!(first(92_00, 90), likely(Doubt::MakerUnknown));
}

#[test]
fn owners_are_the_processes_of_the_uid_in_that_namespace() {
    let mut kernel = kernel(1);
    process(&mut kernel, 301, 1007, "waiter");
    process(&mut kernel, 302, 1007, "elsewhere");
    kernel.process(302, 9);
    process(&mut kernel, 303, 0, "root");
    let mut watch = Watch::default();
    let who = sample(&mut watch, &mut kernel, 100);
    let comms = |who: &Who| who.comms.clone();
    assert_eq!(comms(&who), BTreeMap::from([(1007, vec!["cook".into(), "waiter".into()])]));
    kernel.processes.remove(&301);
    assert_eq!(comms(&sample(&mut watch, &mut kernel, 110)), comms(&who), "what comes and goes is no change");
    for second in [120, 130, 140, 150, 160] {
        sample(&mut watch, &mut kernel, second);
    }
    assert_eq!(comms(&sample(&mut watch, &mut kernel, 170)), BTreeMap::from([(1007, vec!["cook".into()])]));
}

#[test]
fn between_scans_nothing_is_asked_of_what_is_known() {
    let mut kernel = kernel(3);
    let mut watch = Watch::default();
    let who = sample(&mut watch, &mut kernel, 100);
    kernel.processes.clear();
    kernel.semaphores.clear();
    assert_eq!(sample(&mut watch, &mut kernel, 109), who);
}

#[test]
fn a_kind_that_could_not_be_read_keeps_what_was_known() {
    let mut kernel = kernel(1);
    let mut watch = Watch::default();
    let who = sample(&mut watch, &mut kernel, 100);
    assert!(who.objects.contains_key(&(Kind::Sem, 5)));
    let at = At { wall_ms: 101_000, boot_us: 101_000_000 };
    watch.scan_if_due(&mut kernel, at);
    assert_eq!(watch.of(&mut kernel, HOME, Objects::default(), at), Some(who));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn pids_that_come_and_go_change_nothing(workers in proptest::collection::vec((0_u16..30, 0_usize..3), 1..40)) {
        let mut world = World::new(Traced::Whole, false);
        let master = world.service(0, "apache2", 0).unwrap();
        let semid = world.create(master, 0, 3, true).unwrap();
        world.chown(semid, 33);
        let mut pool = Vec::new();
        for which in 0..3 {
            let child = world.fork(master, which).unwrap();
            world.setuid(child, 33);
            world.semop(child, semid, usize::from(which));
            pool.push(child);
        }
        world.seconds(4);
        let before = world.who.clone();
        prop_assert_eq!(before.comms.get(&33), Some(&vec!["apache2".into()]));
        for (which, index) in workers {
            if let Some(child) = world.fork(master, which) {
                world.setuid(child, 33);
                world.semop(child, semid, index);
                world.exit(std::mem::replace(&mut pool[index], child), true);
            }
            world.pass(400_000, true);
            prop_assert_eq!(&world.who, &before);
        }
    }
}
