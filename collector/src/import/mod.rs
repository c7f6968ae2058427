//! History from a file: fills the holes of one host's history, and changes nothing else.
//!
//! [`import`] reads the file line by line ([`line`]: the form of `export`, or the flat one) and holds each against what is
//! stored of its time ([`gather`]): where something is stored it must say the same, where nothing is it is packed. Once
//! the whole file is read, [`plan`] says which lines belong together, [`build`] makes chunks of them, and [`commit`] adds
//! them in one transaction.
//!
//! - **I1** A file is taken whole or not at all: nothing is written before its last line was read, and all of it in one
//!   transaction, which asks again for the ground that it was planned on.
//! - **I2** What is stored stays: an import adds epochs of its own (numbers from 2^62 on, in the order of time), and of the
//!   gaps that they fill what remains.
//! - **I3** The same file once more adds nothing.
//! - **I4** The memory is that of the packed samples, at most twice 1 GiB; a line has at most 16 MiB.
//!
//! A line speaks until the next one if that comes within three times the file's median step (between lines without a gap
//! between them), or three of the intervals that it says itself; else there is a gap, with the reason of the gap line
//! between them, or `unexplained`. So does a line before a hole that is stored already, and the last one in a hole. A line
//! with `covered` is one record; of lines without it, which are a sample each, those that read the same become one.
//!
//! Of a host without an agent what is imported is judged, too ([`judging`]): `flags` tells what went wrong then, and what was
//! wrong at its end. Receivers are told of that only if it is of the last day.

mod build;
mod commit;
mod feed;
mod flat;
mod gather;
mod hole;
mod judging;
mod line;
mod pack;
mod plan;
mod split;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::sync::Arc;

use highwater_ipc::chunk::ChunkError;
use highwater_ipc::text::HostText;
use highwater_ipc::time::format_rfc3339_ms as rfc3339;
use tokio_stream::Stream;

use self::feed::{Bounds, Feed};
use self::judging::Judging;
use self::line::boot_of;
pub use self::line::{Difference, Form, LineError};
use crate::evaluate::rules::Rules;
use crate::host::HostId;
use crate::query::fold::FoldError;
use crate::query::{AskError, HostName, Reading};
use crate::store::imported::Ground;
use crate::store::{Db, StoreError, flag};

/// The most bytes of a line.
pub const MOST_LINE: usize = 16 << 20;

