//! An agent spoken by the test: the real wire and a real certificate, every message chosen.

use std::path::PathBuf;
use std::time::Duration;

use highwater_agent::spool::disk::PrivateDir;
use highwater_agent::transport::address::Address;
use highwater_agent::transport::enrol::{EnrolOptions, enrol};
use highwater_agent::transport::enrolment::Enrolment;
use highwater_agent::transport::session::{FromCollector, ToCollector};
use highwater_agent::transport::stream::{self, DialError, Receiver, Sender};
use highwater_agent::transport::tls::TlsClient;
use highwater_ipc::session::{Hello, Welcome};
use highwater_ipc::text::HostText;
use highwater_proto::token::Token;
use highwater_tests::collector::Up;
use highwater_tests::wait::PATIENCE;

use crate::ingest::host::{Host, Made};

/// Who may speak as a host: a state directory with key and certificate.
pub(super) struct Speaker {
    state: tempfile::TempDir,
    pub(super) id: String,
}

impl Speaker {
    /// Enrols with a token made by `token create WITH ..`.
    pub(super) async fn enrol(up: &Up, with: &[&str]) -> Self {
        let state = tempfile::Builder::new().prefix("highwater-speaker-").tempdir().unwrap();
        let token = up.cli().json(&[&["token", "create"], with].concat());
        let options = EnrolOptions {
            collector: up.grpc().to_owned(),
            token: Token::parse(token["token"].as_str().unwrap()).unwrap(),
            state_dir: directory(&state),
            hostname: HostText::from("spoken"),
            machine_id: HostText::default(),
        };
        let id = enrol(options).await.unwrap().host_id;
        Self { state, id }
    }

    fn tls(&self) -> TlsClient {
        let mut state = PrivateDir::open(&directory(&self.state)).unwrap();
        let enrolment = Enrolment::load(&mut state).unwrap().unwrap();
        enrolment.tls(&mut state).unwrap()
    }

    /// Says hello, and waits for what comes of it.
    pub(super) async fn greet(&self, up: &Up, host: &Host) -> Result<Stream, String> {
        self.say_hello(up.grpc(), host.hello()).await
    }

    pub(super) async fn say_hello(&self, collector: &str, hello: Hello) -> Result<Stream, String> {
        let address = Address::parse(collector).unwrap();
        let opened = within(stream::open(&address, &self.tls(), || ToCollector::Hello(hello))).await;
        let (sender, mut receiver) = opened.map_err(|e| e.to_string())?;
        match within(receiver.receive()).await.map_err(|e| e.to_string())? {
            FromCollector::Welcome(welcome) => Ok(Stream { sender, receiver, welcome, pings: 0 }),
            other => panic!("no welcome but {other:?}"),
        }
    }
}

fn directory(state: &tempfile::TempDir) -> PathBuf {
    state.path().join("state")
}

/// A stream after its welcome.
pub(super) struct Stream {
    sender: Sender,
    receiver: Receiver,
    pub(super) welcome: Welcome,
    /// Pings that came.
    pub(super) pings: usize,
}

impl Stream {
    pub(super) async fn send(&self, (epoch, record, _): Made) {
        self.sender.send(ToCollector::Records(epoch, vec![record])).await.unwrap();
    }

    /// Waits until everything that `host` made is acked; answers pings.
    pub(super) async fn acked(&mut self, host: &Host) {
        let epoch = host.hello().epochs.last().unwrap().epoch.no;
        while self.hear().await.unwrap() != FromCollector::Ack(epoch, host.next) {}
    }

    /// Sends a record and waits for its ack.
    pub(super) async fn store(&mut self, host: &Host, made: Made) {
        self.send(made).await;
        self.acked(host).await;
    }

    /// Answers every ping until the collector ends the stream; returns its words.
    pub(super) async fn answer_until_ended(&mut self) -> String {
        loop {
            if let Err(ended) = self.hear().await {
                return ended.to_string();
            }
        }
    }

    /// Hears what comes and answers nothing until the collector ends the stream; returns its words.
    pub(super) async fn ignore_until_ended(&mut self) -> String {
        loop {
            match within(self.receiver.receive()).await {
                Ok(FromCollector::Ping(_)) => self.pings += 1,
                Ok(_) => {}
                Err(ended) => return ended.to_string(),
            }
        }
    }

    async fn hear(&mut self) -> Result<FromCollector, DialError> {
        let heard = within(self.receiver.receive()).await?;
        self.answer(&heard).await?;
        Ok(heard)
    }

    async fn answer(&mut self, heard: &FromCollector) -> Result<(), DialError> {
        if let FromCollector::Ping(nonce) = heard {
            self.pings += 1;
            self.sender.send(ToCollector::Pong(*nonce)).await?;
        }
        Ok(())
    }

    /// Whether it still takes records: a heartbeat is acked.
    pub(super) async fn goes_on(&mut self, host: &mut Host) {
        let made = host.heartbeats(1);
        self.store(host, made).await;
    }
}

/// Lives as an agent does until `done`: a heartbeat every 100 ms, pings answered.
pub(super) async fn live_until<T>(stream: &mut Stream, host: &mut Host, done: impl Future<Output = T>) -> T {
    tokio::pin!(done);
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    loop {
        let heard = tokio::select! {
            done = &mut done => return done,
            _ = beat.tick() => None,
            heard = stream.receiver.receive() => Some(heard.unwrap()),
        };
        match heard {
            Some(heard) => stream.answer(&heard).await.unwrap(),
            None => stream.send(host.heartbeats(1)).await,
        }
    }
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("an answer in time")
}
