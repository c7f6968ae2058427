//! What is kept, what is dropped and who does it: what is derived, partitions, leases, retention, on a real PostgreSQL.

mod derived;
mod half_days;
mod leases;
mod older;
mod partitions;
mod retention;
