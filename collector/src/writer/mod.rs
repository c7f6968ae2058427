//! Commits records durably, one writer per host, and acks what is durable.
