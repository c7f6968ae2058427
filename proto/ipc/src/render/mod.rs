//! The text people know: `ipcs` and `lsipc` of util-linux 2.38 under LC_ALL=C.
