//! What history costs and how fast it answers, with the product's own writer, compactor and questions, on a private
//! PostgreSQL with the settings of `highwater up`.
//!
//! ```text
//! cargo bench -p highwater-tests --bench history -- fleet [HOSTS [DAYS]]    questions to 1,000 hosts of 30 days
//! cargo bench -p highwater-tests --bench history -- present [HOSTS]         find in the present of 100,000 hosts
//! cargo bench -p highwater-tests --bench history -- capacity [HOSTS [DAYS [HOURS]]]    use of limits, 10,000 hosts of 30 days
//! cargo bench -p highwater-tests --bench history -- bytes [FILE..]          a busy host-day, as PostgreSQL counts it
//! cargo bench -p highwater-tests --bench history -- idle                    a day and a year in which little happens
//! cargo bench -p highwater-tests --bench history -- judge                   what the evaluator costs
//! cargo bench -p highwater-tests --bench history -- curve [FILE]            bytes against latency by chunk and segment
//! ```
//!
//! A FILE is a day of one host as JSON lines, as the bench `chunk` of `highwater-proto` reads it; without one the day is
//! made. Each figure is of one run: other work on the machine is in it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measuring program: it may panic anywhere"
)]
#![allow(clippy::disallowed_methods, reason = "measuring is reading a clock")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with few digits")]
#![allow(missing_docs, unreachable_pub, reason = "a program")]

mod bytes;
mod capacity;
mod cost;
mod curve;
#[path = "../../../proto/benches/day/mod.rs"]
#[allow(dead_code, clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "another bench's")]
mod day;
mod fleet;
mod host;
mod judge;
mod present;
mod stack;
mod stopwatch;

fn main() {
    // `cargo bench` hands down options of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let number = |at: usize, default: i64| arguments.get(at).map_or(default, |n| n.parse().expect("a number"));
    match arguments.first().map(String::as_str) {
        Some("fleet") => fleet::measure(number(1, 1_000), number(2, 30)),
        Some("present") => present::measure(number(1, 100_000)),
        Some("capacity") => capacity::measure(number(1, 10_000), number(2, 30), number(3, 4)),
        Some("bytes") => bytes::busy(&arguments[1..]),
        Some("idle") => bytes::idle(),
        Some("curve") => curve::measure(arguments.get(1).map(String::as_str)),
        Some("judge") => judge::measure(),
        // A run of all benches does not fill a disk.
        None => println!("history: say fleet, present, capacity, bytes, idle, judge or curve"),
        Some(other) => panic!("{other}: say fleet, present, capacity, bytes, idle, judge or curve"),
    }
}
