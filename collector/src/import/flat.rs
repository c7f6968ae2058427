//! The flat form of a snapshot: the columns of `/proc/sysvipc` by their names, of one namespace, and its limits. Pure.
//!
//! `{"at":1767225600,"sem":[..],"shm":[..],"msg":[..],"limits":{..}}`, `at` in Unix seconds; all are numbers but `perms`,
//! the octal digits that the kernel prints. Keys are signed as there, sizes in bytes. Every field must be there and no
//! other may. What the form does not say is taken as a sample says it that did not look: no names, no processes, no other
//! namespace; totals follow from the objects, in pages of 4,096 bytes.

use highwater_ipc::activity::Activity;
use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::object::{Key, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::snapshot::{BootId, Namespace, Snapshot, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;
use serde::Deserialize;

use super::line::{LineError, Sample};

/// Bytes of a page, which the form does not tell.
const PAGE: u64 = 4096;
/// Compiled into every kernel.
const SEMVMX: u64 = 32_767;
const SHMMIN: u64 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatJson {
    at: i64,
    sem: Vec<SemRow>,
    shm: Vec<ShmRow>,
    msg: Vec<MsgRow>,
    limits: LimitsRow,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SemRow {
    key: i32,
    semid: i32,
    perms: String,
    nsems: u32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    otime: i64,
    ctime: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShmRow {
    key: i32,
    shmid: i32,
    perms: String,
    size: u64,
    cpid: i32,
    lpid: i32,
    nattch: u64,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    atime: i64,
    dtime: i64,
    ctime: i64,
    rss: u64,
    swap: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MsgRow {
    key: i32,
    msqid: i32,
    perms: String,
    cbytes: u64,
    qnum: u64,
    lspid: i32,
    lrpid: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    stime: i64,
    rtime: i64,
    ctime: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsRow {
    semmsl: u64,
    semmns: u64,
    semopm: u64,
    semmni: u64,
    shmmax: u64,
    shmall: u64,
    shmmni: u64,
    msgmax: u64,
    msgmnb: u64,
    msgmni: u64,
}

/// Reads a line. `boot_id` stands for the boot, which the form does not tell.
pub(super) fn read(line: &[u8], boot_id: BootId) -> Result<Sample, LineError> {
    let json: FlatJson = serde_json::from_slice(line).map_err(|e| LineError::Json(e.to_string()))?;
    let wall_ms = json.at.checked_mul(1_000).filter(|_| json.at >= 0).ok_or(LineError::NoTime { at: json.at })?;
    // As if it had run since 1970: the two clocks of such a host never part.
    let at = At { wall_ms, boot_us: wall_ms.unsigned_abs().saturating_mul(1_000) };
    let state = State {
        boot_id,
        page_size: 4096,
        availability: Availability {
            state: SysvipcState::Available,
            evidence: vec![HostText::from("imported: the file lists its objects")],
            remedy: HostText::default(),
        },
        namespaces: vec![namespace(&json)?],
        ..State::default()
    };
    let snapshot = Snapshot { at, took_us: 0, state };
    Ok(Sample { snapshot, activity: Activity::default(), confirmed_ms: None, host: None })
}

fn namespace(json: &FlatJson) -> Result<Namespace, LineError> {
    let sem: Vec<SemArray> = json.sem.iter().enumerate().map(|(i, row)| sem(i, row)).collect::<Result<_, _>>()?;
    let shm: Vec<ShmSegment> = json.shm.iter().enumerate().map(|(i, row)| shm(i, row)).collect::<Result<_, _>>()?;
    let msg: Vec<MsgQueue> = json.msg.iter().enumerate().map(|(i, row)| msg(i, row)).collect::<Result<_, _>>()?;
    Ok(Namespace {
        limits: Some(limits(&json.limits)),
        totals: Some(totals(&sem, &shm, &msg)),
        sem: Some(sem),
        shm: Some(shm),
        msg: Some(msg),
        ..Namespace::default()
    })
}

fn sem(index: usize, row: &SemRow) -> Result<SemArray, LineError> {
    let SemRow { semid, nsems, uid, gid, cuid, cgid, otime, ctime, .. } = *row;
    let perms = perms("sem", index, &row.perms)?;
    Ok(SemArray { key: Key(row.key), semid, perms, nsems, owner: Owner { uid, gid, cuid, cgid }, otime, ctime })
}

fn shm(index: usize, row: &ShmRow) -> Result<ShmSegment, LineError> {
    let ShmRow { shmid, size, cpid, lpid, nattch, uid, gid, cuid, cgid, atime, dtime, ctime, rss, swap, .. } = *row;
    let (key, perms, owner) = (Key(row.key), perms("shm", index, &row.perms)?, Owner { uid, gid, cuid, cgid });
    Ok(ShmSegment { key, shmid, perms, size, cpid, lpid, nattch, owner, atime, dtime, ctime, rss, swap })
}

fn msg(index: usize, row: &MsgRow) -> Result<MsgQueue, LineError> {
    let MsgRow { msqid, cbytes, qnum, lspid, lrpid, uid, gid, cuid, cgid, stime, rtime, ctime, .. } = *row;
    let (key, perms, owner) = (Key(row.key), perms("msg", index, &row.perms)?, Owner { uid, gid, cuid, cgid });
    // What MSG_STAT_ANY would have said is in no file of the kernel's.
    Ok(MsgQueue { key, msqid, perms, cbytes, qnum, qbytes: None, lspid, lrpid, owner, stime, rtime, ctime })
}

fn perms(list: &'static str, index: usize, text: &str) -> Result<Perms, LineError> {
    let octal = !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let bits = if octal { u32::from_str_radix(text, 8).ok() } else { None };
    bits.map(Perms).ok_or_else(|| LineError::Perms { list, index, value: HostText::from(text) })
}

fn limits(row: &LimitsRow) -> Limits {
    let LimitsRow { semmsl, semmns, semopm, semmni, shmmax, shmall, shmmni, msgmax, msgmnb, msgmni } = *row;
    Limits {
        semmsl,
        semmns,
        semopm,
        semmni,
        semvmx: SEMVMX,
        shmmax,
        shmall,
        shmmni,
        shmmin: SHMMIN,
        msgmax,
        msgmnb,
        msgmni,
    }
}

/// As the kernel counts them.
fn totals(sem: &[SemArray], shm: &[ShmSegment], msg: &[MsgQueue]) -> Totals {
    let sum = |numbers: &mut dyn Iterator<Item = u64>| numbers.fold(0, u64::saturating_add);
    let count = |rows: usize| u64::try_from(rows).unwrap_or(u64::MAX);
    Totals {
        sem_arrays: count(sem.len()),
        semaphores: sum(&mut sem.iter().map(|row| row.nsems.into())),
        shm_segments: count(shm.len()),
        shm_pages: sum(&mut shm.iter().map(|row| row.size.div_ceil(PAGE))),
        shm_resident: sum(&mut shm.iter().map(|row| row.rss.div_ceil(PAGE))),
        shm_swapped: sum(&mut shm.iter().map(|row| row.swap.div_ceil(PAGE))),
        swap_attempts: 0,
        swap_successes: 0,
        msg_queues: count(msg.len()),
        msg_messages: sum(&mut msg.iter().map(|row| row.qnum)),
        msg_bytes: sum(&mut msg.iter().map(|row| row.cbytes)),
    }
}

/// What the flat form would say of a stored state; of what could not be read then it says what `line` says, which nothing
/// contradicts.
pub(super) fn as_told(stored: &State, line: &State) -> State {
    let mut told = line.clone();
    let (Some(to), Some(from)) = (told.namespaces.first_mut(), stored.namespaces.first()) else { return told };
    if let Some(limits) = from.limits {
        to.limits = Some(Limits { semvmx: SEMVMX, shmmin: SHMMIN, ..limits });
    }
    if let (Some(rows), 0) = (&from.sem, from.left_out.sem) {
        to.sem = Some(rows.clone());
    }
    if let (Some(rows), 0) = (&from.shm, from.left_out.shm) {
        to.shm = Some(rows.clone());
    }
    if let (Some(rows), 0) = (&from.msg, from.left_out.msg) {
        to.msg = Some(rows.iter().map(|row| MsgQueue { qbytes: None, ..*row }).collect());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"at":1767225600,"sem":[{"key":-788525051,"semid":4,"perms":"600","nsems":17,"uid":0,"gid":4294967295,"cuid":0,"cgid":0,"otime":0,"ctime":1766262502}],"shm":[{"key":0,"shmid":5,"perms":"1600","size":18446744073709551615,"cpid":1,"lpid":2,"nattch":3,"uid":4,"gid":5,"cuid":6,"cgid":7,"atime":8,"dtime":9,"ctime":10,"rss":4097,"swap":1}],"msg":[{"key":1,"msqid":2,"perms":"666","cbytes":3,"qnum":4,"lspid":5,"lrpid":6,"uid":7,"gid":8,"cuid":9,"cgid":10,"stime":11,"rtime":12,"ctime":13}],"limits":{"semmsl":32000,"semmns":1024000000,"semopm":500,"semmni":32000,"shmmax":18446744073692774399,"shmall":18446744073692774399,"shmmni":4096,"msgmax":8192,"msgmnb":16384,"msgmni":32000}}"#;

    fn line(from: &str, to: &str) -> Result<Sample, LineError> {
        assert!(LINE.contains(from), "{from}");
        read(LINE.replacen(from, to, 1).as_bytes(), BootId([3; 16]))
    }

    #[test]
    fn every_column_arrives() {
        let sample = line("", "").unwrap();
        assert_eq!(sample.snapshot.at, At { wall_ms: 1_767_225_600_000, boot_us: 1_767_225_600_000_000 });
        let state = &sample.snapshot.state;
        let namespace = &state.namespaces[0];
        assert!(namespace.complete());
        assert_eq!(state.boot_id, BootId([3; 16]));
        let owner = |uid, gid, cuid, cgid| Owner { uid, gid, cuid, cgid };
        assert_eq!(
            namespace.sem.as_deref().unwrap(),
            [SemArray {
                key: Key(-788_525_051),
                semid: 4,
                perms: Perms(0o600),
                nsems: 17,
                owner: owner(0, u32::MAX, 0, 0),
                otime: 0,
                ctime: 1_766_262_502
            }]
        );
        assert_eq!(
            namespace.shm.as_deref().unwrap(),
            [ShmSegment {
                key: Key(0),
                shmid: 5,
                perms: Perms(0o1600),
                size: u64::MAX,
                cpid: 1,
                lpid: 2,
                nattch: 3,
                owner: owner(4, 5, 6, 7),
                atime: 8,
                dtime: 9,
                ctime: 10,
                rss: 4097,
                swap: 1
            }]
        );
        assert_eq!(
            namespace.msg.as_deref().unwrap(),
            [MsgQueue {
                key: Key(1),
                msqid: 2,
                perms: Perms(0o666),
                cbytes: 3,
                qnum: 4,
                qbytes: None,
                lspid: 5,
                lrpid: 6,
                owner: owner(7, 8, 9, 10),
                stime: 11,
                rtime: 12,
                ctime: 13
            }]
        );
        let limits = namespace.limits.unwrap();
        assert_eq!((limits.semmsl, limits.semmni, limits.semvmx), (32_000, 32_000, 32_767));
        assert_eq!((limits.shmmax, limits.shmmin, limits.msgmnb), (18_446_744_073_692_774_399, 1, 16_384));
        let totals = namespace.totals.unwrap();
        assert_eq!((totals.sem_arrays, totals.semaphores, totals.msg_bytes), (1, 17, 3));
        assert_eq!((totals.shm_pages, totals.shm_resident, totals.shm_swapped), (1 << 52, 2, 1));
    }

    #[test]
    fn what_is_no_number_of_its_column_an_unknown_field_and_a_missing_one_are_refused_by_name() {
        let refused = |from: &str, to: &str| line(from, to).unwrap_err().to_string();
        assert!(refused("\"nsems\":17", "\"nsems\":-1").contains("-1"));
        assert!(refused("\"nsems\":17", "\"nsems\":1.5").contains("1.5"));
        assert!(refused("\"nsems\":17", "\"nsems\":\"17\"").contains("invalid type"));
        assert!(refused("\"nsems\":17", "\"nsem\":17").contains("nsem"));
        assert!(refused("\"msgmni\":32000", "\"msgmni\":32000,\"semvmx\":1").contains("semvmx"));
        assert!(refused("{\"at\"", "{\"tz\":1,\"at\"").contains("tz"));
        assert!(refused("\"otime\":0,", "").contains("otime"));
        assert_eq!(refused("\"perms\":\"1600\"", "\"perms\":\"8\""), "shm[0].perms is \"8\", not octal digits");
        assert!(refused("\"at\":1767225600", "\"at\":-1").contains("-1"));
        assert!(refused("\"at\":1767225600", "\"at\":9223372036854775807").contains("9223372036854775807"));
    }

    #[test]
    fn what_could_not_be_read_contradicts_nothing() {
        let line = line("", "").unwrap().snapshot.state;
        let mut stored = line.clone();
        stored.zone = HostText::from("Europe/Berlin");
        stored.namespaces[0].sem = None;
        stored.namespaces[0].totals = None;
        stored.namespaces[0].msg.as_mut().unwrap()[0].qbytes = Some(16_384);
        assert_eq!(as_told(&stored, &line), line);
        stored.namespaces[0].shm.as_mut().unwrap()[0].nattch = 4;
        assert_ne!(as_told(&stored, &line), line);
    }
}
