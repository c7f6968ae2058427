//! Where two states differ, as paths of their JSON.

use highwater_ipc::snapshot::{Snapshot, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;
use serde_json::Value;

use super::shape::SnapshotJson;
use super::write::Envelope;

/// The first field in which two states differ, with its value in either, cut; `None` = their JSON is the same.
pub fn first_difference(a: &State, b: &State) -> Option<(String, String, String)> {
    // Names are told with the objects that have them, so what is derived is equal where the rest is.
    let json = |state: &State| {
        let snapshot = Snapshot { at: At::default(), took_us: 0, state: state.clone() };
        serde_json::to_value(SnapshotJson::new(&snapshot, &Envelope::default())).unwrap_or(Value::Null)
    };
    differ(String::new(), &json(a), &json(b))
}

fn differ(path: String, a: &Value, b: &Value) -> Option<(String, String, String)> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let names = x.keys().chain(y.keys().filter(|name| !x.contains_key(*name)));
            let inside = |name: &String| if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            names.into_iter().find_map(|name| {
                differ(inside(name), x.get(name).unwrap_or(&Value::Null), y.get(name).unwrap_or(&Value::Null))
            })
        }
        (Value::Array(x), Value::Array(y)) => (0..x.len().max(y.len())).find_map(|i| match (x.get(i), y.get(i)) {
            (Some(a), Some(b)) => differ(format!("{path}[{i}]"), a, b),
            (a, b) => Some((format!("{path}[{i}]"), shown(a), shown(b))),
        }),
        (a, b) if a == b => None,
        (a, b) => Some((path, shown(Some(a)), shown(Some(b)))),
    }
}

/// Whatever is told of an array that has no such row: nothing.
fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "not there".to_owned(), |value| HostText::from(value.to_string().as_str()).escaped())
}

#[cfg(test)]
mod tests {
    use highwater_ipc::object::SemArray;
    use highwater_ipc::snapshot::Namespace;

    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_path() {
        let array = SemArray {
            key: highwater_ipc::object::Key(1),
            semid: 5,
            perms: highwater_ipc::object::Perms(0o600),
            nsems: 17,
            owner: highwater_ipc::object::Owner::default(),
            otime: 0,
            ctime: 1,
        };
        let with = |rows: &[SemArray]| State {
            namespaces: vec![Namespace { sem: Some(rows.to_vec()), ..Namespace::default() }],
            ..State::default()
        };
        let (a, b) = (with(&[array]), with(&[SemArray { nsems: 16, ..array }]));
        let found = first_difference(&a, &b).unwrap();
        assert_eq!(found, ("namespaces[0].sem[0].nsems".into(), "17".into(), "16".into()));
        let (field, here, there) = first_difference(&a, &with(&[])).unwrap();
        assert_eq!((field.as_str(), there.as_str()), ("namespaces[0].sem[0]", "not there"));
        assert!(here.contains("\"semid\":5"), "{here}");
        assert_eq!(first_difference(&a, &a), None);
    }
}
