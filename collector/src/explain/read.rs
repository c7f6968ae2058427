//! A line, read.

use super::call::{self, Asked, Call};
use super::catalogue::{Catalogue, Product};
use super::errno::{self, Errno};
use super::meaning::{Cause, cause};
use super::pattern::plain;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<'c> {
    /// Whose message it is; `None` = no message that is known.
    pub product: Option<&'c Product>,
    /// The call that failed; `None` = none of System V IPC.
    pub call: Option<Call>,
    /// Whether that is only guessed from words.
    pub is_guess: bool,
    /// What it answered; `None` = the line does not say.
    pub errno: Option<Errno>,
    /// What that can come from.
    pub cause: Cause,
    /// What it says of the object.
    pub asked: Asked,
    /// What whoever reads it must know.
    pub know: Option<&'c str>,
    /// What helps besides raising a limit.
    pub remedy: Option<&'c str>,
}

/// The most bytes of a line.
pub const MOST_BYTES: usize = 16 << 10;

/// Why nothing can be said of a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("there is no text: paste the line of the log that says why the program failed")]
    Empty,
    /// It is longer than a line.
    #[error(
        "that are {bytes} bytes, a line has at most {MOST_BYTES}: paste only the lines that say why the program failed"
    )]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// No message that is known, and no call with its answer.
    #[error(
        "nothing in that line names a System V IPC call and what it answered: paste the line with the words of the error \
         (e.g. \"No space left on device\") and the line before it, or a line of `strace -f -e trace=%ipc` of the program"
    )]
    Unknown,
    /// A known message without its answer.
    #[error(
        "that is {product}, but the line does not say what the call answered: paste the whole message, with the words \
         of the error (e.g. \"No space left on device\") and its following lines"
    )]
    NoAnswer {
        /// Whose message.
        product: String,
    },
}

/// Reads a line.
pub fn read<'c>(catalogue: &'c Catalogue, line: &str) -> Result<Told<'c>, ReadError> {
    if line.len() > MOST_BYTES {
        return Err(ReadError::TooLong { bytes: line.len() });
    }
    let line = plain(line);
    if line.is_empty() {
        return Err(ReadError::Empty);
    }
    let found = catalogue.find(&line);
    let errno = errno::find(&line).or_else(|| found.and_then(|(_, message)| message.errno));
    let named = found.and_then(|(_, message)| message.call).or_else(|| call::find(&line));
    let posix = found.is_none() && named.is_none() && call::is_posix(&line);
    let call = named.or_else(|| call::guess(&line).filter(|_| !posix));
    let means = found.and_then(|(_, message)| message.means).map(Cause::from);
    let cause = match (means, call, errno) {
        (Some(means), _, _) => means,
        (None, _, Some(_)) if posix => Cause::Posix,
        (None, Some(call), Some(errno)) => cause(call, errno),
        (None, ..) => {
            return Err(found.map_or(ReadError::Unknown, |(product, _)| {
                let product = product.name.clone();
                ReadError::NoAnswer { product }
            }));
        }
    };
    Ok(Told {
        product: found.map(|(product, _)| product),
        call: call.filter(|_| cause != Cause::Posix),
        is_guess: named.is_none() && call.is_some(),
        errno,
        cause,
        asked: call.map_or_else(Asked::default, |call| call::asked(&line, call)),
        know: found.and_then(|(_, message)| message.know.as_deref()),
        remedy: found.and_then(|(_, message)| message.remedy.as_deref()),
    })
}
