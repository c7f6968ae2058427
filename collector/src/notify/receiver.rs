//! Who is told, and how they are reached. Pure; secrets do not show in `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use hyper::Uri;

use super::notice::Severity;

/// Everybody who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receivers {
    /// In the order of the file.
    pub list: Vec<Receiver>,
    /// Where people read what to do: see [`super::text::Sending::runbook_url`].
    pub runbook_url: Option<String>,
}

impl Receivers {
    /// The one of that name.
    pub fn find(&self, name: &str) -> Option<&Receiver> {
        self.list.iter().find(|receiver| receiver.name == name)
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Its name, unique.
    pub name: String,
    /// How it is reached.
    pub way: Way,
    /// Of which severities it is told; what it was told of, it is told of to the end.
    pub severities: Vec<Severity>,
    /// Labels that a host must have; empty = any host.
    pub labels: BTreeMap<String, String>,
    /// Certificates (PEM) that its server's is checked against, instead of this machine's.
    pub ca_pem: Option<Vec<u8>>,
}

impl Receiver {
    /// Where it is, without what is secret in it.
    pub fn place(&self) -> String {
        match &self.way {
            Way::Webhook { endpoint, .. } | Way::Alertmanager { endpoint, .. } | Way::Slack { endpoint } => {
                endpoint.origin()
            }
            Way::Smtp(smtp) => format!("{} via {}:{}", smtp.to.join(", "), smtp.server, smtp.port),
        }
    }
}

/// How a receiver is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A signed POST of JSON.
    Webhook {
        /// Where.
        endpoint: Endpoint,
        /// What it is signed with.
        secret: Secret,
    },
    /// Alertmanager's API v2.
    Alertmanager {
        /// Its root, below which `/api/v2/alerts` is.
        endpoint: Endpoint,
        /// The whole value of the `Authorization` header.
        authorization: Option<Secret>,
        /// How often an open alert is sent again, milliseconds.
        refresh_ms: i64,
    },
    /// An incoming webhook of Slack, or of what takes the same.
    Slack {
        /// Where; whoever knows it may post.
        endpoint: Endpoint,
    },
    /// A mail.
    Smtp(Smtp),
}

impl Way {
    /// Its word in configuration and answers.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Alertmanager { .. } => "alertmanager",
            Self::Slack { .. } => "slack",
            Self::Smtp(_) => "smtp",
        }
    }

    /// How often what it was told of is told again while it lasts, milliseconds; `None` = once is enough.
    pub fn refresh_ms(&self) -> Option<i64> {
        match self {
            Self::Alertmanager { refresh_ms, .. } => Some(*refresh_ms),
            _ => None,
        }
    }
}

/// A mail server and who writes to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// The server.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept private.
    pub security: Security,
    /// The sender's address.
    pub from: String,
    /// The addresses.
    pub to: Vec<String>,
    /// User and password.
    pub login: Option<(String, Secret)>,
}

/// How a connection to a mail server is kept private.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS after `STARTTLS`; a server that does not offer it is not written to.
    StartTls,
    /// None.
    Plain,
}

/// Bytes that nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// These.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// For a signature or a header, never for a log.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a request goes. Its path can be a secret and does not show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether over TLS.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Host and port as they stand in the URL, for the `Host` header.
    pub authority: String,
}

impl Endpoint {
    /// Reads a URL; the error says what is wrong with it without showing it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.trim().parse().map_err(|_| "is no URL")?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("must begin with https:// or http://"),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("holds a user or password: secrets come from secret_file");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("names no host");
        }
        Ok(Self {
            tls,
            host,
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
            authority: authority.as_str().to_owned(),
        })
    }

    /// The same below this path.
    #[must_use]
    pub fn below(mut self, path: &str) -> Self {
        self.path = format!("{}{path}", self.path.trim_end_matches('/'));
        self
    }

    /// `https://HOST:PORT`: what may be shown.
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

/// Whether a host is this machine for sure: nobody listens in between.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver() -> Receiver {
        let endpoint = Endpoint::parse("https://hooks.example.org/services/T0/SECRET?x=1").unwrap();
        Receiver {
            name: "a".to_owned(),
            way: Way::Slack { endpoint },
            severities: Vec::new(),
            labels: BTreeMap::new(),
            ca_pem: None,
        }
    }

    #[test]
    fn what_is_shown_of_a_receiver_holds_no_secret() {
        let shown = format!("{:?} {}", receiver(), receiver().place());
        assert!(shown.contains("https://hooks.example.org") && !shown.contains("SECRET"), "{shown}");
        assert_eq!(format!("{:?}", Secret::new(b"x".to_vec())), "***");
    }

    #[test]
    fn a_url_names_scheme_host_and_port_and_no_password() {
        let v6 = Endpoint::parse("http://[::1]:9093/am/").unwrap().below("/api/v2/alerts");
        assert_eq!((&*v6.host, v6.port, &*v6.path, v6.tls), ("::1", 9093, "/am/api/v2/alerts", false));
        assert_eq!(Endpoint::parse("https://a.example").unwrap().port, 443);
        for bad in ["", "a.example/x", "ftp://a.example", "https://user:pw@a.example/", "https:///x", "https://a b/"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
        assert!(is_loopback("::1") && is_loopback("localhost") && is_loopback("127.1.2.3") && !is_loopback("10.0.0.1"));
    }
}
