//! The file of how hosts are judged (`--flags-config`), TOML. The tables below are its manual; README.md shows one.
//!
//! It is checked at the start. While the collector runs it is looked at before each round: what is new in it holds from
//! the next judgement of a host on, and a file that does not read any more changes nothing, and is said in the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use toml::{Table, Value};
use tracing::{info, warn};

use super::cause::Pace;
use super::rules::{Rule, Rules, Ruling};
use crate::config::{self, ConfigError, Place, Stamp};

/// What names the file.
const OPTION: &str = "--flags-config";
/// The most policies.
const MOST: usize = 256;
const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 86_400.0;

/// Keys of the file itself: `event_gap`, what a program makes with less between counts as one event in causes ("+2 per
/// reload"; 1s to 10m, default 1m); the default; and what differs for hosts with certain labels.
const FILE_KEYS: &[&str] = &["event_gap", "default", "policy"];
/// Keys of `[default]` and of each `[[policy]]`, which takes the others from `[default]`: exhaustion is a warning when it is
/// likely within `warning` (1h to 60d, default 7d), and critical within `critical` (10m to `warning`, default 24h); `tight` is
/// the share of a limit from which there is a flag without any growth (0.5 to 1.0, default 0.90); `notify = false` tells no
/// receiver of these hosts' flags, which are listed all the same.
const RULING: &[&str] = &["warning", "critical", "tight", "notify"];
/// And which labels a host must have, all of them.
const LABELS: &[&str] = &["labels"];

/// Reads the file.
pub fn load(path: &Path) -> Result<Rules, ConfigError> {
    parse(path, &config::read(path, OPTION)?)
}

/// Takes its text; `path` is for errors.
fn parse(path: &Path, text: &str) -> Result<Rules, ConfigError> {
    let table = config::table(path, text)?;
    let file = Place::file(path);
    file.known(&table, FILE_KEYS)?;
    let mut default = Ruling::default();
    if let Some(gap) = table.get("event_gap") {
        let seconds = file.time("event_gap", gap, (1.0, 10.0 * MINUTE))?;
        default.pace = Pace { quiet_ms: whole_ms(seconds) };
    }
    if let Some(value) = table.get("default") {
        let place = Place { path, place: "[default]".to_owned() };
        let table = value.as_table().ok_or_else(|| file.wrong("default is written as [default]"))?;
        place.known(table, RULING)?;
        default = place.ruling(table, default)?;
    }
    let found = file.tables(&table, "policy")?;
    if found.len() > MOST {
        return Err(file.wrong(format!("it has {} policies; at most {MOST} are looked at", found.len())));
    }
    let mut list: Vec<Rule> = Vec::new();
    for (table, number) in found.into_iter().zip(1..) {
        let place = Place { path, place: format!("policy {number}") };
        place.known(table, &[LABELS, RULING].concat())?;
        let rule = Rule { labels: place.labels(table)?, ruling: place.ruling(table, default)? };
        if let Some(earlier) = list.iter().position(|earlier| covers(earlier, &rule)) {
            let what = format!(
                "no host is ever judged by it: each that fits it fits policy {} before it, and the first that fits \
                 holds; move it up",
                earlier + 1
            );
            return Err(place.wrong(what));
        }
        list.push(rule);
    }
    Ok(Rules { list, default })
}

/// Whether whoever fits the later rule fits the earlier one.
fn covers(earlier: &Rule, later: &Rule) -> bool {
    earlier.labels.iter().all(|(key, value)| later.labels.get(key) == Some(value))
}

