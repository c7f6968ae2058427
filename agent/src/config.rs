//! The agent's configuration: flag, then environment, then `agent.toml`, then default.
//!
//! The doc comments of [`Config`]'s fields are the manual; `agent/agent.toml.example` shows every key.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_ipc::nearest::nearest;
use highwater_proto::bounds;

use crate::sampler::Scope;
use crate::sampler::who::ORPHAN_WAIT;
use crate::spool::FsyncPolicy;

/// Where `run` looks for its file if no `--config` is given; it may be missing there.
pub const DEFAULT_PATH: &str = "/etc/highwater/agent.toml";
/// Where the agent keeps key, certificate, epoch and spool unless told.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/highwater-agent";
/// The most bytes a configuration file may have.
const FILE_MAX: u64 = 64 << 10;

/// How the agent runs. Every field is a key of `agent.toml`, a variable `HIGHWATER_<KEY>` and, where the command line
/// has one, a flag; the first of flag, variable, file, default wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `collector`: address of the collector, `https://HOST:PORT` or `HOST:PORT`. Default: the one that enrolment was
    /// done with. Whatever it is, only a collector whose certificate names `collector.highwater.internal` and comes
    /// from the CA of the enrolment is talked to.
    pub collector: Option<String>,
    /// `state_dir`: directory (0700, of the agent's user) with key, certificate, epoch and spool. Default
    /// `/var/lib/highwater-agent`. Two agents never share one.
    pub state_dir: PathBuf,
    /// `interval`: time between two samples, a number with a unit: `"250ms"`, `"10s"`, `"5m"`, `"1h"`; 100 ms to 1 h.
    /// Default 10 s. A collector that names an interval overrides it.
    pub interval: Interval,
    /// `spool_bytes`: most bytes of not yet acknowledged records kept on disk, 4 MiB to 64 GiB. Default 67108864
    /// (64 MiB). Beyond it the oldest are dropped, and history shows a gap `spool_overflow`.
    pub spool_bytes: u64,
    /// `fsync`: when records in the spool are forced to the disk: `"unacked"` (default), `"every"`, `"second"` or
    /// `"segment"`; see [`FsyncPolicy`] for what each can lose.
    pub fsync: FsyncPolicy,
    /// `trace`: whether refused calls, and what is made and removed between two samples, are learnt from the kernel's
    /// trace events: `"on"` (default) or `"off"`. On it costs every system call of the host some 10 ns
    /// (`highwater-agent doctor` measures it) and 64 KiB of memory a processor.
    pub trace: bool,
    /// `fastest`: shortest time between two samples, to which it goes as use nears a limit or a call is refused; written
    /// as `interval` is. Default 1 s. Above `interval` it has no effect: samples are then never closer than that.
    pub fastest: Interval,
    /// `namespaces`: which IPC namespaces are sampled: `"all"` (default) that can be found and entered, or `"own"`, the one
    /// the agent runs in.
    pub namespaces: Scope,
    /// `orphan_wait`: how long a semaphore array must look abandoned, in every look at all processes, before it is called a
    /// *certain* orphan, which a remedy may name; written as `interval` is, 0 s to 24 h. Default 10 m.
    pub orphan_wait: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            collector: None,
            state_dir: PathBuf::from(DEFAULT_STATE_DIR),
            interval: Interval { ms: 10_000 },
            spool_bytes: 64 << 20,
            fsync: FsyncPolicy::default(),
            trace: true,
            fastest: Interval { ms: 1000 },
            namespaces: Scope::All,
            orphan_wait: ORPHAN_WAIT,
        }
    }
}

