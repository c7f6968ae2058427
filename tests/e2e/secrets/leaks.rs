//! No secret of a whole run is in an argument, a log at its most verbose, an error, the database or its log.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater_tests::binaries;
use highwater_tests::cli::{Answer, Cli, answer};
use highwater_tests::collector::{Options, Up};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::process::{Process, await_file, stdout_of};
use highwater_tests::wait::{PATIENCE, until};

use super::planted::{Place, Secret};

/// A password with everything in it that an encoding changes, and how a URL spells it.
const PASSWORD: (&str, &str) = ("pl4nted:P@ss/word", "pl4nted%3AP%40ss%2Fword");

/// Command lines of all processes, looked at every 20 ms until `over`.
fn command_lines(over: &AtomicBool) -> BTreeSet<Vec<u8>> {
    let mut seen = BTreeSet::new();
    until("the run is over", Duration::from_secs(600), || {
        let lines = fs::read_dir("/proc").expect("/proc").flatten();
        seen.extend(lines.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()));
        over.load(Ordering::SeqCst)
    });
    seen
}

/// The private number of a P-256 key in PKCS#8.
pub(super) fn private_number(der: &[u8]) -> Vec<u8> {
    let at = der.windows(2).position(|w| w == [0x04, 0x20]).expect("a P-256 key") + 2;
    der[at..at + 32].to_vec()
}

fn decoded_pem(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).expect("a key file");
    let digits: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits: Vec<u8> = digits.bytes().filter(|c| *c != b'=').map(value).collect();
    let quad = |four: &[u8]| {
        let whole = four.iter().fold(0_u32, |all, six| all << 6 | u32::from(*six)) << (6 * (4 - four.len()));
        whole.to_be_bytes()[1..four.len()].to_vec()
    };
    bits.chunks(4).flat_map(quad).collect()
}

/// Both parts of a token, and all of it.
fn token_secrets(name: &str, token: &str, into: &mut Vec<Secret>) {
    let token = token.trim();
    into.push(Secret::new(&format!("{name}, whole"), token.as_bytes()));
    into.push(Secret::new(&format!("{name}'s secret"), token.split('.').nth(2).expect("three parts").as_bytes()));
}

