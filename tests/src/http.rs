//! The HTTP API as a program asks it: one request, one connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::collector::Up;

/// What the API answered.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Status line and header lines.
    pub head: String,
    /// The document; null if it is no JSON.
    pub body: Value,
}

/// GET of a path, with these header lines; `Host` is given unless one of them is.
///
/// # Panics
///
/// If nobody answers HTTP there.
#[track_caller]
pub fn get(up: &Up, path: &str, headers: &[&str]) -> Reply {
    let url = up.ready()["http"].as_str().expect("an address");
    let address = url.strip_prefix("http://").expect("http");
    let mut stream = TcpStream::connect(address).expect("connect");
    let mut request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    if !headers.iter().any(|h| h.starts_with("Host:")) {
        request.push_str(&format!("Host: {address}\r\n"));
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).expect("send");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("receive");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    Reply { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

/// The header line that shows the operator's token of an `up`.
#[track_caller]
pub fn bearer(up: &Up) -> String {
    format!("Authorization: Bearer {}", up.ready()["token"].as_str().expect("a token"))
}