/// The most namesakes that are told when a name is ambiguous.
const MOST_NAMESAKES: i64 = 20;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// Exact name or id of the host; a name that nobody bears makes a new one.
    pub host: String,
    /// Who asks, for the audit.
    pub who: String,
    /// The collector's clock, milliseconds.
    pub now_ms: i64,
    /// Random.
    pub seed: u64,
    /// How hosts without an agent are judged.
    pub rules: Arc<Rules>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Whose history it is now.
    pub host: HostName,
    /// Whether this import has made that host.
    pub is_new: bool,
    /// Lines with a sample.
    pub lines: u64,
    /// Of these, how many were stored, wholly or in part.
    pub stored: u64,
    /// First and last instant of each run of samples that was added, host's wall clock, milliseconds.
    pub filled_ms: Vec<(i64, i64)>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Why nothing was imported. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored does not read.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The name means no one host.
    #[error("{text:?} is the name of several hosts: {}; say which by its id", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// Their ids.
        candidates: Vec<String>,
    },
    /// The name is none.
    #[error("{text:?} is no name for a host: {why}")]
    Name {
        /// What was asked for.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The host's agent has not sent a sample yet.
    #[error(
        "this host has an agent of its own that has not sent a sample yet: import what was before it once it has, or \
         import under another name"
    )]
    NoOwnSample,
    /// There is nothing in the file.
    #[error("the file holds no snapshot")]
    Empty,
    /// A line says nothing.
    #[error("line {number}: {why}")]
    Line {
        /// Which, from 1.
        number: u64,
        /// Why.
        why: LineError,
    },
    /// A line is too long.
    #[error("line {number} has more than {MOST_LINE} bytes, the most that a snapshot may have")]
    LongLine {
        /// Which, from 1.
        number: u64,
    },
    /// Lines do not ascend in time.
    #[error(
        "line {number} is of {}, which is not after line {before} ({}); sort the file by time, and import what a clock set \
         back has repeated on its own",
        rfc3339(*at_ms), rfc3339(*before_ms)
    )]
    Order {
        /// Which, from 1.
        number: u64,
        /// Its time, milliseconds.
        at_ms: i64,
        /// The line with a snapshot before it.
        before: u64,
        /// Until when that was confirmed, milliseconds.
        before_ms: i64,
    },
    /// A line is of a time that has not come.
    #[error("line {number} is of {}, which has not come yet: the collector's clock shows {}", rfc3339(*at_ms), rfc3339(*now_ms))]
    Ahead {
        /// Which, from 1.
        number: u64,
        /// Its time, milliseconds.
        at_ms: i64,
        /// The collector's clock, milliseconds.
        now_ms: i64,
    },
    /// A line is later than the newest sample of the host's own agent.
    #[error(
        "line {number} is of {}, after the newest sample of this host's own agent ({}): what comes then is told by that \
         agent; end the file before it, or import it under another name",
        rfc3339(*at_ms), rfc3339(*own_ms)
    )]
    AfterOwn {
        /// Which, from 1.
        number: u64,
        /// Its time, milliseconds.
        at_ms: i64,
        /// The agent's newest sample, milliseconds.
        own_ms: i64,
    },
    /// A line says something else than what is stored.
    #[error(
        "line {number} contradicts what is stored of {}: {} is {} in the file and {} in history; nothing was imported",
        rfc3339(*at_ms), difference.field, difference.line, difference.stored
    )]
    Contradiction {
        /// Which, from 1.
        number: u64,
        /// Its time, milliseconds.
        at_ms: i64,
        /// Where they differ.
        difference: Difference,
    },
    /// A line cannot be packed.
    #[error("line {number} cannot be stored: {why}")]
    Pack {
        /// Which, from 1.
        number: u64,
        /// Why.
        why: ChunkError,
    },
    /// What was packed does not unpack.
    #[error("what was read cannot be stored: {0}")]
    Repack(#[from] ChunkError),
    /// The file is too large for one import.
    #[error(
        "up to line {number} the file has more than one import holds ({bytes} bytes packed, {samples} samples): split it \
         by time and import the parts one after the other"
    )]
    TooMuch {
        /// The line that was one too many.
        number: u64,
        /// The bound in bytes.
        bytes: usize,
        /// The bound in samples.
        samples: usize,
    },
    /// The file did not come whole.
    #[error("the file broke off after line {number}: {why}; import it again")]
    CutOff {
        /// The last whole line.
        number: u64,
        /// Why.
        why: String,
    },
    /// Nothing more comes.
    #[error("nothing of the file came for {seconds} s; import it again")]
    Stalled {
        /// How long was waited.
        seconds: u64,
    },
    /// Somebody else imported at the same time.
    #[error("another import has changed this host's history meanwhile; import the file again")]
    Moved,
}

impl From<FoldError> for ImportError {
    fn from(error: FoldError) -> Self {
        ImportError::Ask(error.into())
    }
}

/// The host that a file goes to.
#[derive(Debug)]
struct Target {
    host: HostName,
    /// `None` = it is to be made.
    ground: Option<Ground>,
    /// What it is judged with.
    judged: flag::Judged,
    notes: Vec<String>,
}

impl Target {
    /// Whether nobody but imports tells of this host.
    fn is_imported(&self) -> bool {
        self.ground.is_none_or(|ground| !ground.has_agent)
    }
}

/// Takes in the history that a file holds. `source` gives its bytes; it is read to its end whatever comes, so that whoever
/// sends it can listen to the answer.
pub async fn import<S, B, E>(db: &Db, request: &Request, source: S) -> Result<Imported, ImportError>
where
    S: Stream<Item = Result<B, E>> + Unpin,
    B: AsRef<[u8]>,
    E: Display,
{
    let mut feed = Feed::new(source, Bounds { now_ms: request.now_ms, own_ms: None, boot_id: boot_of(&request.host) });
    let done = take(db, request, &mut feed).await;
    if done.is_err() {
        feed.drain().await;
    }
    done
}

