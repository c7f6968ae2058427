//! One line of a file to what it says. Pure.
//!
//! Two forms, told by the first line: that of `export` (the contract's JSON of a snapshot, and gaps) and the flat one
//! ([`super::flat`]). All lines of a file have the same form.

use highwater_ipc::activity::Activity;
use highwater_ipc::record::GapReason;
use highwater_ipc::snapshot::{BootId, Snapshot, State};
use highwater_ipc::text::HostText;
use highwater_proto::json::{JsonError, SnapshotJson, first_difference};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use super::flat;

/// How the lines of a file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As `export` writes them.
    Export,
    /// Columns of `/proc/sysvipc`.
    Flat,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// What was read once.
    Sample(Box<Sample>),
    /// Nothing was read between the line before and the line after, and why.
    Gap(Option<GapReason>),
}

/// What was read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// What was read.
    pub(super) snapshot: Snapshot,
    /// What had happened since the sample before.
    pub(super) activity: Activity,
    /// Until when it was confirmed by samples that read the same, host's wall clock, milliseconds; `None` = the file does
    /// not say: each of its lines is a sample, equal ones too.
    pub(super) confirmed_ms: Option<i64>,
    /// The host it is of, where the file says it.
    pub(super) host: Option<HostText>,
}

/// Why a line says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is no JSON of its form.
    #[error("it is not what the form asks for: {0}")]
    Json(String),
    /// The first line is of neither form.
    #[error(
        "it is neither a line of `highwater export` (\"at\" is a time like \"2026-11-24T03:12:00.000Z\") nor of the flat \
         form (\"at\" is Unix seconds)"
    )]
    NoForm,
    /// A text that does not mean what its field should.
    #[error(transparent)]
    Meaning(#[from] JsonError),
    /// A permission that is none.
    #[error("{list}[{index}].perms is \"{value}\", not octal digits")]
    Perms {
        /// The list.
        list: &'static str,
        /// Its row.
        index: usize,
        /// What it says, cut.
        value: HostText,
    },
    /// A time that no host's clock shows.
    #[error("\"at\" is {at}, which is no time since 1970 that a clock could show")]
    NoTime {
        /// What it says.
        at: i64,
    },
    /// An unknown reason.
    #[error("gap.reason is \"{0}\", which is none of the reasons for a gap")]
    Reason(HostText),
    /// The export it is of broke off.
    #[error("the export that wrote this file did not get further: {0}; export that span again")]
    Unfinished(String),
    /// More in one state than there may be.
    #[error(
        "it lists {entries} entries in {namespaces} namespaces; at most {} in {} are taken",
        State::MAX_ENTRIES,
        State::MAX_NAMESPACES
    )]
    TooMuch {
        /// Rows of all lists.
        entries: usize,
        /// Namespaces.
        namespaces: usize,
    },
}

/// What tells the two forms apart, and the lines of an export.
#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    at: Option<AtProbe>,
    #[serde(default)]
    gap: Option<GapProbe>,
    #[serde(default)]
    error: Option<ErrorProbe>,
}

#[derive(Deserialize)]
#[serde(untagged)]
#[allow(dead_code, reason = "only which of them it is matters")]
enum AtProbe {
    Seconds(f64),
    Text(IgnoredAny),
}

#[derive(Deserialize)]
struct GapProbe {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
struct ErrorProbe {
    #[serde(default)]
    detail: String,
}

/// A list of values would be taken for the fields in their order.
fn object(line: &[u8]) -> Result<(), LineError> {
    match line.trim_ascii_start().first() {
        Some(b'{') => Ok(()),
        _ => Err(LineError::Json("it is no JSON object".to_owned())),
    }
}

/// The form of a file that begins with this line.
pub(super) fn form_of(line: &[u8]) -> Result<Form, LineError> {
    object(line)?;
    let probe: Probe = serde_json::from_slice(line).map_err(|e| LineError::Json(e.to_string()))?;
    match probe {
        Probe { at: Some(AtProbe::Seconds(_)), .. } => Ok(Form::Flat),
        Probe { at: None, gap: None, error: None } => Err(LineError::NoForm),
        _ => Ok(Form::Export),
    }
}

/// Reads a line of that form.
pub(super) fn read(form: Form, line: &[u8], boot_id: BootId) -> Result<Line, LineError> {
    object(line)?;
    let sample = match form {
        Form::Flat => flat::read(line, boot_id)?,
        Form::Export => match exported(line)? {
            Line::Sample(sample) => *sample,
            gap @ Line::Gap(_) => return Ok(gap),
        },
    };
    let state = &sample.snapshot.state;
    let (entries, namespaces) = (state.entries(), state.namespaces.len());
    if entries > State::MAX_ENTRIES || namespaces > State::MAX_NAMESPACES {
        return Err(LineError::TooMuch { entries, namespaces });
    }
    Ok(Line::Sample(Box::new(sample)))
}

fn exported(line: &[u8]) -> Result<Line, LineError> {
    let whole = match serde_json::from_slice::<SnapshotJson>(line) {
        Ok(json) => json,
        Err(e) => return beside_a_snapshot(line).unwrap_or_else(|| Err(LineError::Json(e.to_string()))),
    };
    let (snapshot, envelope) = whole.to_snapshot()?;
    if snapshot.at.wall_ms < 0 || i64::try_from(snapshot.at.boot_us).is_err() {
        return Err(LineError::NoTime { at: snapshot.at.wall_ms });
    }
    let confirmed_ms = envelope.covered.map(|span| span.to_ms.max(snapshot.at.wall_ms));
    let activity = envelope.activity.unwrap_or_default();
    Ok(Line::Sample(Box::new(Sample { snapshot, activity, confirmed_ms, host: envelope.host })))
}

/// A gap, or the word that the export ended early; `None` = neither.
fn beside_a_snapshot(line: &[u8]) -> Option<Result<Line, LineError>> {
    let probe: Probe = serde_json::from_slice(line).ok().filter(|probe: &Probe| probe.at.is_none())?;
    if let Some(error) = probe.error {
        return Some(Err(LineError::Unfinished(HostText::from(error.detail.as_str()).escaped())));
    }
    let word = probe.gap?.reason;
    let reason = word.map(|word| {
        let known = GapReason::ALL.into_iter().find(|(_, _, name)| *name == word);
        known.map(|(reason, ..)| reason).ok_or_else(|| LineError::Reason(HostText::from(word.as_str())))
    });
    Some(reason.transpose().map(Line::Gap))
}

/// The boot of a host whose file does not tell it: one of its own for each name.
pub(super) fn boot_of(host: &str) -> BootId {
    let hash = Sha256::digest(host.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    BootId(id)
}

/// Where a line and what is stored of that instant differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field, as a path.
    pub field: String,
    /// Its value in the file.
    pub line: String,
    /// Its value in stored history.
    pub stored: String,
}

/// Compares what a line says with what is stored of its instant; what the form does not say is not compared.
pub(super) fn contradiction(form: Form, line: &State, stored: &State) -> Option<Difference> {
    let told;
    let stored = match form {
        Form::Export => stored,
        Form::Flat => {
            told = flat::as_told(stored, line);
            &told
        }
    };
    if line == stored {
        return None;
    }
    let (field, line, stored) = first_difference(line, stored)?;
    Some(Difference { field, line, stored })
}

#[cfg(test)]
mod tests {
    use highwater_ipc::time::At;
    use highwater_proto::json::{Envelope, Span};
    use proptest::prelude::*;

