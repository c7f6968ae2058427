//! Just enough of Rust's syntax: what is code, what is a string, which paths are named.

use std::ops::Range;

use crate::repository::SourceFile;

/// A string literal: where its content lies in the text.
pub(crate) type Literal = Range<usize>;

/// Rust text with everything that is no code blanked out; byte positions are those of the text.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    /// Comments and contents of literals are spaces.
    pub(crate) code: String,
    pub(crate) strings: Vec<Literal>,
}

/// Tells code from comments and literals.
pub(crate) fn lex(text: &str) -> Code {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut strings = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(b"//") {
            let end = at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            blank(&mut code, at..end);
            at = end;
        } else if rest.starts_with(b"/*") {
            let end = text[at..].find("*/").map_or(bytes.len(), |n| at + n + 2);
            blank(&mut code, at..end);
            at = end;
        } else if let Some(hashes) = raw_string(bytes, at) {
            let start = at + rest.iter().position(|b| *b == b'"').unwrap_or(0) + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            let end = text[start..].find(&close).map_or(bytes.len(), |n| start + n);
            blank(&mut code, start..end);
            strings.push(start..end);
            at = end + close.len();
        } else if rest[0] == b'"' {
            let end = end_of_literal(bytes, at + 1, b'"');
            blank(&mut code, at + 1..end);
            strings.push(at + 1..end);
            at = end + 1;
        } else if rest[0] == b'\'' && is_char(rest) {
            let end = end_of_literal(bytes, at + 1, b'\'');
            blank(&mut code, at + 1..end);
            at = end + 1;
        } else {
            at += 1;
        }
    }
    Code { code: String::from_utf8(code).expect("blanked whole characters"), strings }
}

fn blank(code: &mut [u8], range: Range<usize>) {
    for byte in &mut code[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// The number of `#` if a raw string begins at `at`.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes[at..].strip_prefix(b"b").unwrap_or(&bytes[at..]).strip_prefix(b"r")?;
    let hashes = rest.iter().take_while(|b| **b == b'#').count();
    let follows_word = at > 0 && is_word(bytes[at - 1]);
    (rest.get(hashes) == Some(&b'"') && !follows_word).then_some(hashes)
}

fn end_of_literal(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// A character literal, not a lifetime.
fn is_char(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(_) => rest.iter().skip(2).take(4).position(|b| *b == b'\'').is_some_and(|n| n == 0 || rest[1] >= 0x80),
        None => false,
    }
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The same without its tests: modules behind `#[cfg(test)]` are blanked out too.
pub(crate) fn lex_without_tests(text: &str) -> Code {
    let mut lexed = lex(text);
    while let Some(start) = lexed.code.find("#[cfg(test)]") {
        let end = end_of_item(lexed.code.as_bytes(), start);
        let mut code = lexed.code.into_bytes();
        blank(&mut code, start..end);
        lexed.code = String::from_utf8(code).expect("blanked whole characters");
        lexed.strings.retain(|s| s.start < start || s.start >= end);
    }
    lexed
}

/// Behind the `;` or the closing brace of the item that begins at `start`.
pub(crate) fn end_of_item(code: &[u8], start: usize) -> usize {
    let mut depth = 0_u32;
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Files that are modules behind `#[cfg(test)]` of another file.
pub(crate) fn test_files(files: &[SourceFile]) -> Vec<String> {
    files.iter().flat_map(test_modules).collect()
}

fn test_modules(file: &SourceFile) -> Vec<String> {
    let code = lex(&file.text).code;
    let mut found = Vec::new();
    for (start, _) in code.match_indices("#[cfg(test)]") {
        let item = &code[start..end_of_item(code.as_bytes(), start)];
        let Some(name) = item.trim_end_matches(';').split_whitespace().last().filter(|_| item.ends_with(';')) else {
            continue;
        };
        let directory = file.path.rsplit_once('/').map_or("", |(d, _)| d);
        let stem = file.path.rsplit('/').next().and_then(|n| n.strip_suffix(".rs")).unwrap_or("");
        // The text, as the code has the path blanked out.
        let whole = &file.text[start..start + item.len()];
        if let Some(path) = whole.split_once("#[path = \"").and_then(|(_, p)| p.split_once('"')) {
            found.push(format!("{directory}/{}", path.0));
        } else if matches!(stem, "mod" | "lib" | "main") {
            found.push(format!("{directory}/{name}.rs"));
        } else {
            found.push(format!("{directory}/{stem}/{name}.rs"));
        }
    }
    found
}

/// Every path the code names, with where: `use` trees are spread out, so that `use a::{b, c::d};` names `a::b` and
/// `a::c::d`.
pub(crate) fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let bytes = code.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(bytes[at]) {
            at += 1;
            continue;
        }
        let word = word_at(code, at);
        if word == "use" {
            let end = code[at..].find(';').map_or(code.len(), |n| at + n);
            spread("", &code[at + 3..end], at, &mut found);
            at = end;
            continue;
        }
        let mut end = at + word.len();
        let mut path = word.to_owned();
        while code[end..].starts_with("::") && bytes.get(end + 2).is_some_and(|b| is_word(*b)) {
            let next = word_at(code, end + 2);
            path = format!("{path}::{next}");
            end += 2 + next.len();
        }
        found.push((at, path));
        at = end;
    }
    found
}

fn word_at(code: &str, at: usize) -> &str {
    let length = code.as_bytes()[at..].iter().take_while(|b| is_word(**b)).count();
    &code[at..at + length]
}

fn spread(prefix: &str, tree: &str, at: usize, found: &mut Vec<(usize, String)>) {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let inner = group.rsplit_once('}').map_or(group, |(inside, _)| inside);
        for branch in split_top(inner) {
            spread(&format!("{prefix}{}", head.trim()), branch, at, found);
        }
    } else if !tree.is_empty() {
        let path = tree.split_whitespace().next().unwrap_or("");
        let whole = format!("{prefix}{path}");
        found.push((at, whole.strip_suffix("::self").unwrap_or(&whole).to_owned()));
    }
}

/// Splits at the commas outside braces.
fn split_top(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_u32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Whether `path` is `of` or lies in it.
pub(crate) fn is_in(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let lexed =
            lex("let a = \"tokio::x\"; // sqlx\nlet b: &'static str = r#\"un\"safe\"#; /* libc */ let c = '\"';");
        let squeezed = lexed.code.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed, "let a = \" \"; let b: &'static str = r#\" \"#; let c = ' ';");
        assert_eq!(lexed.strings.len(), 2);
    }

    #[test]
    fn modules_of_tests_are_left_out() {
        let lexed = lex_without_tests("fn a() {}\n#[cfg(test)]\nmod tests { use sqlx::X; fn b() {} }\nfn c() {}");
        assert!(!lexed.code.contains("sqlx") && lexed.code.contains("fn c"));
        let file =
            SourceFile::planted("a/src/b.rs", "#[cfg(test)]\n#[path = \"c.rs\"]\nmod tests;\n#[cfg(test)]\nmod d;");
        assert_eq!(test_files(&[file]), ["a/src/c.rs", "a/src/b/d.rs"]);
    }

    #[test]
    fn use_trees_are_spread_out() {
        let named: Vec<String> =
            paths("use a::{self, b::{c, d}, e as f};\nfn g() { h::i(j) }").into_iter().map(|p| p.1).collect();
        assert_eq!(named, ["a", "a::b::c", "a::b::d", "a::e", "fn", "g", "h::i", "j"]);
    }
}
