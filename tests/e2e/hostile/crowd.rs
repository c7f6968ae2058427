//! Connections in numbers, and slow ones: they end, their files and memory come back, and hosts get in meanwhile.

use std::fs;
use std::process::Command;
use std::time::Duration;

use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::held_now;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::process::run;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::peer::{Call, Client, Proof, STREAM, enrolled, framed, play};
use super::refusals::of;

/// Nearly all of the places for those without a certificate.
const PLACES: usize = 990;
/// What every HTTP/2 client says first.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The collector gives a handshake 10 s.
const ALL_GONE: Duration = Duration::from_secs(25);

/// Open files of a process.
fn files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("a running process").count()
}

/// Resident memory of a process, KiB.
fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// CPU time of a process so far, ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

/// The first bytes of a ClientHello, and no more.
fn half_a_hello(client: &Client) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("collector.highwater.internal").expect("a name");
    let mut hello = Vec::new();
    let mut tls = rustls::ClientConnection::new(client.config().into(), name).expect("a client");
    tls.write_tls(&mut hello).expect("a ClientHello");
    hello.truncate(hello.len() / 2);
    hello
}

/// Connections that say nothing, or half of what they should.
async fn half_open(client: &Client, count: usize) -> Vec<TcpStream> {
    let half = half_a_hello(client);
    let mut all = Vec::new();
    for n in 0..count {
        let mut tcp = client.tcp().await.expect("a connection");
        if n % 2 == 1 {
            tcp.write_all(&half).await.expect("sent");
        }
        all.push(tcp);
    }
    all
}

/// How long a host takes to get as far as its first message, milliseconds.
async fn entry_ms(client: &Client) -> i64 {
    let began = now_ms();
    let mut http2 = client.http2().await;
    let mut call = Call::begin(&mut http2, STREAM, &[]);
    call.say(&framed(&[0x22, 0]), false);
    let refusal = call.refusal().await;
    assert!(refusal.words.contains("no hello"), "{refusal:?}");
    now_ms() - began
}

fn must_be_current(up: &Up, agent: &mut Agent, namespace: &IpcNamespace) {
    let made: i64 = namespace.create("create-sem private 2").into();
    agent.must_run();
    let (cli, host) = (up.cli(), host_name(namespace));
    until(&format!("{host} is current"), PATIENCE, || held_now(&cli, &host).is_some_and(|ids| ids.contains(&made)));
}

/// More half-open handshakes than there are places kept every host out until they timed out, and again, and again.
#[test]
fn a_thousand_half_open_handshakes_and_more_than_there_are_places_keep_no_host_out_and_end_by_themselves() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let namespace = IpcNamespace::named("in-the-crowd");
    let mut agent = Agent::running(&up, &namespace);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let proof = play(enrolled(&up, &directory.path().join("host"), "raw")).0;
    let host = Client::new(&up, "127.0.0.40").with(&proof);
    let (files_before, rss_before) = (files(up.pid()), rss_kib(up.pid()));
    for (from, count) in [("127.0.0.41", 1000), ("127.0.0.42", 3000)] {
        play(async {
            let crowd = Client::new(&up, from);
            let arriving = tokio::spawn(async move { half_open(&crowd, count).await });
            until("every place is taken", PATIENCE, || files(up.pid()) >= files_before + PLACES.min(count));
            let (mut peak, mut took, mut beside) = (0, 0, 0);
            for _ in 0..10 {
                let open = files(up.pid());
                peak = peak.max(open);
                took = took.max(entry_ms(&host).await);
                // The first that times out is in the log at once.
                let waited = of(&up, from).iter().any(|line| line.reason == "slow");
                beside += u32::from(open >= files_before + PLACES && !waited);
                let next = now_ms() + 200;
                until("the crowd grows", PATIENCE, || now_ms() > next);
            }
            assert!(
                beside > 0,
                "no host got in beside {count} half-open handshakes before the first of them timed out"
            );
            must_be_current(&up, &mut agent, &namespace);
            let rss = rss_kib(up.pid());
            let mut open = arriving.await.expect("the crowd");
            // All of them are ended from the other side.
            for tcp in &mut open {
                let ended = tokio::time::timeout(ALL_GONE, tcp.read_to_end(&mut Vec::new())).await;
                assert!(ended.is_ok(), "a half-open handshake stays open");
            }
            println!(
                "{count} half-open: {beside} of 10 get in beside them, after {took} ms at most; open files {files_before} -> {peak}, RSS {rss_before} \
                 -> {rss} KiB"
            );
        });
        until("the files come back", PATIENCE, || files(up.pid()) <= files_before + 4);
        until("each is counted in the log", PATIENCE, || {
            of(&up, from).iter().map(|line| line.count).sum::<u64>() == count as u64
        });
        let lines = of(&up, from);
        // Two reasons at most, each one line in ten seconds.
        assert!(lines.len() <= 8, "{lines:?}");
        assert!(lines.iter().all(|l| ["slow", "crowd"].contains(&l.reason.as_str())), "{lines:?}");
    }
    until("the memory comes back", PATIENCE, || rss_kib(up.pid()) < rss_before + 24 * 1024);
    println!("afterwards {} KiB", rss_kib(up.pid()));
}

