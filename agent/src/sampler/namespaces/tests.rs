//! Histories of namespaces and processes: each sample shows those that live, under a name that no other one had.

use std::sync::{Arc, Mutex};

use highwater_ipc::object::{Key, Owner, Perms, SemArray};
use highwater_ipc::snapshot::{LeftOut, NamedBy, State};
use highwater_ipc::time::Clock;
use proptest::prelude::*;

use super::*;
use crate::kernel::fake::{FakeKernel, FakeNamespace, HOME};
use crate::sampler::Assembler;

/// A clock that the test moves.
struct Hand(u64);

impl Clock for Hand {
    fn now(&self) -> At {
        At { wall_ms: 0, boot_us: self.0 }
    }
}

impl HostClock for Hand {
    fn awake_us(&self) -> u64 {
        self.0
    }
}

/// A host whose kernel changes between samples.
struct Host {
    kernel: Arc<Mutex<FakeKernel>>,
    assembler: Assembler,
    clock: Hand,
    newest: i32,
}

impl Host {
    fn new(kernel: FakeKernel) -> Self {
        let kernel = Arc::new(Mutex::new(kernel));
        let assembler = Assembler::new(Box::new(Arc::clone(&kernel)));
        let mut host = Self { kernel, assembler, clock: Hand(1_000_000), newest: 100 };
        host.born(0);
        host
    }

    fn with<T>(&mut self, change: impl FnOnce(&mut FakeKernel) -> T) -> T {
        change(&mut self.kernel.lock().unwrap())
    }

    /// A second later.
    fn sample(&mut self) -> State {
        self.clock.0 += 1_000_000;
        let state = self.assembler.sample(&self.clock, 1000).snapshot.state;
        let kernel = self.kernel.lock().unwrap();
        assert!(kernel.away.is_none(), "the thread is at home after a sample");
        state
    }

    /// So many pids were given out.
    fn born(&mut self, pids: i32) {
        self.newest += pids;
        let text = format!("0.00 0.00 0.00 1/100 {}\n", self.newest);
        self.with(|kernel| kernel.files.insert("/proc/loadavg".into(), Ok(text.into_bytes())));
    }

    /// A new process in that namespace; returns its pid.
    fn process(&mut self, inode: u64, comm: &[u8]) -> i32 {
        self.born(1);
        let (pid, start) = (self.newest, self.clock.0 / 10_000);
        self.with(|kernel| put_process(kernel, pid, inode, start, comm));
        pid
    }

    fn dies(&mut self, pid: i32) {
        self.with(|kernel| kernel.processes.remove(&pid));
    }

    /// A new namespace with that inode, known to the test by its SEMMNI.
    fn namespace(&mut self, inode: u64, truth: u64) {
        let mut namespace = FakeNamespace::new(inode, 1000 + truth);
        namespace.limits.semmni = truth;
        self.with(|kernel| {
            kernel.others.retain(|other| other.id.inode != inode);
            kernel.others.push(namespace);
        });
    }
}

fn put_process(kernel: &mut FakeKernel, pid: i32, inode: u64, start: u64, comm: &[u8]) {
    kernel.processes.insert(pid, Ok(inode));
    let mut stat = format!("{pid} (").into_bytes();
    stat.extend_from_slice(comm);
    stat.extend_from_slice(format!(") S 1 {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start} 0 0\n").as_bytes());
    kernel.files.insert(format!("/proc/{pid}/stat"), Ok(stat));
}

fn arrays(count: usize) -> Vec<SemArray> {
    let array = |semid: usize| SemArray {
        key: Key(0),
        semid: i32::try_from(semid).unwrap(),
        perms: Perms(0o600),
        nsems: 1,
        owner: Owner::default(),
        otime: 0,
        ctime: 1,
    };
    (0..count).map(array).collect()
}

fn names(state: &State) -> Vec<(NamedBy, String)> {
    let name = |n: &Namespace| (n.named_by, n.name.as_ref().map_or_else(String::new, |name| name.escaped()));
    state.namespaces.iter().map(name).collect()
}

fn shown(state: &State) -> Vec<u64> {
    state.namespaces.iter().map(|namespace| namespace.limits.unwrap().semmni).collect()
}

