//! Table `stretch`: runs of samples without a gap, in which wall time never falls.

use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::time::At;

use super::StoreError;
use super::number::{bigint, int};
use super::tx::Write;
use crate::host::HostId;

const OPEN_SQL: &str = "INSERT INTO stretch (host_id, epoch_no, stretch, from_seq, from_wall_ms, from_boot_us)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[])";

const CLOSE_SQL: &str = "UPDATE stretch AS s SET to_wall_ms = c.to_wall_ms, to_boot_us = c.to_boot_us
    FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[])
        AS c (host_id, epoch_no, stretch, to_wall_ms, to_boot_us)
    WHERE s.host_id = c.host_id AND s.epoch_no = c.epoch_no AND s.stretch = c.stretch";

/// A stretch begins with a keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The host.
    pub host: HostId,
    /// The epoch.
    pub epoch: EpochNo,
    /// Its number in that epoch, from 0.
    pub stretch: u32,
    /// The keyframe's position.
    pub from: Seq,
    /// The keyframe's time.
    pub at: At,
}

/// A stretch is followed by another of its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The host.
    pub host: HostId,
    /// The epoch.
    pub epoch: EpochNo,
    /// Its number in that epoch.
    pub stretch: u32,
    /// Its last sample's time.
    pub at: At,
}

/// Adds stretches.
pub async fn open(tx: &mut Write<'_>, rows: &[Opened]) -> Result<(), StoreError> {
    sqlx::query(OPEN_SQL)
        .bind(rows.iter().map(|r| r.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.epoch.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| int(r.stretch)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.from.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.at.wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.at.boot_us)).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Says where stretches ended. Those opened in the same transaction are there already.
pub async fn close(tx: &mut Write<'_>, rows: &[Closed]) -> Result<(), StoreError> {
    sqlx::query(CLOSE_SQL)
        .bind(rows.iter().map(|r| r.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.epoch.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| int(r.stretch)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.at.wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.at.boot_us)).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}
