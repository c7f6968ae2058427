//! `highwater-agent enrol`: a token in, this host's certificate out.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use highwater_ipc::time::format_rfc3339_ms;
use highwater_proto::token::Token;

use super::args::Places;
use super::snapshot;
use crate::config::Overrides;
use crate::kernel::identity::host_facts;
use crate::kernel::real::RealKernel;
use crate::spool::disk::read_private;
use crate::transport::enrol::{EnrolOptions, enrol};

/// Where the token may stand instead of a file; never on the command line, which everybody can read.
const TOKEN_VARIABLE: &str = "HIGHWATER_ENROL_TOKEN";
/// Most bytes of a token's file.
const TOKEN_MAX: usize = 4096;

/// Get this host's certificate from a collector
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  highwater token create --out token            (at the collector)\n  highwater-agent enrol \
                  --collector https://collector.example.org:8443 --token-file token\n  ssh collector highwater token \
                  create | highwater-agent enrol --collector collector.example.org --token-file -\n\nThe token can also \
                  be given in HIGHWATER_ENROL_TOKEN. Repeating the command is harmless."
)]
pub struct EnrolArgs {
    #[command(flatten)]
    places: Places,
    /// The collector's address, https://HOST:PORT or HOST:PORT
    #[arg(long, value_name = "URL")]
    collector: Option<String>,
    /// File that holds the token (mode 0600, this user's own, no link), or - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Enrols and says as whom.
pub fn run(args: &EnrolArgs) -> anyhow::Result<()> {
    let rest = Overrides { collector: args.collector.clone(), ..Overrides::default() };
    let config = args.places.load(rest)?;
    let Some(collector) = config.collector else {
        bail!("no collector is named: add --collector https://HOST:PORT");
    };
    let token = read_token(args.token_file.as_deref())?;
    let facts = host_facts(&mut RealKernel::new());
    let state_dir = config.state_dir.clone();
    let options = EnrolOptions {
        collector,
        token,
        state_dir: config.state_dir,
        hostname: facts.hostname,
        machine_id: facts.machine_id,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("making a runtime")?;
    let enrolled = runtime.block_on(enrol(options));
    // A name that is being resolved is not waited for.
    runtime.shutdown_background();
    let enrolled = enrolled?;
    snapshot::print(&format!(
        "enrolled at {} as host {}; certificate valid until {}; state in {}\nnext: highwater-agent run\n",
        enrolled.collector,
        enrolled.host_id,
        format_rfc3339_ms(enrolled.not_after_ms),
        state_dir.display(),
    ))
}

fn read_token(file: Option<&Path>) -> anyhow::Result<Token> {
    let text = match file {
        Some(path) if path.as_os_str() == "-" => {
            let mut text = String::new();
            io::stdin()
                .lock()
                .take(TOKEN_MAX as u64)
                .read_to_string(&mut text)
                .context("reading the token from stdin")?;
            text
        }
        Some(path) => {
            let bytes = read_private(path, TOKEN_MAX).context("reading the token")?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        None => match std::env::var(TOKEN_VARIABLE) {
            Ok(text) => text,
            Err(_) => bail!("no token is given: add --token-file FILE (- = stdin), or set {TOKEN_VARIABLE}"),
        },
    };
    Ok(Token::parse(&text)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn a_token_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = format!("hw1.id.secret.{}\n", "ab".repeat(32));
        fs::write(&path, &token).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = format!("{:#}", read_token(Some(&path)).unwrap_err());
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_token(Some(&path)).unwrap().id, "id");
    }

    /// Both were read once: only the mode was looked at.
    #[test]
    fn a_token_file_of_another_user_or_behind_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, format!("hw1.id.secret.{}\n", "ab".repeat(32))).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        let error = format!("{:#}", read_token(Some(&link)).unwrap_err());
        assert!(error.contains("a symbolic link is not followed here"), "{error}");
        chown(&path, Some(12_345), None).expect("root, which may give files away");
        let error = format!("{:#}", read_token(Some(&path)).unwrap_err());
        assert!(error.contains("belongs to uid 12345"), "{error}");
    }

    #[test]
    fn a_file_that_holds_no_token_is_refused_without_quoting_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "hw1.id.topsecret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = format!("{:#}", read_token(Some(&path)).unwrap_err());
        assert!(!error.contains("topsecret"), "{error}");
    }
}
