//! A file as it comes: its lines in order of time, one at a time.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use highwater_ipc::record::GapReason;
use highwater_ipc::snapshot::BootId;
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;
use highwater_proto::bounds;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt as _};

use super::ImportError;
use super::line::{Form, Line, Sample, form_of, read};
use super::plan::Steps;
use super::split::Splitter;

/// How long a file may send nothing.
const STALL: Duration = Duration::from_secs(60);

/// How long the rest of a file that is refused may take.
const DRAIN: Duration = Duration::from_secs(300);

/// What may be ahead of the collector's clock, milliseconds.
const AHEAD_MS: i64 = 86_400_000;

/// What is left of a line's time: the state that it read, and from when to when it was confirmed.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// Of the line, from 1.
    pub(super) number: u64,
    /// What it says.
    pub(super) sample: Arc<Sample>,
    /// As it will be stored: the line's time, or the first instant of it that is left.
    pub(super) from_ms: i64,
    /// The last sample that read the same.
    pub(super) end_ms: i64,
    /// Nothing of the line has been dealt with yet.
    pub(super) is_first: bool,
    /// Nothing covers the time between the line before and it; why, as far as the file says it.
    pub(super) breaks: Option<Option<GapReason>>,
}

/// Bounds on what a file may say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The collector's clock, milliseconds.
    pub(super) now_ms: i64,
    /// The newest sample of the host's own agent: what is later comes from that agent only.
    pub(super) own_ms: Option<i64>,
    /// The boot of a file that does not tell it.
    pub(super) boot_id: BootId,
}

/// The line before.
#[derive(Clone, Copy, Debug)]
struct Before {
    number: u64,
    at: At,
    end_ms: i64,
    boot_id: BootId,
}

/// The lines of a file.
pub(super) struct Feed<S> {
    source: S,
    bounds: Bounds,
    splitter: Splitter,
    ended: bool,
    /// Lines so far, empty ones included.
    number: u64,
    /// Samples so far.
    pub(super) samples: u64,
    /// Told by the first line.
    pub(super) form: Option<Form>,
    /// The host that the file is of, where it says one.
    pub(super) host: Option<HostText>,
    /// Between lines without a break.
    pub(super) steps: Steps,
    /// A line's end was cut off because the host's own agent tells what comes then.
    pub(super) was_cut: bool,
    span: Option<Span>,
    before: Option<Before>,
    /// A gap that was read last, and its reason.
    gap: Option<Option<GapReason>>,
}