/// A command of the agent with a token by one of the three ways.
fn enrol(up: &Up, name: &str, token: &str, way: &str) -> Answer {
    let mut command = Command::new(binaries::agent());
    command.args(["enrol", "--collector", up.grpc(), "--state-dir"]).arg(up.directory().join(name).join("state"));
    command.env("RUST_LOG", "trace");
    match way {
        "variable" => {
            command.env("HIGHWATER_ENROL_TOKEN", token);
            answer(command)
        }
        "file" => {
            let file = up.directory().join(format!("{name}.token"));
            fs::write(&file, token).expect("written");
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
            command.arg("--token-file").arg(&file);
            answer(command)
        }
        _ => {
            command.args(["--token-file", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("the agent");
            child.stdin.take().expect("a pipe").write_all(token.as_bytes()).expect("written");
            let output = child.wait_with_output().expect("its end");
            Answer {
                asked: "enrol".to_owned(),
                code: output.status.code().unwrap_or(1),
                out: output.stdout,
                err: String::from_utf8_lossy(&output.stderr).into_owned(),
            }
        }
    }
}

fn traced(cli: &Cli, args: &[&str]) -> Answer {
    let mut command = cli.command(args);
    command.env("RUST_LOG", "trace");
    answer(command)
}

/// `up` with every word that it has.
fn start_traced(up: &Up, inside: &IpcNamespace, log: &Path) -> Process {
    let ready = up.directory().join("again.json");
    let _ = fs::remove_file(&ready);
    let mut command = inside.command(binaries::highwater());
    let address = |field: &str| up.ready()[field].as_str().expect("text").rsplit('/').next().expect("it").to_owned();
    command.args(["up", "--http", &address("http"), "--grpc", &address("grpc"), "--interval", "100ms", "--data-dir"]);
    command.arg(up.data()).arg("--ready-file").arg(&ready).env("RUST_LOG", "trace");
    let mut process = Process::spawn("highwater up", command, log);
    await_file(&mut process, &ready);
    process
}

/// As the collector's role, on the private server.
fn as_role(up: &Up, program: &str, args: &[&str]) -> String {
    let password = fs::read_to_string(up.data().join("postgres.password")).expect("the password");
    let mut command = Command::new(program);
    command.arg("-h").arg(up.data().join("run")).args(["-U", "highwater", "-d", "highwater"]).args(args);
    command.env("PGPASSWORD", password.trim()).env("LC_ALL", "C");
    stdout_of(command)
}

struct Run {
    secrets: Vec<Secret>,
    places: Vec<Place>,
    errors: String,
}

/// The life of one installation: made, enrolled at, written to, asked rightly and wrongly.
fn live(up: &mut Up, namespace: &IpcNamespace) -> Run {
    let cli = up.cli();
    assert!(up.stop().success());
    // From here on the server writes down every statement and its parameters.
    let conf = up.data().join("postgres/postgresql.conf");
    let mut conf = fs::OpenOptions::new().append(true).open(conf).expect("the server's settings");
    conf.write_all(b"\nlog_statement = 'all'\nlog_connections = on\n").expect("written");
    let log = up.directory().join("traced.log");
    let mut process = start_traced(up, namespace, &log);
    let mut run = Run { secrets: Vec::new(), places: Vec::new(), errors: String::new() };

    let mut tokens = Vec::new();
    for (n, way) in ["variable", "file", "stdin"].into_iter().enumerate() {
        let out = up.directory().join(format!("made-{n}"));
        let made = traced(&cli, &["token", "create", "--out", out.to_str().expect("UTF-8")]).must_succeed();
        run.errors.push_str(&made.err);
        let token = fs::read_to_string(out).expect("the token");
        token_secrets(&format!("token {n}"), &token, &mut run.secrets);
        let enrolled = enrol(up, &format!("agent-{n}"), &token, way).must_succeed();
        run.errors.push_str(&(enrolled.err + &String::from_utf8_lossy(&enrolled.out)));
        tokens.push(token);
    }
    let mut command = namespace.command(binaries::agent());
    command.args(["run", "--interval", "100ms", "--state-dir"]).arg(up.directory().join("agent-0/state"));
    command.env("RUST_LOG", "trace");
    let mut agent = Process::spawn("highwater-agent", command, &up.directory().join("agent.log"));
    until("the agent's records are stored", PATIENCE, || {
        agent.must_run();
        as_role(up, "psql", &["-Atc", "SELECT count(DISTINCT host_id) FROM frame"]).trim() == "2"
    });
    let activity = as_role(up, "psql", &["-Atc", "SELECT string_agg(query, ' ') FROM pg_stat_activity"]);
    run.places.push(Place::new("pg_stat_activity", activity.as_bytes(), "SELECT"));
    ask_wrongly(up, &cli, &tokens, &mut run);
    let role =
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls FROM pg_roles WHERE rolname = current_user";
    assert_eq!(as_role(up, "psql", &["-Atc", role]).trim(), "f", "the collector's role is no superuser");
    let dump = as_role(up, "pg_dump", &[]);
    let id = tokens[0].split('.').nth(1).expect("an id");
    run.places.push(Place::new("a dump of the database", dump.as_bytes(), id));
    assert!(dump.contains("COPY public.operator_token") && dump.contains("COPY public.certificate"));
    assert!(agent.terminate(Duration::from_secs(10)).success());
    let said = agent.output();
    run.places.push(Place::new("the agent's log", said.as_bytes(), "TRACE"));
    assert!(process.terminate(Duration::from_secs(10)).success());
    let said = process.output();
    assert!(said.contains(" TRACE ") && said.contains(" DEBUG sqlx"), "every word that it has");
    run.places.push(Place::new("the log of up", said.as_bytes(), "TRACE"));
    let said = fs::read(up.data().join("postgres.log")).expect("the server's log");
    run.places.push(Place::new("PostgreSQL's log", &said, "INSERT INTO enrolment_token"));
    token_secrets("the operator's token", &cli.token, &mut run.secrets);
    run
}

/// Everything that can go wrong with a secret in hand.
fn ask_wrongly(up: &Up, cli: &Cli, tokens: &[String], run: &mut Run) {
    let mut say = |answer: Answer| {
        assert_ne!(answer.code, 0, "{answer:?}");
        run.errors.push_str(&answer.err);
        run.errors.push_str(&String::from_utf8_lossy(&answer.out));
    };
    let last = |text: &str, c: char| format!("{}{c}", &text.trim()[..text.trim().len() - 1]);
    say(traced(&Cli { token: last(&cli.token, 'x'), ..cli.clone() }, &["hosts"]));
    say(traced(&Cli { token: "no token pl4ntedNoToken\u{1b}".to_owned(), ..cli.clone() }, &["hosts"]));
    say(traced(cli, &["token", "create", "--host", "nobody"]));
    say(traced(cli, &["token", "revoke", "nobody"]));
    // Used, of a wrong secret, cut, with a wrong pin, and no token at all.
    say(enrol(up, "again", &tokens[0], "file"));
    let mut parts: Vec<&str> = tokens[1].trim().split('.').collect();
    let wrong = last(parts[2], 'z');
    parts[2] = &wrong;
    say(enrol(up, "wrong", &parts.join("."), "stdin"));
    let pin = "0".repeat(64);
    parts[3] = &pin;
    say(enrol(up, "pin", &parts.join("."), "variable"));
    say(enrol(up, "cut", &tokens[2].trim()[..tokens[2].trim().len() - 9], "variable"));
    say(enrol(up, "none", "pl4ntedNoToken", "file"));
    // The database: wrong password, nobody there, no URL.
    let run_folder = up.data().join("run").display().to_string();
    let urls = [
        format!("postgres://highwater:{}@localhost/highwater?host={run_folder}", PASSWORD.1),
        format!("postgres://highwater:{}@127.0.0.1:1/highwater", PASSWORD.1),
        format!("postgres://highwater:{}@127.0.0.1:port/highwater", PASSWORD.1),
        format!("postgres://highwater:{}@localhost/highwater?host={run_folder}&unknown={}", PASSWORD.0, PASSWORD.0),
    ];
    for url in &urls {
        let data = up.directory().join("other-data");
        for args in [vec!["migrate"], vec!["up", "--no-agent", "--http", ":0", "--grpc", ":0", "--data-dir"]] {
            let mut command = Command::new(binaries::highwater());
            command.args(&args).env("RUST_LOG", "trace").env("HIGHWATER_DATABASE_URL", url);
            if args.len() > 1 {
                command.arg(&data);
            }
            say(answer(command));
        }
    }
}

#[test]
fn no_secret_of_a_run_is_in_arguments_logs_errors_or_the_database() {
    let namespace = IpcNamespace::named("leaks");
    let over = AtomicBool::new(false);
    let (up, mut run, lines) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| command_lines(&over));
        let options = Options { agent: true, inside: Some(&namespace), interval: Some("100ms"), ..Options::default() };
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut up = Up::start(&options);
            let run = live(&mut up, &namespace);
            (up, run)
        }));
        over.store(true, Ordering::SeqCst);
        let lines = watching.join().expect("the command lines");
        let (up, run) = lived.unwrap_or_else(|why| std::panic::resume_unwind(why));
        (up, run, lines)
    });
    let secrets = &mut run.secrets;
    let ca = fs::read(up.data().join("ca/ca.key")).expect("the CA's key");
    secrets.push(Secret::new("the CA's key", &private_number(&ca)));
    for state in [up.data().join("agent"), up.directory().join("agent-0/state"), up.directory().join("agent-1/state")] {
        let key = private_number(&decoded_pem(&state.join("key.pem")));
        secrets.push(Secret::new(&format!("the key in {}", state.display()), &key));
    }
    let password = fs::read_to_string(up.data().join("postgres.password")).expect("the password");
    secrets.push(Secret::new("the server's password", password.trim().as_bytes()));
    secrets.push(Secret::new("the planted password", PASSWORD.0.as_bytes()));
    secrets.push(Secret::new("the planted password", PASSWORD.1.as_bytes()));
    secrets.push(Secret::new("no token", b"pl4ntedNoToken"));

    let places = &mut run.places;
    let lines: Vec<u8> = lines.into_iter().flatten().collect();
    places.push(Place::new("command lines", &lines, &up.data().display().to_string()));
    places.push(Place::new("errors", run.errors.as_bytes(), "not known here"));
    places.push(Place::new("the first run's log", up.output().as_bytes(), "ready"));
    let found: Vec<String> = places.iter().flat_map(|place| place.holds(secrets)).collect();
    assert_eq!(found, Vec::<String>::new());
    // The same look finds each of them where it belongs: in its file.
    let mut own = Vec::new();
    for file in ["ca/ca.key", "agent/key.pem", "postgres.password", "operator.token", "client.json"] {
        let bytes = fs::read(up.data().join(file)).expect("a file");
        let place = Place::new(file, &bytes, "");
        own.push((file, place.holds(secrets).len()));
    }
    assert!(own.iter().all(|(_, found)| *found > 0), "{own:?}");
    println!("{} secrets looked for in {} places", secrets.len(), places.len());
}

