//! Mail against a real conversation in SMTP.

use highwater::notify::notice::Transition;
use highwater_tests::mail_sink::MailSink;
use highwater_tests::wait::{PATIENCE, until};

use crate::stage::{File, Working, migrated, queue, transition};

fn file(port: u16, more: &str) -> File {
    let text = format!(
        "[[receiver]]\nname = \"mail\"\nkind = \"smtp\"\nserver = \"127.0.0.1\"\nport = {port}\nsecurity = \"plain\"\n\
         from = \"highwater@example.org\"\nto = [\"ops@example.org\", \"night@example.org\"]\n{more}"
    );
    File::new(&text)
}

/// The server is in trouble at first, and refuses the second mail for good a while: both are told, and are one thread.
#[tokio::test(flavor = "multi_thread")]
async fn the_mails_of_a_flag_arrive_in_order_as_one_thread() {
    let sink = MailSink::start(|n| match n {
        0 => Some("451 4.3.0 later"),
        2 => Some("554 5.7.1 no"),
        _ => None,
    });
    let (_database, db) = migrated().await;
    let receivers = file(sink.port(), "username = \"u\"\nsecret_file = \"s\"\n").receivers();
    let mut raised = transition(0x99, 1, Transition::Raised);
    raised.flag.host = "né\r\nBcc: everybody@example.org".to_owned();
    let mut cleared = transition(0x99, 2, Transition::Cleared);
    cleared.flag.host.clone_from(&raised.flag.host);
    queue(&db, &receivers, &[raised, cleared]).await;
    let working = Working::start(&db, &receivers);
    until("both arrive", PATIENCE, || sink.mails().len() == 2);
    working.stop().await;
    let mails = sink.mails();
    for mail in &mails {
        assert_eq!(mail.from, "highwater@example.org");
        assert_eq!(mail.to, ["ops@example.org", "night@example.org"]);
        // "\0u\0s3cret" in base64.
        assert!(mail.auth.as_deref().is_some_and(|line| line.ends_with(" AHUAczNjcmV0")), "{:?}", mail.auth);
        assert!(mail.header("Bcc").is_none(), "{}", mail.text);
    }
    let first = mails[0].header("Message-ID").expect("an id");
    assert_eq!(first, "<0000000000000099-1@example.org>");
    assert_eq!(mails[1].header("In-Reply-To"), Some(first));
    assert_eq!(mails[1].header("X-Highwater-Transition"), Some("cleared"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_not_there_is_said_with_a_remedy() {
    let (database, db) = migrated().await;
    // Nobody listens on port 1.
    let receivers = file(1, "").receivers();
    queue(&db, &receivers, &[transition(1, 1, Transition::Raised)]).await;
    let working = Working::start(&db, &receivers);
    until("it fails", PATIENCE, || database.sql("SELECT tries > 0 FROM notice") == "t\n");
    working.stop().await;
    let error = database.sql("SELECT error FROM notice");
    assert!(error.contains("refused") && error.contains("see whether server and port are right"), "{error}");
}
