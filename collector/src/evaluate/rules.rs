//! How a host is judged, by its labels. Pure.

use std::collections::BTreeMap;

use super::cause::Pace;
use crate::forecast::Policy;

/// How one host is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ruling {
    /// How far ahead it is a danger.
    pub policy: Policy,
    /// Whether receivers are told of its flags.
    pub notify: bool,
    /// What is one event.
    pub pace: Pace,
}

impl Default for Ruling {
    /// What holds without a file: a week, a day, nine tenths; everybody is told.
    fn default() -> Self {
        Self { policy: Policy::default(), notify: true, pace: Pace::default() }
    }
}

/// How hosts with certain labels are judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// All of these a host must have.
    pub labels: BTreeMap<String, String>,
    /// Then it is judged so.
    pub ruling: Ruling,
}

/// How hosts are judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// In the order of the file.
    pub list: Vec<Rule>,
    /// Whoever fits none of them.
    pub default: Ruling,
}

impl Rules {
    /// How a host with these labels is judged: by the first rule that fits, so what is special stands before what is
    /// general.
    pub fn of(&self, labels: &BTreeMap<String, String>) -> Ruling {
        let fits = |rule: &&Rule| rule.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        self.list.iter().find(fits).map_or(self.default, |rule| rule.ruling)
    }
}
