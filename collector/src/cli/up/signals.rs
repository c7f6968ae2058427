//! What ends `up`: Ctrl-C, SIGTERM, and SIGHUP unless it is ignored (`nohup`).

use std::io;
use std::process::exit;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::exit::Exit;

/// A second Ctrl-C earlier than this is the same one: wrappers and terminals send more than one signal.
const SAME: Duration = Duration::from_secs(1);

/// Cancels `stopping` at the first signal. Who presses Ctrl-C once more, a second after the first time, ends the process
/// at once; other signals that come again are no haste.
pub fn watch(stopping: &CancellationToken) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut hangup = if ignores_hangup(&status) { None } else { Some(signal(SignalKind::hangup())?) };
    let stopping = stopping.clone();
    // Lives as long as the process: a second signal must be heard while everything else stops.
    tokio::spawn(async move {
        let interrupted = next(&mut interrupt, &mut terminate, &mut hangup).await;
        stopping.cancel();
        if !interrupted {
            interrupt.recv().await;
        }
        let same = async { while interrupt.recv().await.is_some() {} };
        let _ = tokio::time::timeout(SAME, same).await;
        interrupt.recv().await;
        eprintln!("highwater: told twice: ending now; the next `highwater up` picks up what still runs");
        exit(Exit::Error.code().into());
    });
    Ok(())
}

/// Whether the signal that came was SIGINT.
async fn next(interrupt: &mut Signal, terminate: &mut Signal, hangup: &mut Option<Signal>) -> bool {
    let hung_up = async {
        match hangup {
            Some(signal) => signal.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt.recv() => true,
        _ = terminate.recv() => false,
        _ = hung_up => false,
    }
}

/// Bit 0 of `SigIgn` in proc_pid_status(5) is signal 1, SIGHUP.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen_in_the_mask_of_ignored_signals() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
