//! What is kept, what is dropped and who does it: partitions, leases, retention, on a real PostgreSQL.

mod half_days;
mod leases;
mod partitions;
mod retention;
