//! What comes and goes between two samples: the true high-water mark, and who did it.

use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};

use super::stage::{Stage, fields};

#[test]
fn fifty_arrays_between_two_samples_raise_the_high_water_mark_and_name_their_maker() {
    let stage = Stage::new("app-3");
    let cli = stage.cli();
    let mut php = StandIn::new(&stage.namespace, "php-cgi", 1041);
    assert_eq!(php.call("burst 50 2"), 0);
    let peak = stage.event("the high-water mark is told", "peak", |e| e["detail"]["peak"]["sem_arrays"] == 50);
    fields(&peak, &[("detail.peak.semaphores", json!(100)), ("own_namespace", json!(true))]);

    // A sample that begins amid them shows some, and what falls into its reading is told with the next one.
    until("each of them is told once, with its maker", PATIENCE, || {
        let timeline = cli.json(&["timeline", "app-3", "--kind", "created"]);
        let events = timeline["events"].as_array().expect("a list");
        let made: Vec<&Value> = events.iter().filter(|e| e["by"]["pid"] == php.pid()).collect();
        for event in &made {
            fields(event, &[("by.comm", json!("php-cgi")), ("by.uid", json!(1041)), ("by.source", json!("trace"))]);
            assert!(event["subject"].is_object() || event["detail"]["transient"] == true, "{event}");
        }
        let count = |event: &&Value| event["detail"]["count"].as_u64().unwrap_or(1);
        let told: u64 = made.iter().map(count).sum();
        assert!(told <= 50, "{timeline}");
        told == 50
    });
    let shown = stage.shown(&["timeline", "app-3", "--since", "-1h"]);
    assert!(shown.contains("high-water mark 50 arrays / 100 semaphores"), "{shown}");
}
