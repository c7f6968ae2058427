//! Objects and events in words, one line each. Pure: JSON of the contract in, text out.

use crate::api::json::{ByJson, EventJson, ObjectJson};
use highwater_ipc::time::parse_rfc3339_ms;
use highwater_proto::json::OwnerJson;
use jiff::tz::TimeZone;

use super::table::{Tone, paint};
use super::when;

/// How events are shown.
pub struct Look<'z> {
    /// The zone of their times.
    pub zone: &'z TimeZone,
    /// Colours.
    pub color: bool,
    /// Dates as headings between the lines (for eyes), instead of in each line (for programs).
    pub date_headings: bool,
}

/// Events as lines. `last_date` carries the latest heading from page to page.
pub fn events(events: &[EventJson], look: &Look<'_>, last_date: &mut String) -> String {
    let mut out = String::new();
    for event in events {
        let at_ms = parse_rfc3339_ms(&event.at).unwrap_or(0);
        let date = when::show_date(at_ms, look.zone);
        if look.date_headings && date != *last_date {
            out.push_str(&paint(&date, Tone::Strong, look.color));
            out.push('\n');
            *last_date = date.clone();
        }
        let time = when::show_time(at_ms, look.zone);
        let time = if look.date_headings { time } else { format!("{date} {time}") };
        let kind = paint(&format!("{:<13}", event.kind), tone(&event.kind), look.color);
        let line = format!("{time}  {kind}  {}", words(event, look.zone));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn tone(kind: &str) -> Tone {
    match kind {
        "created" | "agent_started" | "namespace_appeared" => Tone::Good,
        "removed" | "refused" | "reboot" | "flag_raised" | "namespace_gone" => Tone::Bad,
        "limit_changed" | "gap" | "clock_step" | "agent_stopped" => Tone::Warn,
        _ => Tone::Plain,
    }
}

fn words(event: &EventJson, zone: &TimeZone) -> String {
    let detail = &event.detail;
    let time = |text: &Option<String>| {
        text.as_ref().and_then(|t| parse_rfc3339_ms(t)).map_or_else(|| "?".to_owned(), |ms| when::show(ms, zone))
    };
    let mut words = match (event.kind.as_str(), &detail.before, &detail.after) {
        ("created", _, Some(object)) => object_words(object),
        ("removed", Some(object), _) => object_words(object),
        ("changed", Some(before), Some(after)) => {
            let fields = detail.fields.as_deref().unwrap_or_default();
            format!("{}  {}", name_words(after), change_words(before, after, fields))
        }
        ("limit_changed", ..) => format!(
            "{}  {} -> {}",
            detail.resource.as_deref().unwrap_or("?"),
            detail.before_u64.as_deref().unwrap_or("?"),
            detail.after_u64.as_deref().unwrap_or("?")
        ),
        ("reboot", ..) => {
            let lost = detail.lost.map_or_else(String::new, |l| {
                format!("; {} arrays, {} segments, {} queues went with the old boot", l.sem, l.shm, l.msg)
            });
            format!("booted {}{lost}", time(&detail.booted_at))
        }
        ("clock_step", ..) => {
            let by_ms = detail.by_ms.unwrap_or(0);
            let way = if by_ms < 0 { "back" } else { "forward" };
            format!("the clock was set {way} by {}", when::show_duration(by_ms.saturating_abs()))
        }
        ("gap", ..) => detail.gap.as_ref().map_or_else(String::new, |gap| {
            let reason = gap.reason.as_deref().unwrap_or("pending: its records are on their way");
            let until = match (&gap.to, gap.state.as_str()) {
                (Some(_), _) => format!("until {}", time(&gap.to)),
                (None, "pending") => "still filling".to_owned(),
                (None, _) => "still open".to_owned(),
            };
            let more = gap.detail.as_ref().map_or_else(String::new, |d| format!("  {d}"));
            format!("no samples {until}  {reason}{more}")
        }),
        ("agent_started", ..) => detail.epoch.map_or_else(String::new, |e| format!("epoch {e}")),
        _ => String::new(),
    };
    if let Some(by) = &event.by {
        words.push_str(&format!("  by {}", by_words(by)));
    }
    words.push_str(&since_words(event, zone));
    words
}

/// Between two samples a minute or more apart, when it happened is worth a word.
fn since_words(event: &EventJson, zone: &TimeZone) -> String {
    let (Some(before), Some(at)) =
        (event.detail.not_before.as_ref().and_then(|t| parse_rfc3339_ms(t)), parse_rfc3339_ms(&event.at))
    else {
        return String::new();
    };
    if at.saturating_sub(before) < 60_000 {
        return String::new();
    }
    format!("  (not before {})", when::show(before, zone))
}

fn by_words(by: &ByJson) -> String {
    let mut words = user(by.user.as_deref(), by.uid);
    if let Some(comm) = &by.comm {
        words.push_str(&format!(" {comm}"));
    }
    if let Some(pid) = by.pid {
        words.push_str(&format!(" pid {pid}"));
    }
    words
}

fn user(name: Option<&str>, uid: Option<u32>) -> String {
    match (name, uid) {
        (Some(name), Some(uid)) => format!("{name}({uid})"),
        (None, Some(uid)) => format!("uid {uid}"),
        (Some(name), None) => name.to_owned(),
        (None, None) => "?".to_owned(),
    }
}

/// An object with what matters of it: `sem 98304 key 0x00000000 nsems 1  owner apache(48)`.
pub fn object_words(object: &ObjectJson) -> String {
    let more = match object {
        ObjectJson::Sem(o) => format!("nsems {}", o.nsems),
        ObjectJson::Shm(o) => format!("size {} nattch {}", o.size_u64, o.nattch),
        ObjectJson::Msg(o) => format!("messages {} bytes {}", o.qnum, o.cbytes_u64),
    };
    format!("{} {more}  owner {}", name_words(object), owner_words(owner(object)))
}

/// What people call an object: `sem 98304 key 0x00000000`.
pub fn name_words(object: &ObjectJson) -> String {
    let (kind, id, key) = match object {
        ObjectJson::Sem(o) => ("sem", o.semid, &o.key),
        ObjectJson::Shm(o) => ("shm", o.shmid, &o.key),
        ObjectJson::Msg(o) => ("msg", o.msqid, &o.key),
    };
    format!("{kind} {id} key {key}")
}

/// Who owns it: `apache(48)`.
pub fn owner_words(owner: &OwnerJson) -> String {
    user(owner.user.as_deref(), Some(owner.uid))
}

fn owner(object: &ObjectJson) -> &OwnerJson {
    match object {
        ObjectJson::Sem(o) => &o.owner,
        ObjectJson::Shm(o) => &o.owner,
        ObjectJson::Msg(o) => &o.owner,
    }
}

/// `nattch 6 -> 7, lpid 811 -> 900`.
pub fn change_words(before: &ObjectJson, after: &ObjectJson, fields: &[String]) -> String {
    let value = |object: &ObjectJson, field: &str| {
        let json = serde_json::to_value(object).unwrap_or_default();
        match json.get(field) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "?".to_owned(),
        }
    };
    let change = |field: &String| {
        let name = field.strip_suffix("_u64").unwrap_or(field);
        format!("{name} {} -> {}", value(before, field), value(after, field))
    };
    fields.iter().map(change).collect::<Vec<_>>().join(", ")
}
