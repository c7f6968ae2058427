//! A TCP way to the collector that a test closes and opens: closed, it cuts what is connected and takes nobody.

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Its threads end with their connections; nothing outlives the test process.
pub(crate) struct Gate {
    address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
}

struct Inside {
    open: bool,
    collector: SocketAddr,
    last: u64,
    connections: BTreeMap<u64, [TcpStream; 2]>,
}

impl Gate {
    /// An open one to a collector, `https://IP:PORT`.
    pub(crate) fn to(collector: &str) -> Self {
        let collector = address_of(collector);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inside = Arc::new(Mutex::new(Inside { open: true, collector, last: 0, connections: BTreeMap::new() }));
        let shared = Arc::clone(&inside);
        thread::spawn(move || {
            for agent in listener.incoming().map_while(Result::ok) {
                let mut inside = shared.lock().unwrap();
                let Some(server) = inside.open.then(|| TcpStream::connect(inside.collector).ok()).flatten() else {
                    continue;
                };
                inside.last += 1;
                let number = inside.last;
                let ends = [agent.try_clone().unwrap(), server.try_clone().unwrap()];
                inside.connections.insert(number, ends);
                for (from, to) in [(agent.try_clone().unwrap(), server.try_clone().unwrap()), (server, agent)] {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let (mut reader, mut writer) = (&from, &to);
                        let _ = std::io::copy(&mut reader, &mut writer);
                        let _ = to.shutdown(Shutdown::Write);
                        let _ = from.shutdown(Shutdown::Read);
                        shared.lock().unwrap().connections.remove(&number);
                    });
                }
            }
        });
        Self { address, inside }
    }

    /// Where agents connect, `https://IP:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn open(&self) {
        self.inside.lock().unwrap().open = true;
    }

    /// Leads to another collector from now on; cuts what is connected.
    pub(crate) fn turn_to(&self, collector: &str) {
        self.close();
        let mut inside = self.inside.lock().unwrap();
        inside.collector = address_of(collector);
        inside.open = true;
    }

    pub(crate) fn close(&self) {
        let mut inside = self.inside.lock().unwrap();
        inside.open = false;
        for end in std::mem::take(&mut inside.connections).into_values().flatten() {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn address_of(collector: &str) -> SocketAddr {
    collector.rsplit('/').next().unwrap().parse().unwrap()
}
