//! The two addresses of `up`: the ones asked for or none; the default ones, or free ports if those are taken.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::TcpListener;

/// Default port of the API.
pub const HTTP_PORT: u16 = 8080;
/// Default port for agents.
pub const GRPC_PORT: u16 = 8443;

/// An address to listen on: `IP:PORT`, `localhost:PORT` or `:PORT` (loopback).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is no address to listen on: IP:PORT, localhost:PORT or :PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        if host.is_empty() || host == "localhost" {
            let port = port.parse().map_err(|_| refused())?;
            return Ok(Self(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)));
        }
        text.parse().map(Self).map_err(|_| refused())
    }
}

/// Why there is nothing to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not this machine's.
    #[error("listening on {address} for {what} ({flag}): {source}; choose another {flag}, port 0 = any free one")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// The flag that chooses it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// HTTP without TLS off loopback.
    #[error(
        "--http {0} is refused: the API has no TLS here, so tokens and answers would cross the network in the clear; \
         listen on loopback and forward it (ssh -L)"
    )]
    NotLoopback(SocketAddr),
}

/// A listener, and whether it is not where people expect it.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub listener: TcpListener,
    /// Where it listens.
    pub bound: SocketAddr,
    /// The default address, if that was taken and this is a free port instead.
    pub instead_of: Option<SocketAddr>,
}

/// For the API.
pub async fn http(asked: Option<Address>) -> Result<Listening, ListenError> {
    match asked {
        Some(Address(address)) if !address.ip().is_loopback() => Err(ListenError::NotLoopback(address)),
        asked => listen(asked, HTTP_PORT, "the API", "--http").await,
    }
}

/// For agents; any address will do, for nobody enters without a certificate.
pub async fn grpc(asked: Option<Address>) -> Result<Listening, ListenError> {
    listen(asked, GRPC_PORT, "agents", "--grpc").await
}

async fn listen(
    asked: Option<Address>,
    default_port: u16,
    what: &'static str,
    flag: &'static str,
) -> Result<Listening, ListenError> {
    let default = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), default_port);
    let address = asked.map_or(default, |a| a.0);
    let failed = |address| move |source| ListenError::Bind { address, what, flag, source };
    let (listener, instead_of) = match TcpListener::bind(address).await {
        Err(e) if asked.is_none() && e.kind() == io::ErrorKind::AddrInUse => {
            let any = SocketAddr::new(address.ip(), 0);
            (TcpListener::bind(any).await.map_err(failed(any))?, Some(address))
        }
        other => (other.map_err(failed(address))?, None),
    };
    let bound = listener.local_addr().map_err(failed(address))?;
    Ok(Listening { listener, bound, instead_of })
}

/// The address under which this machine itself reaches a listener.
pub fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_read_and_other_text_is_refused() {
        assert_eq!(address(":0").0.to_string(), "127.0.0.1:0");
        assert_eq!(address("localhost:81").0.to_string(), "127.0.0.1:81");
        assert_eq!(address("[::1]:0").0.to_string(), "[::1]:0");
        assert_eq!(address("0.0.0.0:8443").0.to_string(), "0.0.0.0:8443");
        for other in ["", "8080", "example.org:80", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:x"] {
            assert!(other.parse::<Address>().is_err(), "{other}");
        }
    }

    #[tokio::test]
    async fn a_taken_address_that_was_asked_for_is_an_error() {
        let first = grpc(Some(address("127.0.0.1:0"))).await.unwrap();
        let error = grpc(Some(Address(first.bound))).await.unwrap_err().to_string();
        assert!(error.contains("--grpc") && error.contains(&first.bound.to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_taken_default_is_replaced_by_a_free_port() {
        let first = listen(Some(address(":0")), 0, "a test", "--test").await.unwrap();
        let second = listen(None, first.bound.port(), "a test", "--test").await.unwrap();
        assert_eq!(second.instead_of, Some(first.bound));
        assert_ne!(second.bound, first.bound);
    }

    #[tokio::test]
    async fn http_off_loopback_is_refused() {
        assert!(matches!(http(Some(address("0.0.0.0:0"))).await, Err(ListenError::NotLoopback(_))));
        assert!(http(Some(address("[::1]:0"))).await.is_ok_and(|l| l.bound.ip().is_loopback()));
    }

    #[test]
    fn an_address_of_all_interfaces_is_reached_by_loopback() {
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap()).to_string(), "127.0.0.1:1");
        assert_eq!(reachable("[::]:1".parse().unwrap()).to_string(), "[::1]:1");
        assert_eq!(reachable("10.0.0.1:1".parse().unwrap()).to_string(), "10.0.0.1:1");
    }
}
