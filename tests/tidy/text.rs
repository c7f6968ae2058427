//! Length of files, leftovers, and words that have no place in the repository.

use crate::repository::{SourceFile, check, files, rust_files};
use crate::rust::{end_of_item, is_in, is_word, lex, lex_without_tests, paths, test_files};

/// Lines of a file with one job.
const MOST_LINES: usize = 500;

/// Lines of a function.
const MOST_LINES_OF_A_FUNCTION: usize = 70;

/// Written in two pieces, so that this file does not hold them.
const FORBIDDEN: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/tmp/h", "w"),
    concat!("/home/", "user"),
    concat!("Clau", "de"),
    concat!("Anthro", "pic"),
    concat!("Chat", "GPT"),
    concat!("Co", "pilot"),
    concat!("language ", "model"),
];

const LEFTOVERS: &[&str] = &[concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X"), concat!("HA", "CK")];

/// A longer file says why at its top: `//! Long because: ..`.
fn too_long(file: &SourceFile) -> Vec<String> {
    let lines = file.text.lines().count();
    let reason = file.text.lines().take(40).any(|l| l.starts_with("//! Long because: "));
    let what = format!("{lines} lines, at most {MOST_LINES} without `//! Long because: ..` at the top");
    if lines > MOST_LINES && !reason { vec![file.complaint(0, &what)] } else { Vec::new() }
}

/// A function that does not fit on a screen says why above it: `// Long because: ..`.
fn long_functions(file: &SourceFile) -> Vec<String> {
    let code = lex(&file.text).code;
    let mut wrong = Vec::new();
    for (at, path) in paths(&code) {
        if path != "fn" {
            continue;
        }
        let lines = code[at..end_of_item(code.as_bytes(), at)].lines().count();
        let above: Vec<&str> = file.text[..at].lines().rev().take(15).collect();
        if lines > MOST_LINES_OF_A_FUNCTION && !above.iter().any(|l| l.contains("// Long because: ")) {
            wrong.push(file.complaint(at, &format!("a function of {lines} lines, at most {MOST_LINES_OF_A_FUNCTION}")));
        }
    }
    wrong
}

fn forbidden_words(file: &SourceFile) -> Vec<String> {
    // A path from the file system's root, not one that goes on from a folder of ours.
    let starts = |at: usize| at == 0 || !is_word(file.text.as_bytes()[at - 1]);
    let found = FORBIDDEN.iter().flat_map(|word| file.text.match_indices(word));
    let found = found.filter(|(at, word)| !word.starts_with('/') || starts(*at));
    found.map(|(at, word)| file.complaint(at, &format!("{word} means nothing to a reader elsewhere"))).collect()
}

fn leftovers(file: &SourceFile) -> Vec<String> {
    let bytes = file.text.as_bytes();
    let whole = |at: usize, word: &str| {
        let before = at.checked_sub(1).and_then(|b| bytes.get(b));
        [before, bytes.get(at + word.len())].into_iter().flatten().all(|b| !is_word(*b))
    };
    let found = LEFTOVERS.iter().flat_map(|word| file.text.match_indices(word)).filter(|(at, word)| whole(*at, word));
    found.map(|(at, word)| file.complaint(at, &format!("{word} is left over"))).collect()
}

/// Macros that end the process, or print past the log, outside tests. `unwrap` and the rest are lints of clippy.
fn unfinished_code(file: &SourceFile) -> Vec<String> {
    let code = lex_without_tests(&file.text).code;
    let is_macro = |at: usize, path: &str| code[at + path.len()..].starts_with('!');
    let found = paths(&code)
        .into_iter()
        .filter(|(at, p)| ["todo", "unimplemented", "dbg"].iter().any(|word| is_in(p, word)) && is_macro(*at, p));
    found.map(|(at, p)| file.complaint(at, &format!("{p}! is left over"))).collect()
}

/// Every document that is mentioned by its file name is in the repository.
fn dangling_documents(file: &SourceFile, known: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (end, _) in file.text.match_indices(".md") {
        let bytes = file.text.as_bytes();
        if bytes.get(end + 3).is_some_and(|b| is_word(*b)) {
            continue;
        }
        let start = end - bytes[..end].iter().rev().take_while(|b| is_word(**b) || **b == b'-').count();
        let name = &file.text[start..end + 3];
        if start < end && !known.iter().any(|path| path == name || path.ends_with(&format!("/{name}"))) {
            wrong.push(file.complaint(start, &format!("{name} is not in the repository")));
        }
    }
    wrong
}

#[test]
fn files_have_one_job() {
    check(&rust_files(), too_long);
    let long = "\n".repeat(MOST_LINES + 1);
    assert_eq!(too_long(&SourceFile::planted("a.rs", &long)).len(), 1);
    assert_eq!(too_long(&SourceFile::planted("a.rs", &format!("//! Long because: a table.\n{long}"))).len(), 0);
}

#[test]
fn functions_fit_on_a_screen() {
    check(&rust_files(), long_functions);
    let long = format!("fn f(x: [u8; 2]) {{{}}}\nfn g();\n", "\n".repeat(MOST_LINES_OF_A_FUNCTION));
    assert_eq!(long_functions(&SourceFile::planted("a.rs", &long)).len(), 1);
    assert_eq!(long_functions(&SourceFile::planted("a.rs", &format!("// Long because: a table.\n{long}"))).len(), 0);
}

#[test]
fn nothing_is_left_over() {
    check(&files(), leftovers);
    let all = rust_files();
    let tests = test_files(&all);
    check(&all.into_iter().filter(|f| !tests.contains(&f.path)).collect::<Vec<_>>(), unfinished_code);
    assert_eq!(leftovers(&SourceFile::planted("a.rs", concat!("// FIX", "ME: later"))).len(), 1);
    assert_eq!(leftovers(&SourceFile::planted("a.sh", "mktemp dir.XXXXXX")).len(), 0);
    assert_eq!(unfinished_code(&SourceFile::planted("a.rs", "fn f() { todo!() }")).len(), 1);
}

#[test]
fn the_repository_speaks_of_itself_alone() {
    let all = files();
    let known: Vec<String> = all.iter().map(|f| f.path.clone()).collect();
    check(&all, forbidden_words);
    check(&all, |file| dangling_documents(file, &known));
    assert_eq!(forbidden_words(&SourceFile::planted("a.txt", concat!("see /wo", "rk/notes"))).len(), 1);
    let planted = SourceFile::planted("a.rs", concat!("// as NOWHERE.", "md says"));
    assert_eq!(dangling_documents(&planted, &known).len(), 1);
}
