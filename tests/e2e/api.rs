//! The HTTP API as a program meets it: tokens, Host headers, problem documents, the description of itself.

use highwater_tests::agent::Agent;
use highwater_tests::collector::Up;
use highwater_tests::http::{bearer, get};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use serde_json::Value;

#[test]
fn everything_but_livez_and_its_own_description_needs_a_token() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    assert_eq!(get(&up, "/livez", &[]).status, 200);
    assert_eq!(get(&up, "/openapi.json", &[]).body["openapi"], "3.1.0");
    let paths = [
        "/api/v1/version",
        "/api/v1/hosts",
        "/api/v1/hosts/x",
        "/api/v1/hosts/x/snapshot",
        "/api/v1/tokens",
        "/api/v1/status",
    ];
    for path in paths {
        for headers in [&[][..], &["Authorization: Bearer hwo1.a.b"], &["Authorization: Basic eDp4"]] {
            let reply = get(&up, path, headers);
            assert_eq!((reply.status, &reply.body["code"]), (401, &"unauthorized".into()), "{path} {headers:?}");
            assert!(reply.head.to_lowercase().contains("content-type: application/problem+json"), "{}", reply.head);
        }
    }
    assert_eq!(get(&up, "/api/v1/version", &[&bearer(&up)]).status, 200);
}

#[test]
fn a_foreign_host_header_is_refused() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let reply = get(&up, "/api/v1/hosts", &["Host: evil.example", &bearer(&up)]);
    assert_eq!((reply.status, &reply.body["code"]), (421, &"wrong_host".into()));
    assert_eq!(get(&up, "/api/v1/hosts", &["Host: localhost:1", &bearer(&up)]).status, 200);
}

#[test]
fn a_question_that_cannot_be_understood_says_which_part() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let token = bearer(&up);
    let table = [
        ("/api/v1/hosts?state=gone", 400, "bad_request", "gone"),
        ("/api/v1/hosts?limit=0", 400, "bad_request", "limit"),
        ("/api/v1/hosts?cursor=x", 400, "bad_request", "cursor"),
        ("/api/v1/hosts?unknown=1", 400, "bad_request", "unknown"),
        ("/api/v1/hosts/nobody/snapshot", 404, "no_such_host", "nobody"),
        ("/api/v1/hosts/nobody/snapshot?at=yesterday", 400, "bad_request", "yesterday"),
        ("/api/v1/hosts/nobody/diff", 400, "bad_request", "from"),
        ("/api/v1/find", 400, "bad_request", "nothing is looked for"),
        ("/api/v1/find?expr=pid=4", 400, "bad_request", "pid"),
        ("/api/v1/find?expr=uid=4&cursor=x", 400, "bad_request", "cursor"),
        ("/api/v1/nothing", 404, "no_such_path", "/api/v1/nothing"),
    ];
    for (path, status, code, word) in table {
        let reply = get(&up, path, &[&token]);
        assert_eq!((reply.status, &reply.body["code"]), (status, &code.into()), "{path}: {}", reply.body);
        assert!(reply.body["detail"].to_string().contains(word), "{path}: {}", reply.body);
    }
}

#[test]
fn a_prefix_of_several_hosts_lists_the_candidates() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let (one, two) = (IpcNamespace::named("pre-one"), IpcNamespace::named("pre-two"));
    let _agents = [Agent::running(&up, &one), Agent::running(&up, &two)];
    let token = bearer(&up);
    let reply = get(&up, "/api/v1/hosts/pre-/snapshot", &[&token]);
    assert_eq!((reply.status, &reply.body["code"]), (409, &"ambiguous_host".into()));
    assert_eq!(reply.body["candidates"].as_array().map(Vec::len), Some(2), "{}", reply.body);
    assert_eq!(get(&up, "/api/v1/hosts/pre-o/snapshot", &[&token]).body["host"], "pre-one");
    let first = get(&up, "/api/v1/hosts?limit=1", &[&token]);
    assert_eq!(first.body["hosts"][0]["name"], "pre-one");
    let id = first.body["hosts"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(get(&up, &format!("/api/v1/hosts/{id}/lsipc"), &[&token]).body["host"], "pre-one");
    let next = first.body["next_cursor"].as_str().expect("a cursor").to_owned();
    let second = get(&up, &format!("/api/v1/hosts?limit=1&cursor={next}"), &[&token]);
    assert_eq!(second.body["hosts"][0]["name"], "pre-two");
    assert_eq!(second.body["next_cursor"], Value::Null);
}

