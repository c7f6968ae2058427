//! `/openapi.json`: the description of this API, kept by hand beside the code.

use axum::http::header;
use axum::response::IntoResponse;

/// The document; its version is this crate's.
const DOCUMENT: &str = include_str!("openapi.json");

/// Answers it.
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn parsed() -> Value {
        serde_json::from_str(DOCUMENT).expect("openapi.json is JSON")
    }

    #[test]
    fn the_document_has_the_version_of_this_build() {
        assert_eq!(parsed()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn the_document_lists_exactly_the_paths_that_are_routed() {
        let source = include_str!("router.rs");
        let routed: BTreeSet<String> = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix(".route(\"")?.split('"').next())
            .map(|path| match path {
                "/livez" | "/openapi.json" | "/api/v1/openapi.json" => path.to_owned(),
                _ => format!("/api/v1{path}"),
            })
            .filter(|path| path != "/api/v1/openapi.json")
            .collect();
        let described: BTreeSet<String> = parsed()["paths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(described, routed);
    }

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let document = parsed();
        let mut references = BTreeSet::new();
        collect(&document, &mut references);
        assert!(!references.is_empty());
        for reference in references {
            let path = reference.strip_prefix('#').expect("references stay in the document");
            assert!(document.pointer(path).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_error_code_of_the_api_is_described() {
        let source = include_str!("problem.rs");
        let described = parsed()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].to_string();
        for line in source.lines().filter(|l| l.contains("StatusCode::") && l.contains("Self::new(")) {
            let code = line.split('"').nth(1).expect("the code follows the status");
            assert!(described.contains(&format!("\"{code}\"")), "{code}");
        }
    }

    fn collect(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    into.insert(reference.clone());
                }
                map.values().for_each(|v| collect(v, into));
            }
            Value::Array(items) => items.iter().for_each(|v| collect(v, into)),
            _ => {}
        }
    }
}