impl<S, B, E> Feed<S>
where
    S: Stream<Item = Result<B, E>> + Unpin,
    B: AsRef<[u8]>,
    E: Display,
{
    pub(super) fn new(source: S, bounds: Bounds) -> Self {
        Self {
            source,
            bounds,
            splitter: Splitter::default(),
            ended: false,
            number: 0,
            samples: 0,
            form: None,
            host: None,
            steps: Steps::default(),
            was_cut: false,
            span: None,
            before: None,
            gap: None,
        }
    }

    /// Sets how far the file may go, and the boot of one that does not tell it; before its first line is read.
    pub(super) fn bound(&mut self, own_ms: Option<i64>, boot_id: BootId) {
        self.bounds = Bounds { own_ms, boot_id, ..self.bounds };
    }

    /// What comes next; `None` = the file is at its end.
    pub(super) async fn span(&mut self) -> Result<Option<&Span>, ImportError> {
        while self.span.is_none() {
            let Some(line) = self.line().await? else { return Ok(None) };
            let number = self.number;
            let wrong = |why| ImportError::Line { number, why };
            let form = match self.form {
                Some(form) => form,
                None => form_of(&line).map_err(wrong)?,
            };
            self.form = Some(form);
            match read(form, &line, self.bounds.boot_id).map_err(wrong)? {
                Line::Gap(reason) => self.gap = Some(self.gap.flatten().or(reason)),
                Line::Sample(sample) => self.span = Some(self.place(*sample, form)?),
            }
        }
        Ok(self.span.as_ref())
    }

    /// The part of what comes next up to this instant has been dealt with.
    pub(super) fn pass(&mut self, wall_ms: i64) {
        self.span = self.span.take().filter(|span| wall_ms < span.end_ms).map(|span| Span {
            from_ms: wall_ms.saturating_add(1).max(span.from_ms),
            is_first: false,
            breaks: None,
            ..span
        });
    }

    /// Why nothing follows the line before, as far as the file says it.
    pub(super) fn tail(&self) -> Option<GapReason> {
        match &self.span {
            Some(span) => span.breaks.flatten(),
            None => self.gap.flatten(),
        }
    }

    /// Takes the rest of the file and forgets it: whoever sends it hears an answer only then.
    pub(super) async fn drain(&mut self) {
        let rest = async { while let Ok(Some(Ok(_))) = timeout(STALL, self.source.next()).await {} };
        let _ = timeout(DRAIN, rest).await;
    }

    /// The next line that is not empty.
    async fn line(&mut self) -> Result<Option<Vec<u8>>, ImportError> {
        loop {
            let too_long = ImportError::LongLine { number: self.number.saturating_add(1) };
            let line = match (self.splitter.line(), self.ended) {
                (Err(_), _) => return Err(too_long),
                (Ok(Some(line)), _) => Some(line.to_vec()),
                (Ok(None), false) => None,
                (Ok(None), true) => match self.splitter.rest() {
                    Err(_) => return Err(too_long),
                    Ok([]) => return Ok(None),
                    Ok(rest) => Some(rest.to_vec()),
                },
            };
            if let Some(line) = line {
                self.number = self.number.saturating_add(1);
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            match timeout(STALL, self.source.next()).await {
                Err(_) => return Err(ImportError::Stalled { seconds: STALL.as_secs() }),
                Ok(Some(Ok(bytes))) => self.splitter.push(bytes.as_ref()),
                Ok(Some(Err(why))) => return Err(ImportError::CutOff { number: self.number, why: why.to_string() }),
                Ok(None) => self.ended = true,
            }
        }
    }

    /// Where a line stands after the one before.
    fn place(&mut self, sample: Sample, form: Form) -> Result<Span, ImportError> {
        let (number, at) = (self.number, sample.snapshot.at);
        let boot_id = sample.snapshot.state.boot_id;
        let gap = self.gap.take();
        if at.wall_ms > self.bounds.now_ms.saturating_add(AHEAD_MS) {
            return Err(ImportError::Ahead { number, at_ms: at.wall_ms, now_ms: self.bounds.now_ms });
        }
        if let Some(own_ms) = self.bounds.own_ms.filter(|own_ms| at.wall_ms > *own_ms) {
            return Err(ImportError::AfterOwn { number, at_ms: at.wall_ms, own_ms });
        }
        let (from_ms, breaks) = match self.before {
            None => (at.wall_ms, None),
            Some(before) => {
                let booted = before.boot_id != boot_id;
                let breaks = gap.or(booted.then_some(None));
                // A clock set back by less than a step stands still in history.
                let stands = form == Form::Export && breaks.is_none() && before.at.boot_us < at.boot_us;
                let back_ms = before.end_ms.saturating_sub(at.wall_ms);
                if back_ms >= 0 && !(stands && back_ms <= bounds::CLOCK_STEP_MS) {
                    return Err(ImportError::Order {
                        number,
                        at_ms: at.wall_ms,
                        before: before.number,
                        before_ms: before.end_ms,
                    });
                }
                let from_ms = at.wall_ms.max(before.end_ms);
                if breaks.is_none() {
                    self.steps.count(from_ms.saturating_sub(before.end_ms));
                }
                (from_ms, breaks)
            }
        };
        let said_ms = sample.confirmed_ms.unwrap_or(from_ms).max(from_ms);
        let end_ms = said_ms.min(self.bounds.own_ms.unwrap_or(i64::MAX)).max(from_ms);
        self.was_cut |= end_ms < said_ms;
        self.before = Some(Before { number, at, end_ms: said_ms, boot_id });
        self.samples = self.samples.saturating_add(1);
        if self.host.is_none() {
            self.host.clone_from(&sample.host);
        }
        let breaks = breaks.or_else(|| gap.filter(|_| self.samples == 1));
        Ok(Span { number, sample: Arc::new(sample), from_ms, end_ms, is_first: true, breaks })
    }
}
