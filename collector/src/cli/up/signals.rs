//! What ends `up`: Ctrl-C, SIGTERM, and SIGHUP unless it is ignored (`nohup`).

use std::io;
use std::process::exit;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::exit::Exit;

/// Cancels `stopping` at the first signal; at the second one the process ends at once.
pub fn watch(stopping: &CancellationToken) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut hangup = if ignores_hangup(&status) { None } else { Some(signal(SignalKind::hangup())?) };
    let stopping = stopping.clone();
    // Lives as long as the process: a second signal must be heard while everything else stops.
    tokio::spawn(async move {
        next(&mut interrupt, &mut terminate, &mut hangup).await;
        stopping.cancel();
        next(&mut interrupt, &mut terminate, &mut hangup).await;
        eprintln!("highwater: told twice: ending now; the next `highwater up` picks up what still runs");
        exit(Exit::Error.code().into());
    });
    Ok(())
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal, hangup: &mut Option<Signal>) {
    let hung_up = async {
        match hangup {
            Some(signal) => signal.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hung_up => {}
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
