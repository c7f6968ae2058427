//! Who runs the server: this user, or as root an unprivileged one, for PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{EmbeddedError, failed};

/// The user that runs the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name; the number if it has none.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Whether programs are started as this user by root; `false` = this process is that user.
    switched: bool,
}

impl Account {
    /// This process's user; as root the owner of the cluster that is there, else `postgres`, else `nobody`.
    pub fn choose(cluster: &Path) -> Result<Self, EmbeddedError> {
        let own = fs::metadata("/proc/self").map_err(failed("reading", Path::new("/proc/self")))?;
        let passwd = fs::read("/etc/passwd").unwrap_or_default();
        let passwd = String::from_utf8_lossy(&passwd);
        if own.uid() != 0 {
            let name = entry(&passwd, |_, uid| uid == own.uid()).map_or(own.uid().to_string(), |(name, ..)| name);
            return Ok(Self { name, uid: own.uid(), gid: own.gid(), switched: false });
        }
        let owner = fs::symlink_metadata(cluster).ok().filter(|m| m.uid() != 0);
        if let Some(m) = owner {
            let name = entry(&passwd, |_, uid| uid == m.uid()).map_or(m.uid().to_string(), |(name, ..)| name);
            return Ok(Self { name, uid: m.uid(), gid: m.gid(), switched: true });
        }
        let (name, uid, gid) = entry(&passwd, |name, uid| name == "postgres" && uid != 0)
            .or_else(|| entry(&passwd, |name, uid| name == "nobody" && uid != 0))
            .ok_or(EmbeddedError::NoAccount)?;
        Ok(Self { name, uid, gid, switched: true })
    }

    /// Whether this process is root and starts programs as another user.
    pub fn is_switched(&self) -> bool {
        self.switched
    }

    /// Makes the command run as this user, without this process's other groups.
    pub fn apply(&self, command: &mut Command) {
        if self.switched {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives a file or directory to this user.
    pub fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        if self.switched {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).map_err(failed("giving away", path))?;
        }
        Ok(())
    }

    /// Checks that this user can enter `directory` and everything above it.
    pub fn check_reaches(&self, directory: &Path) -> Result<(), EmbeddedError> {
        let whole = fs::canonicalize(directory).map_err(failed("resolving", directory))?;
        let mut above: Vec<PathBuf> = whole.ancestors().map(Path::to_owned).collect();
        above.reverse();
        for path in above {
            let found = fs::metadata(&path).map_err(failed("reading", &path))?;
            if !may_enter((self.uid, self.gid), (found.uid(), found.gid()), found.mode()) {
                return Err(EmbeddedError::NotTraversable { path, user: self.name.clone(), uid: self.uid });
            }
        }
        Ok(())
    }
}

/// The rule of path_resolution(7): the first class that fits decides.
fn may_enter((uid, gid): (u32, u32), (owner, group): (u32, u32), mode: u32) -> bool {
    let bit = if uid == owner {
        0o100
    } else if gid == group {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

/// Name, uid and gid of the first entry of passwd(5) that fits.
fn entry(passwd: &str, fits: impl Fn(&str, u32) -> bool) -> Option<(String, u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        fits(name, uid).then(|| (name.to_owned(), uid, gid))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn reads_passwd_and_skips_what_is_no_entry() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\n# x\nodd:x:y:z\nnobody:x:65534:65534::/:/bin/false\n";
        assert_eq!(entry(passwd, |name, _| name == "nobody"), Some(("nobody".into(), 65534, 65534)));
        assert_eq!(entry(passwd, |name, _| name == "postgres"), None);
    }

    #[test]
    fn the_first_class_that_fits_decides_who_may_enter() {
        assert!(may_enter((5, 5), (5, 9), 0o100));
        assert!(!may_enter((5, 5), (5, 5), 0o011), "the owner is not asked as group or other");
        assert!(may_enter((5, 5), (0, 5), 0o710));
        assert!(!may_enter((5, 5), (0, 5), 0o701));
        assert!(may_enter((5, 5), (0, 0), 0o711));
        assert!(!may_enter((5, 5), (0, 0), 0o750));
    }

    #[test]
    fn a_parent_that_the_user_cannot_enter_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("closed");
        let inner = parent.join("data");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o700)).unwrap();
        let account = Account { name: "nobody".into(), uid: 65534, gid: 65534, switched: true };
        let error = account.check_reaches(&inner).unwrap_err().to_string();
        assert!(error.contains("closed cannot be entered by user nobody") && error.contains("--data-dir"), "{error}");
    }
}
