//! A leak is seen by where it is heading, long before nine tenths of the limit are used. Minutes stand for days: the
//! evaluator looks at rises of five minutes and more. (It is the longest story, so its name comes first.)

use std::time::Duration;

use highwater_tests::process::stdout_of;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, now_ms, until, until_some};
use serde_json::{Value, json};

use crate::stories::stage::{Stage, arrays, fields};

/// One array in so many milliseconds: six minutes of them are seen before half of the room is gone.
const STEP_MS: i64 = 16_000;
/// What is there before, of a limit of 40.
const HELD: usize = 4;
/// From here on the flag would be up whatever the pace is.
const NINE_TENTHS: usize = 36;

#[test]
fn a_leak_is_flagged_by_its_pace_while_there_is_room_and_cleared_after_the_clean_up() {
    let stage = Stage::prepared("web-10", &[("HIGHWATER_ORPHAN_WAIT", "2s")], |_| {});
    stage.namespace.shell("echo '250 32000 32 40' > /proc/sys/kernel/sem");
    let cli = stage.cli();
    let mut httpd = StandIn::new(&stage.namespace, "leak-httpd", 48_071);
    assert_eq!(httpd.call(&format!("fill-used {HELD}")), 0);
    stage.knows_whose("leak-httpd", HELD);
    let begun_ms = now_ms();
    let found = |args: &[&str]| {
        let answer = cli.json(&[&["flags", "web-10"], args].concat());
        let own = |flag: &&Value| flag["namespace"] == stage.namespace.inode() && flag["resource"] == "SEMMNI";
        answer["flags"].as_array().and_then(|flags| flags.iter().find(own).cloned())
    };
    let mut flagged = None;
    for step in 1.. {
        let leaked = HELD + usize::try_from(step).unwrap();
        assert!(leaked < NINE_TENTHS, "nobody saw it coming");
        until("the next one leaks", PATIENCE, || {
            flagged = found(&[]);
            flagged.is_some() || now_ms() >= begun_ms + step * STEP_MS
        });
        if flagged.is_some() {
            break;
        }
        assert_eq!(httpd.call("fill-used 1"), 0);
    }
    let flag = flagged.unwrap();
    fields(
        &flag,
        &[
            ("host", json!("web-10")),
            ("kind", json!("trend")),
            ("severity", json!("critical")),
            ("state", json!("open")),
            ("limit_u64", json!("40")),
            ("owner.uid", json!(48_071)),
            ("owner.comm", json!("leak-httpd")),
        ],
    );
    let used = |flag: &Value| flag["used_u64"].as_str().unwrap().parse::<usize>().unwrap();
    assert!(used(&flag) < NINE_TENTHS && arrays(&stage.namespace) < 40, "{flag}");
    // 16 s an array are 225 an hour; when there is none left is said to within a few minutes.
    let an_hour = flag["growth_per_hour"].as_f64().unwrap();
    assert!((180.0..290.0).contains(&an_hour), "{flag}");
    assert!(flag["eta"].is_string() && flag["eta_low"].is_string(), "{flag}");
    let refused = cli.json(&["timeline", "web-10", "--kind", "refused"]);
    let own = |event: &&Value| event["own_namespace"] == true;
    assert_eq!(refused["events"].as_array().unwrap().iter().filter(own).count(), 0, "nobody was refused");

    // The service goes, what it left is removed, and with it the flag goes.
    httpd.kill();
    let mut shell = stage.namespace.command("sh");
    shell.args(["-c", "ipcs -s | awk '$3 == 48071 || $2 ~ /^[0-9]+$/ { print $2 }' | xargs -r -n1 ipcrm -s"]);
    stdout_of(shell);
    assert_eq!(arrays(&stage.namespace), 0);
    let over = until_some("it is over", PATIENCE.saturating_mul(4) + Duration::from_secs(30), || {
        found(&["--all"]).filter(|flag| flag["state"] == "cleared")
    });
    assert_eq!((&over["id"], over["cleared_at"].is_string()), (&flag["id"], true), "{over}");
}
