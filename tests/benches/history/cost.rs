//! What something costs of processor, here and in the server: steadier than a wall clock where other work runs.

use std::fs;

use highwater_tests::postgres::Database;

/// Ticks of `/proc/PID/stat` a second.
const TICKS: f64 = 100.0;

/// Seconds of processor, user and system, since a process began.
pub struct Cpu {
    here: f64,
    server: f64,
}

impl Cpu {
    pub fn now(database: &Database) -> Self {
        let stats: Vec<Stat> = all();
        let backends = database.sql("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
        let backends: Vec<u32> = backends.lines().map(|pid| pid.parse().unwrap()).collect();
        let postmaster = stats.iter().find(|stat| backends.contains(&stat.pid)).unwrap().parent;
        // What has ended meanwhile counts as the postmaster's.
        let of_server = |stat: &&Stat| stat.pid == postmaster || stat.parent == postmaster;
        let server: f64 = stats.iter().filter(of_server).map(|stat| stat.own + stat.ended).sum();
        let here = stats.iter().find(|stat| stat.pid == std::process::id()).unwrap().own;
        Self { here: here / TICKS, server: server / TICKS }
    }

    /// Seconds since then, here and in the server.
    pub fn since(&self, database: &Database) -> (f64, f64) {
        let now = Self::now(database);
        (now.here - self.here, now.server - self.server)
    }
}

struct Stat {
    pid: u32,
    parent: u32,
    own: f64,
    /// Of its children that have ended.
    ended: f64,
}

fn all() -> Vec<Stat> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter_map(stat).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A name may hold spaces and brackets.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    Some(Stat { pid, parent: fields[1].parse().ok()?, own: ticks(11) + ticks(12), ended: ticks(13) + ticks(14) })
}
