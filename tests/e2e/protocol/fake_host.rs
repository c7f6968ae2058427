//! A host whose kernel and clocks are the test's; its agent is the real one, in this process, over the real wire.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use highwater_agent::agent::{AgentHandle, SPOOL_DIR};
use highwater_agent::clock::{HostClock, SystemClock};
use highwater_agent::config::{Config, Interval};
use highwater_agent::kernel::fake::FakeKernel;
use highwater_agent::kernel::{Account, Entry, Kernel, Seen};
use highwater_agent::sys::errno::Errno;
use highwater_agent::sys::host::Uname;
use highwater_agent::sys::sysvipc::{MsgLimits, MsgUse, SemLimits, SemUse, ShmLimits, ShmUse};
use highwater_agent::transport::enrol::{EnrolOptions, enrol};
use highwater_ipc::object::{Key, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::text::HostText;
use highwater_ipc::time::{At, Clock};
use highwater_proto::token::Token;
use highwater_tests::collector::Up;
use highwater_tests::sampling;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Milliseconds between its samples.
pub(crate) const INTERVAL_MS: i64 = 100;

/// A host with an enrolled agent.
pub(crate) struct FakeHost {
    pub(crate) clock: Arc<SetClock>,
    kernel: Arc<Mutex<FakeKernel>>,
    busy: Arc<AtomicBool>,
    state: TempDir,
    collector: String,
    /// `spool_bytes` from the next start on.
    pub(crate) spool_bytes: u64,
    agent: Option<AgentHandle>,
    id: String,
}

impl FakeHost {
    /// Enrols at `up`, which it reaches at `collector`; does not run yet.
    pub(crate) fn enrol(up: &Up, collector: &str, name: &'static str) -> Self {
        let token = up.cli().json(&["token", "create"]);
        let token = Token::parse(token["token"].as_str().unwrap()).unwrap();
        Self::enrol_with(token, collector, name)
    }

    pub(crate) fn enrol_with(token: Token, collector: &str, name: &'static str) -> Self {
        let state = tempfile::Builder::new().prefix("highwater-fake-").tempdir().unwrap();
        let options = EnrolOptions {
            collector: collector.to_owned(),
            token,
            state_dir: state.path().join("state"),
            hostname: HostText::from(name),
            machine_id: HostText::default(),
        };
        let enrolled = Runtime::new().unwrap().block_on(enrol(options)).unwrap();
        let mut kernel = FakeKernel::new();
        kernel.uname.nodename = name.as_bytes().to_vec();
        Self {
            clock: Arc::default(),
            kernel: Arc::new(Mutex::new(kernel)),
            busy: Arc::default(),
            state,
            collector: collector.to_owned(),
            spool_bytes: Config::default().spool_bytes,
            agent: None,
            id: enrolled.host_id,
        }
    }

    /// Its id, as operators name it.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.state.path().join("state")
    }

    /// The segments of its spool, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.state_dir().join(SPOOL_DIR)).unwrap().map(|f| f.unwrap().path());
        let mut segments: Vec<_> = files.filter(|f| f.extension().is_some_and(|e| e == "seg")).collect();
        segments.sort();
        segments
    }

    /// Starts its agent.
    pub(crate) fn start(&mut self) {
        let config = Config {
            collector: Some(self.collector.clone()),
            state_dir: self.state_dir(),
            interval: Interval::from_ms(u32::try_from(INTERVAL_MS).unwrap()).unwrap(),
            spool_bytes: self.spool_bytes,
            ..Config::default()
        };
        let kernel = || -> Box<dyn Kernel> {
            Box::new(Shared { kernel: Arc::clone(&self.kernel), busy: Arc::clone(&self.busy) })
        };
        let clock = Arc::clone(&self.clock) as Arc<dyn HostClock>;
        self.agent = Some(sampling::start(&config, kernel, &clock));
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        self.agent.take().unwrap().stop().unwrap();
    }

    /// Whether every array is used before each sample, so that a record says all of it and a small spool fills up in
    /// seconds.
    pub(crate) fn busy(&self, is_busy: bool) {
        self.busy.store(is_busy, Ordering::SeqCst);
    }

    /// From the next sample on it holds so many arrays.
    pub(crate) fn hold(&self, arrays: usize) {
        let array = |i: i32| SemArray {
            key: Key(scattered(i)),
            semid: i,
            perms: Perms(0o600),
            nsems: 1,
            owner: Owner { uid: 33, gid: 33, cuid: 33, cgid: 33 },
            otime: 0,
            ctime: 1_700_000_000,
        };
        self.kernel.lock().unwrap().sem = (0..i32::try_from(arrays).unwrap()).map(array).collect();
    }
}

/// Numbers without order do not pack.
fn scattered(i: i32) -> i32 {
    i.wrapping_mul(0x9e37_79b9_u32.cast_signed())
}

