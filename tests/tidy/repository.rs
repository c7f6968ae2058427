//! The repository's files, and how a rule reports.

use std::path::{Path, PathBuf};

/// One text file.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// From the repository's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    /// A file that is not there, to try a rule on.
    pub(crate) fn planted(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// What is wrong at a byte of it: `path:line: what`.
    pub(crate) fn complaint(&self, at: usize, what: &str) -> String {
        let line = 1 + self.text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count();
        format!("{}:{line}: {what}", self.path)
    }
}

pub(crate) fn root() -> PathBuf {
    highwater_tests::binaries::repository()
}

/// Every text file that belongs to the repository, sorted by path.
pub(crate) fn files() -> Vec<SourceFile> {
    let mut found = Vec::new();
    visit(&root(), "", &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "only {} files found below {}", found.len(), root().display());
    found
}

/// The Rust files among them.
pub(crate) fn rust_files() -> Vec<SourceFile> {
    let mut found = files();
    found.retain(|f| f.path.ends_with(".rs"));
    found
}

fn visit(directory: &Path, prefix: &str, found: &mut Vec<SourceFile>) {
    for entry in std::fs::read_dir(directory).expect("a directory of the repository") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("names in UTF-8");
        let path = format!("{prefix}{name}");
        if entry.file_type().expect("a type").is_dir() {
            // What a fuzzer found is bytes, even where it happens to be text.
            if name != "target" && name != ".git" && path != "fuzz/corpus" {
                visit(&entry.path(), &format!("{path}/"), found);
            }
        } else if path != ".git" && !name.ends_with(".swp") {
            // Captured bytes (golden vectors, proc files) need not be text.
            if let Ok(text) = std::fs::read_to_string(entry.path()) {
                found.push(SourceFile { path, text });
            }
        }
    }
}

/// Applies a rule to files and fails with all that it found.
#[track_caller]
pub(crate) fn check(files: &[SourceFile], rule: impl Fn(&SourceFile) -> Vec<String>) {
    let wrong: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
