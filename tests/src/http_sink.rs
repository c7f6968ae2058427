//! A receiver of HTTP requests on loopback that behaves as it is told: answers, fails, hangs, or hangs up.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What it does with one request, once it has read all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behave {
    /// Answers with that status.
    Answer(u16),
    /// Answers 503 and asks to be left alone for so many seconds.
    Later(u32),
    /// Answers 307 to another path of itself.
    Redirect,
    /// Says nothing until the other side gives up.
    Hang,
    /// Closes the connection without an answer.
    HangUp,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The first line.
    pub line: String,
    /// Header fields, names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

type Requests = Arc<Mutex<Vec<Request>>>;

/// A running receiver; it serves until the test process ends.
#[derive(Debug)]
pub struct HttpSink {
    address: SocketAddr,
    requests: Requests,
}

impl HttpSink {
    /// Starts one; `behave` is asked with each request and its number, from 0 on.
    ///
    /// # Panics
    ///
    /// If there is no port.
    pub fn start(behave: impl Fn(usize, &Request) -> Behave + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("its address");
        let requests = Requests::default();
        let (seen, behave) = (requests.clone(), Arc::new(behave));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, behave) = (seen.clone(), behave.clone());
                thread::spawn(move || serve(stream, &seen, &*behave));
            }
        });
        Self { address, requests }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One request a connection. A client that goes away early is no error here.
fn serve(stream: TcpStream, seen: &Requests, behave: &dyn Fn(usize, &Request) -> Behave) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = BTreeMap::new();
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).ok()?;
        let Some((name, value)) = field.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request = Request { line: line.trim_end().to_owned(), headers, body: String::from_utf8(body).ok()? };
    let behaviour = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let behaviour = behave(seen.len(), &request);
        seen.push(request);
        behaviour
    };
    let mut stream = stream;
    let mut answer = |head: &str| write!(stream, "HTTP/1.1 {head}\r\nContent-Length: 3\r\n\r\nno\n").ok();
    match behaviour {
        Behave::Answer(status) => answer(&format!("{status} Status")),
        Behave::Later(seconds) => answer(&format!("503 Later\r\nRetry-After: {seconds}")),
        Behave::Redirect => answer("307 Elsewhere\r\nLocation: /elsewhere"),
        Behave::Hang => reader.read_to_end(&mut Vec::new()).ok().map(drop),
        Behave::HangUp => None,
    }
}
