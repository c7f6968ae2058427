//! Alertmanager from the distribution's package, on loopback, with a data directory of its own and nobody to tell.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::wait::{PATIENCE, until_some};

/// A running one; ended on drop.
#[derive(Debug)]
pub struct Alertmanager {
    address: String,
    _process: Process,
    _directory: TempDir,
}

impl Alertmanager {
    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If it is not installed or does not start.
    #[track_caller]
    pub fn start() -> Self {
        let program = "/usr/bin/prometheus-alertmanager";
        assert!(Path::new(program).exists(), "{program} is missing: `make test` installs prometheus-alertmanager");
        let directory = tempfile::Builder::new().prefix("highwater-am-").tempdir().expect("a temporary directory");
        let config = directory.path().join("alertmanager.yml");
        let text = "route:\n  receiver: nobody\n  group_by: [host]\nreceivers:\n  - name: nobody\n";
        std::fs::write(&config, text).expect("its configuration");
        let mut command = Command::new(program);
        command.arg("--config.file").arg(&config);
        command.arg("--storage.path").arg(directory.path().join("data"));
        // No cluster: it would listen on every address.
        command.args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="]);
        let mut process = Process::spawn("alertmanager", command, &directory.path().join("log"));
        let address = until_some("Alertmanager listens", PATIENCE, || {
            process.must_run();
            let log = process.output();
            let line = log.lines().find(|line| line.contains("Listening on"))?;
            let address = line.split("address=").nth(1)?.split_whitespace().next()?;
            Some(address.trim_matches('"').to_owned())
        });
        let started = Self { address, _process: process, _directory: directory };
        until_some("Alertmanager is ready", PATIENCE, || started.get("/-/ready").filter(|a| a.contains(" 200 ")));
        started
    }

    /// Its root.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The alerts that are active now.
    ///
    /// # Panics
    ///
    /// If it gives no list.
    #[track_caller]
    pub fn active(&self) -> Vec<Value> {
        let answer = self.get("/api/v2/alerts?active=true").expect("an answer of Alertmanager");
        let body = answer.split("\r\n\r\n").nth(1).expect("a body");
        serde_json::from_str(body).unwrap_or_else(|e| panic!("no list of alerts ({e}): {answer}"))
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}