#[test]
fn whoever_sends_a_byte_a_second_is_cut_off_in_each_state_of_the_connection() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let proof: Proof = play(enrolled(&up, &directory.path().join("host"), "raw")).0;
    play(async {
        let handshake = async {
            let client = Client::new(&up, "127.0.0.51");
            let (mut read, mut write) = client.tcp().await.expect("a connection").into_split();
            let drip = async {
                for byte in half_a_hello(&client) {
                    if write.write_all(&[byte]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            let end = async { read.read_to_end(&mut Vec::new()).await };
            tokio::select! {
                () = drip => panic!("the server took it all"),
                ended = tokio::time::timeout(ALL_GONE, end) => assert!(ended.is_ok(), "still open"),
            }
        };
        let message = async {
            let client = Client::new(&up, "127.0.0.52").with(&proof);
            let mut http2 = client.http2().await;
            let mut call = Call::begin(&mut http2, STREAM, &[]);
            call.say(&framed(&[0; 200])[..9], false);
            let refusal = call.refusal().await;
            assert_eq!((refusal.code, refusal.words.as_str()), (4, "no hello came within 10 s"));
        };
        // A certificate gives no more time for the first bytes of HTTP/2.
        let preface = async {
            let (mut read, mut write) =
                tokio::io::split(Client::new(&up, "127.0.0.53").with(&proof).tls().await.expect("TLS"));
            let drip = async {
                for byte in &HTTP2[..20] {
                    if write.write_all(&[*byte]).await.is_err() || write.flush().await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            let end = async { read.read_to_end(&mut Vec::new()).await };
            tokio::select! {
                () = drip => panic!("the server took it all"),
                ended = tokio::time::timeout(ALL_GONE, end) => assert!(ended.is_ok(), "still open"),
            }
        };
        tokio::join!(handshake, message, preface);
    });
    for (from, reason) in [("127.0.0.51", "slow"), ("127.0.0.52", "silent"), ("127.0.0.53", "slow")] {
        until(&format!("{from} is in the log"), PATIENCE, || of(&up, from).len() == 1);
        assert_eq!(of(&up, from)[0].reason, reason);
    }
}

#[test]
fn one_host_has_eight_connections_and_its_newest_replaces_its_oldest() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let greedy = play(enrolled(&up, &directory.path().join("greedy"), "greedy")).0;
    let other = play(enrolled(&up, &directory.path().join("other"), "other")).0;
    /// Whether the collector ends it within so long.
    async fn ends(tls: &mut TlsStream<TcpStream>, within: Duration) -> bool {
        tokio::time::timeout(within, tls.read_to_end(&mut Vec::new())).await.is_ok()
    }
    play(async {
        let open = async |from: &str, proof: &Proof| {
            let mut tls = Client::new(&up, from).with(proof).tls().await.expect("TLS");
            tls.write_all(&[HTTP2, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()).await.expect("sent");
            // The collector's settings: it has taken this one, and these come in the order they were taken.
            tls.read_exact(&mut [0; 9]).await.expect("an answer");
            tls
        };
        let mut others = open("127.0.0.56", &other).await;
        let mut all = Vec::new();
        for _ in 0..8 {
            all.push(open("127.0.0.57", &greedy).await);
        }
        assert!(!ends(&mut all[0], Duration::from_secs(1)).await, "eight are fine");
        for n in 0..4 {
            all.push(open("127.0.0.57", &greedy).await);
            assert!(ends(&mut all[n], PATIENCE).await, "the oldest stays");
        }
        for one in all[4..].iter_mut().chain([&mut others]) {
            assert!(!ends(one, Duration::from_millis(100)).await, "a newer one, or another host's, was ended");
        }
    });
    let lines = of(&up, "127.0.0.57");
    assert!(lines.len() == 1 && lines[0].reason == "crowd", "{lines:?}");
    assert!(lines[0].why.contains("too many connections") && lines[0].why.contains("enrol each"), "{lines:?}");
}

#[test]
fn out_of_files_it_says_so_a_few_times_and_goes_on_when_there_are_some_again() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let namespace = IpcNamespace::named("few-files");
    let mut agent = Agent::running(&up, &namespace);
    let limit = |soft: usize| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &up.pid().to_string(), &format!("--nofile={soft}:20000")]);
        run(command);
    };
    // Database connections come and go, so a few are left for those.
    limit(files(up.pid()) + 20);
    let complaints = || up.output().lines().filter(|l| l.contains("is the limit of open files too low?")).count();
    play(async {
        let full = now_ms();
        let open = half_open(&Client::new(&up, "127.0.0.61"), 100).await;
        until("it says so", PATIENCE, || complaints() > 0);
        // Who spins is never quiet; who only has much to do on a busy machine is, sooner or later.
        let mut spent_ms = Vec::new();
        until("three seconds pass in which it does not spin", PATIENCE, || {
            let (began, cpu) = (now_ms(), cpu_ticks(up.pid()));
            until("three seconds pass", PATIENCE, || now_ms() - began > 3000);
            spent_ms.push((cpu_ticks(up.pid()) - cpu) * 10);
            spent_ms.last().is_some_and(|spent| *spent < 1500)
        });
        let (said, seconds) = (complaints(), (now_ms() - full) / 1000);
        println!("{said} complaints in {seconds} s without files; CPU in each 3 s {spent_ms:?} ms");
        // 10 ms, doubled up to a second: eight in the first two, then one in each.
        assert!(i64::try_from(said).expect("few") < 13 + seconds, "{said} complaints in {seconds} s");
        must_be_current(&up, &mut agent, &namespace);
        limit(20_000);
        drop(open);
    });
    let other = IpcNamespace::named("more-files");
    let mut second = Agent::running(&up, &other);
    must_be_current(&up, &mut second, &other);
    must_be_current(&up, &mut agent, &namespace);
}
