//! A signed webhook. Pure.
//!
//! The body is `{"id","sent_at","transition","runbook_url","flag":{..}}`, the flag in the shape of `highwater flags --json`.
//! Three headers go with it:
//!
//! - `Highwater-Id`: the notice; the same each time it is sent, so whoever has seen it drops it.
//! - `Highwater-Timestamp`: when it was sent, seconds since 1970.
//! - `Highwater-Signature`: `v1=` and the HMAC-SHA256, in hex, of timestamp, `.` and body under the shared secret.
//!
//! A receiver computes the signature over the bytes that came, compares it in constant time, and refuses a timestamp that
//! differs from its own clock by more than [`REPLAY_WINDOW_S`]: each attempt is signed anew.

use highwater_ipc::time::format_rfc3339_ms;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;

use super::json::FlagJson;
use super::text::Sending;

/// Header with the notice's id.
pub const ID_HEADER: &str = "highwater-id";
/// Header with the time of sending.
pub const TIMESTAMP_HEADER: &str = "highwater-timestamp";
/// Header with the signature.
pub const SIGNATURE_HEADER: &str = "highwater-signature";
/// How old or how far ahead a timestamp may be, seconds: what receivers should allow.
pub const REPLAY_WINDOW_S: i64 = 300;

#[derive(Serialize)]
struct Body<'a> {
    id: String,
    sent_at: String,
    transition: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runbook_url: Option<String>,
    flag: FlagJson,
}

/// The body.
pub fn body(sending: &Sending<'_>) -> String {
    let notice = sending.notice;
    let body = Body {
        id: notice.id(),
        sent_at: format_rfc3339_ms(sending.now_ms),
        transition: notice.transition.name(),
        runbook_url: sending.runbook(),
        flag: FlagJson::from(&notice.flag),
    };
    serde_json::to_string(&body).unwrap_or_default()
}

/// The three headers of a body, signed at that time.
pub fn headers(sending: &Sending<'_>, secret: &[u8], body: &str) -> [(&'static str, String); 3] {
    let timestamp = sending.now_ms.div_euclid(1000).to_string();
    let signature = format!("v1={}", signature(secret, &timestamp, body.as_bytes()));
    [(ID_HEADER, sending.notice.id()), (TIMESTAMP_HEADER, timestamp), (SIGNATURE_HEADER, signature)]
}

/// HMAC-SHA256 over timestamp, `.` and body, in hex: what stands behind `v1=`.
pub fn signature(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    highwater_proto::token::to_hex(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::notice::Transition;
    use super::super::notice::samples::full;
    use super::*;

    /// Computed with `openssl dgst -sha256 -hmac`: `printf '1795558860.{"a":1}' | openssl dgst -sha256 -hmac s3cret`.
    #[test]
    fn the_signature_is_what_openssl_computes() {
        assert_eq!(
            signature(b"s3cret", "1795558860", b"{\"a\":1}"),
            "6cdca8b4a8ac0da5426392c205eb07a0246b49d1f8689d4dd7fef8a45cef2bbb"
        );
    }

    #[test]
    fn a_webhook_reads_as_its_golden_text() {
        let notice = full(1, Transition::Raised);
        let runbook_url = Some("https://wiki.example.org/highwater/{kind}");
        let sending = Sending { notice: &notice, now_ms: 1_795_558_861_234, runbook_url, again: false };
        super::super::golden::check("webhook.json", &body(&sending));
        let [id, timestamp, signed] = headers(&sending, b"s3cret", "{}");
        assert_eq!(id, ("highwater-id", "000000001234abcd-1".to_owned()));
        assert_eq!(timestamp, ("highwater-timestamp", "1795558861".to_owned()));
        assert_eq!(signed.1, format!("v1={}", signature(b"s3cret", "1795558861", b"{}")));
    }
}
