//! Enrolment over real TLS.

use super::super::fake_collector::FakeCollector;
use super::*;

fn options(collector: &FakeCollector, token: Token, dir: &std::path::Path) -> EnrolOptions {
    EnrolOptions {
        collector: collector.address.to_string(),
        token,
        state_dir: dir.join("state"),
        hostname: "web-17".into(),
        machine_id: "m".into(),
    }
}

#[tokio::test]
async fn a_token_brings_a_certificate_and_the_same_key_is_used_again() {
    let collector = FakeCollector::start().await;
    let dir = tempfile::tempdir().unwrap();
    let enrolled = enrol(options(&collector, collector.token(), dir.path())).await.unwrap();
    assert_eq!((enrolled.host_id.as_str(), enrolled.next_epoch_no), ("h1", EpochNo(1)));
    let mut state = PrivateDir::open(&dir.path().join("state")).unwrap();
    let key = state.read_whole(KEY_FILE, KEY_MAX).unwrap();
    let stored = Enrolment::load(&mut state).unwrap().unwrap();
    stored.tls(&mut state).unwrap();
    enrol(options(&collector, collector.token(), dir.path())).await.unwrap();
    assert_eq!(state.read_whole(KEY_FILE, KEY_MAX).unwrap(), key);
}

#[tokio::test]
async fn nothing_is_sent_to_a_collector_whose_ca_is_not_the_pinned_one() {
    let collector = FakeCollector::start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = Token { pin: [7; 32], ..collector.token() };
    let error = enrol(options(&collector, token, dir.path())).await.unwrap_err().to_string();
    assert!(error.contains("pin") && !error.contains("s3cret"), "{error}");
    assert_eq!(collector.memory().enrolments, 0);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_collectors_words_escaped() {
    let collector = FakeCollector::start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = Token { secret: "wrong".into(), ..collector.token() };
    let error = enrol(options(&collector, token, dir.path())).await.unwrap_err().to_string();
    assert!(error.contains("no such token\\x1b[31m"), "{error}");
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_an_error_that_names_it() {
    let collector = FakeCollector::start().await;
    let dir = tempfile::tempdir().unwrap();
    let options =
        EnrolOptions { collector: "127.0.0.1:1".into(), ..options(&collector, collector.token(), dir.path()) };
    let error = enrol(options).await.unwrap_err().to_string();
    assert!(error.contains("https://127.0.0.1:1") && error.contains("refused"), "{error}");
}
