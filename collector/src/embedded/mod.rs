//! The private PostgreSQL of `up`.
