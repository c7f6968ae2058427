//! Columns for the eye, and colours where they are wanted. Pure.

/// A colour by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// Headings.
    Strong,
    /// Something came, or is well.
    Good,
    /// Something went, or is wrong.
    Bad,
    /// Something to look at.
    Warn,
    /// Less important.
    Faint,
}

/// Text in a colour, if colours are wanted.
pub fn paint(text: &str, tone: Tone, color: bool) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Strong => "1",
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Warn => "33",
        Tone::Faint => "2",
    };
    if color && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Rows under headings, each column as wide as its widest cell, none cut; the last column is not padded. Texts from
/// hosts are escaped already, so no cell holds a line end.
pub fn table(headings: &[&str], rows: &[Vec<(String, Tone)>], color: bool) -> String {
    let cells = |row: &Vec<(String, Tone)>, column: usize| row.get(column).map_or(0, |(text, _)| width(text));
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| rows.iter().map(|r| cells(r, column)).max().unwrap_or(0).max(width(heading)))
        .collect();
    let heading_row = headings.iter().map(|h| ((*h).to_owned(), Tone::Strong)).collect();
    let mut out = String::new();
    for row in std::iter::once(&heading_row).chain(rows) {
        let last = row.iter().rposition(|(text, _)| !text.is_empty()).unwrap_or(0);
        for (column, (text, tone)) in row.iter().enumerate().take(last + 1) {
            out.push_str(&paint(text, *tone, color));
            if column < last {
                let pad = widths.get(column).copied().unwrap_or(0).saturating_sub(width(text));
                out.extend(std::iter::repeat_n(' ', pad + 2));
            }
        }
        out.push('\n');
    }
    out
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_trailing_blanks_are_left_out() {
        let row = |a: &str, b: &str| vec![(a.to_owned(), Tone::Plain), (b.to_owned(), Tone::Good)];
        let text = table(&["HOST", "STATE"], &[row("wéb", "available"), row("longname", "")], false);
        assert_eq!(text, "HOST      STATE\nwéb       available\nlongname\n");
        let text = table(&["A", "B"], &[row("x", "y")], true);
        assert_eq!(text, "\u{1b}[1mA\u{1b}[0m  \u{1b}[1mB\u{1b}[0m\nx  \u{1b}[32my\u{1b}[0m\n");
    }
}
