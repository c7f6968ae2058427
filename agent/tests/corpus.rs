//! The corpus of the fuzz targets goes through the same functions, so that what was found once stays found.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: it may panic anywhere")]

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::path::Path;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 5] = [
    ("sysvipc", fuzz::sysvipc),
    ("settings", fuzz::settings),
    ("process", fuzz::process),
    ("trace_format", fuzz::trace_format),
    ("trace_page", fuzz::trace_page),
];

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = entries.map(|entry| entry.unwrap().path());
    files.map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

#[test]
fn every_input_of_the_corpus_is_judged_as_it_must_be() {
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(inputs.len() >= 10, "{name}: only {}", inputs.len());
        for (path, bytes) in inputs {
            // The path is printed where the target panics: tests show their output when they fail.
            println!("{path}");
            target(&bytes);
        }
    }
}

#[test]
fn each_target_has_its_program_and_its_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let mut named: Vec<&str> = TARGETS.map(|(name, _)| name).to_vec();
    named.sort_unstable();
    for (place, suffix) in [("corpus", ""), ("fuzz_targets", ".rs")] {
        let entries = fs::read_dir(folder.join(place)).unwrap();
        let mut found: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, named.iter().map(|name| format!("{name}{suffix}")).collect::<Vec<_>>(), "{place}");
    }
}

#[test]
fn the_corpus_stays_small() {
    let bytes: usize = TARGETS.iter().flat_map(|(name, _)| corpus(name)).map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes < 300_000, "{bytes} bytes");
}
