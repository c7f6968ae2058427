//! Makes, changes and removes System V IPC objects for the tests; run inside a namespace of their own.
//!
//! ```text
//! ipc-tool hold                         prints "holding" and stays until its input closes; a line `attach ID` on its
//!                                       input attaches a shared memory segment, and prints "attached"
//! ipc-tool without-sysvipc -- CMD..     runs CMD with every System V IPC call answered ENOSYS by a seccomp filter
//! ipc-tool refused ERRNO -- CMD..       the same with another errno, by number
//! ipc-tool converse                     as `script`, but each line is answered at once: an id, or 0
//! ipc-tool as COMM UID                  takes that name and uid, prints "ready", and converses; a call that the kernel
//!                                       refuses is answered with the negative errno
//! ipc-tool script                       reads lines from its input:
//!   create-sem KEY NSEMS [MODE]           prints the id; KEY is `private`, 0x hexadecimal or signed decimal
//!   create-shm KEY BYTES [MODE]
//!   create-msg KEY [MODE]
//!   fill sem|shm|msg COUNT                makes COUNT private ones (1 semaphore, 4096 bytes); prints nothing
//!   fill-used COUNT                       makes COUNT private arrays of 1 semaphore and operates each once
//!   burst COUNT NSEMS                     makes COUNT private arrays, then removes them, as fast as that goes
//!   churn sem|shm|msg COUNT               makes and removes one, COUNT times, so that ids move on
//!   chown sem|shm|msg ID UID GID [MODE]   IPC_SET
//!   set-value ID SEMNUM VALUE             SETVAL: the array's ctime moves
//!   operate ID SEMNUM DELTA               semop: otime and the last pid move
//!   wait-for ID SEMNUM                    semop by -1 that waits: nothing moves, and nothing is answered until it is done
//!   rename COMM                           takes another name
//!   send ID BYTES                         one message of that many bytes
//!   receive ID                            takes one message
//!   lock-shm ID                           SHM_LOCK
//!   touch ID BYTES                        writes to each page, so that it takes memory
//!   remove sem|shm|msg ID                 IPC_RMID
//! ```

#![allow(unsafe_code, reason = "the tests need to make objects; the programs under test only read them")]
#![allow(clippy::expect_used, clippy::panic, reason = "what fails here fails the test that asked for it")]

use std::ffi::c_int;
use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

fn main() {
    // Its own name may be no text: a test gives it one that a container could have.
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.into_string().expect("arguments of text")).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["hold"] => hold(),
        ["without-sysvipc", "--", program, rest @ ..] => refused(libc::ENOSYS, program, rest),
        ["refused", errno, "--", program, rest @ ..] => refused(number(errno), program, rest),
        ["converse"] => converse(),
        ["as", comm, uid] => stand_in(comm, number(uid)),
        ["script"] => script(),
        _ => panic!("ipc-tool hold | converse | script | without-sysvipc -- CMD.."),
    }
}

/// Stays until its input closes. As process 1 of a PID namespace it also inherits orphans; ignoring SIGCHLD makes the
/// kernel reap them.
fn hold() {
    // SAFETY: no handler is installed, the disposition is one of the kernel's own.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    println!("holding");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line of text");
        let id = line.strip_prefix("attach ").unwrap_or_else(|| panic!("{line}: no such request"));
        // SAFETY: the kernel chooses the address; nothing is read or written there.
        let address = unsafe { libc::shmat(number(id), std::ptr::null(), 0) };
        assert_ne!(address.addr(), usize::MAX, "shmat: {}", std::io::Error::last_os_error());
        println!("attached");
    }
}

fn script() {
    let mut out = std::io::BufWriter::new(std::io::stdout());
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line of text");
        let words: Vec<&str> = line.split_whitespace().collect();
        match operation(&words) {
            Some(Ok(id)) if words.first().is_some_and(|w| w.starts_with("create-")) => {
                writeln!(out, "{id}").expect("writing an id");
            }
            Some(Ok(_)) => {}
            Some(Err(e)) => panic!("{line}: {e}"),
            None => panic!("{line}: no such operation"),
        }
    }
}

