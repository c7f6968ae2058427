//! Asks the collector's HTTP API.
//!
//! Where it is and whose token is shown: `HIGHWATER_URL`, `HIGHWATER_TOKEN`, `HIGHWATER_TOKEN_FILE`, else the client file
//! (0600) that `up` leaves in its data directory. A token never comes from the arguments, and the client file's token is
//! never sent to an address that the file does not name.

use std::ffi::OsString;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::Uri;
use ureq::{Agent, SendBody};

use super::data_dir::{CLIENT_FILE, default_data_dir};
use super::export::NEXT_BYTES;
use crate::secret_file::{self, SecretFileError};

/// The most bytes an answer may have: 100,000 objects of 400 bytes fit several times over.
const MAX_ANSWER: u64 = 512 << 20;
/// The most bytes of a token or client file.
const MAX_FILE: usize = 4096;
/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for a whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// An environment variable's value.
type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The API at one address, as one operator.
pub struct Client {
    agent: Agent,
    base: String,
    token: String,
    /// This machine's own host id, where the client file of `up` names one.
    own_host: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing says where the collector is.
    #[error(
        "no collector is known here: set HIGHWATER_URL and HIGHWATER_TOKEN_FILE, or start `highwater up` (looked for {})",
        looked_for.display()
    )]
    NoAddress {
        /// The client file that is not there.
        looked_for: PathBuf,
    },
    /// An address without a token.
    #[error("HIGHWATER_URL is {url} but no token is given: set HIGHWATER_TOKEN_FILE (or HIGHWATER_TOKEN)")]
    NoToken {
        /// The address.
        url: String,
    },
    /// A file with a secret cannot be used.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The client file is not what `up` writes.
    #[error("{} is not what `highwater up` writes: {why}; delete it and start `highwater up` again", path.display())]
    ClientFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The address is none.
    #[error("{url} is no address of a collector: it must begin with http:// (HTTPS comes with a later version)")]
    Address {
        /// The address.
        url: String,
    },
    /// The token would cross a network in the clear.
    #[error(
        "HIGHWATER_URL {url} is refused: without TLS the token would cross the network in the clear; forward the API to \
         this machine (ssh -L 8080:127.0.0.1:8080 COLLECTOR) and set HIGHWATER_URL=http://127.0.0.1:8080"
    )]
    InTheClear {
        /// The address.
        url: String,
    },
    /// Nobody answers there.
    #[error("cannot reach {url}: {why}; is `highwater up` running?")]
    Unreachable {
        /// The address.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The collector refused the question.
    #[error("{detail}")]
    Refused {
        /// The `code` of the problem document.
        code: String,
        /// What, where, remedy.
        detail: String,
    },
    /// Something else answers there, or another version.
    #[error("{url} answered what is no answer of a collector: {why}; is that the right address?")]
    Foreign {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Client {
    /// The collector that environment and client file name.
    pub fn from_environment() -> Result<Self, ClientError> {
        Self::named(&|name| std::env::var_os(name), default_data_dir().map(|dir| dir.join(CLIENT_FILE)))
    }

    fn named(variable: Variable<'_>, client_path: Option<PathBuf>) -> Result<Self, ClientError> {
        let url = text_of(variable, "HIGHWATER_URL");
        let token = text_of(variable, "HIGHWATER_TOKEN");
        let token_file = variable("HIGHWATER_TOKEN_FILE").filter(|path| !path.is_empty());
        let file = match client_path.as_deref().map(read_client_file).transpose() {
            // Whoever names address and token needs no client file.
            Err(_) if url.is_some() && (token.is_some() || token_file.is_some()) => None,
            read => read?.flatten(),
        };
        let looked_for = client_path.unwrap_or_else(|| PathBuf::from(CLIENT_FILE));
        let base = match (&url, &file) {
            (Some(url), _) => url.clone(),
            (None, Some(file)) => file.http.clone(),
            (None, None) => return Err(ClientError::NoAddress { looked_for }),
        };
        let base = base.trim_end_matches('/').to_owned();
        check_address(&base)?;
        let own_file = file.filter(|f| f.http.trim_end_matches('/') == base);
        let token = match (token, token_file, &own_file) {
            (Some(token), ..) => token,
            (None, Some(path), _) => {
                String::from_utf8_lossy(&secret_file::read(&PathBuf::from(path), MAX_FILE)?).trim().to_owned()
            }
            (None, None, Some(file)) => file.token.clone(),
            (None, None, None) => return Err(ClientError::NoToken { url: base }),
        };
        Ok(Self::new(base, token, own_file.and_then(|f| f.host)))
    }

    fn new(base: String, token: String, own_host: Option<String>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy of the environment is for the web, not for the collector.
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(ANSWER_TIMEOUT))
            .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), base, token, own_host }
    }

    /// The id of this machine at that collector, where `up` has left it.
    pub fn own_host(&self) -> Option<&str> {
        self.own_host.as_deref()
    }

    /// Asks; the answer is one JSON document.
    pub fn get(&self, path: &str, parameters: &[(&str, String)]) -> Result<String, ClientError> {
        let url = format!("{}/api/v1{path}{}", self.base, query(parameters));
        let request = self.agent.get(&url).header("authorization", self.bearer());
        self.answer(&url, request.call())
    }

    /// Sends one JSON document; the answer is another.
    pub fn post(&self, path: &str, document: &str) -> Result<String, ClientError> {
        let url = format!("{}/api/v1{path}", self.base);
        let request = self.agent.post(&url).header("authorization", self.bearer());
        self.answer(&url, request.header("content-type", "application/json").send(document))
    }

    /// Asks; the answer is read as it comes. A body that breaks off is an error of the reader's.
    pub fn get_stream(&self, path: &str, parameters: &[(&str, String)]) -> Result<impl Read + use<>, ClientError> {
        let url = format!("{}/api/v1{path}{}", self.base, query(parameters));
        let request = self.agent.get(&url).header("authorization", self.bearer());
        let sent = request.config().timeout_global(None).timeout_recv_response(Some(NEXT_BYTES)).build().call();
        match sent {
            Ok(response) if response.status().is_success() => Ok(response.into_body().into_reader()),
            other => Err(self.answer(&url, other).err().unwrap_or_else(|| self.foreign("no answer"))),
        }
    }

    /// Sends what a reader gives, as it comes; the answer is one JSON document.
    pub fn post_stream(
        &self,
        path: &str,
        parameters: &[(&str, String)],
        body: &mut dyn Read,
    ) -> Result<String, ClientError> {
        let url = format!("{}/api/v1{path}{}", self.base, query(parameters));
        let request = self.agent.post(&url).header("authorization", self.bearer());
        // Refused at the head, nothing is sent: then nobody reads it, and the answer would be lost with the connection.
        let request = request.header("content-type", "application/x-ndjson").header("expect", "100-continue");
        let request = request.config().timeout_global(None).build();
        let mut body = body;
        self.answer(&url, request.send(SendBody::from_reader(&mut body)))
    }

    fn foreign(&self, why: &str) -> ClientError {
        ClientError::Foreign { url: self.base.clone(), why: why.to_owned() }
    }

    /// Ends what the path names; there is no answer but that it is done.
    pub fn delete(&self, path: &str) -> Result<(), ClientError> {
        let url = format!("{}/api/v1{path}", self.base);
        let request = self.agent.delete(&url).header("authorization", self.bearer());
        self.answer(&url, request.call()).map(drop)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn answer(
        &self,
        url: &str,
        sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<String, ClientError> {
        let unreachable = |e: ureq::Error| ClientError::Unreachable { url: self.base.clone(), why: why(&e) };
        let mut response = sent.map_err(unreachable)?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().map_err(unreachable)?;
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_str::<ProblemJson>(&body) {
            Ok(problem) if problem.code == "unauthorized" => Err(ClientError::Refused {
                detail: format!(
                    "{} does not accept the token: {}; set HIGHWATER_TOKEN_FILE to one that is valid there",
                    self.base, problem.detail
                ),
                code: problem.code,
            }),
            Ok(problem) => Err(ClientError::Refused { code: problem.code, detail: problem.detail }),
            Err(_) => Err(ClientError::Foreign { url: url.to_owned(), why: format!("HTTP status {status}") }),
        }
    }

    /// Reads an answer.
    pub fn read<T: DeserializeOwned>(&self, answer: &str) -> Result<T, ClientError> {
        serde_json::from_str(answer)
            .map_err(|e| ClientError::Foreign { url: self.base.clone(), why: format!("JSON: {e}") })
    }
}

/// A path segment.
pub fn segment(text: &str) -> String {
    escape(text)
}

#[derive(Deserialize)]
struct ClientFile {
    http: String,
    token: String,
    #[serde(default)]
    host: Option<String>,
}

#[derive(Deserialize)]
struct ProblemJson {
    code: String,
    detail: String,
}

fn read_client_file(path: &Path) -> Result<Option<ClientFile>, ClientError> {
    let bytes = match secret_file::read(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(e) if e.is_missing() => return Ok(None),
        // Somebody else's `up`: not ours to use, and HIGHWATER_URL may say where ours is.
        Err(SecretFileError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let wrong = |e: serde_json::Error| ClientError::ClientFile { path: path.to_owned(), why: e.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(wrong)
}

fn text_of(variable: Variable<'_>, name: &str) -> Option<String> {
    variable(name)?.into_string().ok().map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
}

/// Only `http://`, and that only on this machine: a bearer token is as good as its owner.
fn check_address(url: &str) -> Result<(), ClientError> {
    let parsed = url.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http"));
    let host = parsed.as_ref().and_then(Uri::host).ok_or_else(|| ClientError::Address { url: url.to_owned() })?;
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback()) {
        return Ok(());
    }
    Err(ClientError::InTheClear { url: url.to_owned() })
}

fn query(parameters: &[(&str, String)]) -> String {
    let mut query = String::new();
    for (name, value) in parameters {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(name);
        query.push('=');
        query.push_str(&escape(value));
    }
    query
}

/// Percent-encodes everything but what is never special.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The cause in words a person knows.
fn why(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ureq::Error::Io(e) => e.to_string(),
        ureq::Error::HostNotFound => "no such host name".to_owned(),
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_segment_and_a_parameter_are_escaped() {
        assert_eq!(segment("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
        assert_eq!(
            query(&[("at", "2026-11-24T03:12:00+01:00".into()), ("x", "1".into())]),
            "?at=2026-11-24T03%3A12%3A00%2B01%3A00&x=1"
        );
        assert_eq!(query(&[]), "");
    }

    fn named(variables: &[(&str, &str)], client_path: Option<PathBuf>) -> Result<Client, ClientError> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        Client::named(&find, client_path)
    }

    #[test]
    fn a_token_is_not_sent_in_the_clear_to_another_machine() {
        let to = |url: &str| named(&[("HIGHWATER_URL", url), ("HIGHWATER_TOKEN", "t")], None);
        for here in ["http://127.0.0.1:8080/", "http://127.1.2.3", "http://[::1]:1", "http://LOCALHOST:8080"] {
            assert!(to(here).is_ok(), "{here}");
        }
        for elsewhere in ["http://10.0.0.1:8080", "http://db", "http://127.0.0.1@db:80", "http://localhost.example.org"]
        {
            assert!(matches!(to(elsewhere), Err(ClientError::InTheClear { .. })), "{elsewhere}");
        }
        for other in ["https://127.0.0.1", "127.0.0.1:8080", "http://", "ftp://localhost"] {
            assert!(matches!(to(other), Err(ClientError::Address { .. })), "{other}");
        }
    }

    /// A damaged client file failed every command, although nothing was wanted from it.
    #[test]
    fn a_client_file_that_cannot_be_used_matters_only_to_those_who_need_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CLIENT_FILE);
        secret_file::create(&path, b"{").unwrap();
        let url = ("HIGHWATER_URL", "http://127.0.0.1:1");
        assert!(named(&[url, ("HIGHWATER_TOKEN", "t")], Some(path.clone())).is_ok());
        assert!(matches!(named(&[url], Some(path)), Err(ClientError::ClientFile { .. })));
    }

    /// What a server sends before it is gone.
    fn cut_off(sent: &'static str) -> (Client, std::thread::JoinHandle<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).unwrap();
            io::Write::write_all(&mut socket, sent.as_bytes()).unwrap();
        });
        (Client::new(base, "t".into(), None), server)
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error_of_its_reader() {
        let whole = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n";
        for (sent, ends) in [(whole, true), (&whole[..whole.len() - 5], false), (&whole[..whole.len() - 9], false)] {
            let (client, server) = cut_off(sent);
            let mut text = String::new();
            let read = client.get_stream("/x", &[]).unwrap().read_to_string(&mut text);
            assert_eq!(read.is_ok(), ends, "{sent:?}: {read:?}");
            server.join().unwrap();
        }
    }

    #[test]
    fn an_address_where_nobody_listens_is_named_with_the_remedy() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Client::new(base.clone(), "t".into(), None).get("/version", &[]).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot reach {base}: connection refused; is `highwater up` running?"));
    }
}
