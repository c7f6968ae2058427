//! What the commands say; what they do is tested with a real shell (tests/e2e/remedy.rs).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::arbitrary;
use crate::limits::{Limits, Resource, Totals, Usage};
use crate::object::{Key, Kind, Owner, Perms, SemArray};
use crate::render::lsipc::Parameter;
use crate::snapshot::{BootId, NamespaceId};
use crate::text::HostText;
use crate::who::{Doubt, Grade, Known, Orphan, Who};

fn limits() -> Limits {
    Limits {
        semmsl: 250,
        semmns: 32000,
        semopm: 32,
        semmni: 128,
        semvmx: 32767,
        shmmax: u64::MAX,
        shmall: u64::MAX - (1 << 24),
        shmmni: 4096,
        shmmin: 1,
        msgmax: 8192,
        msgmnb: 16384,
        msgmni: 16,
    }
}

fn array(semid: i32, uid: u32) -> SemArray {
    SemArray {
        key: Key(-1),
        semid,
        perms: Perms(0o600),
        nsems: 1,
        owner: Owner { uid, gid: 33, cuid: 0, cgid: 0 },
        otime: 0,
        ctime: 1_241_364_839,
    }
}

fn graded(grade: Grade) -> Known {
    let orphan = Orphan { grade, doubt: Doubt::None, last_pids: vec![812] };
    Known { comm: Some(HostText::from("httpd")), orphan: Some(orphan) }
}

fn namespace(arrays: &[(SemArray, Option<Grade>)]) -> Namespace {
    let known = |(array, grade): &(SemArray, Option<Grade>)| Some(((Kind::Sem, array.semid), graded((*grade)?)));
    Namespace {
        id: NamespaceId { inode: 4_026_531_839, instance: 1 },
        limits: Some(limits()),
        sem: Some(arrays.iter().map(|(array, _)| *array).collect()),
        who: Some(Who { objects: arrays.iter().filter_map(known).collect(), ..Who::default() }),
        ..Namespace::default()
    }
}

#[test]
fn the_limit_that_refuses_is_the_one_without_room_in_the_kernels_order() {
    let totals =
        Totals { sem_arrays: 128, semaphores: 31_990, shm_segments: 4096, msg_queues: 16, ..Totals::default() };
    let bound = |kind, size, totals: &Totals| binding(kind, size, totals, &limits(), 4096);
    let usage = |resource, used, limit| Some(Usage { resource, used, limit });
    assert_eq!(bound(Kind::Sem, 10, &totals), usage(Resource::Semmni, 128, 128));
    assert_eq!(bound(Kind::Sem, 11, &totals), usage(Resource::Semmns, 31_990, 32_000));
    assert_eq!(bound(Kind::Sem, u64::MAX, &totals), usage(Resource::Semmns, 31_990, 32_000));
    assert_eq!(bound(Kind::Sem, 1, &Totals { sem_arrays: 127, ..totals }), None);
    assert_eq!(bound(Kind::Shm, 1, &totals), usage(Resource::Shmmni, 4096, 4096));
    assert_eq!(bound(Kind::Msg, 0, &totals), usage(Resource::Msgmni, 16, 16));
    let few = Limits { shmall: 10, ..limits() };
    let used = Totals { shm_pages: 9, ..Totals::default() };
    assert_eq!(binding(Kind::Shm, 4096, &used, &few, 4096), None);
    assert_eq!(binding(Kind::Shm, 4097, &used, &few, 4096), usage(Resource::Shmall, 9, 10));
    assert_eq!(binding(Kind::Shm, 4097, &used, &few, 0), usage(Resource::Shmall, 9, 10), "a page of no bytes");
}

#[test]
fn a_call_beyond_the_limit_of_one_object_has_its_own_answer() {
    let few = Limits { shmmax: 4096, ..limits() };
    let excess = |kind, size| excess(kind, size, &few).map(|e| (e.parameter, e.asked, e.limit));
    assert_eq!(excess(Kind::Sem, 251), Some((Parameter::Semmsl, 251, 250)));
    assert_eq!(excess(Kind::Sem, 250), None);
    assert_eq!(excess(Kind::Shm, 4097), Some((Parameter::Shmmax, 4097, 4096)));
    assert_eq!(excess(Kind::Msg, u64::MAX), None);
}

#[test]
fn r1_a_limit_is_raised_to_twice_its_value_and_never_beyond_the_kernels_maximum() {
    let of = |limits, parameter, need| {
        let namespace = Namespace { limits: Some(limits), ..Namespace::default() };
        raise(&namespace, parameter, need).map(|raise| (raise.command, raise.keep))
    };
    let pair = |command: &str, keep: &str| Some((String::from(command), String::from(keep)));
    assert_eq!(
        of(limits(), Parameter::Semmni, 0),
        pair(
            r#"sysctl -w kernel.sem="$(awk '{print $1,$2,$3}' /proc/sys/kernel/sem) 256""#,
            "kernel.sem = 250 32000 32 256"
        )
    );
    assert_eq!(
        of(limits(), Parameter::Semmns, 100_000),
        pair(
            r#"sysctl -w kernel.sem="$(awk '{print $1,100000,$3,$4}' /proc/sys/kernel/sem)""#,
            "kernel.sem = 250 100000 32 128"
        )
    );
    assert_eq!(of(limits(), Parameter::Msgmni, 0), pair("sysctl -w kernel.msgmni=32", "kernel.msgmni = 32"));
    let to = |semmni| of(Limits { semmni, ..limits() }, Parameter::Semmni, 0).map(|(_, keep)| keep);
    assert_eq!(to(32_000).as_deref(), Some("kernel.sem = 250 32000 32 32768"));
    assert_eq!(to(32_768), None);
    assert_eq!(to(32_769).as_deref(), Some("kernel.sem = 250 32000 32 65538"), "ipcmni_extend");
    assert_eq!(to(1 << 24), None);
    assert_eq!(of(limits(), Parameter::Semvmx, 0), None);
    assert_eq!(raise(&Namespace::default(), Parameter::Semmni, 0), None);
}

