//! Makes, changes and removes objects at random in one namespace, and remembers what was true when.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use highwater_tests::answers::objects;
use highwater_tests::binaries;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::Value;

use super::plan::Dice;

/// An object: its kind (`sem`, `shm`, `msg`) and its id.
pub(crate) type Id = (&'static str, i64);

/// Few enough that keyframes stay small, enough that some live for long.
const MOST_OBJECTS: usize = 40;

/// One system call, and what the object was after it.
#[derive(Clone, Debug)]
struct Change {
    /// Before the call, milliseconds since 1970.
    from_ms: i64,
    /// After it.
    to_ms: i64,
    id: Id,
    /// `None` = removed.
    now: Option<Object>,
}

/// What a sample can read of an object that only this test touches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Object {
    key: String,
    perms: String,
    uid: i64,
    gid: i64,
    /// Semaphores, bytes, or messages.
    size: i64,
}

/// Everything that was done in one namespace, in order.
#[derive(Debug, Default)]
pub(crate) struct Log {
    changes: Vec<Change>,
}

impl Log {
    /// How many changes there were.
    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Complains unless a sample that began at `at_ms` and took `took_us` can have read that. What changed meanwhile may
    /// be either way.
    pub(crate) fn check(&self, (at_ms, took_us): (i64, u64), seen: &BTreeMap<Id, Object>) -> Result<(), String> {
        // The sample's time is cut to milliseconds, and so are these.
        let end_ms = at_ms + i64::try_from(took_us.div_ceil(1000)).expect("a short time");
        let mut possible: BTreeMap<Id, BTreeSet<Option<&Object>>> = BTreeMap::new();
        for change in &self.changes {
            let states = possible.entry(change.id).or_insert_with(|| BTreeSet::from([None]));
            if change.to_ms < at_ms {
                states.clear();
            }
            if change.from_ms <= end_ms {
                states.insert(change.now.as_ref());
            }
        }
        for (id, states) in &possible {
            let read = seen.get(id);
            if !states.contains(&read) {
                return Err(format!("{id:?} was one of {states:?}, read as {read:?}"));
            }
        }
        match seen.keys().find(|id| !possible.contains_key(*id)) {
            Some(id) => Err(format!("{id:?} was never made")),
            None => Ok(()),
        }
    }
}

/// The objects of a snapshot in the contract's JSON.
#[track_caller]
pub(crate) fn read(snapshot: &Value) -> BTreeMap<Id, Object> {
    let mut all = BTreeMap::new();
    for (kind, id, size) in [("sem", "semid", "nsems"), ("shm", "shmid", "size_u64"), ("msg", "msqid", "qnum")] {
        for row in objects(snapshot, kind) {
            let object = Object {
                key: row["key"].as_str().expect("a key").to_owned(),
                perms: row["perms"].as_str().expect("a mode").to_owned(),
                uid: number(&row["uid"]),
                gid: number(&row["gid"]),
                size: number(&row[size]),
            };
            let before = all.insert((kind, number(&row[id])), object);
            assert!(before.is_none(), "{kind} {} twice in {snapshot}", row[id]);
        }
    }
    all
}

/// A number, as one or as its digits.
#[track_caller]
fn number(value: &Value) -> i64 {
    let digits = value.as_str().and_then(|text| text.parse().ok());
    digits.or_else(|| value.as_i64()).unwrap_or_else(|| panic!("{value} is no number"))
}

/// Changes objects every 20 to 80 ms, sometimes several at once, sometimes none for a while (so that there are
/// heartbeats), until told to stop.
pub(crate) fn make(namespace: &IpcNamespace, mut dice: Dice, stop: &AtomicBool) -> Log {
    let mut maker = Maker { tool: Tool::start(namespace), held: BTreeMap::new(), keys: 0, log: Log::default() };
    while !stop.load(Ordering::SeqCst) {
        for _ in 0..=dice.roll(8).saturating_sub(5) {
            maker.step(&mut dice);
        }
        let pause_ms = if dice.roll(8) == 0 { dice.ms(300, 1000) } else { dice.ms(10, 70) };
        let next = now_ms() + pause_ms;
        until("the next change is due", PATIENCE, || now_ms() >= next);
    }
    maker.log
}

struct Maker {
    tool: Tool,
    held: BTreeMap<Id, Object>,
    keys: u32,
    log: Log,
}

