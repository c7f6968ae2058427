//! Numbers between the domain (unsigned) and SQL (signed).

use super::StoreError;

/// A number for a `bigint` column. The wire bounds all that reach one below 2^63-1; beyond it saturates.
pub(super) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number for an `int` column; saturates.
pub(super) fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A stored `bigint` that is never negative.
pub(super) fn unsigned(column: &'static str, value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Corrupt { what: format!("{column} = {value}") })
}

/// Stored bytes of a fixed length.
pub(super) fn fixed<const N: usize>(column: &'static str, bytes: &[u8]) -> Result<[u8; N], StoreError> {
    let wrong = || StoreError::Corrupt { what: format!("{column} of {} bytes instead of {N}", bytes.len()) };
    bytes.try_into().map_err(|_| wrong())
}
