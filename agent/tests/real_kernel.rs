//! The running kernel and the fake one keep the same contract; the running one in an IPC namespace of its own (needs
//! root, `unshare` and `ipcmk`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: it may panic anywhere")]

use std::env;
use std::process::Command;

use highwater_agent::clock::SystemClock;
use highwater_agent::kernel::fake::FakeKernel;
use highwater_agent::kernel::real::RealKernel;
use highwater_agent::kernel::sysvipc::{Extent, parse_msg, parse_sem, parse_shm};
use highwater_agent::kernel::{Account, Kernel, limits};
use highwater_agent::sampler::Assembler;
use highwater_agent::sys::errno::Errno;
use highwater_ipc::availability::SysvipcState;
use highwater_ipc::object::{Key, MsgQueue, Owner, Perms, SemArray, ShmSegment};

/// Makes objects with gaps between their indices, then runs this program's other test among them.
const INSIDE: &str = r#"
set -e
for n in 1 2 3; do ipcmk -S $n -p 0640 >/dev/null; ipcmk -M 1000$n >/dev/null; ipcmk -Q >/dev/null; done
ipcrm -s "$(ipcs -s | awk '$5 == 2 {print $2}')"
ipcrm -q "$(awk 'NR == 2 {print $2}' /proc/sysvipc/msg)"
exec "$0" --exact --ignored --nocapture inside_a_namespace_with_objects
"#;

#[test]
fn the_running_kernel_keeps_the_contract() {
    let me = env::current_exe().unwrap();
    let output = Command::new("unshare").args(["--ipc", "sh", "-c", INSIDE]).arg(me).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by the_running_kernel_keeps_the_contract in a namespace it makes"]
fn inside_a_namespace_with_objects() {
    let mut kernel = RealKernel::new();
    keeps_the_contract(&mut kernel);
    let state = Assembler::new(Box::new(kernel)).sample(&SystemClock, 1000).snapshot.state;
    assert_eq!(state.availability.state, SysvipcState::Available);
    let namespace = &state.namespaces[0];
    assert!(namespace.complete() && !namespace.torn, "{namespace:?}");
    let sizes: Vec<u32> = namespace.sem.iter().flatten().map(|array| array.nsems).collect();
    assert_eq!(sizes, [1, 3]);
    assert_eq!(namespace.msg.iter().flatten().map(|queue| queue.qbytes).collect::<Vec<_>>(), [Some(16_384); 2]);
    assert_eq!(state.users[&0].as_bytes(), b"root");
}

#[test]
fn the_fake_kernel_keeps_the_contract() {
    let owner = Owner::default();
    let perms = Perms(0o640);
    let array = |semid, nsems| SemArray { key: Key(-7), semid, perms, nsems, owner, otime: 0, ctime: 5 };
    let segment = ShmSegment {
        key: Key(1),
        shmid: 2,
        perms,
        size: 10_001,
        cpid: 1,
        lpid: 0,
        nattch: 0,
        owner,
        atime: 0,
        dtime: 0,
        ctime: 5,
        rss: 4096,
        swap: 0,
    };
    let queue = MsgQueue {
        key: Key(2),
        msqid: 32_769,
        perms,
        cbytes: 0,
        qnum: 0,
        qbytes: None,
        lspid: 0,
        lrpid: 0,
        owner,
        stime: 0,
        rtime: 0,
        ctime: 5,
    };
    let names = [(Account::User(0), "root".into()), (Account::Group(0), "root".into())];
    keeps_the_contract(&mut FakeKernel {
        sem: vec![array(0, 1), array(32_770, 3)],
        shm: vec![segment],
        msg: vec![queue],
        names: names.into(),
        ..FakeKernel::new()
    });
}

/// What the sampler relies on, in a namespace with at least one object of each kind and nobody else in it.
fn keeps_the_contract(kernel: &mut dyn Kernel) {
    let mut bytes = vec![1, 2, 3];
    assert_eq!(kernel.read("/proc/sysvipc/none", 100, &mut bytes), Err(Errno::ENOENT));
    assert_eq!(kernel.read("/proc/sysvipc/sem", 10, &mut bytes), Ok(false));
    assert_eq!(bytes.len(), 10);

    let whole = Extent { budget: usize::MAX, whole: true };
    let index = |id: i32| id.cast_unsigned() & 0x7fff;
    assert_eq!(kernel.read("/proc/sysvipc/sem", 1 << 20, &mut bytes), Ok(true));
    let arrays = parse_sem(&bytes, whole).unwrap().objects;
    let used = kernel.sem_info().unwrap();
    assert_eq!(used.arrays, u64::try_from(arrays.len()).unwrap());
    assert_eq!(used.semaphores, arrays.iter().map(|array| u64::from(array.nsems)).sum::<u64>());
    assert_eq!(Some(used.max_index), arrays.iter().map(|array| index(array.semid)).max());
    for array in &arrays {
        assert_eq!(kernel.sem_stat(index(array.semid)), Ok(*array));
    }
    assert_eq!(kernel.sem_stat(used.max_index + 1), Err(Errno::EINVAL));

    kernel.read("/proc/sysvipc/shm", 1 << 20, &mut bytes).unwrap();
    let segments = parse_shm(&bytes, whole).unwrap().objects;
    assert_eq!(kernel.shm_info().unwrap().segments, u64::try_from(segments.len()).unwrap());
    for segment in &segments {
        assert_eq!(kernel.shm_stat(index(segment.shmid)), Ok(ShmSegment { rss: 0, swap: 0, ..*segment }));
    }
    let beyond = kernel.shm_info().unwrap().max_index + 1;
    assert_eq!(kernel.shm_stat(beyond), Err(Errno::EINVAL));

    kernel.read("/proc/sysvipc/msg", 1 << 20, &mut bytes).unwrap();
    let queues = parse_msg(&bytes, whole).unwrap().objects;
    assert_eq!(kernel.msg_info().unwrap().queues, u64::try_from(queues.len()).unwrap());
    for queue in &queues {
        let answer = kernel.msg_stat(index(queue.msqid)).unwrap();
        assert!(answer.qbytes.is_some());
        assert_eq!(answer, MsgQueue { qbytes: answer.qbytes, ..*queue });
    }
    let beyond = kernel.msg_info().unwrap().max_index + 1;
    assert_eq!(kernel.msg_stat(beyond), Err(Errno::EINVAL));
    assert!(!arrays.is_empty() && !segments.is_empty() && !queues.is_empty());

    let l = limits::read(kernel, &mut bytes).unwrap();
    let (sem, shm, msg) = (kernel.sem_limits().unwrap(), kernel.shm_limits().unwrap(), kernel.msg_limits().unwrap());
    assert_eq!((sem.semmsl, sem.semmns, sem.semopm, sem.semmni), (l.semmsl, l.semmns, l.semopm, l.semmni));
    assert_eq!((shm.shmmax, shm.shmall, shm.shmmni), (l.shmmax, l.shmall, l.shmmni));
    assert_eq!((msg.msgmax, msg.msgmnb, msg.msgmni), (l.msgmax, l.msgmnb, l.msgmni));

    assert_eq!(kernel.namespace(), kernel.namespace());
    assert_ne!(kernel.namespace().unwrap().inode, 0);
    kernel.refresh_names(0);
    assert_eq!(kernel.name(Account::User(0)), Some("root".into()));
    assert!(kernel.page_size() >= 4096 && !kernel.uname().unwrap().release.is_empty());
}
