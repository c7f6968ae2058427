//! A database that is wholly down: the collector says so, since when, and what to do; and it goes on by itself.

use highwater_ipc::time::parse_rfc3339_ms;
use highwater_tests::collector::Up;
use highwater_tests::http::{bearer, get};
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, now_ms, until};

#[test]
fn with_its_database_down_the_collector_says_so_and_since_when_and_goes_on_by_itself() {
    let mut server = Postgres::start();
    let database = server.database();
    let up = Up::collector(&database);
    let cli = up.cli();
    assert!(cli.json(&["status"])["database_away"].is_null());
    cli.run(&["doctor"]).must_exit(0);

    let down_ms = now_ms();
    server.kill_postmaster();
    until("it is noticed", PATIENCE, || cli.run(&["doctor"]).code == 3);
    let status = cli.json(&["status"]);
    assert!(status["database"].is_null() && status["database_away"]["why"].is_string(), "{status}");
    let since_ms = parse_rfc3339_ms(status["database_away"]["since"].as_str().unwrap()).unwrap();
    assert!((down_ms..=now_ms()).contains(&since_ms), "{status}");
    let check = &status["checks"][0];
    assert_eq!((&check["name"], &check["ok"]), (&"database".into(), &false.into()), "{status}");
    let told = cli.run(&["doctor"]).must_exit(3).text().to_owned();
    for words in ["database: does not answer since ", "remedy: see whether the PostgreSQL server runs"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let shown = cli.run(&["status"]).must_succeed();
    assert!(shown.text().contains("database   does NOT answer since "), "{}", shown.text());
    // It is the same instant, however often it is asked.
    assert_eq!(cli.json(&["status"])["database_away"]["since"], status["database_away"]["since"]);

    // Who was never seen is not let in, and what needs the database is not answered: later it may be.
    let stranger = "Authorization: Bearer hwo1.nobody.secret".to_owned();
    for (path, token) in [("/api/v1/status", stranger), ("/api/v1/hosts", bearer(&up))] {
        let refused = get(&up, path, &[&token]);
        assert_eq!((refused.status, &refused.body["code"]), (503, &"database_away".into()), "{path}: {refused:?}");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("see whether the PostgreSQL server runs"), "{detail}");
    }
    assert_eq!(get(&up, "/api/v1/status", &[&bearer(&up)]).status, 200);

    server.restart();
    // Whatever waits for its turn to connect again waits up to some ten seconds.
    until("doctor is content", PATIENCE * 3, || cli.run(&["doctor"]).code == 0);
    assert!(cli.json(&["status"])["database_away"].is_null());
}
