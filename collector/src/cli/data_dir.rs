//! Where `up` keeps everything, unless told: also where every other command looks for the client file.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::secret_file;

/// Name of the client file in the data directory: `{"http":..,"token":..}`, 0600.
pub const CLIENT_FILE: &str = "client.json";

/// `/var/lib/highwater` as root, else `$XDG_DATA_HOME/highwater`, else `~/.local/share/highwater`; `None` without any
/// of them.
pub fn default_data_dir() -> Option<PathBuf> {
    choose(is_root(), std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME"))
}

/// Whether this process acts as root.
pub fn is_root() -> bool {
    secret_file::effective_uid().is_ok_and(|uid| uid == 0)
}

/// The XDG rule: a relative or empty `XDG_DATA_HOME` counts as not set.
fn choose(root: bool, xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    if root {
        return Some(PathBuf::from("/var/lib/highwater"));
    }
    let absolute = |v: Option<OsString>| v.map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute(xdg).or_else(|| absolute(home).map(|h| h.join(".local/share")))?;
    Some(base.join("highwater"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(root: bool, xdg: Option<&str>, home: Option<&str>, expect: Option<&str>) {
        assert_eq!(choose(root, xdg.map(Into::into), home.map(Into::into)), expect.map(PathBuf::from));
    }

    #[test]
    fn root_has_var_lib_and_others_follow_xdg() {
        check(true, Some("/x"), Some("/h"), Some("/var/lib/highwater"));
        check(false, Some("/x"), Some("/h"), Some("/x/highwater"));
        check(false, Some("relative"), Some("/h"), Some("/h/.local/share/highwater"));
        check(false, Some(""), Some("/h"), Some("/h/.local/share/highwater"));
        check(false, None, Some("/h"), Some("/h/.local/share/highwater"));
        check(false, None, None, None);
    }
}
