//! Writing an answer to stdout. A reader that has seen enough (`| head`) is no error.

use std::io::{self, Write};

/// Writes the answer and flushes it; a closed pipe ends quietly.
pub fn answer(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