fn converse() {
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line of text");
        match operation(&line.split_whitespace().collect::<Vec<_>>()) {
            // A line is flushed as it ends.
            Some(Ok(result)) => println!("{result}"),
            Some(Err(e)) => panic!("{line}: {e}"),
            None => panic!("{line}: no such operation"),
        }
    }
}

/// A process of that name and uid, for as long as its input is open.
fn stand_in(comm: &str, uid: u32) {
    let name = std::ffi::CString::new(comm).expect("a name without a zero byte");
    // SAFETY: the kernel copies at most 16 bytes of the name; the other calls take numbers.
    let taken = unsafe {
        // Programs have a session of their own: orphans of another test would count as left behind by this one. It is
        // refused to whoever leads a group already, which is as good.
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, name.as_ptr()) == 0
            && libc::setgroups(0, std::ptr::null()) == 0
            && libc::setresgid(uid, uid, uid) == 0
            && libc::setresuid(uid, uid, uid) == 0
    };
    assert!(taken, "becoming {comm} of {uid}: {}", std::io::Error::last_os_error());
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line of text");
        match operation(&line.split_whitespace().collect::<Vec<_>>()) {
            Some(Ok(result)) => println!("{result}"),
            Some(Err(e)) => println!("-{}", e.raw_os_error().expect("an errno")),
            None => panic!("{line}: no such operation"),
        }
    }
}

fn operation(words: &[&str]) -> Option<std::io::Result<c_int>> {
    Some(match words {
        [] => Ok(0),
        ["create-sem", key, nsems] => create_sem(parse_key(key), number(nsems), 0o600),
        ["create-sem", key, nsems, mode] => create_sem(parse_key(key), number(nsems), octal(mode)),
        ["create-shm", key, bytes] => create_shm(parse_key(key), number(bytes), 0o600),
        ["create-shm", key, bytes, mode] => create_shm(parse_key(key), number(bytes), octal(mode)),
        ["create-msg", key] => create_msg(parse_key(key), 0o600),
        ["create-msg", key, mode] => create_msg(parse_key(key), octal(mode)),
        ["fill", kind, count] => (0..number::<u32>(count)).try_fold(0, |_, _| create_private(kind)),
        ["fill-used", count] => {
            (0..number::<u32>(count)).try_fold(0, |_, _| create_private("sem").and_then(|id| operate(id, 0, 1)))
        }
        ["burst", count, nsems] => burst(number(count), number(nsems)),
        ["churn", kind, count] => {
            (0..number::<u32>(count)).try_fold(0, |_, _| create_private(kind).and_then(|id| remove(kind, id)))
        }
        ["chown", kind, id, uid, gid] => change(kind, number(id), number(uid), number(gid), 0o600),
        ["chown", kind, id, uid, gid, mode] => change(kind, number(id), number(uid), number(gid), octal(mode)),
        ["set-value", id, semnum, value] => set_value(number(id), number(semnum), number(value)),
        ["operate", id, semnum, delta] => operate(number(id), number(semnum), number(delta)),
        ["wait-for", id, semnum] => semop(number(id), number(semnum), -1, 0),
        ["rename", comm] => rename(comm),
        ["send", id, bytes] => send(number(id), number(bytes)),
        ["receive", id] => receive(number(id)),
        ["lock-shm", id] => lock_shm(number(id)),
        ["touch", id, bytes] => touch(number(id), number(bytes)),
        ["remove", kind, id] => remove(kind, number(id)),
        _ => return None,
    })
}

fn burst(count: u32, nsems: c_int) -> std::io::Result<c_int> {
    let made: Result<Vec<c_int>, _> = (0..count).map(|_| create_sem(libc::IPC_PRIVATE, nsems, 0o600)).collect();
    made?.into_iter().try_fold(0, |_, id| remove("sem", id))
}

fn touch(id: c_int, bytes: usize) -> std::io::Result<c_int> {
    // SAFETY: the kernel chooses the address of `bytes` bytes, which nothing else uses, and they are written before they
    // are detached.
    unsafe {
        let address = libc::shmat(id, std::ptr::null(), 0);
        if address.addr() == usize::MAX {
            return Err(std::io::Error::last_os_error());
        }
        for page in (0..bytes).step_by(4096) {
            address.cast::<u8>().add(page).write_volatile(1);
        }
        checked(libc::shmdt(address))
    }
}

