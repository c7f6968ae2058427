//! Where the collector is: `https://HOST:PORT` or `HOST:PORT`.

use std::fmt;

/// The collector's gRPC port unless told.
const PORT: u16 = 8443;

/// Host and port to dial. Who answers there is decided by certificate, never by this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or IP address, an IPv6 one without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Address {
    /// Reads `https://HOST[:PORT][/]` or `HOST[:PORT]`; without a port it is 8443.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let refuse = |why| AddressError { text: text.escape_debug().to_string(), why };
        let text = text.trim();
        let rest = match text.split_once("://") {
            Some(("https", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(_) => return Err(refuse("the only scheme is https")),
            None => text,
        };
        let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
            let (host, after) = bracketed.split_once(']').ok_or_else(|| refuse("the bracket is not closed"))?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(refuse("after the bracket comes :PORT")),
            }
        } else {
            match rest.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(refuse("an IPv6 address goes in [brackets]")),
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            }
        };
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:%".contains(&b)) {
            return Err(refuse("that is no host name or IP address"));
        }
        let port = port.map_or(Ok(PORT), |p| p.parse().map_err(|_| refuse("the port is no number up to 65535")))?;
        if port == 0 {
            return Err(refuse("port 0 cannot be dialled"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

/// Text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no collector address: {why}; it looks like https://collector.example.org:8443")]
pub struct AddressError {
    /// The text, escaped.
    text: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls_and_host_port_pairs() {
        for (text, shown) in [
            ("https://collector.example.org:8443", "https://collector.example.org:8443"),
            ("https://collector.example.org/", "https://collector.example.org:8443"),
            ("127.0.0.1:9000", "https://127.0.0.1:9000"),
            ("[::1]:9000", "https://[::1]:9000"),
            ("https://[fe80::1%eth0]", "https://[fe80::1%eth0]:8443"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refuses_other_text_and_escapes_it() {
        for text in ["", "http://a:1", "a:0", "a:65536", "::1", "[::1", "[::1]9", "a b", "a\u{1b}[31m:1", "https://a/b"]
        {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(!error.contains('\u{1b}'), "{error}");
        }
    }
}
