//! Objects and events in words, one line each. Pure: JSON of the contract in, text out.

use crate::api::json::{ByJson, DetailJson, EventJson, HolderJson, ObjectJson, PeakJson};
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
        "created" | "agent_started" | "namespace_appeared" | "risk_cleared" => Tone::Good,
        "removed" | "refused" | "reboot" | "flag_raised" | "namespace_gone" | "risk_raised" => Tone::Bad,
        "limit_changed" | "gap" | "clock_step" | "agent_stopped" | "peak" | "lost" => Tone::Warn,
        _ => Tone::Plain,
    }
}

fn words(event: &EventJson, zone: &TimeZone) -> String {
    let detail = &event.detail;
    let time = |text: &Option<String>| {
        text.as_ref().and_then(|t| parse_rfc3339_ms(t)).map_or_else(|| "?".to_owned(), |ms| when::show(ms, zone))
    };
    let mut words = match (event.kind.as_str(), &detail.before, &detail.after) {
        ("refused", ..) => return refused_words(event, zone) + &place_words(event),
        ("namespace_appeared" | "namespace_gone", ..) => return namespace_words(event) + &since_words(event, zone),
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
            let pending = if gap.settling { "pending" } else { "pending: its records are on their way" };
            let reason = gap.reason.as_deref().unwrap_or(pending);
            let until = match (&gap.to, gap.state.as_str()) {
                (Some(_), _) => format!("until {}", time(&gap.to)),
                (None, "pending") => "still filling".to_owned(),
                (None, _) => "still open".to_owned(),
            };
            let more = gap.detail.as_ref().map_or_else(String::new, |d| format!("  {d}"));
            match &detail.unread {
                Some(list) => format!("{list} could not be read {until}{more}"),
                None => format!("no samples {until}  {reason}{more}"),
            }
        }),
        ("created" | "removed", None, None) => unseen_words(event),
        ("peak", ..) => detail.peak.as_ref().map_or_else(String::new, peak_words),
        ("lost", ..) => lost_words(detail),
        ("risk_raised", ..) => {
            detail.risk.as_ref().map_or_else(String::new, |r| format!("{}  {}; remedy: {}", r.kind, r.why, r.remedy))
        }
        ("risk_cleared", ..) => detail.risk.as_ref().map_or_else(String::new, |r| format!("{}  {}", r.kind, r.why)),
        ("flag_raised" | "flag_cleared", ..) => detail.flag.as_ref().map_or_else(String::new, |f| {
            format!("{} {} {}: {}; flag {}", f.severity, f.kind, f.resource, f.why, f.id)
        }),
        ("agent_started", ..) => detail.epoch.as_ref().map_or_else(String::new, |e| format!("epoch {e}")),
        _ => String::new(),
    };
    if let Some(by) = &event.by {
        words.push_str(&format!("  by {}", by_words(by)));
    }
    words.extend(bereft_words(event));
    words.push_str(&place_words(event));
    words.push_str(&since_words(event, zone));
    words
}

/// `httpd (pid 13808) refused semget: SEMMNI 128/128  ENOSPC  nsems 1 key 0x00000000  as apache(48)  17 times until ..`
fn refused_words(event: &EventJson, zone: &TimeZone) -> String {
    let detail = &event.detail;
    let by = event.by.as_ref();
    let comm = by.and_then(|b| b.comm.as_deref()).unwrap_or("?");
    let pid = by.and_then(|b| b.pid).map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let mut words = format!("{comm}{pid} refused {}", detail.call.as_deref().unwrap_or("?"));
    if let (Some(resource), Some(used), Some(limit)) = (&detail.resource, &detail.used_u64, &detail.limit_u64) {
        words.push_str(&format!(": {resource} {used}/{limit}"));
    }
    if let Some(errno) = &detail.errno {
        let name = errno.name.clone().unwrap_or_else(|| format!("errno {}", errno.number));
        words.push_str(&format!("  {name}"));
    }
    words.push_str(&asked_words(detail));
    if let Some(by) = by.filter(|b| b.uid.is_some()) {
        words.push_str(&format!("  as {}", user(by.user.as_deref(), by.uid)));
    }
    let last_ms = detail.last_at.as_ref().and_then(|t| parse_rfc3339_ms(t));
    if let (Some(count @ 2..), Some(last_ms)) = (detail.count, last_ms) {
        words.push_str(&format!("  {count} times until {}", when::show_time(last_ms, zone)));
    }
    words.extend(detail.holder.as_ref().map(|holder| holder_words(holder, zone)));
    words
}