fn create_private(kind: &str) -> std::io::Result<c_int> {
    match kind {
        "sem" => create_sem(libc::IPC_PRIVATE, 1, 0o600),
        "shm" => create_shm(libc::IPC_PRIVATE, 4096, 0o600),
        "msg" => create_msg(libc::IPC_PRIVATE, 0o600),
        other => panic!("{other} is none of sem, shm, msg"),
    }
}

fn create_sem(key: libc::key_t, nsems: c_int, mode: c_int) -> std::io::Result<c_int> {
    // SAFETY: no pointers.
    checked(unsafe { libc::semget(key, nsems, libc::IPC_CREAT | libc::IPC_EXCL | mode) })
}

fn create_shm(key: libc::key_t, bytes: usize, mode: c_int) -> std::io::Result<c_int> {
    // SAFETY: no pointers.
    checked(unsafe { libc::shmget(key, bytes, libc::IPC_CREAT | libc::IPC_EXCL | mode) })
}

fn create_msg(key: libc::key_t, mode: c_int) -> std::io::Result<c_int> {
    // SAFETY: no pointers.
    checked(unsafe { libc::msgget(key, libc::IPC_CREAT | libc::IPC_EXCL | mode) })
}

fn remove(kind: &str, id: c_int) -> std::io::Result<c_int> {
    let none = std::ptr::null_mut();
    // SAFETY: IPC_RMID ignores the pointer.
    checked(match kind {
        "sem" => unsafe { libc::semctl(id, 0, libc::IPC_RMID) },
        "shm" => unsafe { libc::shmctl(id, libc::IPC_RMID, none) },
        "msg" => unsafe { libc::msgctl(id, libc::IPC_RMID, none.cast()) },
        other => panic!("{other} is none of sem, shm, msg"),
    })
}

#[allow(clippy::useless_conversion, reason = "the mode has 16 bits here, 32 on other architectures")]
fn change(kind: &str, id: c_int, uid: u32, gid: u32, mode: u16) -> std::io::Result<c_int> {
    match kind {
        "sem" => {
            // SAFETY: all zeroes is a valid semid_ds, and it lives until the call returns.
            let mut ds: libc::semid_ds = unsafe { std::mem::zeroed() };
            // SAFETY: IPC_STAT fills the struct it is given.
            checked(unsafe { libc::semctl(id, 0, libc::IPC_STAT, &raw mut ds) })?;
            (ds.sem_perm.uid, ds.sem_perm.gid, ds.sem_perm.mode) = (uid, gid, mode.into());
            // SAFETY: IPC_SET reads the same struct.
            checked(unsafe { libc::semctl(id, 0, libc::IPC_SET, &raw mut ds) })
        }
        "shm" => {
            // SAFETY: as above.
            let mut ds: libc::shmid_ds = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            checked(unsafe { libc::shmctl(id, libc::IPC_STAT, &raw mut ds) })?;
            (ds.shm_perm.uid, ds.shm_perm.gid, ds.shm_perm.mode) = (uid, gid, mode.into());
            // SAFETY: as above.
            checked(unsafe { libc::shmctl(id, libc::IPC_SET, &raw mut ds) })
        }
        "msg" => {
            // SAFETY: as above.
            let mut ds: libc::msqid_ds = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            checked(unsafe { libc::msgctl(id, libc::IPC_STAT, &raw mut ds) })?;
            (ds.msg_perm.uid, ds.msg_perm.gid, ds.msg_perm.mode) = (uid, gid, mode.into());
            // SAFETY: as above.
            checked(unsafe { libc::msgctl(id, libc::IPC_SET, &raw mut ds) })
        }
        other => panic!("{other} is none of sem, shm, msg"),
    }
}

fn set_value(id: c_int, semnum: c_int, value: c_int) -> std::io::Result<c_int> {
    // SAFETY: SETVAL takes an int.
    checked(unsafe { libc::semctl(id, semnum, libc::SETVAL, value) })
}

fn operate(id: c_int, semnum: u16, delta: i16) -> std::io::Result<c_int> {
    semop(id, semnum, delta, i16::try_from(libc::IPC_NOWAIT).expect("a small flag"))
}

