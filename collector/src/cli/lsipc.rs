//! `highwater lsipc`: limits and what is used of them.

use anyhow::{Context as _, anyhow};
use clap::Args;
use highwater_ipc::render::lsipc::{Parameter, Row, table};

use super::args::Global;
use super::client::Client;
use super::exit::Exit;
use super::host::{Asked, MayBe, gap_words, own_zone, read_may_be, say_notes};
use super::namespace::{called, choose};
use super::{print, when};
use crate::api::json::{LsipcJson, LsipcRowJson};

/// Arguments of `lsipc`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LsipcArgs {
    /// Exact name, id or unique prefix of a host; omitted = this machine
    pub host: Option<String>,
    /// At this instant of the host's clock (2026-11-24T03:12:00Z, 03:12, -2h, yesterday, @unix, ...)
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed, conflicts_with = "last")]
    pub at: Option<String>,
    /// The newest sample, however old
    #[arg(long)]
    pub last: bool,
    /// IPC namespace: its inode, the beginning of its name, or all; omitted = the host's own
    #[arg(long, value_name = "N")]
    pub namespace: Option<String>,
}

const EXAMPLES: &str = "Examples:
  highwater lsipc                          this machine now
  highwater lsipc web-17 --at 03:12        web-17 at 03:12 today
  highwater lsipc web-17 --namespace all   every container's
  highwater lsipc web-17 --at -1d --json   the same for a program, a day ago";

/// Asks and prints.
pub fn run(args: &LsipcArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    let zone = own_zone();
    let asked = Asked::new(args.host.as_deref(), &client)?;
    let mut parameters = Vec::new();
    if args.last {
        parameters.push(("last", "true".to_owned()));
    } else if let Some(at) = &args.at {
        parameters.push(("at", asked.instant(&client, at, &zone)?));
    }
    let answer = client.get(&asked.path("lsipc"), &parameters)?;
    if global.wants_json() {
        print::answer(format!("{answer}\n").as_bytes()).context("writing the answer")?;
    }
    match read_may_be::<LsipcJson>(&client, &answer)? {
        MayBe::Gap(gap) => {
            say_notes(&gap.host, &gap.notes, gap.skew_ms);
            eprintln!("highwater: {}", gap_words(&gap, "lsipc", &zone));
            Ok(Exit::NoData)
        }
        MayBe::Data(json) => {
            say_notes(&json.host, &json.notes, json.skew_ms);
            if !global.wants_json() {
                print::answer(text(&json, args.namespace.as_deref())?.as_bytes()).context("writing the answer")?;
            }
            Ok(Exit::Answered)
        }
    }
}

/// The namespaces that are wanted, each as `lsipc` prints it.
fn text(json: &LsipcJson, wanted: Option<&str>) -> anyhow::Result<String> {
    let all = called(&json.rows);
    let mut text = String::new();
    for namespace in choose(&all, wanted)?.into_iter().filter_map(|index| all.get(index)) {
        if wanted == Some("all") {
            text.push_str(&format!("namespace {}\n", namespace.title()));
        }
        let of_it = json.rows.iter().filter(|r| r.namespace == namespace.inode);
        let rows: Result<Vec<Row>, _> = of_it.map(row).collect();
        text.push_str(&table(&rows?));
    }
    if all.is_empty() {
        text.push_str(&table(&[]));
    }
    Ok(text)
}

fn row(json: &LsipcRowJson) -> anyhow::Result<Row> {
    let number = |text: &Option<String>| text.as_ref().map(|t| t.parse::<u64>()).transpose();
    let parameter = Parameter::from_name(&json.resource)
        .ok_or_else(|| anyhow!("the collector answered a limit {:?} that this version does not know", json.resource))?;
    let wrong = || format!("the collector's numbers of {}", json.resource);
    Ok(Row {
        parameter,
        limit: number(&json.limit_u64).with_context(wrong)?,
        used: number(&json.used_u64).with_context(wrong)?,
    })
}
