//! A host that speaks to the writer without an agent: records with real bodies, seq and chain kept.

use std::sync::Arc;

use highwater::cli::migrate::DatabaseUrl;
use highwater::host::HostId;
use highwater::store::Db;
use highwater::writer::ack::{Ended, News, Outbox};
use highwater::writer::{Arrival, Handle, OpenError, OpenRequest, Opened, Writer};
use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::codec;
use highwater_ipc::delta::{Delta, ListChange, NamespaceChange, NamespaceDelta, diff};
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::record::{
    Body, Chain, Content, Epoch, EpochId, EpochNo, GapReason, Keyframe, Record, RecordKind, Seq,
};
use highwater_ipc::session::{Hello, HostFacts, Now, SpooledEpoch};
use highwater_ipc::snapshot::{BootId, LeftOut, Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;
use highwater_proto::chain;
use highwater_tests::wait::{PATIENCE, now_ms};

/// Milliseconds between samples.
const INTERVAL_MS: u32 = 1000;
const NAMESPACE: NamespaceId = NamespaceId { inode: 4_026_531_839, instance: 1 };

/// Connects to a database by URL.
pub(crate) async fn connect(url: &str) -> Db {
    let url = DatabaseUrl::named(Some(url.as_ref())).unwrap().unwrap();
    Db::connect(url.options(), 8).await.unwrap()
}

/// Waits until everything of the epoch before `next` is acked; returns whether a keyframe was asked for meanwhile.
pub(crate) async fn acked(outbox: &Outbox, epoch: u64, next: Seq) -> bool {
    let mut keyframe = false;
    loop {
        let news = news(outbox).await;
        assert_eq!(news.ended, None);
        keyframe |= news.keyframe;
        let mut positions = news.acks.into_values().map(|durable| durable.into_inner());
        if positions.any(|at| at.epoch == EpochNo(epoch) && at.next >= next) {
            return keyframe;
        }
    }
}

/// Waits until the writer ends the session.
pub(crate) async fn ended(outbox: &Outbox) -> Ended {
    loop {
        if let Some(why) = news(outbox).await.ended {
            return why;
        }
    }
}

async fn news(outbox: &Outbox) -> News {
    tokio::time::timeout(PATIENCE, outbox.take()).await.expect("news of the writer")
}

/// Commands that change nothing, to fill a commit.
pub(crate) async fn fill(writer: &Writer, commands: usize) {
    fill_handle(&writer.handle(), commands).await;
}

/// The same by its way in.
pub(crate) async fn fill_handle(handle: &Handle, commands: usize) {
    for _ in 0..commands {
        handle.close(HostId(1), highwater::writer::Session(1)).await.unwrap();
    }
}

#[derive(Clone)]
pub(crate) struct Host {
    id: HostId,
    epochs: Vec<SpooledEpoch>,
    pub(crate) boot_id: BootId,
    pub(crate) clock: At,
    pub(crate) next: Seq,
    pub(crate) chain: Chain,
    /// What it calls itself.
    pub(crate) name: &'static str,
    /// Its machine-id; empty = none.
    pub(crate) machine_id: &'static str,
}

/// A record and its body, with its epoch.
pub(crate) type Made = (EpochNo, Record, Body);

impl Host {
    pub(crate) fn new(id: i64) -> Self {
        let clock = At { wall_ms: now_ms(), boot_us: 60_000_000 };
        let boot_id = BootId([1; 16]);
        let (next, chain) = (Seq(0), Chain::default());
        let mut this =
            Self { id: HostId(id), epochs: Vec::new(), boot_id, clock, next, chain, name: "web-1", machine_id: "" };
        this.begin_epoch(1, boot_id);
        this
    }

    pub(crate) fn id(&self) -> HostId {
        self.id
    }

    pub(crate) fn set_clock(&mut self, wall_ms: i64) {
        self.clock.wall_ms = wall_ms;
    }

    pub(crate) fn begin_epoch(&mut self, no: u64, boot_id: BootId) {
        self.boot_id = boot_id;
        (self.next, self.chain) = (Seq(0), Chain::default());
        let epoch = Epoch { no: EpochNo(no), id: EpochId(no * 1000) };
        self.epochs.push(SpooledEpoch { epoch, boot_id, first: Seq(0), next: Seq(0), chain: Chain::default() });
    }

    /// It holds nothing of its epochs.
    pub(crate) fn forget_epochs(&mut self) {
        self.epochs.clear();
    }

    /// All that it made was acked and is not held any more.
    pub(crate) fn forget_acked(&mut self) {
        let spooled = self.epochs.last_mut().unwrap();
        spooled.first = spooled.next;
    }

    pub(crate) fn keyframe(&mut self, gap: Option<GapReason>) -> Made {
        let state = state(self.boot_id);
        self.make(Content::Keyframe(Keyframe { gap, took_us: 5, state, activity: Default::default() }), 1)
    }

    /// A sample in which only the number of arrays changed.
    pub(crate) fn delta(&mut self, sem_arrays: u64) -> Made {
        let change = NamespaceChange {
            id: NAMESPACE,
            name: None,
            torn: None,
            limits: None,
            totals: Some(Some(Totals { sem_arrays, ..Totals::default() })),
            sem: ListChange::Same,
            shm: ListChange::Same,
            msg: ListChange::Same,
            unreadable: None,
            left_out: None,
            named_by: None,
            skipped: None,
            who: Default::default(),
        };
        let namespaces = vec![NamespaceDelta::Changed(change)];
        self.make(Content::Delta(Delta { took_us: 5, namespaces, ..Delta::default() }), 1)
    }

    /// A sample that differs from a keyframe's in what `change` does.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut State)) -> Made {
        let before = state(self.boot_id);
        let mut after = before.clone();
        change(&mut after);
        self.make(Content::Delta(diff(&before, &after, 5).expect("a change")), 1)
    }

    /// A sample in which only the agent's interval changed.
    pub(crate) fn interval(&mut self, interval_ms: u32) -> Made {
        self.make(Content::Delta(Delta { interval_ms: Some(interval_ms), ..Delta::default() }), 1)
    }

    /// The agent's last word.
    pub(crate) fn stopped(&mut self) -> Made {
        self.make(Content::GapReason(GapReason::AgentStopped), 1)
    }

    /// Merged heartbeats.
    pub(crate) fn heartbeats(&mut self, count: u64) -> Made {
        self.make(Content::Heartbeat, count)
    }

    pub(crate) fn now(&self, backlog_from_ms: i64) -> Now {
        Now { backlog_from_ms, at: self.clock, state: state(self.boot_id) }
    }

    pub(crate) fn hello(&self) -> Hello {
        let facts = HostFacts {
            agent_version: HostText::from("0.1.0"),
            machine_id: HostText::from(self.machine_id),
            boot_id: self.boot_id,
            hostname: HostText::from(self.name),
            ..HostFacts::default()
        };
        Hello { facts, now: self.clock, epochs: self.epochs.clone() }
    }

    pub(crate) async fn open(&self, writer: &Writer) -> Result<Session, OpenError> {
        self.opening(writer).await
    }

    pub(crate) fn opening(&self, writer: &Writer) -> impl Future<Output = Result<Session, OpenError>> + use<> {
        self.opening_read_at(writer, now_ms())
    }

    /// Opens with a hello that was read at that time of the collector's clock.
    pub(crate) fn opening_read_at(
        &self,
        writer: &Writer,
        read_ms: i64,
    ) -> impl Future<Output = Result<Session, OpenError>> + use<> {
        let hello = self.hello();
        let (host, handle, outbox) = (self.id, writer.handle(), Arc::new(Outbox::default()));
        async move {
            let opening = OpenRequest { host, enrolled_ms: 0, hello, read_ms, outbox: Arc::clone(&outbox) };
            let opened = handle.open(opening).await?;
            Ok(Session { host, handle, outbox, opened })
        }
    }

    fn make(&mut self, content: Content, count: u64) -> Made {
        let ms = i64::from(INTERVAL_MS) * i64::try_from(count).unwrap();
        self.clock.wall_ms = self.clock.wall_ms.saturating_add(ms);
        self.clock.boot_us += u64::from(INTERVAL_MS) * 1000 * count;
        let body = Body { at: self.clock, content };
        let (first_seq, seq) = (self.next, Seq(self.next.0 + count - 1));
        let kind = body.content.kind();
        let record = Record { kind, first_seq, seq, chain: self.chain, missing: None, body: codec::encode_body(&body) };
        self.next = seq.next();
        self.chain = chain::after(record.chain, kind, &record.body);
        let spooled = self.epochs.last_mut().unwrap();
        (spooled.next, spooled.chain) = (self.next, self.chain);
        debug_assert!(count == 1 || kind == RecordKind::Heartbeat);
        (spooled.epoch.no, record, body)
    }
}

