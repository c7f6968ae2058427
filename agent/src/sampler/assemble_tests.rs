//! What a sample says when the kernel changes, fails or lies while it is read.

use highwater_ipc::availability::SysvipcState;
use highwater_ipc::object::{Key, Kind, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::snapshot::{LeftOut, Namespace};
use highwater_ipc::time::{At, Clock};
use proptest::prelude::*;

use super::*;
use crate::kernel::fake::FakeKernel;
use crate::sampler::namespaces::budget::MAX_OBJECTS;
use crate::sys::errno::Errno;
use crate::sys::sysvipc::SemUse;

struct Standing;

impl Clock for Standing {
    fn now(&self) -> At {
        At { wall_ms: 7, boot_us: 9 }
    }
}

impl HostClock for Standing {
    fn awake_us(&self) -> u64 {
        8
    }
}

fn array(semid: i32) -> SemArray {
    let owner = Owner { uid: 33, gid: u32::MAX, cuid: 0, cgid: 0 };
    SemArray { key: Key(-5), semid, perms: Perms(0o600), nsems: 3, owner, otime: 0, ctime: 1 }
}

fn segment(shmid: i32) -> ShmSegment {
    ShmSegment {
        key: Key(1),
        shmid,
        perms: Perms(0o1600),
        size: 5000,
        cpid: 1,
        lpid: 2,
        nattch: 1,
        owner: Owner::default(),
        atime: 1,
        dtime: 0,
        ctime: 1,
        rss: 4096,
        swap: 0,
    }
}

fn queue(msqid: i32) -> MsgQueue {
    MsgQueue {
        key: Key(2),
        msqid,
        perms: Perms(0o600),
        cbytes: 5,
        qnum: 1,
        qbytes: None,
        lspid: 3,
        lrpid: 0,
        owner: Owner::default(),
        stime: 1,
        rtime: 0,
        ctime: 1,
    }
}

fn full() -> FakeKernel {
    let names = [(Account::User(33), "www-data".into()), (Account::User(0), "root".into())];
    FakeKernel {
        sem: vec![array(32_769), array(2)],
        shm: vec![segment(0)],
        msg: vec![queue(32_771)],
        names: names.into(),
        ..FakeKernel::new()
    }
}

fn taken(kernel: FakeKernel) -> Sample {
    Assembler::new(Box::new(kernel)).sample(&Standing, 1000)
}

fn namespace(kernel: FakeKernel) -> Namespace {
    taken(kernel).snapshot.state.namespaces.remove(0)
}

fn reasons(namespace: &Namespace) -> Vec<String> {
    namespace.unreadable.iter().map(|u| format!("{} {}: {}", u.source, u.line, u.error)).collect()
}

#[test]
fn a_sample_holds_everything_the_kernel_shows() {
    let Sample { snapshot, awake_us, .. } = taken(full());
    assert_eq!((snapshot.at, awake_us), (At { wall_ms: 7, boot_us: 9 }, 8));
    let state = snapshot.state;
    assert_eq!(state.availability.state, SysvipcState::Available);
    assert_eq!(state.users, BTreeMap::from([(0, "root".into()), (33, "www-data".into())]));
    let namespace = &state.namespaces[0];
    assert!(namespace.complete() && !namespace.torn);
    assert_eq!(namespace.sem.as_deref(), Some(&[array(32_769), array(2)][..]), "the order is the kernel's, not by id");
    assert_eq!(namespace.shm.as_deref(), Some(&[segment(0)][..]));
    assert_eq!(namespace.msg.as_ref().unwrap()[0].qbytes, Some(16_384), "the file lacks it, MSG_STAT_ANY has it");
    assert_eq!(namespace.totals.unwrap().semaphores, 6);
    assert_eq!(namespace.limits.unwrap().semvmx, 32_767);
}

#[test]
fn a_change_amid_the_reads_is_a_torn_sample() {
    let mut kernel = full();
    kernel.after_read.push(("/proc/sysvipc/sem".into(), Box::new(|kernel| kernel.sem.push(array(9)))));
    let namespace = namespace(kernel);
    assert!(namespace.torn);
    assert_eq!(namespace.sem.unwrap().len(), 2);
    assert_eq!(namespace.totals.unwrap().sem_arrays, 2, "the totals are those before the reads");
}

#[test]
fn a_file_that_cannot_be_opened_for_want_of_descriptors_is_not_none() {
    let mut kernel = full();
    kernel.fail("/proc/sysvipc/sem", Errno::EMFILE);
    let namespace = namespace(kernel);
    assert_eq!((namespace.has(Kind::Sem), namespace.has(Kind::Shm), namespace.has(Kind::Msg)), (false, true, true));
    assert_eq!(reasons(&namespace), ["/proc/sysvipc/sem 0: EMFILE (24): too many open files"]);
}

#[test]
fn a_shortage_of_the_agent_does_not_change_what_it_says_of_the_host() {
    let mut assembler = Assembler::new(Box::new(full()));
    let before = assembler.sample(&Standing, 1000).snapshot.state.availability;
    let mut short = full();
    short.fail("/proc/sysvipc/sem", Errno::EMFILE);
    short.namespace = Err(Errno::EMFILE);
    assembler.kernel = Box::new(short);
    let state = assembler.sample(&Standing, 1000).snapshot.state;
    assert_eq!(state.availability, before);
    assert_eq!(state.namespaces[0].id.inode, 4_026_531_839, "nor where it says that this is");
}

#[test]
fn where_proc_is_hidden_objects_come_by_index_in_the_same_order() {
    let mut kernel = full();
    for kind in Kind::ALL {
        kernel.fail(crate::kernel::sysvipc::path(kind), Errno::ENOENT);
    }
    kernel.sem.reverse();
    let state = taken(kernel).snapshot.state;
    assert_eq!(state.availability.state, SysvipcState::ProcHidden);
    let namespace = &state.namespaces[0];
    assert_eq!(namespace.sem.as_deref(), Some(&[array(32_769), array(2)][..]));
    assert_eq!(namespace.msg.as_ref().unwrap()[0].qbytes, Some(16_384));
    let reason = "/proc/sysvipc/shm 0: ENOENT (2): no such file or directory; SHM_STAT_ANY has no rss, no swap: read 0";
    assert_eq!(reasons(namespace), [reason]);
}

#[test]
fn a_refused_call_leaves_what_the_files_say() {
    let kernel = FakeKernel { calls_fail: Some(Errno::EPERM), ..full() };
    let state = taken(kernel).snapshot.state;
    assert_eq!(state.availability.state, SysvipcState::Blocked);
    let namespace = &state.namespaces[0];
    assert_eq!((namespace.totals, namespace.sem.as_ref().map(Vec::len)), (None, Some(2)));
    assert_eq!(namespace.msg.as_ref().unwrap()[0].qbytes, None);
    assert_eq!(reasons(namespace).len(), 3);
}

#[test]
fn a_configuration_that_says_yes_makes_an_absence_a_refusal() {
    let mut kernel = FakeKernel { calls_fail: Some(Errno::ENOSYS), ..FakeKernel::new() };
    for kind in Kind::ALL {
        kernel.fail(crate::kernel::sysvipc::path(kind), Errno::ENOENT);
    }
    kernel.files.insert("/boot/config-6.1.0-fake".into(), Ok(b"CONFIG_SYSVIPC=y\n".to_vec()));
    assert_eq!(taken(kernel).snapshot.state.availability.state, SysvipcState::Blocked);
}

#[test]
fn objects_beyond_the_budget_are_counted() {
    let over = i32::try_from(MAX_OBJECTS).unwrap() + 5;
    let kernel = FakeKernel { sem: (0..over).map(array).collect(), index_bits: 24, ..full() };
    let namespace = namespace(kernel);
    assert_eq!(namespace.sem.as_ref().map(Vec::len), Some(MAX_OBJECTS));
    assert_eq!(namespace.left_out, LeftOut { sem: 5, shm: 1, msg: 1 });
    assert!(!namespace.complete());
}

#[test]
fn queues_of_a_kernel_with_long_indices_have_their_size_too() {
    let kernel = FakeKernel { msg: vec![queue(0x0100_8001), queue(1)], index_bits: 24, ..FakeKernel::new() };
    let sizes: Vec<_> = namespace(kernel).msg.unwrap().iter().map(|queue| queue.qbytes).collect();
    assert_eq!(sizes, [Some(16_384), Some(16_384)]);
}

#[test]
fn limits_come_by_call_where_their_files_are_missing() {
    let mut kernel = full();
    for file in ["sem", "shmmax", "shmall", "shmmni", "msgmax", "msgmnb", "msgmni"] {
        kernel.fail(&format!("/proc/sys/kernel/{file}"), Errno::ENOENT);
    }
    let namespace = namespace(kernel);
    assert_eq!((namespace.limits, namespace.complete()), (Some(crate::kernel::fake::DEFAULT_LIMITS), true));
}

#[test]
fn a_changed_limit_is_in_the_next_sample() {
    let mut assembler = Assembler::new(Box::new(full()));
    assembler.sample(&Standing, 1000);
    let mut changed = full();
    changed.limits.semmni = 128;
    assembler.kernel = Box::new(changed);
    let state = assembler.sample(&Standing, 1000).snapshot.state;
    assert_eq!(state.namespaces[0].limits.unwrap().semmni, 128);
}

#[test]
fn totals_that_count_what_is_not_there_are_told_as_they_are() {
    let sem_info = Some(Ok(SemUse { arrays: u64::MAX, semaphores: 0, max_index: u32::MAX }));
    let mut kernel = FakeKernel { sem_info, ..full() };
    kernel.fail("/proc/sysvipc/sem", Errno::EACCES);
    let namespace = namespace(kernel);
    assert_eq!(namespace.sem.as_ref().map(Vec::len), Some(2));
    assert_eq!(namespace.left_out.sem, u64::MAX - 2, "the search ended before the highest index");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn whatever_files_hold_a_sample_is_taken(
        files in proptest::collection::vec((0..FILES.len(), proptest::collection::vec(any::<u8>(), 0..300)), 0..6),
        errors in proptest::collection::vec((0..FILES.len(), 1..134_i32), 0..6),
        calls in prop::option::of(1..134_i32),
    ) {
        let mut kernel = FakeKernel { calls_fail: calls.map(Errno), ..full() };
        for (file, bytes) in files {
            kernel.files.insert(FILES[file].to_owned(), Ok(bytes));
        }
        for (file, errno) in errors {
            kernel.fail(FILES[file], Errno(errno));
        }
        let namespace = namespace(kernel);
        for kind in Kind::ALL {
            let path = HostText::from(crate::kernel::sysvipc::path(kind));
            prop_assert!(namespace.has(kind) || namespace.unreadable.iter().any(|u| u.source == path));
        }
    }
}

const FILES: [&str; 12] = [
    "/proc/sysvipc/sem",
    "/proc/sysvipc/shm",
    "/proc/sysvipc/msg",
    "/proc/sys/kernel/sem",
    "/proc/sys/kernel/shmmax",
    "/proc/sys/kernel/msgmni",
    "/proc/sys/kernel/random/boot_id",
    "/proc/config.gz",
    "/boot/config-6.1.0-fake",
    "/proc/self/status",
    "/etc/timezone",
    "/etc/localtime",
];
