//! The catalogue against its own examples, and against what it does not know.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// Each example with what it is told as; `HIGHWATER_BLESS=1` writes it anew.
const GOLDEN: &str = include_str!("testdata/told.txt");

fn all() -> &'static Catalogue {
    catalogue().expect("the file is well formed")
}

fn line(told: &Told<'_>) -> String {
    let limits: Vec<&str> = told.cause.limits().iter().map(|l| l.name()).collect();
    let cause = match told.cause {
        Cause::UsedUp(_) => "used up",
        Cause::TooMuch(_) => "asked for more than",
        Cause::QueueFull => "queue full",
        Cause::NoSysvipc => "no System V IPC",
        Cause::Removed => "removed",
        Cause::Denied => "denied",
        Cause::Memory => "memory",
        Cause::Exists => "exists",
        Cause::Missing => "missing",
        Cause::Posix => "POSIX",
        Cause::Other => "other",
    };
    let product = told.product.map_or("?", |p| &p.name);
    let call = told.call.map_or("-", Call::name);
    let errno = told.errno.map_or("-", |e| e.name);
    format!("{product}: {call} {errno}: {cause} {}", limits.join(" or ")).trim_end().to_owned()
}

#[test]
fn each_message_is_told_as_its_own_product_and_as_no_other() {
    let mut told = String::new();
    let (mut count, mut products) = (0, BTreeSet::new());
    for (product, example) in all().examples() {
        let read = read(all(), example).unwrap_or_else(|e| panic!("{example}: {e}"));
        assert_eq!(read.product.map(|p| &p.name), Some(&product.name), "{example}");
        assert_ne!(read.cause, Cause::Other, "{example}");
        writeln!(told, "{example}\n    {}", line(&read)).unwrap();
        count += 1;
        products.insert(&product.name);
    }
    assert!(count >= 40 && products.len() >= 15, "{count} messages of {} products", products.len());
    if std::env::var_os("HIGHWATER_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/explain/testdata/told.txt");
        std::fs::write(path, &told).unwrap();
        return;
    }
    assert_eq!(told, GOLDEN, "HIGHWATER_BLESS=1 writes it anew");
}

#[test]
fn every_message_in_a_longer_log_with_another_case_and_spacing_is_the_same() {
    for (_, example) in all().examples() {
        let alone = read(all(), example).unwrap();
        let logged = format!("Nov 24 03:12:09 web-17 app[4711]:\t {}\n\n", example.to_uppercase().replace(' ', "  "));
        assert_eq!(read(all(), &logged).unwrap().product, alone.product, "{logged}");
        assert_eq!(read(all(), &logged).unwrap().cause, alone.cause, "{logged}");
    }
}

#[test]
fn an_unknown_line_is_told_by_its_call_and_answer_or_refused_with_what_to_paste() {
    let told = |text: &str| read(all(), text).map(|told| line(&told)).map_err(|e| e.to_string());
    assert_eq!(
        told("mydaemon: semget: No space left on device").unwrap(),
        "?: semget ENOSPC: used up SEMMNS or SEMMNI"
    );
    assert_eq!(told("x: msgsnd failed (errno 11)").unwrap(), "?: msgsnd EAGAIN: queue full MSGMNB");
    assert_eq!(told("semop: Argument list too long").unwrap(), "?: semop E2BIG: asked for more than SEMOPM");
    assert_eq!(told("shmget -> EINVAL").unwrap(), "?: shmget EINVAL: asked for more than SHMMAX");
    assert_eq!(told("shm_open: No space left on device").unwrap(), "?: - ENOSPC: POSIX");
    assert_eq!(told("cannot make semaphore: Function not implemented").unwrap(), "?: semget ENOSYS: no System V IPC");
    assert!(read(all(), "cannot make semaphore: Function not implemented").unwrap().is_guess);
    for refused in ["No space left on device", "segmentation fault", "semget failed"] {
        assert!(told(refused).unwrap_err().contains("paste the line with the words of the error"), "{refused}");
    }
    assert!(told(" \n").unwrap_err().contains("there is no text"));
    assert!(told("AH00023: Couldn't create the ssl-cache mutex").unwrap_err().starts_with("that is Apache httpd, but"));
    assert!(told(&"x".repeat(read::MOST_BYTES + 1)).unwrap_err().contains("16385 bytes"));
}

#[test]
fn what_must_not_be_removed_is_known_by_program_or_user() {
    let keeper = |comm, user| all().keeper(comm, user).map(|p| p.name.as_str());
    assert_eq!(keeper(Some("postgres"), None), Some("PostgreSQL"));
    assert_eq!(keeper(None, Some("mqm")), Some("IBM MQ"));
    assert_eq!(keeper(Some("ora_pmon_PROD"), None), Some("Oracle Database"));
    assert_eq!(keeper(Some("db2sysc"), Some("db2inst1")), Some("IBM Db2"));
    assert_eq!(keeper(Some("httpd"), Some("apache")), None);
    assert_eq!(keeper(None, None), None);
    for product in all().products() {
        assert_eq!(product.keep.is_some(), product.procedure.is_some(), "{}", product.name);
    }
}

#[test]
fn a_message_that_is_not_well_formed_is_named() {
    let file = |message: &str| {
        let text = format!("[[product]]\nname = \"X\"\ncomms = []\n[[product.message]]\n{message}");
        Catalogue::parse(&text).map(|_| ()).unwrap_err().to_string()
    };
    let whole = "examples = [\"a\"]\nsource = \"s\"\nmatch = [\"a\"]\n";
    assert!(file("").contains("missing field"));
    assert!(file("examples = []\nsource = \"s\"\nmatch = [\"*\"]").contains("X: a message needs an example"));
    assert!(file(&format!("{whole}call = \"fork\"")).contains("X: fork is no call"));
    assert!(file(&format!("{whole}errno = \"EWHAT\"")).contains("X: EWHAT is no errno"));
    assert!(file(&format!("{whole}colour = 1")).contains("unknown field"));
}

proptest! {
    #[test]
    fn any_text_is_told_or_refused_in_words(text in "\\PC{0,200}|(semget|\\(|28|=|, |key |0x|'|\\[|No space left on device|\u{2019}|é){0,20}") {
        let _ = read(all(), &text);
    }
}
