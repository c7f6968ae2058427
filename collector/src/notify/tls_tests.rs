//! Receivers behind TLS: HTTPS, and mail with TLS from the first byte or after STARTTLS.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::deliver::{Deliver as _, Failure, Wires};
use super::notice::Transition;
use super::notice::samples::full;
use super::receiver::{Endpoint, Receiver, Receivers, Secret, Security, Smtp, Way};
use super::text::Sending;

/// A certificate for `localhost`, its PEM, and a server that shows it.
fn server() -> (TlsAcceptor, Vec<u8>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem().into_bytes())
}

async fn told(way: Way, ca_pem: Option<Vec<u8>>) -> Result<(), Failure> {
    let receiver = Receiver { name: "a".to_owned(), way, severities: Vec::new(), labels: [].into(), ca_pem };
    let receivers = Receivers { list: vec![receiver.clone()], runbook_url: None };
    let wires = Wires::new(&receivers, Duration::from_secs(10));
    let notice = full(1, Transition::Raised);
    wires.deliver(&receiver, Sending { notice: &notice, now_ms: 0, runbook_url: None, again: false }).await
}

/// One request, one answer.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
        line.clear();
    }
    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn a_receiver_with_a_certificate_of_ca_file_is_told_and_another_is_not() {
    let (acceptor, pem) = server();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream).await;
            }
        }
    });
    let webhook = |host: &str| Way::Webhook {
        endpoint: Endpoint::parse(&format!("https://{host}:{port}/x")).unwrap(),
        secret: Secret::new(b"s".to_vec()),
    };
    assert_eq!(told(webhook("localhost"), Some(pem.clone())).await, Ok(()));
    // Another CA, and another name.
    for (host, ca) in [("localhost", server().1), ("127.0.0.1", pem)] {
        let failure = told(webhook(host), Some(ca)).await.unwrap_err();
        assert!(failure.what.starts_with("TLS: ") && failure.remedy.contains("ca_file"), "{failure:?}");
    }
}

/// Enough of SMTP for one mail; `true` = the client asked for TLS.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, greet: bool, offers: &str) -> bool {
    if greet {
        stream.write_all(b"220 localhost\r\n").await.unwrap();
    }
    let mut line = String::new();
    while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
        let verb = line.trim_end().split(' ').next().unwrap_or("").to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => format!("250-localhost\r\n{offers}250 8BITMIME\r\n"),
            "STARTTLS" => "220 go\r\n".to_owned(),
            "DATA" => "354 go\r\n".to_owned(),
            "." | "MAIL" | "RCPT" | "AUTH" => "250 ok\r\n".to_owned(),
            "QUIT" => "221 bye\r\n".to_owned(),
            _ => String::new(),
        };
        stream.write_all(reply.as_bytes()).await.unwrap();
        if verb == "STARTTLS" {
            return true;
        }
        line.clear();
    }
    false
}

fn smtp(port: u16, security: Security) -> Way {
    Way::Smtp(Smtp {
        server: "localhost".to_owned(),
        port,
        security,
        from: "a@example.org".to_owned(),
        to: vec!["b@example.org".to_owned()],
        login: None,
    })
}

#[tokio::test]
async fn mail_goes_over_tls_from_the_first_byte_or_after_starttls_and_never_without() {
    let (acceptor, pem) = server();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (ways, mut way) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Some((security, offers)) = way.recv().await {
            let (stream, _) = listener.accept().await.unwrap();
            if security == Security::Tls {
                if let Ok(stream) = acceptor.accept(stream).await {
                    talk(&mut BufReader::new(stream), true, "").await;
                }
                continue;
            }
            let mut plain = BufReader::new(stream);
            if talk(&mut plain, true, offers).await
                && let Ok(stream) = acceptor.accept(plain.into_inner()).await
            {
                talk(&mut BufReader::new(stream), false, "").await;
            }
        }
    });
    for security in [Security::Tls, Security::StartTls] {
        ways.send((security, "250-STARTTLS\r\n")).await.unwrap();
        assert_eq!(told(smtp(port, security), Some(pem.clone())).await, Ok(()), "{security:?}");
    }
    // Somebody in between takes the offer away.
    ways.send((Security::StartTls, "")).await.unwrap();
    told(smtp(port, Security::StartTls), Some(pem.clone())).await.unwrap_err();
    ways.send((Security::Tls, "")).await.unwrap();
    let failure = told(smtp(port, Security::Tls), Some(server().1)).await.unwrap_err();
    assert!(failure.remedy.contains("certificate"), "{failure:?}");
}