/// `  apache(48) httpd holds 121, 121 orphans (7 certain), the oldest of 2015-06-01 10:40:47 +0200`.
pub(super) fn holder_words(holder: &HolderJson, zone: &TimeZone) -> String {
    let HolderJson { arrays, orphans, orphans_certain, .. } = holder;
    let comm = holder.comm.as_ref().map_or_else(String::new, |comm| format!(" {comm}"));
    let mut words = format!("  {}{comm} holds {arrays}", user(holder.user.as_deref(), Some(holder.uid)));
    if *orphans > 0 {
        let noun = if *orphans == 1 { "orphan" } else { "orphans" };
        words.push_str(&format!(", {orphans} {noun} ({orphans_certain} certain)"));
    }
    if let Some(oldest_ms) = holder.oldest_orphan_at.as_ref().and_then(|t| parse_rfc3339_ms(t)) {
        words.push_str(&format!(", the oldest of {}", when::show(oldest_ms, zone)));
    }
    words
}

/// What a call asked for.
fn asked_words(detail: &DetailJson) -> String {
    let mut words = Vec::new();
    words.extend(detail.nsems.map(|n| format!("nsems {n}")));
    words.extend(detail.size_u64.as_ref().map(|n| format!("size {n}")));
    words.extend(detail.key.as_ref().map(|key| format!("key {key}")));
    if words.is_empty() { String::new() } else { format!("  {}", words.join(" ")) }
}

/// `  while httpd runs as its owner`: an object that somebody else took from programs that may still want it.
fn bereft_words(event: &EventJson) -> Option<String> {
    let runs = event.detail.owner_runs.as_ref().filter(|runs| !runs.is_empty())?;
    let taken = owner(event.detail.before.as_ref()?).uid;
    let by = event.by.as_ref()?.uid?;
    let verb = if runs.len() == 1 { "runs" } else { "run" };
    (by != taken).then(|| format!("  while {} {verb} as its owner", runs.join(", ")))
}

/// Objects that no sample shows.
fn unseen_words(event: &EventJson) -> String {
    const SHOWN: usize = 8;
    let detail = &event.detail;
    let ids = detail.ids.as_deref().unwrap_or_default();
    let count = detail.count.unwrap_or(0);
    let noun = if count == 1 { "object" } else { "objects" };
    let how = match (event.kind.as_str(), detail.transient) {
        (_, Some(true)) => "that came and went between two samples",
        ("created", _) => "that no sample shows",
        _ => "that no sample had shown",
    };
    let mut listed: Vec<String> = ids.iter().take(SHOWN).map(ToString::to_string).collect();
    if u64::try_from(listed.len()).is_ok_and(|n| n < count) {
        listed.push("..".to_owned());
    }
    format!("{count} {noun} {how}: {}{}", listed.join(" "), asked_words(detail))
}

fn peak_words(peak: &PeakJson) -> String {
    let limits = match (peak.semmni, peak.semmns) {
        (Some(semmni), Some(semmns)) => format!(" (SEMMNI {semmni}, SEMMNS {semmns})"),
        _ => String::new(),
    };
    format!("high-water mark {} arrays / {} semaphores{limits}", peak.sem_arrays, peak.semaphores)
}

fn lost_words(detail: &DetailJson) -> String {
    let mut words = Vec::new();
    if let Some(lost @ 1..) = detail.events_lost {
        words.push(format!("{lost} trace events were lost: names may be missing"));
    }
    if let Some(beyond @ 1..) = detail.calls_beyond {
        words.push(format!("{beyond} more calls than one sample carries: their processes are not told"));
    }
    words.join("; ")
}

/// `4026532201 docker 3f2a..; 1 arrays, 3 segments, 0 queues with 209715200 bytes went with it`.
fn namespace_words(event: &EventJson) -> String {
    let mut words = event.namespace.map_or_else(|| "?".to_owned(), |n| n.to_string());
    if let Some(name) = &event.namespace_name {
        let by = event.detail.named_by.as_deref().unwrap_or("?");
        words.push_str(&format!(" {by} {name}"));
    }
    if let Some(lost) = &event.detail.lost {
        let bytes = event.detail.bytes_u64.as_deref().unwrap_or("?");
        let (sem, shm, msg) = (lost.sem, lost.shm, lost.msg);
        words.push_str(&format!("; {sem} arrays, {shm} segments, {msg} queues with {bytes} bytes went with it"));
    }
    words
}