/// The system's clocks, set forward and back.
#[derive(Debug, Default)]
pub(crate) struct SetClock(Mutex<Offsets>);

#[derive(Clone, Copy, Debug, Default)]
struct Offsets {
    wall_ms: i64,
    boot_us: u64,
    awake_us: u64,
}

impl SetClock {
    /// Somebody sets the wall clock.
    pub(crate) fn step(&self, by_ms: i64) {
        self.0.lock().unwrap().wall_ms += by_ms;
    }

    /// Time passes in which nothing runs; asleep, the clock of waking time stands still.
    pub(crate) fn pass(&self, ms: i64, asleep: bool) {
        let mut offsets = self.0.lock().unwrap();
        let us = u64::try_from(ms).unwrap() * 1000;
        offsets.wall_ms += ms;
        offsets.boot_us += us;
        offsets.awake_us += if asleep { 0 } else { us };
    }

    pub(crate) fn wall_ms(&self) -> i64 {
        self.now().wall_ms
    }
}

impl Clock for SetClock {
    fn now(&self) -> At {
        let (offsets, real) = (*self.0.lock().unwrap(), SystemClock.now());
        At { wall_ms: real.wall_ms + offsets.wall_ms, boot_us: real.boot_us + offsets.boot_us }
    }
}

impl HostClock for SetClock {
    fn awake_us(&self) -> u64 {
        SystemClock.awake_us() + self.0.lock().unwrap().awake_us
    }
}

/// A kernel that the test changes between two samples.
struct Shared {
    kernel: Arc<Mutex<FakeKernel>>,
    busy: Arc<AtomicBool>,
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, FakeKernel> {
        self.kernel.lock().unwrap()
    }
}

impl Kernel for Shared {
    fn read(&mut self, path: &str, limit: usize, into: &mut Vec<u8>) -> Result<bool, Errno> {
        self.inner().read(path, limit, into)
    }
    fn list(&mut self, path: &str) -> Result<Vec<Vec<u8>>, Errno> {
        self.inner().list(path)
    }
    fn read_link(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        self.inner().read_link(path)
    }
    fn sem_pid(&mut self, semid: i32, index: u32) -> Result<i32, Errno> {
        self.inner().sem_pid(semid, index)
    }
    fn sem_waiters(&mut self, semid: i32, index: u32) -> Result<u64, Errno> {
        self.inner().sem_waiters(semid, index)
    }
    fn process(&mut self, pid: i32) -> Result<Entry, Errno> {
        Kernel::process(&mut *self.inner(), pid)
    }
    fn pids(&mut self, into: &mut Vec<i32>) -> Result<(), Errno> {
        self.inner().pids(into)
    }
    fn enter(&mut self, pid: i32) -> Result<Seen, Errno> {
        self.inner().enter(pid)
    }
    fn home(&mut self) {
        self.inner().home();
    }
    fn sem_info(&mut self) -> Result<SemUse, Errno> {
        self.inner().sem_info()
    }
    fn shm_info(&mut self) -> Result<ShmUse, Errno> {
        self.inner().shm_info()
    }
    fn msg_info(&mut self) -> Result<MsgUse, Errno> {
        self.inner().msg_info()
    }
    fn sem_limits(&mut self) -> Result<SemLimits, Errno> {
        self.inner().sem_limits()
    }
    fn shm_limits(&mut self) -> Result<ShmLimits, Errno> {
        self.inner().shm_limits()
    }
    fn msg_limits(&mut self) -> Result<MsgLimits, Errno> {
        self.inner().msg_limits()
    }
    fn sem_stat(&mut self, index: u32) -> Result<SemArray, Errno> {
        self.inner().sem_stat(index)
    }
    fn shm_stat(&mut self, index: u32) -> Result<ShmSegment, Errno> {
        self.inner().shm_stat(index)
    }
    fn msg_stat(&mut self, index: u32) -> Result<MsgQueue, Errno> {
        self.inner().msg_stat(index)
    }
    fn namespace(&mut self) -> Result<NamespaceId, Errno> {
        self.inner().namespace()
    }
    fn uname(&mut self) -> Result<Uname, Errno> {
        self.inner().uname()
    }
    fn page_size(&mut self) -> u32 {
        self.inner().page_size()
    }
    fn refresh_names(&mut self, boot_us: u64) {
        let mut kernel = self.inner();
        if self.busy.load(Ordering::SeqCst) {
            let now = i32::try_from(boot_us / 1000 % 1_000_003).unwrap();
            kernel.sem.iter_mut().for_each(|array| array.otime = i64::from(scattered(array.semid.wrapping_add(now))));
        }
        kernel.refresh_names(boot_us);
    }
    fn name(&mut self, account: Account) -> Option<HostText> {
        self.inner().name(account)
    }
}
