//! One event: which call began or ended, of which thread.

use highwater_ipc::object::Kind;

use super::Asked;
use super::format::{Field, Format};

/// The events that are traced, and what the kernel is told to drop of each. `key == 0` is IPC_PRIVATE, which makes an
/// object without IPC_CREAT (512). IPC_RMID is 0, or 256 where the C library asks for the 64-bit structures. The end of a
/// control call matters only where it was refused (EPERM): an IPC_RMID of an id that is there fails for no other reason.
pub const TRACED: [(&str, &str); 12] = [
    ("sys_enter_semget", CREATES_SEM),
    ("sys_exit_semget", ANSWERED),
    ("sys_enter_shmget", CREATES_SHM),
    ("sys_exit_shmget", ANSWERED),
    ("sys_enter_msgget", CREATES_MSG),
    ("sys_exit_msgget", ANSWERED),
    ("sys_enter_semctl", REMOVES),
    ("sys_exit_semctl", REFUSED),
    ("sys_enter_shmctl", REMOVES),
    ("sys_exit_shmctl", REFUSED),
    ("sys_enter_msgctl", REMOVES),
    ("sys_exit_msgctl", REFUSED),
];

const CREATES_SEM: &str = "semflg & 512 || key == 0";
const CREATES_SHM: &str = "shmflg & 512 || key == 0";
const CREATES_MSG: &str = "msgflg & 512 || key == 0";
/// An id, ENOSPC, ENOSYS, ENOMEM, EINVAL.
const ANSWERED: &str = "ret >= 0 || ret == -28 || ret == -38 || ret == -12 || ret == -22";
const REMOVES: &str = "cmd == 0 || cmd == 256";
const REFUSED: &str = "ret == -1";

/// One event, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since boot.
    pub at_ns: u64,
    /// The thread, by its id in the initial pid namespace.
    pub tid: i32,
    /// Kind of object its call is about.
    pub kind: Kind,
    /// What it tells.
    pub tells: Tells,
}

/// What an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// A get call begins that may make an object.
    Gets(Asked),
    /// A get call ended: an id, or `-errno`.
    Got(i64),
    /// An IPC_RMID of that id begins.
    Removes(i32),
    /// A control call was refused.
    NotRemoved,
}

/// Understands the events of one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Decoder {
    /// By event number; a dozen.
    known: Vec<(u16, Layout)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    pid: Field,
    kind: Kind,
    call: CallLayout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallLayout {
    Gets { key: Field, size: Option<Field>, flags: Field },
    Got { ret: Field },
    Removes { id: Field },
    NotRemoved,
}

impl Decoder {
    /// Learns an event by its name in [`TRACED`]; `false` = its description lacks a field.
    pub fn learn(&mut self, name: &str, format: &Format) -> bool {
        let Some(layout) = layout(name, format) else { return false };
        self.known.push((format.id, layout));
        true
    }

    /// Understands one event; `None` = it is none of those, or too short.
    pub fn decode(&self, at_ns: u64, bytes: &[u8]) -> Option<Event> {
        let id = u16::from_le_bytes(*bytes.first_chunk()?);
        let (_, layout) = self.known.iter().find(|(known, _)| *known == id)?;
        let tells = match layout.call {
            CallLayout::Gets { key, size, flags } => {
                // An array's nsems is an int, a segment's size has the whole word.
                let size = match (layout.kind, size) {
                    (Kind::Sem, Some(field)) => u64::try_from(field.int(bytes)?).unwrap_or(0),
                    (_, Some(field)) => field.of(bytes)?,
                    (_, None) => 0,
                };
                Tells::Gets(Asked { key: key.int(bytes)?, size, flags: flags.int(bytes)? })
            }
            CallLayout::Got { ret } => Tells::Got(ret.of(bytes)?.cast_signed()),
            CallLayout::Removes { id } => Tells::Removes(id.int(bytes)?),
            CallLayout::NotRemoved => Tells::NotRemoved,
        };
        Some(Event { at_ns, tid: layout.pid.int(bytes)?, kind: layout.kind, tells })
    }
}