fn rename(comm: &str) -> std::io::Result<c_int> {
    let name = std::ffi::CString::new(comm).expect("a name without a zero byte");
    // SAFETY: the kernel copies at most 16 bytes of the name.
    checked(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) })
}

fn semop(id: c_int, semnum: u16, delta: i16, flags: i16) -> std::io::Result<c_int> {
    let mut operation = libc::sembuf { sem_num: semnum, sem_op: delta, sem_flg: flags };
    // SAFETY: one operation, which lives until the call returns.
    checked(unsafe { libc::semop(id, &raw mut operation, 1) })
}

fn send(id: c_int, bytes: usize) -> std::io::Result<c_int> {
    // A message begins with its type, a long that is not 0.
    let mut message = vec![1_u8; size_of::<libc::c_long>() + bytes];
    // SAFETY: the buffer holds the type and `bytes` bytes of text.
    checked(unsafe { libc::msgsnd(id, message.as_mut_ptr().cast(), bytes, libc::IPC_NOWAIT) })
}

fn receive(id: c_int) -> std::io::Result<c_int> {
    const MOST: usize = 8192;
    let mut message = vec![0_u8; size_of::<libc::c_long>() + MOST];
    let flags = libc::IPC_NOWAIT | libc::MSG_NOERROR;
    // SAFETY: the buffer holds the type and MOST bytes of text.
    let got = unsafe { libc::msgrcv(id, message.as_mut_ptr().cast(), MOST, 0, flags) };
    if got < 0 { Err(std::io::Error::last_os_error()) } else { Ok(0) }
}

fn lock_shm(id: c_int) -> std::io::Result<c_int> {
    // SAFETY: SHM_LOCK ignores the pointer.
    checked(unsafe { libc::shmctl(id, libc::SHM_LOCK, std::ptr::null_mut()) })
}

/// Every System V IPC call of this architecture.
const SYSVIPC_CALLS: [libc::c_long; 12] = [
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_shmget,
    libc::SYS_shmctl,
    libc::SYS_shmat,
    libc::SYS_shmdt,
    libc::SYS_msgget,
    libc::SYS_msgctl,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
];

/// Installs a filter that answers that errno to [`SYSVIPC_CALLS`] (ENOSYS as a kernel without them does, EPERM and EACCES
/// as policies do), and becomes `program`.
fn refused(errno: c_int, program: &str, args: &[&str]) {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, of seccomp_data.nr at offset 0
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let errno = u32::try_from(errno).expect("an errno");
    let instruction = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let mut filter = vec![instruction(LOAD_NUMBER, 0, 0)];
    for (at, call) in SYSVIPC_CALLS.iter().enumerate() {
        // Forward over the remaining comparisons and the "allow".
        let over = u8::try_from(SYSVIPC_CALLS.len() - at).expect("a dozen");
        filter.push(instruction(JUMP_IF_EQUAL, over, u32::try_from(*call).expect("a system call number")));
    }
    filter.push(instruction(RETURN, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(instruction(RETURN, 0, libc::SECCOMP_RET_ERRNO | errno));
    let length = u16::try_from(filter.len()).expect("a short filter");
    let program_of = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its instructions live until prctl returns, which copies them.
    unsafe {
        let none: libc::c_ulong = 0;
        let one: libc::c_ulong = 1;
        checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, none, none, none)).expect("PR_SET_NO_NEW_PRIVS");
        let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
        checked(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program_of)).expect("PR_SET_SECCOMP");
    }
    panic!("{program}: {}", Command::new(program).args(args).exec());
}

fn checked(result: c_int) -> std::io::Result<c_int> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number in range"))
}

fn octal<T: TryFrom<u32>>(text: &str) -> T {
    let value = u32::from_str_radix(text, 8).unwrap_or_else(|_| panic!("{text} is not octal"));
    T::try_from(value).unwrap_or_else(|_| panic!("{text} is too large a mode"))
}

/// Keys at 0x80000000 and above are negative in `key_t`.
fn parse_key(text: &str) -> libc::key_t {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).unwrap_or_else(|_| panic!("{text} is no key")).cast_signed(),
        None if text == "private" => libc::IPC_PRIVATE,
        None => number(text),
    }
}
