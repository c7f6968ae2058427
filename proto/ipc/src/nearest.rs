//! Which known word somebody may have meant: for keys of configuration files.

use alloc::vec::Vec;

/// The known word that begins with `word`, or else that with the least edits to it; `None` = none is known.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |one: &&str| (word.is_empty() || !one.starts_with(word), edits(word.as_bytes(), one.as_bytes()));
    known.iter().copied().min_by_key(distance)
}

/// Levenshtein distance without case; `a` counts up to its first 64 bytes.
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().take(64).enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            let cost = usize::from(!x.eq_ignore_ascii_case(y));
            row[j + 1] = (diagonal + cost).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_beginning_of_a_word_or_a_slip_of_the_pen_names_it() {
        let known = ["warning", "critical", "tight", "notify"];
        for (word, meant) in [("warn", "warning"), ("critcal", "critical"), ("TIGHT", "tight"), ("nofity", "notify")] {
            assert_eq!(nearest(word, &known), Some(meant), "{word}");
        }
        assert_eq!(nearest("x", &[]), None);
        assert!(nearest(&"x".repeat(100_000), &known).is_some(), "however long it is");
    }
}
