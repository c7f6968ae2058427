//! `highwater migrate`: the schema up to date.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::str::FromStr as _;

use anyhow::Context as _;
use clap::Args;
use sqlx::postgres::PgConnectOptions;

use super::args::Global;
use super::exit::Exit;
use super::print;
use crate::store::Db;
use crate::store::reader::{self, Made};

/// Arguments of `migrate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MigrateArgs {
    /// The database, as postgres://USER@HOST:PORT/NAME, instead of HIGHWATER_DATABASE_URL. Not with a password:
    /// arguments are seen by every user of this machine; it belongs into that variable or ~/.pgpass
    // The raw text: clap's own errors would quote it.
    #[arg(long, value_name = "URL")]
    database_url: Option<OsString>,
    /// Also make this role, which may read the views (README.md, "SQL") and nothing else, for Grafana and the like
    #[arg(long, value_name = "NAME")]
    reader: Option<String>,
}

const EXAMPLES: &str = "Examples:
  HIGHWATER_DATABASE_URL=postgres://highwater@db/highwater highwater migrate
  highwater migrate --reader highwater_reader     the same database, and who may read its views";

/// Applies what is missing and says what that was.
pub fn run(args: &MigrateArgs, global: &Global) -> anyhow::Result<Exit> {
    let url = DatabaseUrl::named(args.database_url.as_deref())?.context(
        "no database is named: set HIGHWATER_DATABASE_URL to postgres://USER:PASSWORD@HOST:PORT/NAME, or use \
         --database-url (without a password)",
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let (applied, made) = runtime.block_on(migrate(&url, args.reader.as_deref()))?;
    let text = match (global.wants_json(), &made) {
        (false, None) => said(&applied),
        (false, Some(made)) => said(&applied) + &said_of_reader(made),
        (true, None) => format!("{}\n", serde_json::json!({ "applied": applied })),
        (true, Some(made)) => {
            let reader = serde_json::json!({ "done": made.done, "left": made.left });
            format!("{}\n", serde_json::json!({ "applied": applied, "reader": reader }))
        }
    };
    print::answer(text.as_bytes()).context("writing the answer")?;
    Ok(Exit::Answered)
}

async fn migrate(url: &DatabaseUrl, name: Option<&str>) -> anyhow::Result<(Vec<String>, Option<Made>)> {
    let db = Db::connect(url.options(), 2).await.context("connecting")?;
    let applied = db.migrate().await;
    let made = match (&applied, name) {
        (Ok(_), Some(name)) => Some(reader::make(&db, name).await),
        _ => None,
    };
    db.close().await;
    Ok((applied?, made.transpose()?))
}

/// How to connect to a database.
pub type Options = PgConnectOptions;

/// The URL of a database; shows as `***`, for it may hold a password.
#[derive(Clone)]
pub struct DatabaseUrl(Options);

/// Parameters that a database URL may have.
const PARAMETERS: &[&str] = &[
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Where a URL with a password may stand.
const VARIABLE: &str = "HIGHWATER_DATABASE_URL";

impl DatabaseUrl {
    /// The database that the flag `--database-url` names, else the variable `HIGHWATER_DATABASE_URL`; `None` = neither.
    pub fn named(flag: Option<&OsStr>) -> Result<Option<Self>, DatabaseUrlError> {
        Self::choose(flag, std::env::var_os(VARIABLE).as_deref())
    }

    fn choose(flag: Option<&OsStr>, variable: Option<&OsStr>) -> Result<Option<Self>, DatabaseUrlError> {
        let Some(flag) = flag else {
            return variable.filter(|text| !text.is_empty()).map(|text| Self::parse(text, VARIABLE)).transpose();
        };
        if has_password(&flag.to_string_lossy()) {
            return Err(DatabaseUrlError::PasswordInArguments);
        }
        Self::parse(flag, "--database-url").map(Some)
    }

    fn parse(text: &OsStr, given_by: &'static str) -> Result<Self, DatabaseUrlError> {
        let known = |url: &&str| url.starts_with("postgres://") || url.starts_with("postgresql://");
        let url = text.to_str().filter(known).and_then(with_known_parameters);
        let options = url.and_then(|url| PgConnectOptions::from_str(&url).ok());
        let options = options.ok_or(DatabaseUrlError::Form { given_by })?;
        Ok(Self(options.application_name("highwater")))
    }

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

/// The URL without the parameters that the database client does not know: it would log their values, such as
/// `sslpassword`. `None` if one is not even a name, as when a password has an unescaped question mark.
fn with_known_parameters(url: &str) -> Option<String> {
    let Some((url, query)) = url.split_once('?') else { return Some(url.to_owned()) };
    let mut known = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        if PARAMETERS.contains(&name) {
            known.push(pair);
        } else if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            tracing::warn!(parameter = name, "unknown in a database URL: ignored");
        } else {
            return None;
        }
    }
    Some(format!("{url}?{}", known.join("&")))
}

/// `USER:PASSWORD@` or `?password=`.
fn has_password(url: &str) -> bool {
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || query.split('&').any(|pair| pair.starts_with("password="))
}

/// Why a text names no database. It never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// It is no database URL.
    #[error("{given_by} is no database URL: its form is postgres://USER@HOST:PORT/NAME")]
    Form {
        /// The flag or variable that holds it.
        given_by: &'static str,
    },
    /// The flag has a password.
    #[error(
        "--database-url has a password, and every user of this machine can read it there: change it, then give the URL \
         in HIGHWATER_DATABASE_URL instead, or the password in ~/.pgpass (or the file that PGPASSFILE names)"
    )]
    PasswordInArguments,
}

