//! Which receivers a notice is for, as rows for the outbox. Pure: the evaluator inserts them in its transaction
//! (`store::notice::insert`).

use super::json;
use super::notice::{Notice, Transition};
use super::receiver::{Receiver, Receivers};
use crate::store::notice::New;

/// The rows of a notice, one a receiver that is told of it. `now_ms` is the collector's clock: from then on it is tried.
pub fn rows(receivers: &Receivers, notice: &Notice, now_ms: i64) -> Vec<New> {
    let body = json::keep(notice);
    let row = |receiver: &Receiver, only_after_another: bool| New {
        host: notice.flag.host_id,
        flag_id: notice.flag.flag_id,
        number: notice.number,
        receiver: receiver.name.clone(),
        transition: notice.transition.name(),
        body: body.clone(),
        queued_ms: now_ms,
        only_after_another,
    };
    let mut rows = Vec::new();
    for receiver in &receivers.list {
        match interest(receiver, notice) {
            Interest::None => {}
            Interest::Told => rows.push(row(receiver, false)),
            Interest::IfToldBefore => rows.push(row(receiver, true)),
        }
    }
    rows
}

/// Whether a receiver is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Not.
    None,
    /// Yes.
    Told,
    /// If it was told of the flag before: what woke somebody has to be taken back, whatever its severity is now.
    IfToldBefore,
}

/// Whether this receiver is told of this.
pub fn interest(receiver: &Receiver, notice: &Notice) -> Interest {
    let flag = &notice.flag;
    if !receiver.labels.iter().all(|(key, value)| flag.labels.get(key) == Some(value)) {
        return Interest::None;
    }
    if receiver.severities.contains(&flag.severity) {
        return Interest::Told;
    }
    match notice.transition {
        Transition::Eased | Transition::Cleared => Interest::IfToldBefore,
        Transition::Raised | Transition::Worsened | Transition::Test => Interest::None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::notice::Severity;
    use super::super::notice::samples::full;
    use super::super::receiver::{Endpoint, Way};
    use super::*;

    fn receiver(name: &str, severities: &[Severity], team: Option<&str>) -> Receiver {
        Receiver {
            name: name.to_owned(),
            way: Way::Slack { endpoint: Endpoint::parse("https://hooks.example.org/x").unwrap() },
            severities: severities.to_vec(),
            labels: team.map(|team| ("team".to_owned(), team.to_owned())).into_iter().collect(),
            ca_pem: None,
        }
    }

    #[test]
    fn severity_and_labels_choose_who_is_told() {
        let critical = full(1, Transition::Raised);
        let all = Severity::ALL;
        assert_eq!(interest(&receiver("a", &all, Some("db")), &critical), Interest::Told);
        assert_eq!(interest(&receiver("a", &all, Some("web")), &critical), Interest::None);
        assert_eq!(interest(&receiver("a", &[Severity::Warning], None), &critical), Interest::None);
    }

    #[test]
    fn what_woke_somebody_is_taken_back_whatever_its_severity_is_now() {
        let pager = receiver("pager", &[Severity::Critical], None);
        for transition in [Transition::Eased, Transition::Cleared] {
            let mut notice = full(2, transition);
            notice.flag.severity = Severity::Warning;
            assert_eq!(interest(&pager, &notice), Interest::IfToldBefore);
        }
        let receivers = Receivers { list: vec![pager, receiver("all", &Severity::ALL, None)], runbook_url: None };
        let rows = rows(&receivers, &full(1, Transition::Raised), 5);
        assert_eq!(
            rows.iter().map(|r| (&*r.receiver, r.only_after_another)).collect::<Vec<_>>(),
            [("pager", false), ("all", false)]
        );
        assert_eq!(json::read(&rows[0].body), Ok(full(1, Transition::Raised)));
    }
}
