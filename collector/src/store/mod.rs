//! The only room that knows SQL: domain types go in and come out, rows are private, every statement is a `&'static str`
//! constant whose name ends in `_SQL`, in a file per table.
//!
//! [`tx`] begins and ends transactions, [`day`] chooses a frame's partition, [`partition`] makes it.

pub mod audit;
pub mod capacity;
pub mod certificate;
pub mod chunk;
pub mod compaction;
pub mod day;
mod db;
pub mod enrolment_token;
pub mod find;
pub mod flag;
pub mod fleet;
pub mod frame;
pub mod gap;
pub mod gap_part;
pub mod history;
pub mod host;
pub mod host_facts;
pub mod host_name;
pub mod host_status;
pub mod imported;
pub mod keep;
pub mod lease;
pub mod link;
pub mod notice;
mod number;
pub mod object_now;
pub mod operator_token;
pub mod owner_usage;
pub mod partition;
pub mod reader;
pub mod report;
pub mod retention;
pub mod settling;
pub mod stream;
pub mod stretch;
pub mod tx;
pub mod usage;
mod usage_half;
pub mod usage_pack;

pub use db::{Db, MIGRATIONS, StoreError};