/// A session with the writer.
pub(crate) struct Session {
    host: HostId,
    handle: Handle,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) opened: Opened,
}

impl Session {
    pub(crate) async fn send(&mut self, (epoch, record, body): Made) {
        let arrival = Arrival::new(record, &body);
        self.handle.record(self.host, self.opened.session, epoch, arrival).await.unwrap();
    }

    pub(crate) async fn now(&self, now: Now) {
        self.handle.now(self.host, self.opened.session, now).await.unwrap();
    }

    pub(crate) async fn close(&self) {
        self.handle.close(self.host, self.opened.session).await.unwrap();
    }
}

fn state(boot_id: BootId) -> State {
    let limits = Limits {
        semmsl: 32_000,
        semmns: 1_024_000_000,
        semopm: 500,
        semmni: 32_000,
        semvmx: 32_767,
        shmmax: 18_446_744_073_692_774_399,
        shmall: 18_446_744_073_692_774_399,
        shmmni: 4096,
        shmmin: 1,
        msgmax: 8192,
        msgmnb: 16_384,
        msgmni: 32_000,
    };
    let namespace = Namespace {
        id: NAMESPACE,
        name: None,
        torn: false,
        limits: Some(limits),
        totals: Some(Totals::default()),
        sem: Some(Vec::new()),
        shm: Some(Vec::new()),
        msg: Some(Vec::new()),
        unreadable: Vec::new(),
        left_out: LeftOut::default(),
        ..Namespace::default()
    };
    let availability = Availability {
        state: SysvipcState::Available,
        evidence: vec![HostText::from("SEM_INFO\n")],
        remedy: HostText::default(),
    };
    State {
        boot_id,
        interval_ms: INTERVAL_MS,
        page_size: 4096,
        zone: HostText::default(),
        availability,
        users: Default::default(),
        groups: Default::default(),
        namespaces: vec![namespace],
        risks: Vec::new(),
        unseen: Vec::new(),
    }
}