#[test]
fn in_a_container_a_command_enters_by_the_inode() {
    let namespace = Namespace { name: Some(HostText::cut(b"$(reboot)'\n")), ..namespace(&[]) };
    let raise = raise(&namespace, Parameter::Semmni, 0).unwrap();
    assert_eq!(
        raise.command,
        r#"nsenter -i -t "$(find /proc/[0-9]*/ns/ipc -lname 'ipc:\[4026531839\]' 2>/dev/null | head -n 1 | cut -d/ -f3)" sh -c 'sysctl -w kernel.sem="$(awk '\''{print $1,$2,$3}'\'' /proc/sys/kernel/sem) 256"'"#
    );
}

#[test]
fn r2_only_certain_arrays_are_named_by_their_whole_row_and_one_owner_a_command() {
    let arrays = [
        (array(5, 33), Some(Grade::Certain)),
        (array(6, 33), Some(Grade::Likely)),
        (array(7, 48), Some(Grade::Certain)),
        (array(8, 33), None),
        (array(9, 33), Some(Grade::Certain)),
    ];
    let removals = removals(BootId([0xab; 16]), &namespace(&arrays), INITIAL_PID_NAMESPACE);
    assert_eq!(removals.iter().map(|r| (r.uid, r.named, r.of)).collect::<Vec<_>>(), [(33, 2, 2), (48, 1, 1)]);
    assert_eq!(
        removals[0].command,
        "R='-1 5 600 1 33 33 0 0 0 1241364839\n-1 9 600 1 33 33 0 0 0 1241364839'; [ -r /proc/1/status ] && \
         [ \"$(cat /proc/sys/kernel/random/boot_id) $(readlink /proc/self/ns/ipc) $(readlink /proc/self/ns/pid)\" = \
         'abababab-abab-abab-abab-abababababab ipc:[4026531839] pid:[4026531836]' ] && \
         ! grep -qsE '^Uid:.*[[:space:]]33([[:space:]]|$)' /proc/[0-9]*/status && \
         awk '{$1=$1}1' /proc/sysvipc/sem | grep -xF -e \"$R\" | awk '{print $2}' | \
         while read -r S; do ipcs -s -i $S | awk 'NF==5&&$1~/^[0-9]+$/{n++;w+=$3+$4}END{exit(!n||w)}' && \
         echo \"-s $S\"; done | xargs -r ipcrm -v"
    );
}

#[test]
fn a_long_list_is_cut_and_says_so() {
    let arrays: Vec<_> = (0..700).map(|semid| (array(semid, 33), Some(Grade::Certain))).collect();
    let removals = removals(BootId::default(), &namespace(&arrays), INITIAL_PID_NAMESPACE);
    assert_eq!(removals.iter().map(|r| (r.named, r.of)).collect::<Vec<_>>(), [(500, 700)]);
    assert_eq!(removals[0].command.lines().count(), 500);
    let widest = SemArray {
        key: Key(i32::MIN),
        semid: i32::MAX,
        perms: Perms(u32::MAX),
        nsems: u32::MAX,
        owner: Owner { uid: u32::MAX, gid: u32::MAX, cuid: u32::MAX, cgid: u32::MAX },
        otime: -1,
        ctime: -1,
    };
    let arrays = vec![(widest, Some(Grade::Certain)); 500];
    let container = Namespace { name: Some(HostText::from("c")), ..namespace(&arrays) };
    let removals = super::removals(BootId::default(), &container, u64::MAX);
    assert!(removals[0].command.len() < 128 << 10, "{}", removals[0].command.len());
}

#[test]
fn a_namespace_without_an_inode_gets_no_command() {
    let nameless = Namespace { id: NamespaceId::default(), ..namespace(&[(array(5, 33), Some(Grade::Certain))]) };
    assert_eq!(removals(BootId::default(), &nameless, INITIAL_PID_NAMESPACE), []);
}

proptest! {
    /// Whatever a host calls its users, groups, containers and processes, commands are made of numbers.
    #[test]
    fn no_byte_of_a_host_enters_a_command(namespace in arbitrary::namespace(), marker in "[G-QS-Z]{8}") {
        let mut namespace = namespace;
        let text = HostText::from(marker.as_str());
        namespace.name = namespace.name.map(|_| text.clone());
        for array in namespace.sem.iter().flatten() {
            let who = namespace.who.get_or_insert_default();
            let orphan = Orphan { grade: Grade::Certain, doubt: Doubt::None, last_pids: vec![] };
            let known = Known { comm: Some(text.clone()), orphan: Some(orphan) };
            who.objects.insert((Kind::Sem, array.semid), known);
            who.comms.insert(array.owner.uid, vec![text.clone()]);
        }
        let removals = removals(BootId::default(), &namespace, INITIAL_PID_NAMESPACE);
        let raises = Parameter::ALL.iter().filter_map(|parameter| raise(&namespace, *parameter, 0));
        let commands: Vec<String> =
            removals.into_iter().map(|r| r.command).chain(raises.map(|r| format!("{}\n{}", r.command, r.keep))).collect();
        for command in commands {
            prop_assert!(!command.contains(&marker), "{command}");
            prop_assert!(!command.contains("ipcrm -a") && !command.contains("-S "), "{command}");
        }
    }
}
