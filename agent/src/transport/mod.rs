//! Enrols, connects, sends records, takes acks.
