//! A line of a program's log is pasted while nobody knows what it means: which limit, since when, who holds it, who was
//! refused, and what may be done.

use highwater_ipc::time::parse_rfc3339_ms;
use highwater_tests::answers::text;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::{Value, json};

use super::stage::{Stage, fields};

const APACHE: &str =
    "[core:emerg] [pid 24252] (28)No space left on device: AH00023: Couldn't create the mpm-accept mutex";
const PHP: &str = "PHP Warning: sem_get(): failed for key 0x6602b303: No space left on device in Lock.php on line 41";
const POSTGRES: &str = "FATAL:  could not create shared memory segment: No space left on device";

#[test]
fn a_pasted_line_names_the_limit_its_holder_the_victim_and_what_may_be_done() {
    let stage = Stage::prepared("web-17", &[("HIGHWATER_ORPHAN_WAIT", "2s")], |_| {});
    stage.namespace.shell("echo '250 32000 32 12' > /proc/sys/kernel/sem");
    let mut old = StandIn::new(&stage.namespace, "httpd", 51);
    assert_eq!(old.call("fill-used 12"), 0);
    stage.knows_whose("httpd", 12);
    old.kill();
    let cli = stage.cli();
    until("they are graded", PATIENCE, || cli.json(&["blame", "web-17"])["owners"][0]["orphans_certain"] == 12);

    let before_ms = now_ms();
    let mut httpd = StandIn::new(&stage.namespace, "httpd", 0);
    assert_eq!(httpd.call("create-sem private 1"), -28, "ENOSPC");
    let mut php = StandIn::new(&stage.namespace, "php-fpm", 62);
    assert_eq!(php.call("create-sem 0x6602b303 3"), -28, "ENOSPC");
    stage.event("both refusals are told", "refused", |e| e["by"]["pid"] == php.pid());

    for (line, product, victim, uid, pid) in
        [(APACHE, "Apache httpd", "httpd", 0, httpd.pid()), (PHP, "PHP", "php-fpm", 62, php.pid())]
    {
        let answer = cli.json(&["explain", line, "--host", "web-17"]);
        fields(
            &answer,
            &[
                ("message", json!(line)),
                ("product", json!(product)),
                ("call", json!("semget")),
                ("errno", json!("ENOSPC")),
                ("host", json!("web-17")),
                ("verdict", json!("refused")),
                ("namespace", json!(stage.namespace.inode())),
                ("own_namespace", json!(true)),
                ("resource", json!("SEMMNI")),
                ("used_u64", json!("12")),
                ("limit_u64", json!("12")),
                ("holder.uid", json!(51)),
                ("holder.comm", json!("httpd")),
                ("holder.arrays", json!(12)),
                ("holder.orphans", json!(12)),
                ("holder.orphans_certain", json!(12)),
                ("others", json!([])),
                ("victim.comm", json!(victim)),
                ("victim.uid", json!(uid)),
                ("victim.pid", json!(pid)),
                ("victim.is_its_own", json!(true)),
                ("traced", json!(true)),
            ],
        );
        let at_ms = parse_rfc3339_ms(text(&answer, "at")).expect("a time");
        assert!(at_ms >= before_ms - 2, "the call's own instant: {answer}");
        let commands: Vec<&str> =
            answer["remedy"].as_array().expect("steps").iter().filter_map(|step| step["command"].as_str()).collect();
        assert!(commands[0].starts_with("sysctl -w kernel.sem="), "raise first: {commands:?}");
        assert!(commands[1].contains("ipcrm") && commands.len() == 2, "then what is certain: {commands:?}");
    }
    let shown = stage.shown(&["explain", APACHE, "--host", "web-17"]);
    assert!(shown.contains("It was SEMMNI 12/12, not the disk: "), "{shown}");
    assert!(shown.contains(&format!("victim  httpd (pid {}) as ", httpd.pid())), "{shown}");

    what_it_was_not_is_said_and_what_says_nothing_is_refused(&stage);
    the_first_step_mends_it(&stage, &mut php);
}

/// Another limit; a line without a reason; an instant without data.
fn what_it_was_not_is_said_and_what_says_nothing_is_refused(stage: &Stage) {
    let cli = stage.cli();
    let calm = cli.json(&["explain", POSTGRES, "--host", "web-17", "--at", "now"]);
    fields(&calm, &[("verdict", json!("not_reached")), ("resource", Value::Null), ("victim", Value::Null)]);
    assert!(text(&calm, "why").contains("SHMMNI was 0 of "), "{calm}");
    stage.shown(&["explain", POSTGRES, "--host", "web-17"]);
    let refused = cli.run(&["explain", "the server does not start", "--host", "web-17"]).must_exit(1);
    assert!(refused.err.contains("paste the line with the words of the error"), "{refused:?}");
    assert!(cli.run(&["explain", "-", "--host", "web-17"]).must_exit(1).err.contains("there is no text"));
    let gap = cli.run(&["explain", APACHE, "--host", "web-17", "--at", "2020-01-02"]).must_exit(4);
    assert!(gap.err.contains("no data of web-17"), "{gap:?}");
}

/// The printed command is run as it is.
fn the_first_step_mends_it(stage: &Stage, php: &mut StandIn) {
    let answer = stage.cli().json(&["explain", PHP, "--host", "web-17"]);
    stage.namespace.shell(answer["remedy"][0]["command"].as_str().expect("a command"));
    assert!(php.call("create-sem 0x6602b303 3") >= 0, "there is room now");
    until("and it is said that there is", PATIENCE, || {
        let answer = stage.cli().json(&["explain", PHP, "--host", "web-17"]);
        answer["remedy"][0]["step"]
            .as_str()
            .is_some_and(|step| step.starts_with("SEMMNI was raised since, from 12 to 24"))
    });
}
