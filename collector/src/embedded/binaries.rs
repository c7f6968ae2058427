//! Finds PostgreSQL's programs.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::EmbeddedError;

/// Oldest major version that does.
const OLDEST: u32 = 13;
/// Where Debian and Ubuntu keep them, one folder per major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// One installation of PostgreSQL's server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// Folder of `postgres`, `initdb` and `pg_ctl`.
    pub folder: PathBuf,
    /// Major version.
    pub major: u32,
}

impl Binaries {
    /// The path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// All usable installations, the newest first; an error if there is none.
pub fn find() -> Result<Vec<Binaries>, EmbeddedError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut usable = Vec::new();
    let mut found = String::new();
    for folder in candidates(&path, Path::new(DEBIAN)) {
        match version_of(&folder) {
            Some(major) if major >= OLDEST => usable.push(Binaries { folder, major }),
            Some(major) => found.push_str(&format!("; {} is version {major}", folder.join("postgres").display())),
            None => {}
        }
    }
    if usable.is_empty() {
        return Err(EmbeddedError::NoBinaries { found });
    }
    // Stable: of one version the one found first stays first.
    usable.sort_by_key(|b| std::cmp::Reverse(b.major));
    Ok(usable)
}

/// The installation that can run a cluster of this version (`PG_VERSION`, e.g. `15`), or the newest for a new one.
pub fn choose(all: &[Binaries], cluster: &Path, cluster_version: Option<&str>) -> Result<Binaries, EmbeddedError> {
    let chosen = match cluster_version {
        None => all.first(),
        Some(version) => all.iter().find(|b| b.major.to_string() == version),
    };
    chosen.cloned().ok_or_else(|| EmbeddedError::Version {
        cluster: cluster.to_owned(),
        cluster_version: cluster_version.unwrap_or_default().to_owned(),
        found: all.iter().map(|b| b.major.to_string()).collect::<Vec<_>>().join(", "),
    })
}

/// Folders that hold all three programs, in the order of the search, each once. A program that is a link (as in
/// /usr/bin) counts where it leads: the others are beside it there.
fn candidates(path: &OsStr, debian: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::split_paths(path)
        .filter(|p| p.is_absolute())
        .filter_map(|p| fs::canonicalize(p.join("postgres")).ok()?.parent().map(Path::to_owned))
        .collect();
    folders.extend(fs::read_dir(debian).into_iter().flatten().flatten().map(|version| version.path().join("bin")));
    let mut all = Vec::new();
    for folder in folders {
        let whole = ["postgres", "initdb", "pg_ctl"].iter().all(|name| folder.join(name).is_file());
        if whole && !all.contains(&folder) {
            all.push(folder);
        }
    }
    all
}

fn version_of(folder: &Path) -> Option<u32> {
    let mut asked = Command::new(folder.join("postgres"));
    let said = asked.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    major_version(&String::from_utf8_lossy(&said.stdout))
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` → 15.
fn major_version(said: &str) -> Option<u32> {
    let number = said.strip_prefix("postgres (PostgreSQL) ")?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_that_postgres_prints() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta2\n"), Some(18));
        assert_eq!(major_version("postgres (EnterpriseDB) 15\n"), None);
        assert_eq!(major_version(""), None);
    }

    #[test]
    fn a_folder_counts_only_with_all_three_programs_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let place = |folder: &str, names: &[&str]| {
            let folder = dir.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            names.iter().for_each(|n| fs::write(folder.join(n), "").unwrap());
            fs::canonicalize(folder).unwrap()
        };
        let whole = place("lib/15/bin", &["postgres", "initdb", "pg_ctl"]);
        let client_only = place("lib/16/bin", &["pg_ctl"]);
        let links = place("usr/bin", &[]);
        std::os::unix::fs::symlink(whole.join("postgres"), links.join("postgres")).unwrap();
        let path = std::env::join_paths([links, client_only, PathBuf::from("relative")]).unwrap();
        assert_eq!(candidates(&path, &fs::canonicalize(dir.path().join("lib")).unwrap()), [whole]);
    }

    #[test]
    fn an_existing_cluster_gets_the_binaries_of_its_version() {
        let of = |major| Binaries { folder: PathBuf::from(format!("/{major}")), major };
        let all = [of(17), of(15)];
        assert_eq!(choose(&all, Path::new("/c"), None).unwrap(), of(17));
        assert_eq!(choose(&all, Path::new("/c"), Some("15")).unwrap(), of(15));
        let error = choose(&all, Path::new("/c"), Some("16")).unwrap_err().to_string();
        assert!(error.contains("PostgreSQL 16") && error.contains("17, 15"), "{error}");
    }
}
