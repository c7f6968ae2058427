//! A job's connection to the database, thrown away whole whenever its state is not known.

use std::pin::Pin;
use std::time::Duration;

use super::tx::{self, Dedicated};
use super::{Db, StoreError};

/// Longest wait for one transaction, statements and COMMIT together: a little more than the server itself gives a
/// statement, because a server that waits for a lock does not notice that its client has gone.
const DEADLINE: Duration = Duration::from_secs(tx::STATEMENT_SECONDS + 5);

/// One transaction's work on a connection.
pub type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// A connection that is made when needed.
pub struct Link {
    db: Db,
    connection: Option<Dedicated>,
}

impl Link {
    /// Not connected yet.
    pub fn new(db: Db) -> Self {
        Self { db, connection: None }
    }

    /// Does one transaction's work in a task of its own, so that nobody who waits for it can cut it short. At the
    /// deadline the connection itself is closed under it: the outcome is then not known, and whoever asked asks again.
    pub async fn run<T, F>(&mut self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Dedicated) -> Work<'c, T> + Send + 'static,
    {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.db.dedicated().await?,
        };
        let mut task = tokio::spawn(async move {
            let done = work(&mut connection).await;
            let settled = connection.settle().await.is_ok();
            (Some(connection).filter(|_| settled), done)
        });
        let (connection, done) = tokio::select! {
            ended = &mut task => ended.map_err(|e| StoreError::Interrupted(e.to_string()))?,
            () = tokio::time::sleep(DEADLINE) => {
                // The task owns the connection: ending it closes the socket.
                task.abort();
                return Err(StoreError::Unanswered { seconds: DEADLINE.as_secs() });
            }
        };
        if done.as_ref().err().is_none_or(StoreError::from_server) {
            self.connection = connection;
        }
        done
    }

    /// Says goodbye.
    pub async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }
}
