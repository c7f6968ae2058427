//! What operators do to flags, each with its entry in the audit.

use crate::flag::{FlagId, Note};
use crate::host::HostId;
use crate::store::{Db, StoreError, audit, flag, tx};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The database did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing to know any more.
    #[error("that flag is cleared: there is nothing left to acknowledge")]
    Over,
}

/// Says that somebody knows of a flag that is up.
pub async fn acknowledge(db: &Db, (host, id): (HostId, FlagId), note: &Note) -> Result<(), DeskError> {
    let mut tx = tx::write(db).await?;
    if !flag::acknowledge(&mut tx, (host, id), note).await? {
        return Err(DeskError::Over);
    }
    let subject = id.to_string();
    let entry = audit::Entry { at_ms: note.at_ms, who: &note.by, what: "flag.ack", subject: &subject };
    audit::insert(&mut tx, entry).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(())
}

/// Says that nobody is told of a host's flags until then, by the collector's clock, milliseconds.
pub async fn silence(db: &Db, host: HostId, until_ms: i64, note: &Note) -> Result<(), DeskError> {
    let mut tx = tx::write(db).await?;
    flag::silence(&mut tx, host, until_ms, note).await?;
    let subject = host.to_string();
    let entry = audit::Entry { at_ms: note.at_ms, who: &note.by, what: "flag.silence", subject: &subject };
    audit::insert(&mut tx, entry).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(())
}
