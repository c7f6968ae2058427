//! What this agent can and cannot read on this host, why, what is lost, and what helps.
//!
//! Pure: [`needs`] is the table of features and the capabilities they take (the same that `PRIVILEGES.md` prints and the
//! systemd unit grants), [`findings`] what was found by trying each thing, [`checks`] what that means, [`report`] how it
//! is shown. The trying is done by `cli/doctor.rs`. It changes nothing on the host and takes no place of a running agent:
//! its own tracefs instance is removed again, the collector's port is only dialled.

pub mod checks;
pub mod findings;
pub mod needs;
pub mod report;
