//! What is kept, what is dropped and who does it: partitions, leases, retention, on a real PostgreSQL.

mod leases;
mod partitions;
mod retention;
