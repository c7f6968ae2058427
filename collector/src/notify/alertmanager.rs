//! Alerts for Alertmanager's API v2 (`POST /api/v2/alerts`). Pure.
//!
//! Alertmanager tells alerts apart by their labels, and takes one for over when its `endsAt` has passed. So an open flag's
//! alert carries an `endsAt` of several refreshes ahead and is sent again at each of them: a collector that is away for
//! longer lets it end. Its own `resolve_timeout` is for alerts without `endsAt` and plays no part. The severity is a label,
//! so a flag that changed it ends its alert under the other one in the same message.

use std::collections::BTreeMap;

use highwater_ipc::time::format_rfc3339_ms;
use serde::Serialize;

use super::notice::{Flag, Severity, Transition};
use super::text::{self, Sending};

/// An alert ends so many refreshes after it was sent last.
pub const ENDS_AFTER_REFRESHES: i64 = 5;

#[derive(Serialize)]
struct Alert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    #[serde(rename = "startsAt")]
    starts_at: String,
    #[serde(rename = "endsAt")]
    ends_at: String,
}

/// The alerts of a notice; an open one is sent again every `refresh_ms`.
pub fn body(sending: &Sending<'_>, refresh_ms: i64) -> String {
    let notice = sending.notice;
    let flag = &notice.flag;
    let open = !matches!(notice.transition, Transition::Cleared);
    let ahead_ms = match notice.transition {
        // Nobody clears a test: it is over by itself, soon.
        Transition::Test => 60_000,
        _ => refresh_ms.saturating_mul(ENDS_AFTER_REFRESHES),
    };
    let now_ms = sending.now_ms;
    let ends_ms = if open { now_ms.saturating_add(ahead_ms) } else { now_ms };
    let mut alerts = vec![alert(sending, flag.severity, ends_ms)];
    let may_have_another = !matches!(notice.transition, Transition::Raised | Transition::Test);
    if may_have_another && !sending.again {
        let other = Severity::ALL.into_iter().filter(|severity| *severity != flag.severity);
        alerts.extend(other.map(|severity| alert(sending, severity, now_ms)));
    }
    serde_json::to_string(&alerts).unwrap_or_default()
}

fn alert(sending: &Sending<'_>, severity: Severity, ends_ms: i64) -> Alert {
    let flag = &sending.notice.flag;
    // A host's clock may be ahead; an alert that ends before it starts is refused.
    let starts_ms = flag.raised_ms.min(sending.now_ms);
    Alert {
        labels: labels(sending, severity),
        annotations: annotations(sending, flag),
        starts_at: format_rfc3339_ms(starts_ms),
        ends_at: format_rfc3339_ms(ends_ms),
    }
}

fn labels(sending: &Sending<'_>, severity: Severity) -> BTreeMap<&'static str, String> {
    let flag = &sending.notice.flag;
    let name = if sending.notice.transition == Transition::Test { "HighwaterTest" } else { "HighwaterFlag" };
    BTreeMap::from([
        ("alertname", name.to_owned()),
        ("host", flag.host.clone()),
        ("namespace", flag.namespace.to_string()),
        ("resource", flag.resource.clone()),
        ("kind", flag.kind.clone()),
        ("severity", severity.name().to_owned()),
        ("flag", flag.id()),
    ])
}

fn annotations(sending: &Sending<'_>, flag: &Flag) -> BTreeMap<&'static str, String> {
    let mut annotations = BTreeMap::from([("summary", text::summary(sending.notice)), ("why", flag.why.clone())]);
    annotations.extend(text::remedy(sending.notice).map(|remedy| ("remedy", remedy)));
    annotations.extend(text::eta(sending.notice).map(|eta| ("eta", eta)));
    annotations.extend(flag.owner.as_ref().map(|owner| ("owner", text::owner(owner))));
    annotations.extend(sending.runbook().map(|url| ("runbook_url", url)));
    annotations
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::notice::samples::full;
    use super::*;

    const NOW_MS: i64 = 1_795_558_861_000;

    fn alerts(number: u32, transition: Transition, again: bool) -> Vec<Value> {
        let notice = full(number, transition);
        let sending = Sending { notice: &notice, now_ms: NOW_MS, runbook_url: None, again };
        serde_json::from_str(&body(&sending, 60_000)).unwrap()
    }

    #[test]
    fn an_alert_reads_as_its_golden_text() {
        let notice = full(1, Transition::Raised);
        let runbook_url = Some("https://wiki.example.org/highwater/{kind}");
        let sending = Sending { notice: &notice, now_ms: NOW_MS, runbook_url, again: false };
        super::super::golden::check("alertmanager.json", &body(&sending, 60_000));
    }

    #[test]
    fn an_open_alert_ends_several_refreshes_ahead_and_a_cleared_one_now() {
        let open = &alerts(1, Transition::Raised, true)[0];
        assert_eq!(open["endsAt"], format_rfc3339_ms(NOW_MS + 300_000));
        let over = alerts(2, Transition::Cleared, false);
        assert!(over.iter().all(|alert| alert["endsAt"] == format_rfc3339_ms(NOW_MS)));
    }

    #[test]
    fn a_change_of_severity_ends_the_alert_under_the_other_one_and_a_refresh_does_not() {
        for transition in [Transition::Worsened, Transition::Eased] {
            let both = alerts(2, transition, false);
            assert_eq!(both.len(), 2);
            assert_eq!(
                (&both[0]["labels"]["severity"], &both[1]["labels"]["severity"]),
                (&"critical".into(), &"warning".into())
            );
            assert_eq!(both[1]["endsAt"], format_rfc3339_ms(NOW_MS));
            assert_eq!(alerts(2, transition, true).len(), 1);
        }
        assert_eq!(alerts(1, Transition::Raised, false).len(), 1);
    }

    #[test]
    fn an_alert_of_a_host_whose_clock_is_ahead_starts_now() {
        let mut notice = full(1, Transition::Raised);
        notice.flag.raised_ms = NOW_MS + 3_600_000;
        let sending = Sending { notice: &notice, now_ms: NOW_MS, runbook_url: None, again: false };
        let alerts: Vec<Value> = serde_json::from_str(&body(&sending, 60_000)).unwrap();
        assert_eq!(alerts[0]["startsAt"], format_rfc3339_ms(NOW_MS));
    }
}