fn layout(name: &str, format: &Format) -> Option<Layout> {
    let field = |name: &str| format.field(name);
    let (begins, call) = match (name.strip_prefix("sys_enter_"), name.strip_prefix("sys_exit_")) {
        (Some(call), _) => (true, call),
        (_, Some(call)) => (false, call),
        _ => return None,
    };
    let kind = Kind::ALL.into_iter().find(|kind| call.starts_with(kind.name()))?;
    let (size, flags, id) = match kind {
        Kind::Sem => (Some("nsems"), "semflg", "semid"),
        Kind::Shm => (Some("size"), "shmflg", "shmid"),
        Kind::Msg => (None, "msgflg", "msqid"),
    };
    let call = match (begins, call.ends_with("get")) {
        (true, true) => {
            let size = match size {
                Some(name) => Some(field(name)?),
                None => None,
            };
            CallLayout::Gets { key: field("key")?, size, flags: field(flags)? }
        }
        (false, true) => CallLayout::Got { ret: field("ret").filter(|ret| ret.size == 8)? },
        (true, false) => CallLayout::Removes { id: field(id)? },
        (false, false) => CallLayout::NotRemoved,
    };
    Some(Layout { pid: field("common_pid")?, kind, call })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A decoder of the events as a kernel numbers and describes them, 8 bytes an argument.
    pub(in super::super) fn decoder() -> Decoder {
        let mut decoder = Decoder::default();
        for (at, (name, _)) in TRACED.iter().enumerate() {
            let fields: &[&str] = match *name {
                "sys_enter_semget" => &["key", "nsems", "semflg"],
                "sys_enter_shmget" => &["key", "size", "shmflg"],
                "sys_enter_msgget" => &["key", "msgflg"],
                "sys_enter_semctl" => &["semid", "semnum", "cmd"],
                "sys_enter_shmctl" => &["shmid", "cmd"],
                "sys_enter_msgctl" => &["msqid", "cmd"],
                _ => &["ret"],
            };
            let mut text = format!("ID: {}\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n", 100 + at);
            for (at, field) in fields.iter().enumerate() {
                text += &format!("\tfield:int {field};\toffset:{};\tsize:8;\tsigned:0;\n", 16 + 8 * at);
            }
            assert!(decoder.learn(name, &Format::parse(text.as_bytes()).unwrap()), "{name}");
        }
        decoder
    }

    /// The bytes of an event of [`decoder`].
    pub(in super::super) fn bytes(name: &str, tid: i32, args: &[u64]) -> Vec<u8> {
        let id = 100 + u16::try_from(TRACED.iter().position(|(known, _)| *known == name).unwrap()).unwrap();
        let mut bytes = [&id.to_le_bytes()[..], &[0, 0], &tid.to_le_bytes(), &[0; 8]].concat();
        args.iter().for_each(|arg| bytes.extend(arg.to_le_bytes()));
        bytes
    }

    #[test]
    fn a_call_is_understood_with_the_upper_half_of_its_registers_ignored() {
        let garbage = 0xdead_beef_0000_0000;
        let decoder = decoder();
        let event =
            decoder.decode(9, &bytes("sys_enter_semget", 7, &[garbage | 0xffff_fffe, garbage | 3, garbage | 512]));
        let asked = Asked { key: -2, size: 3, flags: 512 };
        assert_eq!(event, Some(Event { at_ns: 9, tid: 7, kind: Kind::Sem, tells: Tells::Gets(asked) }));
        let event = decoder.decode(9, &bytes("sys_enter_shmget", 7, &[1, u64::MAX, 512])).unwrap();
        assert_eq!(event.tells, Tells::Gets(Asked { key: 1, size: u64::MAX, flags: 512 }));
        let event = decoder.decode(9, &bytes("sys_enter_msgctl", 7, &[garbage | 5, 0])).unwrap();
        assert_eq!((event.kind, event.tells), (Kind::Msg, Tells::Removes(5)));
        let event = decoder.decode(9, &bytes("sys_exit_semget", 7, &[(-28_i64).cast_unsigned()])).unwrap();
        assert_eq!(event.tells, Tells::Got(-28));
    }

    #[test]
    fn other_and_cut_events_are_none() {
        let decoder = decoder();
        assert_eq!(decoder.decode(9, &bytes("sys_enter_semget", 7, &[1, 2])), None);
        assert_eq!(decoder.decode(9, &99_u16.to_le_bytes()), None);
        assert_eq!(decoder.decode(9, &[1]), None);
        assert!(!Decoder::default().learn("sys_enter_semget", &Format::default()));
        assert!(!Decoder::default().learn("sched_switch", &Format::default()));
    }
}