/// Where, if that is not the host's own namespace.
fn place_words(event: &EventJson) -> String {
    match (event.own_namespace, event.namespace, &event.namespace_name) {
        (Some(false), Some(inode), Some(name)) => format!("  in namespace {inode} {name}"),
        (Some(false), Some(inode), None) => format!("  in namespace {inode}"),
        _ => String::new(),
    }
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

/// Who did something: `apache(48) httpd pid 812 of cron`.
pub fn by_words(by: &ByJson) -> String {
    let named = by.user.is_some() || by.uid.is_some() || (by.comm.is_none() && by.pid.is_none());
    let mut words: Vec<String> = named.then(|| user(by.user.as_deref(), by.uid)).into_iter().collect();
    words.extend(by.comm.clone());
    words.extend(by.pid.map(|pid| format!("pid {pid}")));
    words.extend(by.parent.as_ref().map(|parent| format!("of {parent}")));
    words.join(" ")
}

pub(super) fn user(name: Option<&str>, uid: Option<u32>) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Events as the API answers them, one JSON document a line, and the lines they become.
    fn check(json: &[&str], date_headings: bool, expected: &str) {
        let parsed: Vec<EventJson> = json.iter().map(|e| serde_json::from_str(e).unwrap()).collect();
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let look = Look { zone: &zone, color: false, date_headings };
        assert_eq!(events(&parsed, &look, &mut String::new()), expected);
    }

    const SEM: &str = r#"{"key":"0x00000000","semid":98304,"perms":"600","nsems":1,"uid":48,"gid":48,"cuid":0,"cgid":0,
        "user":"apache","group":"apache","cuser":"root","cgroup":"root","otime":0,"ctime":1241364839}"#;

    fn created() -> String {
        format!(
            r#"{{"at":"2026-11-24T02:12:04.100Z","kind":"created","namespace":1,
            "subject":{{"kind":"sem","id":98304,"key":"0x00000000"}},
            "detail":{{"not_before":"2026-11-24T02:12:03.100Z","after":{SEM}}},
            "by":{{"uid":0,"user":"root","pid":null,"comm":null,"source":"cuid"}}}}"#
        )
    }

    #[test]
    fn an_event_is_one_line_with_what_an_investigator_asks_first() {
        let changed = format!(
            r#"{{"at":"2026-11-24T02:13:00.000Z","kind":"changed","namespace":1,"subject":null,"by":null,
            "detail":{{"before":{SEM},"after":{},"fields":["uid"]}}}}"#,
            SEM.replace("\"uid\":48", "\"uid\":33")
        );
        let limit = r#"{"at":"2026-11-24T02:14:00.000Z","kind":"limit_changed","namespace":1,"subject":null,"by":null,
            "detail":{"resource":"SEMMNI","before_u64":"32000","after_u64":"256"}}"#;
        let step = r#"{"at":"2026-11-24T02:15:00.000Z","kind":"clock_step","namespace":null,"subject":null,"by":null,
            "detail":{"by_ms":-3600000}}"#;
        check(
            &[&created(), &changed, limit, step],
            false,
            "\
2026-11-24 03:12:04 +0100  created        sem 98304 key 0x00000000 nsems 1  owner apache(48)  by root(0)
2026-11-24 03:13:00 +0100  changed        sem 98304 key 0x00000000  uid 48 -> 33
2026-11-24 03:14:00 +0100  limit_changed  SEMMNI  32000 -> 256
2026-11-24 03:15:00 +0100  clock_step     the clock was set back by 1 h
",
        );
    }

    #[test]
    fn a_refused_call_names_process_limit_and_use() {
        let refused = r#"{"at":"2026-11-24T09:40:47.120Z","kind":"refused","namespace":1,"namespace_name":null,
            "own_namespace":true,"subject":null,"by":{"uid":48,"user":"apache","pid":13808,"comm":"httpd",
            "source":"trace"},"detail":{"call":"semget","errno":{"number":28,"name":"ENOSPC"},"nsems":1,
            "key":"0x00000000","count":17,"first_at":"2026-11-24T09:40:47.120Z","last_at":"2026-11-24T09:40:52.000Z",
            "resource":"SEMMNI","used_u64":"128","limit_u64":"128","holder":{"uid":48,"user":"apache","comm":"httpd",
            "arrays":121,"orphans":121,"orphans_certain":7,"oldest_orphan_at":"2015-06-01T08:00:00.000Z"}}}"#;
        let filtered = r#"{"at":"2026-11-24T09:41:00.000Z","kind":"refused","namespace":7,"namespace_name":"pod-a",
            "own_namespace":false,"subject":null,"by":{"uid":null,"user":null,"pid":9,"comm":"a\\x0ab",
            "source":"trace"},"detail":{"call":"shmget","errno":{"number":99,"name":null},"size_u64":"4096",
            "key":"0x00000001","count":1,"first_at":"2026-11-24T09:41:00.000Z","last_at":"2026-11-24T09:41:00.000Z"}}"#;
        check(
            &[refused, filtered],
            false,
            "\
2026-11-24 10:40:47 +0100  refused        httpd (pid 13808) refused semget: SEMMNI 128/128  ENOSPC  nsems 1 \
key 0x00000000  as apache(48)  17 times until 10:40:52 +0100  apache(48) httpd holds 121, 121 orphans (7 certain), the \
oldest of 2015-06-01 10:00:00 +0200
2026-11-24 10:41:00 +0100  refused        a\\x0ab (pid 9) refused shmget  errno 99  size 4096 key 0x00000001  \
in namespace 7 pod-a
",
        );
    }

    #[test]
    fn what_no_sample_shows_is_told_with_its_maker() {
        let by = r#""by":{"uid":33,"user":"www-data","pid":70,"comm":"php","source":"trace"}"#;
        let made = format!(
            r#"{{"at":"2026-11-24T09:00:00.000Z","kind":"created","namespace":1,"own_namespace":true,"subject":null,
            "detail":{{"count":50,"ids":[1,2,3,4,5,6,7,8,9],"nsems":2,"key":"0x00000000","transient":true}},{by}}}"#
        );
        let peak = r#"{"at":"2026-11-24T09:00:00.500Z","kind":"peak","namespace":1,"own_namespace":true,"subject":null,
            "by":null,"detail":{"peak":{"sem_arrays":90,"semaphores":120,"semmni":128,"semmns":32000}}}"#;
        let lost = r#"{"at":"2026-11-24T09:00:01.000Z","kind":"lost","namespace":null,"subject":null,"by":null,
            "detail":{"events_lost":3,"calls_beyond":0}}"#;
        let gone = r#"{"at":"2026-11-24T09:00:02.000Z","kind":"namespace_gone","namespace":8,"namespace_name":"pause",
            "own_namespace":false,"subject":null,"by":null,"detail":{"named_by":"comm","instance":"5",
            "lost":{"sem":0,"shm":8,"msg":0},"bytes_u64":"209715200"}}"#;
        let risk = r#"{"at":"2026-11-24T09:00:03.000Z","kind":"risk_raised","namespace":null,"subject":null,"by":null,
            "detail":{"risk":{"kind":"removeipc","why":"uid 1000 owns arrays","remedy":"enable-linger"}}}"#;
        check(
            &[&made, peak, lost, gone, risk],
            false,
            "\
2026-11-24 10:00:00 +0100  created        50 objects that came and went between two samples: 1 2 3 4 5 6 7 8 ..  \
nsems 2 key 0x00000000  by www-data(33) php pid 70
2026-11-24 10:00:00 +0100  peak           high-water mark 90 arrays / 120 semaphores (SEMMNI 128, SEMMNS 32000)
2026-11-24 10:00:01 +0100  lost           3 trace events were lost: names may be missing
2026-11-24 10:00:02 +0100  namespace_gone  8 comm pause; 0 arrays, 8 segments, 0 queues with 209715200 bytes went with it
2026-11-24 10:00:03 +0100  risk_raised    removeipc  uid 1000 owns arrays; remedy: enable-linger
",
        );
    }

    #[test]
    fn a_gap_a_reboot_and_what_came_in_between_are_told_for_the_eye_under_their_date() {
        let gap = r#"{"at":"2026-11-23T22:59:50.000Z","kind":"gap","namespace":null,"subject":null,"by":null,
            "detail":{"gap":{"from":"2026-11-23T22:59:50.000Z","to":"2026-11-24T02:12:04.100Z","state":"closed",
            "reason":"host_down","last_sample_at":null,"next_sample_at":null}}}"#;
        let reboot = r#"{"at":"2026-11-24T02:12:04.100Z","kind":"reboot","namespace":null,"subject":null,"by":null,
            "detail":{"not_before":"2026-11-23T22:59:50.000Z","boot_id_before":"a","boot_id":"b",
            "booted_at":"2026-11-24T02:11:00.000Z","lost":{"sem":7,"shm":1,"msg":0}}}"#;
        let late = created().replace("2026-11-24T02:12:03.100Z", "2026-11-23T22:59:50.000Z");
        check(
            &[gap, reboot, &late],
            true,
            "\
2026-11-23
23:59:50 +0100  gap            no samples until 2026-11-24 03:12:04 +0100  host_down
2026-11-24
03:12:04 +0100  reboot         booted 2026-11-24 03:11:00 +0100; 7 arrays, 1 segments, 0 queues went with the old boot  \
(not before 2026-11-23 23:59:50 +0100)
03:12:04 +0100  created        sem 98304 key 0x00000000 nsems 1  owner apache(48)  by root(0)  \
(not before 2026-11-23 23:59:50 +0100)
",
        );
    }
}