impl Maker {
    fn step(&mut self, dice: &mut Dice) {
        let all: Vec<Id> = self.held.keys().copied().collect();
        match dice.roll(10) {
            0..=4 if all.len() < MOST_OBJECTS => self.create(dice),
            0..=7 if !all.is_empty() => {
                let id = *dice.pick(&all);
                self.held.remove(&id);
                self.change(id, &format!("remove {} {}", id.0, id.1), None);
            }
            _ if !all.is_empty() => {
                let id = *dice.pick(&all);
                let mut object = self.held[&id].clone();
                let line = if id.0 == "msg" && dice.roll(2) == 0 && object.size < 50 {
                    object.size += 1;
                    format!("send {} 16", id.1)
                } else {
                    (object.uid, object.gid) = (dice.ms(0, 40), dice.ms(0, 40));
                    object.perms = (*dice.pick(&["600", "640", "666"])).to_owned();
                    format!("chown {} {} {} {} {}", id.0, id.1, object.uid, object.gid, object.perms)
                };
                self.held.insert(id, object.clone());
                self.change(id, &line, Some(object));
            }
            _ => self.create(dice),
        }
    }

    fn create(&mut self, dice: &mut Dice) {
        let kind = *dice.pick(&["sem", "shm", "msg"]);
        let perms = *dice.pick(&["600", "640", "666"]);
        self.keys += 1;
        let key = if dice.roll(3) == 0 { 0 } else { 0x4857_0000 + self.keys };
        let asked = if key == 0 { "private".to_owned() } else { format!("{key:#x}") };
        let size = match kind {
            "sem" => dice.ms(1, 12),
            "shm" => dice.ms(1, 20_000),
            _ => 0,
        };
        let line = match kind {
            "msg" => format!("create-msg {asked} {perms}"),
            _ => format!("create-{kind} {asked} {size} {perms}"),
        };
        let object = Object { key: format!("{key:#010x}"), perms: perms.to_owned(), uid: 0, gid: 0, size };
        let (from_ms, id, to_ms) = self.tool.ask(&line);
        self.held.insert((kind, id), object.clone());
        self.log.changes.push(Change { from_ms, to_ms, id: (kind, id), now: Some(object) });
    }

    fn change(&mut self, id: Id, line: &str, now: Option<Object>) {
        let (from_ms, _, to_ms) = self.tool.ask(line);
        self.log.changes.push(Change { from_ms, to_ms, id, now });
    }
}

/// `ipc-tool converse` in the namespace: one system call a line.
struct Tool {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Tool {
    fn start(namespace: &IpcNamespace) -> Self {
        let mut command = namespace.command(binaries::ipc_tool());
        command.arg("converse").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("nsenter of util-linux");
        let input = child.stdin.take().expect("a pipe to ipc-tool");
        let output = BufReader::new(child.stdout.take().expect("a pipe from ipc-tool"));
        Self { child, input, output }
    }

    /// When it was asked, what it answered, when that was known.
    fn ask(&mut self, line: &str) -> (i64, i64, i64) {
        let from_ms = now_ms();
        writeln!(self.input, "{line}").expect("ipc-tool reads");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("ipc-tool answers");
        let id = answer.trim_end().parse().unwrap_or_else(|_| panic!("{line}: {answer:?}"));
        (from_ms, id, now_ms())
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_changed_while_a_sample_was_taken_may_be_either_way_and_nothing_else() {
    let object = |size| Object { key: String::new(), perms: String::new(), uid: 0, gid: 0, size };
    let change = |from_ms, to_ms, now| Change { from_ms, to_ms, id: ("sem", 1), now };
    let log =
        Log { changes: vec![change(10, 11, Some(object(1))), change(20, 22, Some(object(2))), change(30, 30, None)] };
    let can_be = |at_ms, took_us| {
        let reads = [None, Some(object(1)), Some(object(2))];
        reads.map(|read| log.check((at_ms, took_us), &read.map(|o| (("sem", 1), o)).into_iter().collect()).is_ok())
    };
    assert_eq!(can_be(5, 4000), [true, false, false]);
    assert_eq!(can_be(11, 100), [true, true, false]);
    assert_eq!(can_be(12, 7000), [false, true, false]);
    assert_eq!(can_be(12, 7001), [false, true, true]);
    assert_eq!(can_be(12, 40_000), [true, true, true]);
    assert_eq!(can_be(31, 0), [true, false, false]);
    assert!(log.check((31, 0), &BTreeMap::from([(("shm", 1), object(1))])).is_err());
}
