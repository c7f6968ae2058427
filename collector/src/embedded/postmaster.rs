//! Which server runs on a cluster: what `postmaster.pid` says, and whether the process under that pid is really it.

use std::fs;
use std::path::{Path, PathBuf};

/// What a running server wrote into its `postmaster.pid` (PostgreSQL's src/include/utils/pidfile.h, a line each).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    /// Line 1, process id of the postmaster.
    pub pid: u32,
    /// Line 5, folder of its first unix socket; empty while it starts.
    pub socket_folder: PathBuf,
    /// Line 7, key and id of its System V shared memory segment; `None` while it starts.
    pub segment: Option<Segment>,
    /// Line 8, whether it says that it is ready.
    pub ready: bool,
}

/// The System V shared memory segment that PostgreSQL keeps against two servers on one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its key.
    pub key: u64,
    /// Its id, as `ipcs -m` shows it.
    pub shmid: i64,
}

/// What is under the pid of a `postmaster.pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The server of this cluster.
    Server,
    /// No process, or one that has nothing to do with this cluster.
    Other,
    /// A server of PostgreSQL, but its command line does not say of which cluster.
    Unclear,
}

/// The cluster's pid file; `None` if there is none or it cannot be read (a server that is just starting writes it).
pub fn read(cluster: &Path) -> Option<PidFile> {
    parse(&fs::read_to_string(cluster.join("postmaster.pid")).ok()?)
}

/// Looks at the process itself. Not at `exe` or `cwd` in /proc: root in a container may not read those of others.
pub fn look(pid: u32, cluster: &Path) -> Found {
    // A process that is gone, or a zombie, has an empty command line.
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    judge(&line, cluster)
}

fn parse(text: &str) -> Option<PidFile> {
    let lines: Vec<&str> = text.lines().collect();
    let line = |n: usize| lines.get(n - 1).map_or("", |l| l.trim());
    let mut numbers = line(7).split_ascii_whitespace();
    let segment = match (numbers.next().map(str::parse), numbers.next().map(str::parse)) {
        (Some(Ok(key)), Some(Ok(shmid))) => Some(Segment { key, shmid }),
        _ => None,
    };
    Some(PidFile {
        // Negative: a single-user server.
        pid: line(1).parse().ok()?,
        socket_folder: PathBuf::from(line(5)),
        segment,
        ready: line(8) == "ready",
    })
}

fn judge(command_line: &[u8], cluster: &Path) -> Found {
    let arguments: Vec<String> =
        command_line.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
    let program = arguments.first().map_or("", |a| a.rsplit('/').next().unwrap_or(a));
    if program != "postgres" && program != "postmaster" {
        return Found::Other;
    }
    let folder = arguments.iter().skip_while(|a| *a != "-D").nth(1);
    match folder {
        Some(folder) if Path::new(folder) == cluster => Found::Server,
        Some(_) => Found::Other,
        None => Found::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_server_of_version_15_writes() {
        let text = "4711\n/d/postgres\n1795000000\n5432\n/d/run\n\n  5432001     98304\nready   \n";
        let expect = PidFile {
            pid: 4711,
            socket_folder: "/d/run".into(),
            segment: Some(Segment { key: 5432001, shmid: 98304 }),
            ready: true,
        };
        assert_eq!(parse(text), Some(expect));
        let starting = parse("4711\n/d/postgres\n1795000000\n5432\n").unwrap();
        assert_eq!((starting.segment, starting.ready), (None, false));
        for broken in ["", "x", "-5\n", "99999999999999999999\n"] {
            assert_eq!(parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn only_a_server_of_this_very_cluster_is_taken_over() {
        let cluster = Path::new("/d/postgres");
        let of = |line: &str| judge(line.replace(' ', "\0").as_bytes(), cluster);
        assert_eq!(of("/usr/lib/postgresql/15/bin/postgres -D /d/postgres -c port=5432"), Found::Server);
        assert_eq!(of("/usr/lib/postgresql/15/bin/postgres -D /other"), Found::Other);
        assert_eq!(of("/usr/lib/postgresql/15/bin/postgres"), Found::Unclear);
        assert_eq!(of("postgres: checkpointer"), Found::Other);
        assert_eq!(of("sleep -D /d/postgres"), Found::Other);
        assert_eq!(judge(b"", cluster), Found::Other);
    }
}
