//! One POST to a receiver: a new connection, no redirect, no proxy, no more than a bounded answer read. Whoever calls it puts
//! a bound on the time: dropped, it is over.

use std::io;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::receiver::Endpoint;
use super::tls::Trust;

/// The most bytes of an answer that are looked at.
const ANSWER: usize = 16 << 10;
/// The most characters of an answer that an error repeats.
const SAID: usize = 200;

/// Why a receiver did not take it.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// There is no connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The certificate does not convince, or the server speaks no TLS.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The connection broke before an answer came: it may have been taken.
    #[error("no answer: {0}")]
    Broken(hyper::Error),
    /// Its roots cannot be read.
    #[error("{0}")]
    Trust(String),
    /// An answer other than 2xx.
    #[error("answered {status}{}", said.as_deref().map(|s| format!(": {s}")).unwrap_or_default())]
    Refused {
        /// The status.
        status: u16,
        /// Where it says that it has moved to, host only.
        moved_to: Option<String>,
        /// How long to wait by its `Retry-After`, milliseconds.
        wait_ms: Option<i64>,
        /// The beginning of its answer, on one line.
        said: Option<String>,
    },
    /// A header cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(hyper::http::Error),
}

/// What is posted.
pub struct Post<'a> {
    /// Where to.
    pub endpoint: &'a Endpoint,
    /// What the server's certificate is checked against; the error of reading it is this request's.
    pub trust: &'a Result<Trust, String>,
    /// Header fields besides the usual ones.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
}

/// Posts it; taken is only what was answered by 2xx.
pub async fn post(post: Post<'_>) -> Result<(), HttpError> {
    let Post { endpoint, trust, headers, body } = post;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&endpoint.path)
        .header(HOST, &endpoint.authority)
        .header(USER_AGENT, concat!("highwater/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(HttpError::Request)?;
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(HttpError::Connect)?;
    if !endpoint.tls {
        return exchange(stream, request).await;
    }
    let trust = trust.as_ref().map_err(|what| HttpError::Trust(what.clone()))?;
    exchange(trust.connect(stream, &endpoint.host).await.map_err(HttpError::Tls)?, request).await
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(), HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(HttpError::Broken)?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(HttpError::Broken)?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok(());
        }
        let said = Limited::new(body, ANSWER).collect().await.ok().map(|body| first_line(&body.to_bytes()));
        Err(refused(head.status, &head.headers, said.filter(|text| !text.is_empty())))
    };
    tokio::pin!(connection);
    tokio::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        // It may end, and in disorder, right behind an answer that counts.
        ended = &mut connection => match (asked.await, ended) {
            (Err(HttpError::Broken(_)), Err(error)) => Err(HttpError::Broken(error)),
            (answer, _) => answer,
        }
    }
}

fn refused(status: StatusCode, headers: &HeaderMap, said: Option<String>) -> HttpError {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = text(RETRY_AFTER).and_then(|value| value.trim().parse::<u32>().ok());
    let moved_to = text(LOCATION).and_then(|url| Endpoint::parse(url).ok()).map(|endpoint| endpoint.origin());
    HttpError::Refused {
        status: status.as_u16(),
        moved_to: moved_to.filter(|_| status.is_redirection()),
        wait_ms: seconds.map(|s| i64::from(s) * 1000),
        said,
    }
}

fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    super::text::one_line(line.trim()).chars().take(SAID).collect()
}
