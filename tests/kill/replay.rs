//! Asks for random instants and holds the answers against what the test did and what the agent sampled.

use std::collections::BTreeMap;

use highwater_ipc::time::{format_rfc3339_ms, parse_rfc3339_ms};
use highwater_tests::collector::Up;
use highwater_tests::http::{bearer, get};
use serde_json::Value;

use super::changes::{self, Log};
use super::plan::Dice;
use super::sampled::{INTERVAL_MS, Record, Sampled, Stretch};

/// What the instants showed.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// A state, and the right one.
    pub(crate) right: usize,
    /// A gap where there was one, by reason.
    pub(crate) in_gap: BTreeMap<String, usize>,
}

/// One host as the test knows it.
pub(crate) struct Known<'a> {
    pub(crate) host: &'a str,
    pub(crate) log: &'a Log,
    pub(crate) sampled: &'a Sampled,
}

/// Asks `count` times about a random host and instant of `from_ms..=to_ms`.
///
/// # Panics
///
/// If one answer is wrong.
pub(crate) fn replay(
    up: &Up,
    known: &[Known<'_>],
    (from_ms, to_ms): (i64, i64),
    count: usize,
    dice: &mut Dice,
) -> Replayed {
    let mut replayed = Replayed::default();
    let histories: Vec<_> = known.iter().map(|known| known.sampled.history()).collect();
    let token = bearer(up);
    for _ in 0..count {
        let which = usize::try_from(dice.roll(known.len() as u64)).expect("an index");
        let (known, (stretches, gaps)) = (&known[which], &histories[which]);
        let asked_ms = dice.ms(from_ms, to_ms);
        let path = format!("/api/v1/hosts/{}/snapshot?at={}", known.host, format_rfc3339_ms(asked_ms));
        let reply = get(up, &path, &[&token]);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        let holds = |s: &&Stretch| s.from.wall_ms <= asked_ms && asked_ms <= s.to.wall_ms;
        if let Some(stretch) = stretches.iter().rfind(holds) {
            check_state(known, stretch, asked_ms, &reply.body);
            replayed.right += 1;
            continue;
        }
        let holds = |g: &&super::sampled::Gap| g.from_ms.is_some_and(|ms| ms < asked_ms) && asked_ms < g.to_ms;
        let gap = gaps.iter().rfind(holds).unwrap_or_else(|| panic!("{path}: not sampled, and in no gap"));
        let told = &reply.body["gap"];
        let expected = (Some(gap.reason.name()), gap.from_ms, Some(gap.to_ms));
        assert_eq!((told["reason"].as_str(), ms(&told["from"]), ms(&told["to"])), expected, "{path}: {}", reply.body);
        *replayed.in_gap.entry(gap.reason.name().to_owned()).or_default() += 1;
    }
    replayed
}

/// The state of the last sample at or before an instant that `stretch` holds.
fn check_state(known: &Known<'_>, stretch: &Stretch, asked_ms: i64, answer: &Value) {
    let host = known.host;
    let of_stretch =
        |r: &&Record| r.is_sample() && r.at.boot_us >= stretch.from.boot_us && r.at.boot_us <= stretch.to.boot_us;
    let samples: Vec<&Record> = known.sampled.epochs[&stretch.epoch_no].iter().filter(of_stretch).collect();
    let last = samples.iter().rposition(|r| r.at.wall_ms <= asked_ms).expect("a sample that it holds");
    let read = samples[..=last].iter().rfind(|r| r.took_us.is_some()).expect("a stretch begins with a keyframe");
    let took_us = read.took_us.expect("as it was found");
    assert_eq!(ms(&answer["at"]), Some(read.at.wall_ms), "{host} at {asked_ms}: {answer}");
    assert_eq!(answer["took_us"].as_u64(), Some(took_us), "{host} at {asked_ms}: {answer}");
    let covered = (ms(&answer["covered"]["from"]), ms(&answer["covered"]["to"]));
    assert_eq!(covered.0, Some(read.at.wall_ms), "{host} at {asked_ms}: {answer}");
    assert!(covered.1 >= Some(samples[last].at.wall_ms), "{host} at {asked_ms}: {answer}");
    let seen = changes::read(answer);
    let checked = known.log.check((read.at.wall_ms, took_us), &seen);
    checked.unwrap_or_else(|why| panic!("{host} at {asked_ms}: {why}\n{answer}"));
    if samples[last].seq > read.seq {
        // A heartbeat read the same. How long it took it does not say: it was over before the sample after it.
        let most = samples.get(last + 1).map_or(3 * INTERVAL_MS * 1000, |next| next.at.boot_since(&samples[last].at));
        let checked = known.log.check((samples[last].at.wall_ms, most), &seen);
        checked.unwrap_or_else(|why| panic!("{host} at {asked_ms}, a heartbeat: {why}\n{answer}"));
    }
}

/// Milliseconds since 1970 of an instant in an answer.
fn ms(value: &Value) -> Option<i64> {
    parse_rfc3339_ms(value.as_str()?)
}
