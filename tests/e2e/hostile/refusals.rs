//! The log of `up`, as far as it speaks of refused peers.

use highwater_tests::collector::Up;

/// One line about refused peers.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) peer: String,
    pub(super) reason: String,
    pub(super) count: u64,
    pub(super) why: String,
    /// Seconds since midnight, UTC.
    pub(super) at: f64,
}

/// Every such line so far.
pub(super) fn refusals(up: &Up) -> Vec<Line> {
    up.output().lines().filter_map(refusal).collect()
}

/// Those of one address.
pub(super) fn of(up: &Up, peer: &str) -> Vec<Line> {
    refusals(up).into_iter().filter(|line| line.peer == peer).collect()
}

fn refusal(line: &str) -> Option<Line> {
    let (stamp, rest) = line.split_once(' ')?;
    let (_, fields) = rest.split_once("highwater::ingest::refusal: refused ")?;
    let field = |name: &str| {
        let (_, value) = fields.split_once(&format!("{name}="))?;
        Some(value.split(' ').next()?.trim_matches('"').to_owned())
    };
    let clock = stamp.split_once('T')?.1.trim_end_matches('Z');
    let mut parts = clock.split(':').map(|part| part.parse::<f64>().expect("a number in the stamp"));
    let mut part = || parts.next().expect("hours, minutes and seconds");
    Some(Line {
        peer: field("peer")?,
        reason: field("reason")?,
        count: field("count")?.parse().ok()?,
        why: fields.split_once("why=")?.1.to_owned(),
        at: part() * 3600.0 + part() * 60.0 + part(),
    })
}

/// What turns text around, or ends its line, without being a control character.
const TURNS: [std::ops::RangeInclusive<char>; 2] = ['\u{2028}'..='\u{202e}', '\u{2066}'..='\u{2069}'];

/// Whether text does to a screen what nobody but the screen's owner should.
pub(super) fn is_wild(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || TURNS.iter().any(|range| range.contains(&c)))
}

/// Fails if something that a peer said reached the log as it was: an escape sequence, or a line of its own.
#[track_caller]
pub(super) fn must_be_escaped(up: &Up) {
    let output = up.output();
    let wild: Vec<&str> = output.lines().filter(|l| is_wild(l)).collect();
    assert_eq!(wild, Vec::<&str>::new());
    let forged: Vec<&str> = output.lines().filter(|l| l.contains("FORGED") && l.starts_with("FORGED")).collect();
    assert_eq!(forged, Vec::<&str>::new());
}
