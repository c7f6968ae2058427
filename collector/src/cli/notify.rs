//! `highwater notify`: whom the collector tells of flags, and whether they can be told now.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use highwater_ipc::time::parse_rfc3339_ms;
use jiff::tz::TimeZone;

use super::args::Global;
use super::client::Client;
use super::exit::Exit;
use super::host::own_zone;
use super::table::{Tone, paint, table};
use super::{print, when};
use crate::api::json::{NotifyTestJson, ReceiverJson, ReceiversJson, TestedJson, TestsJson};

/// Arguments of `notify`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct NotifyArgs {
    #[command(subcommand)]
    command: NotifyCommand,
}

const EXAMPLES: &str = "Examples:
  highwater notify list
  highwater notify test
The collector is told whom to tell when it starts: highwater up --notify-config /etc/highwater/notify.toml";

/// What to do with receivers.
#[derive(Debug, Subcommand)]
enum NotifyCommand {
    /// Whom the collector tells of flags, what it told them last and what fails
    #[command(after_help = "Example:\n  highwater notify list")]
    List,
    /// Tell every receiver now that this is a test; exit code 1 = one has not taken it
    #[command(after_help = "Examples:\n  highwater notify test\n  highwater notify test --receiver oncall --json")]
    Test {
        /// Only this one
        #[arg(long, value_name = "NAME")]
        receiver: Option<String>,
    },
}

/// Does what was asked.
pub fn run(args: &NotifyArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    match &args.command {
        NotifyCommand::List => {
            let answer = client.get("/notify", &[])?;
            let json: ReceiversJson = client.read(&answer)?;
            let text = listed(&json.receivers, &own_zone(), global.wants_color());
            show(global, &answer, &text)?;
            Ok(Exit::Answered)
        }
        NotifyCommand::Test { receiver } => {
            let asked = NotifyTestJson { receiver: receiver.clone() };
            let answer = client.post("/notify/test", &serde_json::to_string(&asked)?)?;
            let json: TestsJson = client.read(&answer)?;
            show(global, &answer, &tested(&json.results, global.wants_color()))?;
            Ok(if json.results.iter().all(|result| result.ok) { Exit::Answered } else { Exit::Error })
        }
    }
}

fn show(global: &Global, answer: &str, text: &str) -> anyhow::Result<()> {
    let shown = if global.wants_json() { format!("{answer}\n") } else { text.to_owned() };
    print::answer(shown.as_bytes()).context("writing the answer")
}

fn listed(receivers: &[ReceiverJson], zone: &TimeZone, color: bool) -> String {
    if receivers.is_empty() {
        return "nobody is told: start the collector with --notify-config FILE\n".to_owned();
    }
    let at = |at: &Option<String>| {
        let shown =
            at.as_deref().map(|at| parse_rfc3339_ms(at).map_or_else(|| at.to_owned(), |ms| when::show(ms, zone)));
        shown.unwrap_or_else(|| "never".to_owned())
    };
    let plain = |text: &str| (text.to_owned(), Tone::Plain);
    let row = |receiver: &ReceiverJson| {
        let state = match (&receiver.failing_since, receiver.given_up) {
            (Some(_), _) => ("fails".to_owned(), Tone::Bad),
            (None, 1..) => ("lost some".to_owned(), Tone::Warn),
            (None, 0) => ("ok".to_owned(), Tone::Good),
        };
        vec![
            plain(&receiver.name),
            plain(&receiver.kind),
            state,
            plain(&at(&receiver.last_sent_at)),
            plain(&at(&receiver.last_failed_at)),
            plain(&receiver.waiting.to_string()),
            plain(&receiver.given_up.to_string()),
            plain(&receiver.to),
        ]
    };
    let headings = ["NAME", "KIND", "STATE", "LAST SENT", "LAST FAILED", "WAIT", "GIVEN UP", "TO"];
    let mut out = table(&headings, &receivers.iter().map(row).collect::<Vec<_>>(), color);
    for receiver in receivers.iter().filter(|r| r.failing_since.is_some() || r.given_up > 0) {
        let (since, error) = (at(&receiver.failing_since), receiver.error.as_deref().unwrap_or("no error is known"));
        out.push_str(&format!("{}: fails since {since}: {error}\n", receiver.name));
    }
    out
}

fn tested(results: &[TestedJson], color: bool) -> String {
    let mut out = String::new();
    for result in results {
        let TestedJson { receiver, kind, to, took_ms, .. } = result;
        let (word, tone) = if result.ok { ("ok  ", Tone::Good) } else { ("BAD ", Tone::Bad) };
        out.push_str(&format!("{} {receiver} ({kind}, {to}): ", paint(word, tone, color)));
        match (&result.error, &result.remedy) {
            (Some(error), remedy) => {
                out.push_str(&format!("{error}\n"));
                out.extend(remedy.iter().map(|remedy| format!("     remedy: {remedy}\n")));
            }
            (None, _) => out.push_str(&format!("taken in {took_ms} ms\n")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_says_for_each_receiver_how_it_went_and_what_to_do() {
        let result = |ok: bool| TestedJson {
            receiver: "oncall".into(),
            kind: "webhook".into(),
            to: "https://a.example".into(),
            ok,
            took_ms: 12,
            error: (!ok).then(|| "answered 404".into()),
            remedy: (!ok).then(|| "see the path".into()),
        };
        assert_eq!(
            tested(&[result(true), result(false)], false),
            "ok   oncall (webhook, https://a.example): taken in 12 ms\n\
             BAD  oncall (webhook, https://a.example): answered 404\n     remedy: see the path\n"
        );
    }

    #[test]
    fn a_receiver_that_fails_is_listed_with_since_when_and_how() {
        let receiver = ReceiverJson {
            name: "oncall".into(),
            kind: "webhook".into(),
            to: "https://a.example".into(),
            severities: vec!["critical".into()],
            labels: Default::default(),
            last_sent_at: None,
            last_failed_at: Some("2026-11-24T23:39:48.000Z".into()),
            error: Some("answered 503".into()),
            failing_since: Some("2026-11-24T23:39:45.000Z".into()),
            waiting: 2,
            given_up: 0,
        };
        let text = listed(&[receiver], &TimeZone::UTC, false);
        assert!(text.contains("oncall  webhook  fails  never "), "{text}");
        assert!(text.contains("oncall: fails since 2026-11-24 23:39:45 +0000: answered 503"), "{text}");
        assert!(listed(&[], &TimeZone::UTC, false).contains("--notify-config"));
    }
}
