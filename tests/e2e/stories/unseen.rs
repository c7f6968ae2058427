//! What comes and goes between two samples: the true high-water mark, and who did it.

use highwater_tests::stand_in::StandIn;
use serde_json::json;

use super::stage::{Stage, fields};

#[test]
fn fifty_arrays_between_two_samples_raise_the_high_water_mark_and_name_their_maker() {
    let stage = Stage::new("app-3", &[]);
    let mut php = StandIn::new(&stage.namespace, "php-cgi", 1041);
    assert_eq!(php.call("burst 50 2"), 0);
    let peak = stage.event("the high-water mark is told", "peak", |e| e["detail"]["peak"]["sem_arrays"] == 50);
    fields(&peak, &[("detail.peak.semaphores", json!(100)), ("own_namespace", json!(true))]);
    let made = stage.event("its maker is named", "created", |e| e["subject"].is_null());
    fields(
        &made,
        &[
            ("by.comm", json!("php-cgi")),
            ("by.pid", json!(php.pid())),
            ("by.uid", json!(1041)),
            ("detail.count", json!(50)),
            ("detail.nsems", json!(2)),
            ("detail.transient", json!(true)),
        ],
    );
    let shown = stage.shown(&["timeline", "app-3", "--since", "-1h"]);
    assert!(shown.contains("high-water mark 50 arrays / 100 semaphores"), "{shown}");
    assert!(shown.contains("50 objects that came and went between two samples"), "{shown}");
}
