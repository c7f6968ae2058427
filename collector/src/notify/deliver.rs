//! From a notice to a receiver that has taken it, or to words that say why not and what to do.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::http::{self, HttpError, Post};
use super::mail::{self, Envelope};
use super::receiver::{Receiver, Receivers, Secret, Smtp, Way};
use super::smtp::{self, SmtpError};
use super::text::Sending;
use super::tls::Trust;
use super::{alertmanager, slack, webhook};

/// How long a receiver may take for one notice, all in all.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A delivery under way.
pub type Delivery<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// What a courier hands a notice to.
pub trait Deliver: Send + Sync + 'static {
    /// Tells a receiver; `Ok` only if it said that it has taken it.
    fn deliver<'a>(&'a self, receiver: &'a Receiver, sending: Sending<'a>) -> Delivery<'a>;
}

/// Why a receiver has not taken a notice, for all anybody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// What happened.
    pub what: String,
    /// What a person can do about it.
    pub remedy: &'static str,
    /// Whether it was this notice that it would not take, rather than that it cannot be reached or is in trouble.
    pub refused: bool,
    /// How long it asks to be left alone, milliseconds.
    pub wait_ms: Option<i64>,
}

/// The real thing: HTTP and SMTP.
pub struct Wires {
    trust: HashMap<String, Result<Trust, String>>,
    patience: Duration,
}

impl Wires {
    /// For these receivers.
    pub fn new(receivers: &Receivers, patience: Duration) -> Self {
        let trust = |r: &Receiver| (r.name.clone(), Trust::new(r.ca_pem.as_deref()));
        Self { trust: receivers.list.iter().map(trust).collect(), patience }
    }

    async fn send(&self, receiver: &Receiver, sending: &Sending<'_>) -> Result<(), Failure> {
        let unknown = Err("this receiver came after the start".to_owned());
        let trust = self.trust.get(&receiver.name).unwrap_or(&unknown);
        let post = |endpoint, headers, body| http::post(Post { endpoint, trust, headers, body });
        let sent = match &receiver.way {
            Way::Webhook { endpoint, secret } => {
                let body = webhook::body(sending);
                let headers = webhook::headers(sending, secret.reveal(), &body).to_vec();
                post(endpoint, headers, body).await
            }
            Way::Alertmanager { endpoint, authorization, refresh_ms } => {
                let headers = authorization.iter().map(header).collect();
                post(endpoint, headers, alertmanager::body(sending, *refresh_ms)).await
            }
            Way::Slack { endpoint } => post(endpoint, Vec::new(), slack::body(sending)).await,
            Way::Smtp(smtp) => return self.mail(smtp, receiver, sending).await,
        };
        sent.map_err(|error| of_http(&error))
    }

    async fn mail(&self, smtp: &Smtp, receiver: &Receiver, sending: &Sending<'_>) -> Result<(), Failure> {
        let message = mail::message(sending, Envelope { from: &smtp.from, to: &smtp.to });
        let sent = smtp::send(smtp, receiver.ca_pem.as_deref(), &message).await;
        sent.map_err(|error| of_smtp(&error))
    }
}

impl Deliver for Wires {
    fn deliver<'a>(&'a self, receiver: &'a Receiver, sending: Sending<'a>) -> Delivery<'a> {
        Box::pin(async move {
            let sent = tokio::time::timeout(self.patience, self.send(receiver, &sending)).await;
            sent.unwrap_or_else(|_| Err(self.too_slow()))
        })
    }
}

impl Wires {
    fn too_slow(&self) -> Failure {
        Failure {
            what: format!("no answer within {} s", self.patience.as_secs_f64()),
            remedy: "see why it is slow or hangs; it may have taken the notice, and gets it again under the same id",
            refused: false,
            wait_ms: None,
        }
    }
}

fn header(secret: &Secret) -> (&'static str, String) {
    ("authorization", String::from_utf8_lossy(secret.reveal()).into_owned())
}

fn of_http(error: &HttpError) -> Failure {
    let mut failure = Failure { what: error.to_string(), remedy: "", refused: false, wait_ms: None };
    failure.remedy = match error {
        HttpError::Connect(_) => "see whether it runs, whether url names it, and whether a firewall is in between",
        HttpError::Tls(_) | HttpError::Trust(_) => {
            "see whether its certificate is valid for the name in url; a CA of your own is named by ca_file"
        }
        HttpError::Broken(_) => "see its log: it ended the connection before it answered",
        HttpError::Request(_) => "see whether url and secret_file hold what can stand in a request",
        HttpError::Refused { status, moved_to, wait_ms, .. } => {
            if let Some(place) = moved_to {
                failure.what = format!("{} (to {place})", failure.what);
            }
            failure.wait_ms = *wait_ms;
            failure.refused = matches!(status, 400 | 409 | 413 | 415 | 422);
            of_status(*status)
        }
    };
    failure
}

fn of_status(status: u16) -> &'static str {
    match status {
        300..=399 => "redirects are not followed: set url (for slack, the URL in secret_file) to where it has moved",
        401 | 403 => "see whether secret_file (and username) hold what it expects",
        404 | 405 | 410 => "see whether the path of url is right, and whether the webhook still exists there",
        400 | 413 | 415 | 422 => "it does not take this payload: see whether kind is what it is, and its log",
        429 => "it is told less often by itself; see whether others use the same webhook",
        _ => "see its log; it is tried again by itself",
    }
}

fn of_smtp(error: &SmtpError) -> Failure {
    let (remedy, refused) = match error {
        SmtpError::Server(e) if e.is_permanent() => {
            ("the mail server refuses it for good: see from, to, username and secret_file, and its log", true)
        }
        SmtpError::Server(e) if e.is_transient() => ("the mail server is in trouble for now: see its log", false),
        SmtpError::Server(e) if e.is_tls() || error.to_string().contains("certificate") => (
            "see whether security (starttls, tls, plain) and port fit together, and whether its certificate is valid for \
             the name in server; a CA of your own is named by ca_file",
            false,
        ),
        SmtpError::Server(_) => {
            ("see whether server and port are right, and whether security fits them (starttls, tls, plain)", false)
        }
        SmtpError::Address(_) | SmtpError::Envelope(_) => ("see from and to", true),
    };
    Failure { what: error.to_string(), remedy, refused, wait_ms: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_remedy_and_a_redirect_says_where_to() {
        for status in [301, 400, 401, 403, 404, 410, 422, 429, 500, 503] {
            let refused = |moved_to| HttpError::Refused { status, moved_to, wait_ms: Some(7), said: None };
            let failure = of_http(&refused(None));
            assert!(!failure.remedy.is_empty() && failure.what.contains(&status.to_string()));
            assert_eq!(failure.wait_ms, Some(7));
            assert!(of_http(&refused(Some("https://b.example".to_owned()))).what.contains("https://b.example"));
        }
    }
}
