//! SQL as a product: the views are as documented, their reader reads nothing else, they agree with the API; and who grew in
//! the whole fleet, from the same rows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod columns;
mod fleet;
mod history;
mod reader;

use highwater::cli::migrate::DatabaseUrl;
use highwater::store::Db;
use highwater_tests::postgres::{Database, Postgres};

/// A database with the schema, and a connection to it.
async fn migrated() -> (Database, Db) {
    let database = Postgres::shared().database();
    let db = connect(&database).await;
    db.migrate().await.expect("the schema");
    (database, db)
}

async fn connect(database: &Database) -> Db {
    let url = DatabaseUrl::named(Some(database.url.as_ref())).expect("a URL").expect("a URL");
    Db::connect(url.options(), 4).await.expect("a connection")
}
