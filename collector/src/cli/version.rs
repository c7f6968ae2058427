//! `highwater version`.

use anyhow::Context as _;
use clap::Args;

use super::args::Global;
use super::exit::Exit;
use super::print;

/// Arguments of `version`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  highwater version --json")]
pub struct VersionArgs {}

/// Prints name and version.
pub fn run(_: &VersionArgs, global: &Global) -> anyhow::Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    let text = if global.wants_json() {
        format!("{}\n", serde_json::json!({ "name": "highwater", "version": version }))
    } else {
        format!("highwater {version}\n")
    };
    print::answer(text.as_bytes()).context("writing the answer")?;
    Ok(Exit::Answered)
}
