//! Peers that mean no good, on a real `highwater up`: each is told why it is refused, the log names its address and the
//! reason once in ten seconds and then with a count, nothing of theirs reaches the log as it is, and everybody else
//! goes on.
//!
//! [`peer`] is a client that does what it is told, TLS and HTTP/2 by hand; each case comes from a loopback address of
//! its own, so that the log tells them apart.

mod crowd;
mod imposter;
mod intruders;
mod messages;
mod peer;
mod refusals;
