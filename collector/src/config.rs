//! What the collector's configuration files (TOML) have in common: they are small, everything in them is checked at the
//! start, and an error says where it stands and what helps.

use std::path::{Path, PathBuf};

use highwater_ipc::nearest::nearest;
use toml::{Table, Value};

use crate::secret_file::SecretFileError;

/// The most bytes of a file.
pub const FILE_MAX: usize = 256 << 10;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {source}; name another with {option} or mend its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What names it.
        option: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not TOML, or too long.
    #[error("{} is not valid TOML: {what}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What was expected where.
        what: String,
    },
    /// A key that does not exist.
    #[error("{} has an unknown key \"{key}\" in {place}; did you mean \"{nearest}\"?", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        place: String,
        /// The key, escaped.
        key: String,
        /// The known key that looks most like it.
        nearest: String,
    },
    /// A value that makes no sense, or is missing.
    #[error("{}: {place}: {what}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        place: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// A secret's file cannot be used.
    #[error("{}: {place}: secret_file: {source}", path.display())]
    Secret {
        /// The configuration.
        path: PathBuf,
        /// Which part of it.
        place: String,
        /// Why not.
        source: SecretFileError,
    },
}

/// The text of a file, which `option` named.
pub fn read(path: &Path, option: &'static str) -> Result<String, ConfigError> {
    read_bounded(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), option, source })
}

/// At most [`FILE_MAX`] bytes of a file.
pub fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX as u64 + 1).read_to_string(&mut text)?;
    if text.len() > FILE_MAX {
        return Err(std::io::Error::other(format!("it has more than {FILE_MAX} bytes")));
    }
    Ok(text)
}

/// What differs once a file was written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    length: u64,
    /// When it was written, seconds and nanoseconds.
    written: (i64, i64),
    /// And when it, its owner or its permissions were changed.
    changed: (i64, i64),
}

/// Of the file as it is now; `None` = it cannot be looked at.
pub fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp {
        inode: meta.ino(),
        length: meta.len(),
        written: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

/// Its text as a table; `path` is for errors.
pub fn table(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let syntax = |what: String| ConfigError::Syntax { path: path.to_owned(), what };
    toml::from_str(text).map_err(|e| syntax(e.to_string().trim_end().to_owned()))
}

/// Where something stands, for errors.
#[derive(Debug)]
pub struct Place<'a> {
    /// The file.
    pub path: &'a Path,
    /// Which part of it.
    pub place: String,
}

impl Place<'_> {
    /// The file as a whole.
    pub fn file(path: &Path) -> Place<'_> {
        Place { path, place: "the file".to_owned() }
    }

    /// What is wrong here.
    pub fn wrong(&self, what: impl Into<String>) -> ConfigError {
        ConfigError::Value { path: self.path.to_owned(), place: self.place.clone(), what: what.into() }
    }

    /// One line of text.
    pub fn text(&self, key: &str, value: &Value) -> Result<String, ConfigError> {
        let text = value.as_str().filter(|text| !text.chars().any(char::is_control));
        text.map(str::to_owned).ok_or_else(|| self.wrong(format!("{key} must be text of one line")))
    }

    /// Refuses a table with another key than these.
    pub fn known(&self, table: &Table, keys: &[&str]) -> Result<(), ConfigError> {
        match table.keys().find(|key| !keys.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(ConfigError::UnknownKey {
                path: self.path.to_owned(),
                place: self.place.clone(),
                key: key.escape_debug().to_string(),
                nearest: nearest(key, keys).unwrap_or_default().to_owned(),
            }),
        }
    }

    /// The tables that are written as `[[key]]`.
    pub fn tables<'t>(&self, table: &'t Table, key: &str) -> Result<Vec<&'t Table>, ConfigError> {
        let wrong = || self.wrong(format!("each {key} is written as [[{key}]]"));
        match table.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(found)) => found.iter().map(|value| value.as_table().ok_or_else(wrong)).collect(),
            Some(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_may_be_read_now_is_another_one_and_a_long_one_is_not_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.toml");
        fs::write(&path, "x = 1").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let before = stamp(&path);
        // The clock that files are stamped with goes in steps.
        while stamp(&path) == before {
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
        fs::write(&path, "#".repeat(FILE_MAX)).unwrap();
        assert!(read(&path, "--x").is_ok());
        fs::write(&path, "#".repeat(FILE_MAX + 1)).unwrap();
        assert!(read(&path, "--x").unwrap_err().to_string().contains("more than 262144 bytes"));
    }
}
