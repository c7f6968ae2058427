//! Literal pieces with anything in between.

/// Lower case, white space squeezed, typographic quotes made plain: as lines and patterns are compared.
pub(super) fn plain(text: &str) -> String {
    let unquoted = text.replace(['\u{2018}', '\u{2019}'], "'").replace(['\u{201c}', '\u{201d}'], "\"");
    unquoted.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// How many letters of a line a pattern stands for; `None` = it is not in it. Both are [`plain`].
pub(super) fn matches(pattern: &str, line: &str) -> Option<usize> {
    let mut rest = line;
    let mut letters = 0_usize;
    for piece in pattern.split('*').map(str::trim).filter(|piece| !piece.is_empty()) {
        let (_, after) = rest.split_once(piece)?;
        rest = after;
        letters = letters.saturating_add(piece.len());
    }
    Some(letters)
}

/// Whether a name is one of a list in which `*` stands for anything.
pub(super) fn is_named(name: &str, names: &[String]) -> bool {
    names.iter().any(|pattern| match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            name.len() >= head.len().saturating_add(tail.len()) && name.starts_with(head) && name.ends_with(tail)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_must_come_in_order_and_case_space_and_quotes_do_not_matter() {
        let line = plain("[x] AH00023:  Couldn\u{2019}t create the\tSSL-cache mutex");
        assert_eq!(matches("couldn't create the * mutex", &line), Some(24));
        assert_eq!(matches("mutex*create", &line), None);
        assert_eq!(matches("", &line), Some(0));
    }

    #[test]
    fn a_name_may_stand_for_several() {
        let names = ["httpd".to_owned(), "ora_*".to_owned(), "*adm".to_owned()];
        for (name, is) in [("httpd", true), ("httpd2", false), ("ora_pmon_X", true), ("prdadm", true), ("ora", false)] {
            assert_eq!(is_named(name, &names), is, "{name}");
        }
    }
}
