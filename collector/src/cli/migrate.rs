//! `highwater migrate`: the schema up to date.

use std::str::FromStr as _;

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
    pub database_url: String,
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

async fn migrate(url: &str) -> anyhow::Result<Vec<String>> {
    let db = Db::connect(options(url)?, 2).await.context("connecting")?;
    let applied = db.migrate().await;
    db.close().await;
    Ok(applied?)
}

/// Reads a database URL; the error never quotes it, for it may hold a password.
pub fn options(url: &str) -> anyhow::Result<PgConnectOptions> {
    PgConnectOptions::from_str(url)
        .ok()
        .filter(|_| url.starts_with("postgres://") || url.starts_with("postgresql://"))
        .context("the database URL cannot be read: it has the form postgres://USER:PASSWORD@HOST:PORT/NAME")
        .map(|options| options.application_name("highwater"))
}

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
    fn a_url_that_cannot_be_read_is_not_quoted() {
        let error = options("postgres:/u:secret@h").unwrap_err();
        assert!(!format!("{error:#}").contains("secret"));
    }
}
