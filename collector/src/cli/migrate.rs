//! `highwater migrate`: the schema up to date.

use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use sqlx::postgres::PgConnectOptions;

use super::args::Global;
use super::exit::Exit;
use super::print;
use crate::store::Db;

/// Arguments of `migrate`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  HIGHWATER_DATABASE_URL=postgres://highwater@db/highwater highwater migrate")]
pub struct MigrateArgs {
    /// The database, as postgres://USER@HOST/NAME. A password belongs into the environment variable or ~/.pgpass:
    /// arguments are seen by every user of this machine
    #[arg(long, value_name = "URL", env = "HIGHWATER_DATABASE_URL", hide_env_values = true)]
    pub database_url: DatabaseUrl,
}

/// Applies what is missing and says what that was.
pub fn run(args: &MigrateArgs, global: &Global) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let applied = runtime.block_on(migrate(&args.database_url))?;
    let text =
        if global.wants_json() { format!("{}\n", serde_json::json!({ "applied": applied })) } else { said(&applied) };
    print::answer(text.as_bytes()).context("writing the answer")?;
    Ok(Exit::Answered)
}

async fn migrate(url: &DatabaseUrl) -> anyhow::Result<Vec<String>> {
    let db = Db::connect(url.options(), 2).await.context("connecting")?;
    let applied = db.migrate().await;
    db.close().await;
    Ok(applied?)
}

/// How to connect to a database.
pub type Options = PgConnectOptions;

/// The URL of a database; shows as `***`, for it may hold a password.
#[derive(Clone)]
pub struct DatabaseUrl(Options);

impl DatabaseUrl {
    /// How to connect to it.
    pub fn options(&self) -> Options {
        self.0.clone()
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(url: &str) -> Result<Self, DatabaseUrlError> {
        let known = url.starts_with("postgres://") || url.starts_with("postgresql://");
        let options = PgConnectOptions::from_str(url).ok().filter(|_| known).ok_or(DatabaseUrlError)?;
        Ok(Self(options.application_name("highwater")))
    }
}

/// Text that is no database URL. It never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has the form postgres://USER:PASSWORD@HOST:PORT/NAME")]
pub struct DatabaseUrlError;

fn said(applied: &[String]) -> String {
    if applied.is_empty() {
        return "the schema is up to date: nothing to do\n".to_owned();
    }
    applied.iter().map(|name| format!("applied {name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_did() {
        assert_eq!(said(&[]), "the schema is up to date: nothing to do\n");
        assert_eq!(said(&["0001 baseline".into()]), "applied 0001 baseline\n");
    }

    #[test]
    fn a_url_is_never_shown() {
        let error = DatabaseUrl::from_str("postgres:/u:secret@h").unwrap_err();
        assert!(!error.to_string().contains("secret"));
        let url = DatabaseUrl::from_str("postgres://u:secret@h/d").unwrap();
        assert_eq!(format!("{url:?}"), "***");
    }
}