/// What the command line says; `None` = not given.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `--collector`.
    pub collector: Option<String>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--interval`.
    pub interval: Option<Interval>,
}

impl Config {
    /// Every key of the file, in the order of the manual.
    pub const KEYS: [&str; 9] =
        ["collector", "state_dir", "interval", "spool_bytes", "fsync", "trace", "fastest", "namespaces", "orphan_wait"];
    /// Least `spool_bytes`.
    pub const SPOOL_MIN: u64 = 4 << 20;
    /// Most `orphan_wait`.
    pub const ORPHAN_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
    /// Most `spool_bytes`.
    pub const SPOOL_MAX: u64 = 64 << 30;

    /// Puts the configuration together. `env` answers for a variable's name (in a program `std::env::var_os`). Without
    /// `--config` and `HIGHWATER_CONFIG` a missing [`DEFAULT_PATH`] is no error.
    pub fn load(flags: &Overrides, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let named = flags.file.clone().or_else(|| env("HIGHWATER_CONFIG").map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
        let text = match read_bounded(&path) {
            Ok(text) => Some(text),
            Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(ConfigError::Unreadable { path, source }),
        };
        let mut config = Config::default();
        if let Some(text) = text {
            config.apply_file(&path, &text)?;
        }
        config.apply_env(env)?;
        if let Some(collector) = &flags.collector {
            config.collector = Some(collector.clone());
        }
        if let Some(dir) = &flags.state_dir {
            config.state_dir.clone_from(dir);
        }
        if let Some(interval) = flags.interval {
            config.interval = interval;
        }
        Ok(config)
    }

    /// The default, with what the environment says: for whoever has no flags and no file.
    pub fn from_environment(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let mut config = Config::default();
        config.apply_env(env)?;
        Ok(config)
    }

    /// Takes the keys of a file's text; `path` is only for errors.
    fn apply_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table = toml::from_str(text)
            .map_err(|e| ConfigError::Syntax { path: path.to_owned(), what: e.to_string().trim_end().to_owned() })?;
        for (key, value) in &table {
            if !Self::KEYS.contains(&key.as_str()) {
                return Err(ConfigError::UnknownKey {
                    path: path.to_owned(),
                    key: key.escape_debug().to_string(),
                    nearest: nearest(key, &Self::KEYS).unwrap_or_default(),
                });
            }
            let words = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                other => {
                    let given = other.type_str().to_owned();
                    return Err(ConfigError::Value { at: at_file(path, key), given, why: "text or a number".into() });
                }
            };
            self.set(key, &words, || at_file(path, key))?;
        }
        Ok(())
    }

    fn apply_env(&mut self, env: &dyn Fn(&str) -> Option<OsString>) -> Result<(), ConfigError> {
        for key in Self::KEYS {
            let name = format!("HIGHWATER_{}", key.to_ascii_uppercase());
            let Some(value) = env(&name).filter(|v| !v.is_empty()) else { continue };
            if key == "state_dir" {
                self.state_dir = PathBuf::from(value);
                continue;
            }
            let at = || format!("environment variable {name}");
            let value = value.into_string().map_err(|v| ConfigError::Value {
                at: at(),
                given: format!("{v:?}"),
                why: "UTF-8 text".into(),
            })?;
            self.set(key, &value, at)?;
        }
        Ok(())
    }

    /// Sets one key from its text; `at` says where that text stands.
    fn set(&mut self, key: &str, text: &str, at: impl Fn() -> String) -> Result<(), ConfigError> {
        let wrong = |why: String| ConfigError::Value { at: at(), given: text.escape_debug().to_string(), why };
        match key {
            "collector" => self.collector = Some(text.to_owned()),
            "state_dir" => self.state_dir = PathBuf::from(text),
            "interval" => self.interval = Interval::parse(text).map_err(|e| wrong(e.expected()))?,
            "spool_bytes" => {
                let bytes = text.parse().ok().filter(|b| (Self::SPOOL_MIN..=Self::SPOOL_MAX).contains(b));
                let range = || wrong(format!("a number of bytes, {} to {}", Self::SPOOL_MIN, Self::SPOOL_MAX));
                self.spool_bytes = bytes.ok_or_else(range)?;
            }
            "fsync" => {
                let policy = FsyncPolicy::from_name(text);
                self.fsync = policy.ok_or_else(|| wrong("\"unacked\", \"every\", \"second\" or \"segment\"".into()))?;
            }
            "trace" => {
                let on = ["off", "on"].iter().position(|word| *word == text);
                self.trace = on.ok_or_else(|| wrong("\"on\" or \"off\"".into()))? == 1;
            }
            "fastest" => self.fastest = Interval::parse(text).map_err(|e| wrong(e.expected()))?,
            "orphan_wait" => {
                let wait = milliseconds(text).map(|ms| Duration::from_millis(ms.into()));
                let wait = wait.filter(|wait| *wait <= Self::ORPHAN_WAIT_MAX);
                self.orphan_wait = wait.ok_or_else(|| wrong("a number with a unit, from 0s to 24h".into()))?;
            }
            "namespaces" => {
                let scope = Scope::from_name(text);
                self.namespaces = scope.ok_or_else(|| wrong("\"all\" or \"own\"".into()))?;
            }
            _ => return Err(wrong("a known key".into())),
        }
        Ok(())
    }
}

/// Reads `250ms`, `10s`, `5m` or `1h`.
fn milliseconds(text: &str) -> Option<u32> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(factor)
}

/// Time between two samples, within the protocol's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    ms: u32,
}

impl Interval {
    /// So many milliseconds, if that is within 100 ms and 1 h.
    pub fn from_ms(ms: u32) -> Option<Self> {
        (bounds::INTERVAL_MIN_MS..=bounds::INTERVAL_MAX_MS).contains(&ms).then_some(Self { ms })
    }

    /// Milliseconds.
    pub fn ms(self) -> u32 {
        self.ms
    }

    /// Reads `250ms`, `10s`, `5m` or `1h`.
    pub fn parse(text: &str) -> Result<Self, IntervalError> {
        milliseconds(text).and_then(Self::from_ms).ok_or(IntervalError)
    }
}

impl std::str::FromStr for Interval {
    type Err = IntervalError;
    fn from_str(text: &str) -> Result<Self, IntervalError> {
        Self::parse(text)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ms.is_multiple_of(1000) { write!(f, "{}s", self.ms / 1000) } else { write!(f, "{}ms", self.ms) }
    }
}

/// Text that is no interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an interval is {}", self.expected())]
pub struct IntervalError;

impl IntervalError {
    fn expected(self) -> String {
        "a number with a unit, such as 250ms, 10s, 5m or 1h, from 100ms to 1h".into()
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there (or was named) and cannot be read.
    #[error("cannot read the configuration {}: {source}; name another with --config or mend its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("{} is not valid TOML: {what}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        what: String,
    },
    /// A key that does not exist.
    #[error("{} has an unknown key \"{key}\"; did you mean \"{nearest}\"?", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key, escaped.
        key: String,
        /// The known key that looks most like it.
        nearest: &'static str,
    },
    /// A value out of its range or of the wrong kind.
    #[error("{at} is {given}; it must be {why}")]
    Value {
        /// File and key, or variable.
        at: String,
        /// What it says, escaped.
        given: String,
        /// What it must be.
        why: String,
    },
}

fn at_file(path: &Path, key: &str) -> String {
    format!("{key} in {}", path.display())
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_env(_: &str) -> Option<OsString> {
        None
    }

    fn from_text(text: &str) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        config.apply_file(Path::new("agent.toml"), text).map(|()| config)
    }

    #[test]
    fn the_example_parses_names_every_key_and_says_the_defaults() {
        let text = include_str!("../agent.toml.example");
        let table: toml::Table = toml::from_str(text).unwrap();
        for key in Config::KEYS {
            assert!(table.contains_key(key), "agent.toml.example lacks {key}");
        }
        let config = from_text(text).unwrap();
        assert_eq!(Config { collector: None, ..config }, Config::default());
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let error = from_text("intervall = \"10s\"").unwrap_err().to_string();
        assert!(error.contains("did you mean \"interval\"?"), "{error}");
        assert!(from_text("[tls]\nx = 1").is_err());
    }

    #[test]
    fn a_value_out_of_range_says_what_it_must_be() {
        for text in [
            "interval = \"99ms\"",
            "interval = \"2h\"",
            "interval = 10",
            "spool_bytes = 1",
            "fsync = \"no\"",
            "trace = \"1\"",
            "fastest = \"1\"",
            "namespaces = \"none\"",
        ] {
            let error = from_text(text).unwrap_err().to_string();
            assert!(error.contains("must be"), "{error}");
        }
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "interval = \"20s\"\nspool_bytes = 8388608\ncollector = \"a:1\"").unwrap();
        let env = |name: &str| match name {
            "HIGHWATER_INTERVAL" => Some("30s".into()),
            "HIGHWATER_COLLECTOR" => Some("b:2".into()),
            _ => None,
        };
        let flags = Overrides { file: Some(file), interval: Interval::from_ms(250), ..Overrides::default() };
        let config = Config::load(&flags, &env).unwrap();
        assert_eq!(config.interval.ms(), 250);
        assert_eq!(config.collector.as_deref(), Some("b:2"));
        assert_eq!(config.spool_bytes, 8 << 20);
        assert_eq!(config.fsync, FsyncPolicy::Unacked);
    }

    #[test]
    fn a_named_file_must_exist() {
        let flags = Overrides { file: Some("/nonexistent/agent.toml".into()), ..Overrides::default() };
        assert!(matches!(Config::load(&flags, &no_env), Err(ConfigError::Unreadable { .. })));
    }

    #[test]
    fn intervals_read_back_what_they_show() {
        for text in ["100ms", "250ms", "1s", "10s", "3600s"] {
            assert_eq!(Interval::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Interval::parse("1h").unwrap().ms(), 3_600_000);
        for text in ["", "s", "10", "10 s", "-1s", "99999999999s", "1.5s"] {
            assert!(Interval::parse(text).is_err(), "{text}");
        }
    }
}
