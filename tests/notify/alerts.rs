//! Alertmanager as its package brings it.

use highwater::notify::notice::{Severity, Transition};
use highwater_tests::alertmanager::Alertmanager;
use highwater_tests::wait::{PATIENCE, until, until_some};

use crate::stage::{File, Working, migrated, queue, transition};

#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_shows_a_flag_under_its_labels_follows_its_severity_and_lets_it_end() {
    let alertmanager = Alertmanager::start();
    let (database, db) = migrated().await;
    let text = format!("[[receiver]]\nname = \"am\"\nkind = \"alertmanager\"\nurl = \"{}\"\n", alertmanager.url());
    let receivers = File::new(&text).receivers();
    let mut raised = transition(0x1234, 1, Transition::Raised);
    raised.flag.severity = Severity::Warning;
    raised.flag.host = "we\"b{17}, é".to_owned();
    let mut worse = transition(0x1234, 2, Transition::Worsened);
    worse.flag.host.clone_from(&raised.flag.host);
    let mut cleared = transition(0x1234, 3, Transition::Cleared);
    cleared.flag.host.clone_from(&raised.flag.host);

    queue(&db, &receivers, &[raised]).await;
    let working = Working::start(&db, &receivers);
    let alert = until_some("the alert is there", PATIENCE, || alertmanager.active().into_iter().next());
    let labels = &alert["labels"];
    for (name, value) in [
        ("alertname", "HighwaterFlag"),
        ("host", "we\"b{17}, é"),
        ("namespace", "4026531839"),
        ("resource", "SEMMNI"),
        ("kind", "tight"),
        ("severity", "warning"),
        ("flag", "0000000000001234"),
    ] {
        assert_eq!(labels[name], value, "{alert}");
    }
    assert_eq!(labels.as_object().map(serde_json::Map::len), Some(7));
    assert!(
        alert["annotations"]["summary"].as_str().is_some_and(|s| s.starts_with("warning: SEMMNI on we")),
        "{alert}"
    );
    assert!(alert["annotations"]["remedy"].as_str().is_some_and(|s| s.contains("look")), "{alert}");
    // It lasts: it will be told again, and ends by itself some refreshes after the last time.
    until("that is marked", PATIENCE, || database.sql("SELECT state, due_ms - sent_ms FROM notice") == "sent|60000\n");

    queue(&db, &receivers, &[worse]).await;
    until("only the critical one is active", PATIENCE, || {
        let active = alertmanager.active();
        active.len() == 1 && active[0]["labels"]["severity"] == "critical"
    });
    queue(&db, &receivers, &[cleared]).await;
    until("it is over", PATIENCE, || alertmanager.active().is_empty());
    until("nothing is told again", PATIENCE, || {
        database.sql("SELECT count(*) FROM notice WHERE state = 'sent' AND due_ms IS NULL") == "3\n"
    });
    working.stop().await;
}

/// What is told again is the newest notice alone, and ten times of that are one row.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_alert_is_told_again_before_it_would_end() {
    let alertmanager = Alertmanager::start();
    let (database, db) = migrated().await;
    let text = format!("[[receiver]]\nname = \"am\"\nkind = \"alertmanager\"\nurl = \"{}\"\n", alertmanager.url());
    let receivers = File::new(&text).receivers();
    queue(&db, &receivers, &[transition(5, 1, Transition::Raised)]).await;
    let working = Working::start(&db, &receivers);
    let ends = |alerts: Vec<serde_json::Value>| Some(alerts.first()?["endsAt"].as_str()?.to_owned());
    let mut before = until_some("the alert is there", PATIENCE, || ends(alertmanager.active()));
    for _ in 0..10 {
        until("it was told", PATIENCE, || database.sql("SELECT state, due_ms > sent_ms FROM notice") == "sent|t\n");
        // A minute passes.
        database.sql("UPDATE notice SET due_ms = due_ms - 60000");
        let told_again = || ends(alertmanager.active()).filter(|ends| *ends > before);
        before = until_some("it ends later", PATIENCE, told_again);
    }
    assert_eq!(database.sql("SELECT count(*), max(number) FROM notice"), "1|1\n");
    working.stop().await;
}