#[test]
fn every_field_of_an_answer_is_described() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let namespace = IpcNamespace::named("described");
    namespace.script("create-sem 1 2\ncreate-shm 2 4096\ncreate-msg 3\n");
    let _agent = Agent::running(&up, &namespace);
    let document = get(&up, "/openapi.json", &[]).body;
    let token = bearer(&up);
    let table = [
        ("/api/v1/status", "Status"),
        ("/api/v1/storage", "Storage"),
        ("/api/v1/retention", "Retention"),
        ("/api/v1/hosts", "Hosts"),
        ("/api/v1/hosts/described", "OneHost"),
        ("/api/v1/hosts/described/snapshot", "Snapshot"),
        ("/api/v1/hosts/described/snapshot?at=2020-01-01T00:00:00Z", "GapAnswer"),
        ("/api/v1/hosts/described/lsipc", "Lsipc"),
        ("/api/v1/hosts/described/diff?from=now&to=now", "Diff"),
        ("/api/v1/hosts/described/timeline", "Timeline"),
        ("/api/v1/hosts/described/explain?message=semget:%20No%20space%20left%20on%20device", "Explain"),
        ("/api/v1/hosts/described/explain?message=msgsnd:%20EAGAIN&at=now", "Explain"),
        ("/api/v1/find?expr=key!=private", "Find"),
        ("/api/v1/find?expr=key!=private&since=2020-01-01T00:00:00Z", "Find"),
    ];
    for (path, schema) in table {
        let reply = get(&up, path, &[&token]);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        check(&document, &document["components"]["schemas"][schema], &reply.body, path);
    }
}

/// Whether a value has the described fields and no others, all the way down.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(&reference[1..]).expect("a reference that leads somewhere");
        return check(document, target, value, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |choice: &&Value| fits(document, choice, value);
        let choice = choices.iter().find(fits).unwrap_or_else(|| panic!("{place}: {value} is none of {choices:?}"));
        return check(document, choice, value, place);
    }
    match value {
        Value::Object(fields) => {
            let described = schema["properties"].as_object();
            for (name, field) in fields {
                let place = format!("{place}.{name}");
                match described.and_then(|d| d.get(name)).or(schema.get("additionalProperties")) {
                    Some(schema) => check(document, schema, field, &place),
                    None => panic!("{place} is not described"),
                }
            }
            for required in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(required.as_str().expect("a name")), "{place} lacks {required}");
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check(document, &schema["items"], item, &format!("{place}[{index}]"));
            }
        }
        _ => assert!(is_type(schema, value), "{place}: {value} is no {}", schema["type"]),
    }
}

fn fits(document: &Value, schema: &Value, value: &Value) -> bool {
    if let Some(reference) = schema["$ref"].as_str() {
        return fits(document, document.pointer(&reference[1..]).expect("a reference"), value);
    }
    let has = |name: &Value| value.get(name.as_str().expect("a name")).is_some();
    is_type(schema, value) && schema["required"].as_array().is_none_or(|names| names.iter().all(has))
}

fn is_type(schema: &Value, value: &Value) -> bool {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |wanted: &Value| wanted == name || (wanted == "number" && name == "integer");
    match &schema["type"] {
        Value::Array(names) => names.iter().any(is),
        Value::Null => true,
        one => is(one),
    }
}
