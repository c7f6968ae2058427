//! A socket between agents and collector. It reads nothing (TLS passes through), but it can hold what goes to the
//! agents: then whatever the collector says, no agent hears it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// Its threads end with their connections; nothing outlives the test process.
pub(crate) struct Proxy {
    address: SocketAddr,
    gate: Arc<Gate>,
    connections: Arc<AtomicUsize>,
}

/// What every byte on its way to an agent passes.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: bool,
    /// How often all connections were given up.
    discarded: u64,
}

impl Proxy {
    /// Passes connections on to a collector at that address.
    pub(crate) fn start(collector: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (gate, connections) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
        let (passes, counts) = (Arc::clone(&gate), Arc::clone(&connections));
        thread::spawn(move || {
            for agent in listener.incoming().map_while(Result::ok) {
                // Without a collector the agent finds its connection closed.
                let Ok(collector) = TcpStream::connect(collector) else { continue };
                if collector.local_addr().ok() == collector.peer_addr().ok() {
                    // Nobody listens, and the kernel chose that very port for this end: connected to itself.
                    continue;
                }
                counts.fetch_add(1, Ordering::SeqCst);
                serve(agent, collector, &passes);
            }
        });
        Self { address, gate, connections }
    }

    /// Where agents connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections it has passed on.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Once this returns, nothing more reaches an agent.
    pub(crate) fn hold(&self) {
        self.gate.set(|state| state.held = true);
    }

    /// What was held goes on its way.
    pub(crate) fn release(&self) {
        self.gate.set(|state| state.held = false);
    }

    /// What was held is never delivered, nor what has not even been read from a dead collector: the connections that
    /// there are end.
    pub(crate) fn discard(&self) {
        self.gate.set(|state| {
            state.held = false;
            state.discarded += 1;
        });
    }
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn discarded(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).discarded
    }

    /// Hands bytes to the agent, under the lock: after [`Proxy::hold`] none is on its way. `discarded` is what it was
    /// when the connection began.
    fn pass(&self, agent: &mut TcpStream, bytes: &[u8], discarded: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.held {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.discarded > discarded {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        agent.write_all(bytes)
    }
}

fn serve(agent: TcpStream, collector: TcpStream, gate: &Arc<Gate>) {
    let discarded = gate.discarded();
    let clone = |stream: &TcpStream| stream.try_clone().expect("a second handle of a socket");
    let (mut from_agent, mut to_collector) = (clone(&agent), clone(&collector));
    thread::spawn(move || {
        let _ = pump(&mut from_agent, |bytes| to_collector.write_all(bytes));
        close(&from_agent, &to_collector);
    });
    let (mut from_collector, mut to_agent, gate) = (collector, agent, Arc::clone(gate));
    thread::spawn(move || {
        let _ = pump(&mut from_collector, |bytes| gate.pass(&mut to_agent, bytes, discarded));
        close(&from_collector, &to_agent);
    });
}

/// Both ends learn at once that the other is gone.
fn close(one: &TcpStream, other: &TcpStream) {
    let _ = one.shutdown(Shutdown::Both);
    let _ = other.shutdown(Shutdown::Both);
}

fn pump(from: &mut TcpStream, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = [0; 16 << 10];
    loop {
        match from.read(&mut bytes)? {
            0 => return Ok(()),
            n => to(&bytes[..n])?,
        }
    }
}

#[test]
fn what_is_held_arrives_when_released_and_never_when_discarded() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let proxy = Proxy::start(listener.local_addr().expect("its address"));
    for discard in [false, true] {
        let mut agent = TcpStream::connect(proxy.address()).expect("the proxy");
        let (mut collector, _) = listener.accept().expect("the proxy's connection");
        collector.write_all(b"a").expect("sent");
        let mut heard = [0; 1];
        agent.read_exact(&mut heard).expect("what came before");
        proxy.hold();
        collector.write_all(b"b").expect("sent");
        agent.write_all(b"up").expect("the other way is open");
        let mut up = [0; 2];
        collector.read_exact(&mut up).expect("the other way is open");
        agent.set_nonblocking(true).expect("a socket");
        assert_eq!(agent.read(&mut heard).expect_err("held").kind(), io::ErrorKind::WouldBlock);
        agent.set_nonblocking(false).expect("a socket");
        if discard {
            // The collector is dead by then.
            drop(collector);
            proxy.discard();
            assert_eq!(agent.read(&mut heard).unwrap_or(0), 0, "closed without a byte");
        } else {
            proxy.release();
            assert_eq!(agent.read(&mut heard).expect("released"), 1);
            assert_eq!(&heard, b"b");
        }
    }
}