async fn take<S, B, E>(db: &Db, request: &Request, feed: &mut Feed<S>) -> Result<Imported, ImportError>
where
    S: Stream<Item = Result<B, E>> + Unpin,
    B: AsRef<[u8]>,
    E: Display,
{
    let target = target(db, request).await?;
    feed.bound(own_ms(target.ground.as_ref())?, boot_of(&target.host.name));
    let host = target.ground.map(|_| target.host.id);
    let gathered = gather::gather(db, host, feed).await?;
    let Some(form) = feed.form.filter(|_| feed.samples > 0) else { return Err(ImportError::Empty) };
    let mut notes = target.notes.clone();
    let (lines, stored) = (feed.samples, gathered.lines);
    if let Some(of) = feed.host.as_ref().map(HostText::escaped).filter(|of| *of != target.host.name) {
        notes.push(format!("the file is of {of}"));
    }
    if feed.was_cut {
        notes
            .push("what the file says of the time after the newest sample of the host's own agent was left out".into());
    }
    let context = build::Context {
        host: target.host.id,
        now_ms: request.now_ms,
        median_ms: feed.steps.median_ms(),
        is_flat: form == Form::Flat,
        seed: request.seed,
    };
    let judging = target.is_imported().then(|| Judging::new(target.host.id, &target.judged, &request.rules));
    let built = tokio::task::spawn_blocking(move || {
        let (mut built, mut judging) = (build::Built::default(), judging);
        for piece in gathered.pieces {
            build::build(piece, &context, &mut built, judging.as_mut())?;
        }
        Ok::<_, ChunkError>((built, judging.map(Judging::finish).unwrap_or_default()))
    });
    let (built, judged) = built.await.map_err(|ended| StoreError::Interrupted(ended.to_string()))??;
    let is_new = target.ground.is_none();
    let filled_ms = built.epochs.iter().map(|epoch| (epoch.from.wall_ms, epoch.end.wall_ms)).collect();
    if built.epochs.is_empty() {
        notes.push("all of it was stored already: nothing was changed".to_owned());
    } else {
        commit::commit(db, request, &target, (built, judged)).await?;
    }
    if is_new {
        notes.push(format!("{} is a new host, made for this history; it has no agent", target.host.name));
    }
    Ok(Imported { host: target.host, is_new, lines, stored, filled_ms, notes })
}

/// Up to when the file may go.
fn own_ms(ground: Option<&Ground>) -> Result<Option<i64>, ImportError> {
    match ground {
        Some(Ground { has_agent: true, newest_own_ms: Some(own_ms), .. }) => Ok(Some(*own_ms)),
        Some(Ground { has_agent: true, newest_own_ms: None, .. }) => Err(ImportError::NoOwnSample),
        _ => Ok(None),
    }
}

/// Which host is meant: by id, by the name that it bears now, else a new one.
async fn target(db: &Db, request: &Request) -> Result<Target, ImportError> {
    let text = &request.host;
    let mut reading = Reading::begin(db).await?;
    let found = match HostId::parse(text) {
        Some(id) => reading.host_by_id(id).await?,
        None => None,
    };
    let mut bearers = match found {
        Some(host) => vec![host],
        None => reading.hosts_named(text, MOST_NAMESAKES).await?,
    };
    if bearers.len() > 1 {
        let candidates = bearers.iter().map(|host| host.id.to_string()).collect();
        return Err(ImportError::Ambiguous { text: text.clone(), candidates });
    }
    if let Some(host) = bearers.pop() {
        let ground = Some(reading.ground(host.id).await?);
        let judged = reading.judged(host.id).await?.unwrap_or_default();
        return Ok(Target { host, ground, judged, notes: Vec::new() });
    }
    let wrong = |why| Err(ImportError::Name { text: text.clone(), why });
    if HostId::parse(text).is_some() {
        return wrong("it looks like a host's id, and no host has it");
    }
    if text.is_empty()
        || text.len() > HostText::MAX
        || HostText::from_escaped(text).is_none_or(|t| t.escaped() != *text)
    {
        return wrong("a name has 1 to 256 bytes, written as `highwater hosts` shows it");
    }
    let mut notes = Vec::new();
    for host in reading.hosts_once_named(text, MOST_NAMESAKES).await? {
        notes.push(format!(
            "{} ({}) was called {text} once; import by its id to add to its history",
            host.name, host.id
        ));
    }
    // By its name, so that two imports at once make one host.
    let hash = boot_of(&format!("host {text}")).0;
    let id = hash.iter().take(8).fold(0_i64, |id, byte| (id << 8) | i64::from(*byte)) & i64::MAX;
    Ok(Target {
        host: HostName { name: text.clone(), id: HostId(id.max(1)) },
        ground: None,
        judged: flag::Judged::default(),
        notes,
    })
}