impl Place<'_> {
    fn ruling(&self, table: &Table, default: Ruling) -> Result<Ruling, ConfigError> {
        let mut ruling = default;
        if let Some(value) = table.get("warning") {
            ruling.policy.warning = self.time("warning", value, (HOUR, 60.0 * DAY))?;
        }
        if let Some(value) = table.get("critical") {
            ruling.policy.critical = self.time("critical", value, (10.0 * MINUTE, 60.0 * DAY))?;
        }
        if ruling.policy.critical > ruling.policy.warning {
            let [critical, warning] = [ruling.policy.critical, ruling.policy.warning].map(shown);
            let what =
                format!("critical ({critical}) is later than warning ({warning}): give both, critical the shorter");
            return Err(self.wrong(what));
        }
        if let Some(value) = table.get("tight") {
            let share = value.as_float().filter(|share| (0.5..=1.0).contains(share));
            ruling.policy.tight =
                share.ok_or_else(|| self.wrong("tight must be a share of the limit, from 0.5 to 1.0, e.g. 0.90"))?;
        }
        if let Some(value) = table.get("notify") {
            ruling.notify = value.as_bool().ok_or_else(|| self.wrong("notify must be true or false"))?;
        }
        Ok(ruling)
    }

    fn labels(&self, table: &Table) -> Result<BTreeMap<String, String>, ConfigError> {
        let what = "labels must be those that a host must have, e.g. labels = { role = \"oracle\" }; what holds for every \
                    host stands in [default]";
        let found = table.get("labels").and_then(Value::as_table).filter(|labels| !labels.is_empty());
        let found = found.ok_or_else(|| self.wrong(what))?;
        found.iter().map(|(key, value)| Ok((key.clone(), self.text(&format!("label {key}"), value)?))).collect()
    }

    /// A number with a unit, in seconds.
    fn time(&self, key: &str, value: &Value, (least, most): (f64, f64)) -> Result<f64, ConfigError> {
        let seconds = value.as_str().and_then(seconds).filter(|seconds| (least..=most).contains(seconds));
        let [least, most] = [least, most].map(shown);
        seconds.ok_or_else(|| {
            self.wrong(format!("{key} must be a number with a unit (s, m, h or d) in quotes, from {least} to {most}"))
        })
    }
}

/// Reads `90s`, `30m`, `24h` or `7d`.
fn seconds(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "s" => 1.0,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        _ => return None,
    };
    Some(f64::from(number.parse::<u32>().ok()?) * factor)
}

/// The other way round, in the largest unit that leaves a whole number.
fn shown(seconds: f64) -> String {
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m")];
    let unit = units.into_iter().find(|(factor, _)| seconds >= *factor && seconds % factor == 0.0);
    let (factor, name) = unit.unwrap_or((1.0, "s"));
    format!("{:.0}{name}", seconds / factor)
}

#[expect(clippy::cast_possible_truncation, reason = "ten minutes at most")]
fn whole_ms(seconds: f64) -> i64 {
    (seconds * 1_000.0) as i64
}

/// The rules as they are in the file now; clones of it look at one file together.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    path: Option<PathBuf>,
    known: Arc<Mutex<Known>>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    rules: Arc<Rules>,
}

impl Watched {
    /// Reads a file, and looks at it again whenever it is asked.
    pub fn new(path: &Path) -> Result<Self, ConfigError> {
        let stamp = config::stamp(path);
        let known = Known { stamp, rules: Arc::new(load(path)?) };
        Ok(Self { path: Some(path.to_owned()), known: Arc::new(Mutex::new(known)) })
    }

    /// What holds now: of a file that does not read any more, what it said before.
    pub fn rules(&self) -> Arc<Rules> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.path {
            let stamp = config::stamp(path);
            if stamp != known.stamp {
                known.stamp = stamp;
                match load(path) {
                    Ok(rules) => {
                        info!(file = %path.display(), policies = rules.list.len(), "hosts are judged by what it says now");
                        known.rules = Arc::new(rules);
                    }
                    Err(error) => warn!(%error, "hosts are judged as before"),
                }
            }
        }
        known.rules.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Rules, String> {
        parse(Path::new("flags.toml"), text).map_err(|error| error.to_string())
    }

    fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// The example of the README.
    #[test]
    fn the_example_of_the_readme_reads_and_the_first_policy_that_fits_holds() {
        let readme = include_str!("../../../README.md");
        let example = readme.split("```toml\n# /etc/highwater/flags.toml").nth(1).and_then(|t| t.split("```").next());
        let rules = read(&format!("#{}", example.expect("an example in the README"))).unwrap();
        let [oracle, batch, other] = [
            rules.of(&labels(&[("role", "oracle"), ("team", "db")])),
            rules.of(&labels(&[("role", "batch")])),
            rules.of(&labels(&[("role", "web")])),
        ];
        assert_eq!((oracle.policy.warning, oracle.policy.critical, oracle.notify), (14.0 * DAY, 2.0 * DAY, true));
        assert_eq!((batch.policy.tight, batch.notify), (1.0, false));
        assert_eq!(other, Ruling::default());
        let both =
            "[[policy]]\nlabels = {a = \"1\", b = \"2\"}\ntight = 0.5\n[[policy]]\nlabels = {a = \"1\"}\ntight = 0.6";
        let tight = |of: &[(&str, &str)]| read(both).unwrap().of(&labels(of)).policy.tight;
        assert_eq!([tight(&[("a", "1"), ("b", "2")]), tight(&[("a", "1"), ("b", "3")]), tight(&[])], [0.5, 0.6, 0.9]);
    }

