//! Which call of System V IPC stands in a line, and with which arguments.

use highwater_ipc::object::{Key, Kind};

/// A call that can fail.
#[allow(missing_docs, reason = "each is the system call of that name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Semget,
    Semop,
    Semctl,
    Shmget,
    Shmat,
    Shmctl,
    Msgget,
    Msgsnd,
    Msgrcv,
    Msgctl,
}

impl Call {
    /// All with their names.
    pub const ALL: [(Call, &'static str); 10] = [
        (Call::Semget, "semget"),
        (Call::Semop, "semop"),
        (Call::Semctl, "semctl"),
        (Call::Shmget, "shmget"),
        (Call::Shmat, "shmat"),
        (Call::Shmctl, "shmctl"),
        (Call::Msgget, "msgget"),
        (Call::Msgsnd, "msgsnd"),
        (Call::Msgrcv, "msgrcv"),
        (Call::Msgctl, "msgctl"),
    ];

    /// The system call's name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(c, _)| *c == self).map_or("", |(_, name)| name)
    }

    /// The call of that name.
    pub fn from_name(name: &str) -> Option<Call> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(c, _)| *c)
    }

    /// What it makes or uses.
    pub fn kind(self) -> Kind {
        match self {
            Call::Semget | Call::Semop | Call::Semctl => Kind::Sem,
            Call::Shmget | Call::Shmat | Call::Shmctl => Kind::Shm,
            Call::Msgget | Call::Msgsnd | Call::Msgrcv | Call::Msgctl => Kind::Msg,
        }
    }

    /// Whether it makes an object or looks one up by its key.
    pub fn is_get(self) -> bool {
        matches!(self, Call::Semget | Call::Shmget | Call::Msgget)
    }
}

/// Words that name a call, beside the calls' own names: what languages call them.
const ALSO: [(&str, Call); 7] = [
    ("semtimedop", Call::Semop),
    ("sem_get", Call::Semget),
    ("sem_acquire", Call::Semop),
    ("shm_attach", Call::Shmget),
    ("shmop_open", Call::Shmget),
    ("msg_get_queue", Call::Msgget),
    ("msg_send", Call::Msgsnd),
];

/// Words that only let guess a call.
const PERHAPS: [(&str, Call); 3] =
    [("semaphore", Call::Semget), ("shared memory segment", Call::Shmget), ("message queue", Call::Msgget)];

/// The first call that a line names. `line` is in lower case.
pub fn find(line: &str) -> Option<Call> {
    words(line)
        .find_map(|word| Call::from_name(word).or_else(|| ALSO.iter().find(|(w, _)| *w == word).map(|(_, c)| *c)))
}

/// The call that a line speaks of without naming one.
pub fn guess(line: &str) -> Option<Call> {
    PERHAPS.iter().find(|(words, _)| line.contains(words)).map(|(_, call)| *call)
}

/// Whether it names POSIX objects, which are files in `/dev/shm` and have none of these limits.
pub fn is_posix(line: &str) -> bool {
    words(line).any(|word| matches!(word, "sem_open" | "shm_open" | "mq_open"))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// What a line says of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Asked {
    /// Its key.
    pub key: Option<Key>,
    /// Its semid, shmid or msqid.
    pub id: Option<i32>,
    /// Semaphores, or bytes of a segment.
    pub size: Option<u64>,
}

/// Reads the arguments of a call as PostgreSQL and others print them (`semget(5432001, 17, 03600)`,
/// `shmget(key=5432001, size=56, 03600)`), and keys and ids as people name them.
pub fn asked(line: &str, call: Call) -> Asked {
    let mut asked =
        Asked { key: after(line, "key ").and_then(key), id: after(line, "semid ").and_then(id), size: None };
    asked.id = asked.id.or_else(|| after(line, "with semaphore ").and_then(id));
    let open = format!("{}(", call.name());
    let Some((_, rest)) = line.split_once(&open) else { return asked };
    let Some((inside, _)) = rest.split_once(')') else { return asked };
    let value = |part: &str| part.rsplit_once('=').map_or(part, |(_, value)| value).trim().to_owned();
    let parts: Vec<String> = inside.split(',').map(value).collect();
    match (call.is_get(), parts.as_slice()) {
        (true, [first, second, ..]) => {
            asked.key = key(first).or(asked.key);
            asked.size = number(second).filter(|_| call != Call::Msgget);
        }
        // `semop(1)` is the manual's section.
        (false, [first, _, ..]) => asked.id = id(first).or(asked.id),
        (false, [only]) if inside.contains('=') => asked.id = id(only).or(asked.id),
        _ => {}
    }
    asked
}

fn after<'l>(line: &'l str, words: &str) -> Option<&'l str> {
    let (_, rest) = line.split_once(words)?;
    rest.split(|c: char| !c.is_ascii_alphanumeric()).next()
}

/// A key, hexadecimal or decimal as the kernel prints it.
fn key(text: &str) -> Option<Key> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok().map(|n| Key(n.cast_signed())),
        None => text.parse().ok().map(Key),
    }
}

fn id(text: &str) -> Option<i32> {
    text.parse().ok().filter(|id| *id >= 0)
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_found_by_its_own_word_and_by_what_languages_call_it() {
        assert_eq!(find("operation:semget failed"), Some(Call::Semget));
        assert_eq!(find("sem_get(): failed"), Some(Call::Semget));
        assert_eq!(find("xsemgety"), None);
        assert_eq!(guess("cannot create semaphore"), Some(Call::Semget));
        assert!(is_posix("shm_open failed") && !is_posix("reshm_opened"));
    }

    #[test]
    fn the_arguments_of_a_call_are_read() {
        let of = |line, call| {
            let Asked { key, id, size } = asked(line, call);
            (key.map(|k| k.0), id, size)
        };
        assert_eq!(of("semget(5432001, 17, 03600)", Call::Semget), (Some(5_432_001), None, Some(17)));
        assert_eq!(of("shmget(key=5432001, size=56, 03600)", Call::Shmget), (Some(5_432_001), None, Some(56)));
        assert_eq!(of("failed for key 0xee02b303: x", Call::Semget), (Some(-301_812_989), None, None));
        assert_eq!(of("semctl(163858, 9, setval, 0) failed", Call::Semctl), (None, Some(163_858), None));
        assert_eq!(of("semop(id=1277953) failed", Call::Semop), (None, Some(1_277_953), None));
        assert_eq!(of("semop(1): encountered an error", Call::Semop), (None, None, None));
        assert_eq!(of("with semaphore 2031674: invalid", Call::Semop), (None, Some(2_031_674), None));
        assert_eq!(of("semget(", Call::Semget), (None, None, None));
    }
}
