//! What `up` leaves for other programs: the client file and the ready file, both 0600.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::stack::Ready;
use crate::cli::data_dir::CLIENT_FILE;
use crate::secret_file::{self, SecretFileError};

/// Name of the file with the operator's token alone, for HIGHWATER_TOKEN_FILE where the client file is not looked for.
pub const TOKEN_FILE: &str = "operator.token";
/// The most bytes of a client file.
const CLIENT_BYTES: usize = 4096;

/// Where the API is and who asks: what every other command reads from the data directory.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFile {
    /// The API, `http://IP:PORT`.
    pub http: String,
    /// An operator's token.
    pub token: String,
    /// This machine's own host id there; null without an agent.
    #[serde(default)]
    pub host: Option<String>,
}

impl ClientFile {
    /// Reads the one of an earlier run; `None` if there is none or it cannot be understood.
    pub fn load(data_dir: &Path) -> Result<Option<Self>, SecretFileError> {
        match secret_file::read(&data_dir.join(CLIENT_FILE), CLIENT_BYTES) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes it and the token's file, replacing older ones.
    pub fn store(&self, data_dir: &Path) -> Result<(), SecretFileError> {
        let text = serde_json::json!({ "http": self.http, "token": self.token, "host": self.host });
        secret_file::replace(&data_dir.join(CLIENT_FILE), format!("{text}\n").as_bytes())?;
        secret_file::replace(&data_dir.join(TOKEN_FILE), format!("{}\n", self.token).as_bytes())
    }
}

/// The ready file: there while `up` is ready, gone when it was stopped.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
}

impl ReadyFile {
    /// Removes what an earlier run left: it speaks of a past.
    pub fn clear(path: PathBuf) -> Result<Self, SecretFileError> {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(SecretFileError::Io { doing: "removing", path, source })
            }
            _ => Ok(Self { path }),
        }
    }

    /// Says that `up` is ready.
    pub fn write(&self, ready: &Ready) -> Result<(), SecretFileError> {
        let text = serde_json::json!({
            "http": ready.http, "grpc": ready.grpc, "token": ready.token, "host": ready.host,
        });
        secret_file::replace(&self.path, format!("{text}\n").as_bytes())
    }

    /// Takes it back.
    pub fn remove(self) {
        let _ = std::fs::remove_file(self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_client_file_reads_back_and_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ClientFile::load(dir.path()).unwrap().is_none());
        let file = ClientFile { http: "http://127.0.0.1:1".into(), token: "hwo1.a.b".into(), host: Some("1".into()) };
        file.store(dir.path()).unwrap();
        assert!(ClientFile::load(dir.path()).unwrap() == Some(file));
        for name in [CLIENT_FILE, TOKEN_FILE] {
            assert_eq!(std::fs::metadata(dir.path().join(name)).unwrap().mode() & 0o7777, 0o600);
        }
    }

    #[test]
    fn the_ready_file_is_one_closed_object_and_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready");
        std::fs::write(&path, "old").unwrap();
        let file = ReadyFile::clear(path.clone()).unwrap();
        assert!(!path.exists());
        let ready = Ready { http: "h".into(), grpc: "g".into(), token: "t".into(), ..Ready::default() };
        file.write(&ready).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, serde_json::json!({ "http": "h", "grpc": "g", "token": "t", "host": null }));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        file.remove();
        assert!(!path.exists());
    }
}