    #[test]
    fn a_policy_takes_what_it_does_not_say_from_the_default() {
        let text = "event_gap = \"5s\"\n[default]\ncritical = \"12h\"\ntight = 0.8\n\
                    [[policy]]\nlabels = {role = \"x\"}\nwarning = \"2d\"";
        let ruling = read(text).unwrap().of(&labels(&[("role", "x")]));
        let Ruling { policy, notify, pace } = ruling;
        assert_eq!((policy.warning, policy.critical, policy.tight, notify), (2.0 * DAY, 12.0 * HOUR, 0.8, true));
        assert_eq!(pace.quiet_ms, 5_000);
        assert_eq!(read("").unwrap(), Rules::default());
    }

    #[test]
    fn what_makes_no_sense_is_said_with_where_it_stands_and_what_would() {
        for (text, words) in [
            ("[[polcy]]\nlabels = {a = \"b\"}", "unknown key \"polcy\" in the file; did you mean \"policy\"?"),
            ("[default]\nwarn = \"7d\"", "in [default]; did you mean \"warning\"?"),
            ("[[policy]]\nlabel = {a = \"b\"}", "in policy 1; did you mean \"labels\"?"),
            ("[default]\nwarning = 7", "[default]: warning must be a number with a unit"),
            ("[default]\nwarning = \"30m\"", "from 1h to 60d"),
            ("[default]\nwarning = \"61d\"", "from 1h to 60d"),
            ("[default]\nwarning = \"7 d\"", "from 1h to 60d"),
            ("[default]\nwarning = \"99999999999d\"", "from 1h to 60d"),
            ("[default]\ncritical = \"8d\"", "critical (8d) is later than warning (7d)"),
            (
                "[[policy]]\nlabels = {a = \"b\"}\nwarning = \"2h\"",
                "policy 1: critical (1d) is later than warning (2h)",
            ),
            ("[default]\ntight = 90", "tight must be a share of the limit, from 0.5 to 1.0"),
            ("[default]\ntight = 0.4", "from 0.5 to 1.0"),
            ("[default]\nnotify = \"no\"", "notify must be true or false"),
            ("[[policy]]\nnotify = false", "policy 1: labels must be those that a host must have"),
            ("[[policy]]\nlabels = {}", "labels must be those"),
            ("[[policy]]\nlabels = {a = 1}", "label a must be text of one line"),
            ("[policy]\nlabels = {a = \"b\"}", "each policy is written as [[policy]]"),
            ("default = 1", "default is written as [default]"),
            ("event_gap = \"0s\"", "event_gap must be a number with a unit (s, m, h or d) in quotes, from 1s to 10m"),
            (
                "[[policy]]\nlabels = {a = \"1\"}\n[[policy]]\nlabels = {b = \"2\", a = \"1\"}",
                "policy 2: no host is ever",
            ),
            ("x", "is not valid TOML"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
        let many = (0..=MOST).map(|n| format!("[[policy]]\nlabels = {{a = \"{n}\"}}\n")).collect::<String>();
        assert!(read(&many).unwrap_err().contains("257 policies"));
        let missing = Watched::new(Path::new("/nonexistent/flags.toml")).unwrap_err().to_string();
        assert!(missing.contains("name another with --flags-config"), "{missing}");
    }

    #[test]
    fn what_is_written_into_the_file_holds_at_once_and_what_does_not_read_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flags.toml");
        let write = |text: &str| {
            // Replaced, as editors do.
            std::fs::write(dir.path().join("new"), text).unwrap();
            std::fs::rename(dir.path().join("new"), &path).unwrap();
        };
        write("[default]\ntight = 0.7");
        let watched = Watched::new(&path).unwrap();
        let tight = |watched: &Watched| watched.rules().default.policy.tight;
        assert_eq!(tight(&watched), 0.7);
        write("[default]\ntight = 0.8");
        assert_eq!(tight(&watched), 0.8);
        write("[default]\ntight = 8");
        assert_eq!(tight(&watched), 0.8);
        // Of clones each knows what another has read.
        assert_eq!(tight(&watched.clone()), 0.8);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(tight(&watched), 0.8);
        write("");
        assert_eq!(tight(&watched), 0.9);
        assert_eq!(tight(&Watched::default()), 0.9);
    }
}
