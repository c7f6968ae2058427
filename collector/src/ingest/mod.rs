//! Takes records from agents; knows no SQL.