#[test]
fn the_hosts_is_first_and_every_other_one_has_its_limits_and_its_leaders_comm() {
    let mut host = Host::new(FakeKernel::new());
    host.namespace(7, 70);
    host.namespace(8, 80);
    host.process(7, b"we\nb) \x1b\xff");
    host.process(8, b"db");
    let state = host.sample();
    assert_eq!(shown(&state), [32_000, 70, 80]);
    assert_eq!(
        names(&state),
        [(NamedBy::Nothing, String::new()), (NamedBy::Comm, r"we\x0ab) \x1b\xff".into()), (NamedBy::Comm, "db".into())]
    );
    assert_eq!(state.unseen, []);
    assert_eq!(host.assembler.namespace_of(8).unwrap(), NamespaceId { inode: 8, instance: 1080 });
}

#[test]
fn a_container_is_called_by_its_id_and_a_forgery_by_its_comm() {
    let mut host = Host::new(FakeKernel::new());
    let id = "ab".repeat(32);
    let claims = [format!("0::/docker/{id}\n"), format!("0::/docker/{id}x\n"), format!("0::/../docker/{id}\n")];
    for (inode, claim) in (7..).zip(claims) {
        host.namespace(inode, inode);
        let pid = host.process(inode, b"init");
        host.with(|kernel| kernel.files.insert(format!("/proc/{pid}/cgroup"), Ok(claim.into_bytes())));
    }
    let comm = (NamedBy::Comm, "init".to_owned());
    assert_eq!(names(&host.sample())[1..], [(NamedBy::Docker, id), comm.clone(), comm]);
}

#[test]
fn the_leader_is_the_oldest_and_a_new_comm_is_learnt_with_the_next_look() {
    let mut host = Host::new(FakeKernel::new());
    host.namespace(7, 70);
    let [first, second] = [host.process(7, b"unshare"), host.process(7, b"child")];
    host.with(|kernel| put_process(kernel, second, 7, 1, b"older"));
    assert_eq!(names(&host.sample())[1].1, "older");
    host.dies(second);
    host.with(|kernel| put_process(kernel, first, 7, 100, b"sh"));
    let last = (0..11).map(|_| names(&host.sample())[1].1.clone()).last();
    assert_eq!(last.as_deref(), Some("sh"));
}

#[test]
fn a_new_namespace_is_in_the_sample_after_its_first_process() {
    let mut host = Host::new(FakeKernel::new());
    host.sample();
    host.sample();
    host.namespace(7, 70);
    host.process(7, b"x");
    assert_eq!(shown(&host.sample()), [32_000, 70]);
    // Made by an old process: no new pid tells.
    host.namespace(8, 80);
    host.with(|kernel| put_process(kernel, 50, 8, 1, b"old"));
    let appeared = (1..20).find(|_| shown(&host.sample()) == [32_000, 70, 80]);
    assert!(appeared.is_some_and(|samples| samples <= 10), "{appeared:?}");
}

#[test]
fn a_namespace_whose_processes_die_is_gone_from_the_next_sample() {
    for without_ids in [false, true] {
        let mut host = Host::new(FakeKernel { without_ids, ..FakeKernel::new() });
        host.namespace(7, 70);
        let pids: Vec<i32> = (0..20).map(|_| host.process(7, b"x")).collect();
        assert_eq!(shown(&host.sample()), [32_000, 70]);
        for pid in &pids[..19] {
            host.dies(*pid);
        }
        // Where only a process seen before tells it apart, and of so many only some are known, it is told as another one.
        let after = (shown(&host.sample()).len(), shown(&host.sample()).len());
        assert_eq!(after, if without_ids { (1, 2) } else { (2, 2) }, "one lives");
        host.dies(pids[19]);
        assert_eq!(shown(&host.sample()), [32_000]);
    }
}

#[test]
fn one_inode_twice_is_two_instances() {
    for without_ids in [false, true] {
        let mut host = Host::new(FakeKernel { without_ids, ..FakeKernel::new() });
        host.namespace(7, 70);
        let pid = host.process(7, b"first");
        let before = host.sample().namespaces[1].clone();
        host.dies(pid);
        host.namespace(7, 71);
        // Even the pid comes back.
        host.with(|kernel| put_process(kernel, pid, 7, 5_000, b"second"));
        let after = (0..3).map(|_| host.sample()).last().unwrap().namespaces[1].clone();
        assert_eq!((before.id.inode, after.id.inode), (7, 7));
        assert_ne!(before.id.instance, after.id.instance, "without_ids: {without_ids}");
        assert_eq!(after.limits.unwrap().semmni, 71);
        assert_eq!(after.name.unwrap().escaped(), "second");
    }
}