fn said(applied: &[String]) -> String {
    if applied.is_empty() {
        return "the schema is up to date: nothing to do\n".to_owned();
    }
    applied.iter().map(|name| format!("applied {name}\n")).collect()
}

fn said_of_reader(made: &Made) -> String {
    let mut out: String = made.done.iter().map(|statement| format!("ran {statement}\n")).collect();
    if !made.left.is_empty() {
        out.push_str("this role may not do the rest; somebody who may make roles has to run:\n");
        out.extend(made.left.iter().map(|statement| format!("  {statement};\n")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_role_may_not_do_is_printed_for_somebody_who_may() {
        let made = Made { done: vec!["GRANT x".into()], left: vec!["CREATE ROLE y".into(), "ALTER ROLE y".into()] };
        assert_eq!(
            said_of_reader(&made),
            "ran GRANT x\nthis role may not do the rest; somebody who may make roles has to run:\n  CREATE ROLE y;\n  ALTER ROLE y;\n"
        );
    }

    #[test]
    fn says_what_it_did() {
        assert_eq!(said(&[]), "the schema is up to date: nothing to do\n");
        assert_eq!(said(&["0001 baseline".into()]), "applied 0001 baseline\n");
    }

    /// The database client logs the values of parameters that it does not know.
    #[test]
    fn unknown_parameters_go_no_further() {
        let with = |query: &str| with_known_parameters(&format!("postgres://u@h/d{query}"));
        assert_eq!(with("").unwrap(), "postgres://u@h/d");
        let mixed = with("?sslmode=require&sslpassword=secret&connect_timeout=10&host=/run");
        assert_eq!(mixed.unwrap(), "postgres://u@h/d?sslmode=require&host=/run");
        assert_eq!(with_known_parameters("postgres://u:12?secret@h/d"), None);
        assert_eq!(with("?p%61ssword=secret"), None);
    }

    fn choose(flag: Option<&str>, variable: Option<&str>) -> Result<Option<DatabaseUrl>, DatabaseUrlError> {
        DatabaseUrl::choose(flag.map(OsStr::new), variable.map(OsStr::new))
    }

    #[test]
    fn debug_shows_nothing_of_a_database_url() {
        let url = choose(None, Some("postgres://user:planted-secret@host/name")).unwrap().unwrap();
        // How to connect shows it, so whoever holds that must have no `Debug` of its parts.
        assert!(format!("{:?}", url.options()).contains("planted-secret"));
        assert_eq!((format!("{url:?}"), format!("{url:#?}")), ("***".to_owned(), "***".to_owned()));
    }

    /// clap's error for a value that does not parse quoted it, password and all.
    #[test]
    fn a_url_that_is_none_is_refused_without_quoting_it() {
        for wrong in ["postgres:/u:secret@h", "mysql://u:secret@h/d", "postgres://u:secret@h:port/d", "secret"] {
            let error = choose(None, Some(wrong)).unwrap_err();
            assert_eq!(error, DatabaseUrlError::Form { given_by: VARIABLE });
            assert!(!error.to_string().contains("secret"));
            if let Err(error) = choose(Some(wrong), None) {
                assert!(!error.to_string().contains("secret"));
            } else {
                panic!("{wrong} was taken");
            }
        }
    }

    /// It was taken, and the advice for a URL of another form was to write one.
    #[test]
    fn a_password_in_the_flag_is_refused_and_one_in_the_variable_is_taken() {
        for url in
            ["postgres://u:secret@h/d", "postgres://:secret@h/d", "postgres://u@h/d?sslmode=require&password=secret"]
        {
            assert_eq!(choose(Some(url), None).unwrap_err(), DatabaseUrlError::PasswordInArguments);
            let taken = choose(None, Some(url)).unwrap().unwrap();
            assert_eq!(format!("{taken:?}"), "***");
        }
        for url in ["postgres://u@h:5432/d", "postgresql://u@h/d?host=/run/a:b@c", "postgres://[::1]:5432/d"] {
            assert!(choose(Some(url), Some("postgres://other")).unwrap().is_some(), "{url}");
        }
        assert!(choose(None, None).unwrap().is_none() && choose(None, Some("")).unwrap().is_none());
    }
}