    use super::*;

    const BOOT: BootId = BootId([7; 16]);

    fn snapshot() -> Snapshot {
        let at = At { wall_ms: 1_767_225_600_000, boot_us: 5 };
        Snapshot { at, took_us: 3, state: State { interval_ms: 1_000, boot_id: BOOT, ..State::default() } }
    }

    fn written(envelope: &Envelope) -> Vec<u8> {
        serde_json::to_vec(&SnapshotJson::new(&snapshot(), envelope)).unwrap()
    }

    #[test]
    fn the_first_line_tells_the_form() {
        assert_eq!(form_of(&written(&Envelope::default())), Ok(Form::Export));
        assert_eq!(form_of(br#"{"host":"a","gap":{"from":null}}"#), Ok(Form::Export));
        assert_eq!(form_of(br#"{"at":1767225600,"sem":[]}"#), Ok(Form::Flat));
        assert_eq!(form_of(b"{}"), Err(LineError::NoForm));
        assert!(form_of(b"[1]").is_err() && form_of(b"x").is_err());
    }

    #[test]
    fn an_exported_line_says_what_it_was_written_from() {
        let covered = Some(Span { from_ms: 1_767_225_600_000, to_ms: 1_767_225_660_000 });
        let envelope = Envelope { host: Some(HostText::from("a")), covered, ..Envelope::default() };
        let Ok(Line::Sample(sample)) = read(Form::Export, &written(&envelope), BOOT) else { panic!() };
        assert_eq!((sample.snapshot, sample.confirmed_ms), (snapshot(), Some(1_767_225_660_000)));
        let Ok(Line::Sample(sample)) = read(Form::Export, &written(&Envelope::default()), BOOT) else { panic!() };
        assert_eq!(sample.confirmed_ms, None);
    }

    #[test]
    fn a_gap_says_its_reason_and_an_export_that_broke_off_is_refused() {
        let line = |text: &str| read(Form::Export, text.as_bytes(), BOOT);
        let gap = r#"{"host":"a","gap":{"from":null,"to":null,"state":"open","reason":"host_down"}}"#;
        assert_eq!(line(gap), Ok(Line::Gap(Some(GapReason::HostDown))));
        assert_eq!(line(&gap.replace("\"host_down\"", "null")), Ok(Line::Gap(None)));
        assert!(line(&gap.replace("host_down", "rain")).unwrap_err().to_string().contains("rain"));
        let broken = line(r#"{"error":{"code":"internal","detail":"the disk"}}"#).unwrap_err().to_string();
        assert!(broken.contains("the disk") && broken.contains("export that span again"), "{broken}");
        assert!(line("{}").is_err());
    }

    #[test]
    fn a_contradiction_names_the_field_and_both_values() {
        let stored = State { page_size: 4096, ..State::default() };
        let line = State { page_size: 16_384, ..stored.clone() };
        let found = contradiction(Form::Export, &line, &stored).unwrap();
        assert_eq!((found.field.as_str(), found.line.as_str(), found.stored.as_str()), ("page_size", "16384", "4096"));
        assert_eq!(contradiction(Form::Export, &line, &line), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_line_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = form_of(&line);
            for form in [Form::Export, Form::Flat] {
                let _ = read(form, &line, BOOT);
            }
        }
    }
}
