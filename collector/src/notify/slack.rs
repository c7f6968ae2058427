//! A message for Slack's incoming webhooks, and for what takes the same (Mattermost, Rocket.Chat). Pure.
//!
//! In Slack's markup `&`, `<` and `>` begin links and mentions (`<!channel>` wakes everybody), so they are escaped in all
//! that is no markup of ours; a back quote would end a command's box. `text` is what a phone shows, and what a receiver
//! shows that knows no blocks.

use serde_json::{Value, json};

use super::text::{self, Sending};

/// Most characters of a block's text; Slack refuses more than 3,000.
const MOST: usize = 2_900;

/// The message.
pub fn body(sending: &Sending<'_>) -> String {
    let notice = sending.notice;
    let flag = &notice.flag;
    let summary = escape(&text::summary(notice));
    let mut blocks = vec![section(&format!("*{summary}*")), section(&escape(&flag.why))];
    let mut facts = Vec::new();
    facts.extend(text::eta(notice).map(|eta| format!("Full: {}", escape(&eta))));
    facts.extend(flag.owner.as_ref().map(|owner| format!("Holder: {}", escape(&text::owner(owner)))));
    if !facts.is_empty() {
        blocks.push(section(&facts.join("\n")));
    }
    if let Some(remedy) = text::remedy(notice) {
        blocks.push(section(&format!("```{}```", escape(&remedy).replace('`', "'"))));
    }
    let mut last = format!("flag {} · highwater flag show {}", flag.id(), flag.id());
    if let Some(url) = sending.runbook() {
        last.push_str(&format!(" · {}", escape(&url)));
    }
    blocks.push(json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": last }] }));
    json!({ "text": summary, "blocks": blocks }).to_string()
}

fn section(text: &str) -> Value {
    let text = if text.is_empty() { "-" } else { text };
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(text) } })
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    // A box that was opened is closed again.
    let close = if text.ends_with("```") { "```" } else { "" };
    let kept: String = text.chars().take(MOST).collect();
    // Not in the middle of `&lt;`.
    let whole = match kept.rfind('&') {
        Some(at) if !kept[at..].contains(';') => &kept[..at],
        _ => &kept,
    };
    format!("{whole} ...{close}")
}

/// As data in Slack's markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::notice::Transition;
    use super::super::notice::samples::full;
    use super::*;

    fn sent(notice: &super::super::notice::Notice) -> String {
        body(&Sending { notice, now_ms: 1_795_558_861_000, runbook_url: None, again: false })
    }

    #[test]
    fn a_message_reads_as_its_golden_text() {
        let notice = full(1, Transition::Raised);
        super::super::golden::check("slack.json", &sent(&notice));
    }

    #[test]
    fn no_text_of_a_host_is_markup() {
        let mut notice = full(1, Transition::Raised);
        notice.flag.why = "<!channel> <https://x|y> & `rm`".to_owned();
        let text = sent(&notice);
        assert!(!text.contains('<') && !text.contains('>'), "{text}");
        assert!(text.contains("&lt;!channel&gt; &lt;https://x|y&gt; &amp; `rm`"), "{text}");
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_its_box_closed() {
        let mut notice = full(1, Transition::Raised);
        notice.flag.why = "é<".repeat(3_000);
        notice.flag.remedy[0].step = "`<".repeat(3_000);
        let document: Value = serde_json::from_str(&sent(&notice)).unwrap();
        for block in document["blocks"].as_array().unwrap() {
            if let Some(text) = block["text"]["text"].as_str() {
                assert!(text.chars().count() < 3_000);
                assert_eq!(text.matches("```").count() % 2, 0, "{text}");
                assert_eq!(text.matches('&').count(), text.matches(';').count());
            }
        }
    }
}
