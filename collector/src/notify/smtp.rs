//! One mail to a mail server: a new connection; taken is what the server answered for after the last line of it.

use lettre::address::{Address, Envelope};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use super::receiver::{Security, Smtp};

/// Why a mail was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// The server refused it for good, or for now; or could not be talked to.
    #[error("{}", words(.0))]
    Server(lettre::transport::smtp::Error),
    /// An address that the configuration should have refused.
    #[error("no address: {0}")]
    Address(lettre::address::AddressError),
    /// An envelope without addresses, likewise.
    #[error("no envelope: {0}")]
    Envelope(lettre::error::Error),
}

/// Whether this is an address that a mail can go to: without a name beside it.
pub fn is_address(text: &str) -> bool {
    text.is_ascii() && text.parse::<Address>().is_ok()
}

/// Sends it.
pub async fn send(smtp: &Smtp, ca_pem: Option<&[u8]>, message: &str) -> Result<(), SmtpError> {
    let address = |text: &String| text.parse::<Address>().map_err(SmtpError::Address);
    let to = smtp.to.iter().map(address).collect::<Result<Vec<_>, _>>()?;
    let envelope = Envelope::new(Some(address(&smtp.from)?), to).map_err(SmtpError::Envelope)?;
    let tls = match smtp.security {
        Security::Plain => Tls::None,
        Security::StartTls => Tls::Required(parameters(smtp, ca_pem)?),
        Security::Tls => Tls::Wrapper(parameters(smtp, ca_pem)?),
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.server)
        .port(smtp.port)
        .tls(tls)
        .hello_name(ClientId::Domain("highwater.invalid".to_owned()));
    if let Some((user, password)) = &smtp.login {
        let password = String::from_utf8_lossy(password.reveal()).into_owned();
        transport = transport.credentials(Credentials::new(user.clone(), password));
    }
    let sent = transport.build().send_raw(&envelope, message.as_bytes()).await;
    sent.map(drop).map_err(SmtpError::Server)
}

fn parameters(smtp: &Smtp, ca_pem: Option<&[u8]>) -> Result<TlsParameters, SmtpError> {
    let mut parameters = TlsParameters::builder(smtp.server.clone());
    if let Some(pem) = ca_pem {
        parameters = parameters.certificate_store(CertificateStore::None);
        parameters = parameters.add_root_certificate(Certificate::from_pem(pem).map_err(SmtpError::Server)?);
    }
    parameters.build_rustls().map_err(SmtpError::Server)
}

/// The error and its causes on one line.
fn words(error: &lettre::transport::smtp::Error) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    super::text::one_line(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_and_nothing_beside_it() {
        assert!(is_address("a.b+c@d.example") && is_address("root@localhost"));
        for bad in
            ["", "a", "a@", "A <a@b.example>", "a@b.example\r\nRCPT TO:<x@y.example>", "a b@c.example", "ä@b.example"]
        {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
