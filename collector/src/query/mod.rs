//! Questions to answers; knows no HTTP.
