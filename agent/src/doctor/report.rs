//! The checks for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::checks::{Check, Verdict, trouble};

/// The answer for programs.
#[derive(Debug, Serialize)]
struct Document<'a> {
    trouble: bool,
    checks: &'a [Check],
}

/// One JSON document.
pub fn json(checks: &[Check]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Document { trouble: trouble(checks), checks }).map(|text| text + "\n")
}

/// A table: verdict, what was looked at, what was found; below each what is lost and what helps.
pub fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for Check { check, verdict, found, lost, remedy } in checks {
        let word = match verdict {
            Verdict::Fine => "ok",
            Verdict::Note => "note",
            Verdict::Trouble => "TROUBLE",
        };
        let mut found = found.iter();
        // Writing to a String does not fail.
        let _ = writeln!(text, "{word:8} {check:26} {}", found.next().map_or("", String::as_str));
        for line in found {
            let _ = writeln!(text, "{:36}{line}", "");
        }
        for (name, line) in [("lost", lost), ("remedy", remedy)] {
            if let Some(line) = line {
                let _ = writeln!(text, "{:36}{name}: {line}", "");
            }
        }
    }
    text
}