#[test]
fn the_namespace_of_process_1_is_the_hosts_and_the_agents_own_is_another_one() {
    let mut host = Host::new(FakeKernel::new());
    host.namespace(5, 50);
    host.with(|kernel| put_process(kernel, 1, 5, 0, b"systemd"));
    host.with(|kernel| put_process(kernel, 2, HOME.inode, 0, b"agent"));
    let state = host.sample();
    assert_eq!((shown(&state), state.unseen.len()), (vec![50, 32_000], 0));
    assert_eq!(names(&state), [(NamedBy::Nothing, String::new()), (NamedBy::Comm, "agent".into())]);
    host.with(|kernel| kernel.closed.insert(5, Errno::EPERM));
    host.assembler.rescan();
    let state = host.sample();
    assert_eq!(shown(&state), [32_000]);
    assert!(state.unseen[0].error.escaped().contains("EPERM"), "{:?}", state.unseen);
}

#[test]
fn it_is_said_when_process_1_cannot_be_asked_unless_this_is_where_the_kernel_began() {
    let mut kernel = FakeKernel::new();
    kernel.processes.insert(1, Err(Errno::EACCES));
    let mut host = Host::new(kernel);
    assert_eq!(host.sample().unseen, []);
    let namespace = Ok(NamespaceId { inode: 99, instance: 9 });
    let mut kernel = FakeKernel { namespace, ..FakeKernel::new() };
    kernel.processes.insert(1, Err(Errno::EACCES));
    let unseen = Host::new(kernel).sample().unseen;
    assert_eq!(unseen.len(), 1);
    assert_eq!(unseen[0].source.escaped(), "/proc/1/ns/ipc");
}

#[test]
fn without_capabilities_everything_else_goes_on_and_what_is_lacking_is_said() {
    let mut host = Host::new(FakeKernel { sem: arrays(2), ..FakeKernel::new() });
    for inode in 7..10 {
        host.namespace(inode, inode);
        host.process(inode, b"x");
        host.with(|kernel| kernel.closed.insert(inode, Errno::EPERM));
    }
    host.with(|kernel| kernel.processes.insert(500, Err(Errno::EACCES)));
    let state = host.sample();
    assert_eq!((state.namespaces.len(), state.namespaces[0].sem.as_ref().map(Vec::len)), (1, Some(2)));
    let lines: Vec<String> = state.unseen.iter().map(|unseen| unseen.error.escaped()).collect();
    assert!(lines[0].contains("of 1 process ") && lines[0].ends_with("lacks CAP_SYS_PTRACE"), "{lines:?}");
    assert!(lines[1].contains("3 IPC namespaces") && lines[1].ends_with("lacks CAP_SYS_ADMIN"), "{lines:?}");
    assert_eq!(host.sample().unseen, state.unseen);
}

#[test]
fn the_agents_own_alone_is_sampled_if_so_configured() {
    let mut host = Host::new(FakeKernel::new());
    host.namespace(7, 70);
    host.process(7, b"x");
    host.assembler = Assembler::new(Box::new(Arc::clone(&host.kernel))).in_namespaces(Scope::Own);
    assert_eq!(shown(&host.sample()), [32_000]);
}

#[test]
fn a_crowd_of_objects_is_counted_and_does_not_touch_the_hosts() {
    let mut host = Host::new(FakeKernel { sem: arrays(65), index_bits: 24, ..FakeKernel::new() });
    host.namespace(7, 70);
    host.namespace(8, 80);
    host.with(|kernel| {
        kernel.others[0].sem = arrays(68_000);
        kernel.others[1].sem = arrays(10);
    });
    host.process(7, b"hostile");
    host.process(8, b"small");
    host.sample();
    let state = host.sample();
    let lengths: Vec<_> = state.namespaces.iter().map(|n| n.sem.as_ref().map(Vec::len)).collect();
    assert_eq!(lengths, [Some(65), None, Some(10)]);
    assert_eq!(state.namespaces[1].left_out, LeftOut { sem: 68_000, ..LeftOut::default() });
    assert_eq!(state.namespaces[1].totals.unwrap().sem_arrays, 68_000);
    assert_eq!(state.namespaces[1].shm.as_deref(), Some(&[][..]), "that there are none is known");
    assert_eq!(host.sample(), state, "and nothing flaps");
}

