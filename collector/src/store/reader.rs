//! A role that may read the views and nothing else, for psql, Grafana and Metabase.

use super::Db;
use super::StoreError;
use super::tx;

/// The views that a reader may read: the SQL that people may rely on.
pub const VIEWS: [&str; 6] = ["v_host_now", "v_usage", "v_usage_hour", "v_owner_now", "v_gap", "v_flag"];

/// `%I` stands for the role. A role's settings are those of whoever logs in as it: a member does not have them.
const CREATE_SQL: &str = "CREATE ROLE %I NOLOGIN";
/// One open snapshot keeps the server from clearing what heartbeats overwrite.
const SETTINGS_SQL: [(&str, &str); 3] = [
    ("statement_timeout=60s", "ALTER ROLE %I SET statement_timeout = '60s'"),
    ("idle_in_transaction_session_timeout=60s", "ALTER ROLE %I SET idle_in_transaction_session_timeout = '60s'"),
    ("default_transaction_read_only=on", "ALTER ROLE %I SET default_transaction_read_only = on"),
];
const GRANT_SQL: &str = "GRANT SELECT ON v_host_now, v_usage, v_usage_hour, v_owner_now, v_gap, v_flag TO %I";

const ROLE_SQL: &str = "SELECT COALESCE(rolconfig, '{}'), rolsuper OR rolname = current_user OR EXISTS
        (SELECT FROM pg_class c WHERE c.relowner = r.oid AND c.relnamespace = 'public'::regnamespace)
    FROM pg_roles r WHERE rolname = $1";
const MAY_CREATE_SQL: &str = "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user";
const STATEMENT_SQL: &str = "SELECT set_config('highwater.statement', format($1, $2), true)";
const EXECUTE_SQL: &str = "DO $$ BEGIN EXECUTE current_setting('highwater.statement'); END $$";

/// What came of making a reader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Statements that were run.
    pub done: Vec<String>,
    /// Statements that this role may not run, for somebody who may; in order.
    pub left: Vec<String>,
}

/// Why a role is made no reader.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// It is no name that can be typed without quotes.
    #[error("a reader's name has 1 to 63 of a-z, 0-9 and _, and begins with a letter other than in pg_")]
    Name,
    /// It is somebody else: limits of a reader would be its limits.
    #[error(
        "the role {name} is a superuser, or the one that Highwater itself uses, or owns tables: choose another name"
    )]
    Taken {
        /// Which one.
        name: String,
    },
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the role, if it is not there, with its settings and its grants; what was made before stays.
pub async fn make(db: &Db, name: &str) -> Result<Made, ReaderError> {
    if !is_name(name) {
        return Err(ReaderError::Name);
    }
    let mut tx = tx::write(db).await?;
    let role: Option<(Vec<String>, bool)> =
        sqlx::query_as(ROLE_SQL).bind(name).fetch_optional(&mut *tx).await.map_err(StoreError::from)?;
    let may_create: bool = sqlx::query_scalar(MAY_CREATE_SQL).fetch_one(&mut *tx).await.map_err(StoreError::from)?;
    let (is_there, settings) = match role {
        Some((_, true)) => return Err(ReaderError::Taken { name: name.to_owned() }),
        Some((settings, false)) => (true, settings),
        None => (false, Vec::new()),
    };
    let mut steps = Vec::new();
    if !is_there {
        steps.push((CREATE_SQL, may_create));
    }
    let missing = SETTINGS_SQL.iter().filter(|(setting, _)| !settings.iter().any(|s| s == setting));
    steps.extend(missing.map(|(_, statement)| (*statement, may_create)));
    steps.push((GRANT_SQL, is_there || may_create));
    let mut made = Made::default();
    for (statement, may) in steps {
        let words = statement.replace("%I", &format!("\"{name}\""));
        if !may {
            made.left.push(words);
            continue;
        }
        sqlx::query(STATEMENT_SQL).bind(statement).bind(name).execute(&mut *tx).await.map_err(StoreError::from)?;
        sqlx::raw_sql(EXECUTE_SQL).execute(&mut *tx).await.map_err(StoreError::from)?;
        made.done.push(words);
    }
    tx.commit().await.map_err(StoreError::from)?;
    Ok(made)
}

fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    plain && first && name.len() <= 63 && !name.starts_with("pg_") && name != "public" && name != "none"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readers_name_needs_no_quotes() {
        for name in ["highwater_reader", "grafana2", "a"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "pg_reader", "Reader", "a b", "a\"; DROP ROLE x", "2a", "_a", "public", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_reader_is_granted_every_view_and_nothing_else() {
        assert_eq!(GRANT_SQL, format!("GRANT SELECT ON {} TO %I", VIEWS.join(", ")));
    }
}