/// Every file of a tree in which there is nothing but files and folders.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let kind = fs::symlink_metadata(&path).expect("its kind").file_type();
        assert!(kind.is_file() || kind.is_dir(), "{} is neither file nor folder", path.display());
        if kind.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// The database of somebody else, named with a password in the environment.
#[test]
fn a_database_password_from_the_environment_stays_there() {
    let database = Postgres::shared().database();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (ready, log) = (directory.path().join("ready.json"), directory.path().join("log"));
    let url = database.url.replace("highwater@localhost", &format!("highwater:{}@localhost", PASSWORD.1));
    let mut command = Command::new(binaries::highwater());
    command.args(["up", "--no-agent", "--http", ":0", "--grpc", ":0", "--data-dir"]).arg(directory.path().join("data"));
    command.arg("--ready-file").arg(&ready).env("RUST_LOG", "trace").env("HIGHWATER_DATABASE_URL", &url);
    let mut process = Process::spawn("highwater up", command, &log);
    await_file(&mut process, &ready);
    let line = fs::read(format!("/proc/{}/cmdline", process.pid())).expect("its arguments");
    let activity = database.sql("SELECT string_agg(query || application_name, ' ') FROM pg_stat_activity");
    assert!(process.terminate(Duration::from_secs(10)).success());
    let secrets =
        [Secret::new("the password", PASSWORD.0.as_bytes()), Secret::new("the password", PASSWORD.1.as_bytes())];
    for place in [
        Place::new("arguments", &line, "--ready-file"),
        Place::new("pg_stat_activity", activity.as_bytes(), "highwater"),
        Place::new("the log", process.output().as_bytes(), "TRACE"),
    ] {
        assert_eq!(place.holds(&secrets), Vec::<String>::new());
    }
    let files = files_below(&directory.path().join("data"));
    for own in ["ca/ca.key", "operator.token", "client.json"] {
        assert!(files.iter().any(|path| path.ends_with(own)), "no {own} in {files:?}");
    }
    for path in files {
        let place = Place::new(&path.display().to_string(), &fs::read(&path).expect("a file"), "");
        let found: Vec<String> = place.holds(&secrets).into_iter().filter(|f| !f.contains("a token")).collect();
        assert_eq!(found, Vec::<String>::new());
    }
}