#[test]
fn too_many_to_visit_take_turns_and_a_state_shows_all() {
    let mut host = Host::new(FakeKernel::new());
    let many = 700;
    for inode in 1..=many {
        host.namespace(inode, inode);
        host.process(inode, b"x");
    }
    let states: Vec<State> = (0..20).map(|_| host.sample()).collect();
    let last = states.last().unwrap();
    assert_eq!(last.namespaces.len(), 701);
    assert!(last.namespaces[1..].iter().all(|namespace| namespace.skipped == 3), "{}", last.namespaces[1].skipped);
    assert_eq!(last.namespaces[0].skipped, 0);
    assert!(states[19] == states[18], "nothing flaps");
    host.with(|kernel| kernel.others.iter_mut().for_each(|other| other.limits.semopm = 1));
    let told = (1..6).find(|_| host.sample().namespaces[1..].iter().all(|n| n.limits.unwrap().semopm == 1));
    assert!(told.is_some_and(|samples| samples <= 4), "{told:?}");
}

#[derive(Clone, Debug)]
enum Happens {
    /// A namespace appears in the inode, with a process; if it is taken, another process joins.
    Start(u64),
    /// All processes of that inode's namespace die.
    End(u64),
    /// One of its processes dies.
    Death(u64),
    /// All die and another namespace has the inode at once, one of its processes with a pid of before.
    Reuse(u64),
    Sample,
}

fn happens() -> impl Strategy<Value = Happens> {
    let inode = 7..10_u64;
    prop_oneof![
        2 => inode.clone().prop_map(Happens::Start),
        1 => inode.clone().prop_map(Happens::End),
        2 => inode.clone().prop_map(Happens::Death),
        2 => inode.prop_map(Happens::Reuse),
        4 => Just(Happens::Sample),
    ]
}

/// What is true: processes by the inode they are in, and which namespace that is.
#[derive(Default)]
struct World {
    truth: BTreeMap<u64, u64>,
    pids: BTreeMap<u64, Vec<i32>>,
    made: u64,
}

impl World {
    fn start(&mut self, host: &mut Host, inode: u64) {
        if self.pids.get(&inode).is_none_or(Vec::is_empty) {
            self.made += 1;
            self.truth.insert(inode, self.made);
            host.namespace(inode, self.made);
        }
        let pid = host.process(inode, b"x");
        self.pids.entry(inode).or_default().push(pid);
    }

    fn end(&mut self, host: &mut Host, inode: u64) -> Option<i32> {
        let pids = self.pids.remove(&inode).unwrap_or_default();
        pids.iter().for_each(|pid| host.dies(*pid));
        self.truth.remove(&inode);
        pids.first().copied()
    }

    fn happen(&mut self, host: &mut Host, what: &Happens) {
        match what {
            Happens::Start(inode) => self.start(host, *inode),
            Happens::End(inode) => {
                self.end(host, *inode);
            }
            Happens::Death(inode) => {
                if let Some(pid) = self.pids.get_mut(inode).and_then(Vec::pop) {
                    host.dies(pid);
                    if self.pids[inode].is_empty() {
                        self.end(host, *inode);
                    }
                }
            }
            Happens::Reuse(inode) => {
                if let Some(pid) = self.end(host, *inode) {
                    self.start(host, *inode);
                    let start = host.clock.0 / 10_000 + 1;
                    host.with(|kernel| put_process(kernel, pid, *inode, start, b"again"));
                    self.pids.entry(*inode).or_default().push(pid);
                }
            }
            Happens::Sample => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_two_namespaces_are_ever_shown_as_one(
        history in proptest::collection::vec(happens(), 1..60), without_ids in any::<bool>(),
    ) {
        let mut host = Host::new(FakeKernel { without_ids, ..FakeKernel::new() });
        let (mut world, mut known) = (World::default(), BTreeMap::new());
        for what in history {
            world.happen(&mut host, &what);
            if !matches!(what, Happens::Sample) {
                continue;
            }
            let state = host.sample();
            for namespace in &state.namespaces {
                let truth = namespace.limits.unwrap().semmni;
                prop_assert_eq!(*known.entry(namespace.id).or_insert(truth), truth, "{:?} was another one", namespace.id);
            }
            // What is shown lives; what lives is shown within two samples more.
            let now: Vec<u64> = world.truth.values().copied().collect();
            prop_assert!(shown(&state)[1..].iter().all(|truth| now.contains(truth)), "{:?} of {:?}", shown(&state), now);
            host.sample();
            let mut later = shown(&host.sample())[1..].to_vec();
            later.sort_unstable();
            let mut now = now;
            now.sort_unstable();
            prop_assert_eq!(later, now);
        }
    }
}
