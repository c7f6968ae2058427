//! `highwater token`: the tokens with which hosts enrol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use highwater_ipc::time::parse_rfc3339_ms;
use jiff::tz::TimeZone;

use super::args::Global;
use super::client::{Client, segment};
use super::exit::Exit;
use super::host::own_zone;
use super::table::{Tone, table};
use super::{print, when};
use crate::api::json::{NewTokenJson, TokenCreatedJson, TokenJson, TokensJson};
use crate::secret_file;

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

const EXAMPLES: &str = "Examples:
  highwater token create --out web-17.token
  highwater token list
Then, on the host: highwater-agent enrol --collector https://COLLECTOR:8443 --token-file web-17.token";

const CREATE_EXAMPLES: &str = "Examples:
  highwater token create --out web-17.token        one host, within the hour; the file is 0600
  highwater token create --ttl 1d --uses 50 --label role=web --out web.token
  highwater token create --host web-17 --out web-17.token    the same host again, after its state was lost
Then, on the host: highwater-agent enrol --collector https://COLLECTOR:8443 --token-file web-17.token";

/// What to do with tokens.
#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token; its secret is shown this once
    Create(CreateArgs),
    /// The newest tokens and what can still be done with them
    #[command(after_help = "Example:\n  highwater token list")]
    List,
    /// End a token; hosts that it enrolled stay
    #[command(after_help = "Example:\n  highwater token revoke 3f9a61c2d4e58b07")]
    Revoke {
        /// The token's id, as `list` shows it
        id: String,
    },
}

/// Arguments of `token create`.
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
struct CreateArgs {
    /// How long it can be used: a number with s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: Ttl,
    /// How many hosts it may enrol
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// Enrol this host again, as itself, instead of a new one: name, id or unique prefix
    #[arg(long, value_name = "H")]
    host: Option<String>,
    /// Labels of the hosts that it makes
    #[arg(long, value_name = "K=V,..", value_delimiter = ',')]
    label: Vec<Label>,
    /// Write the token to this new file (0600) instead of printing it
    #[arg(long, value_name = "F")]
    out: Option<PathBuf>,
}

/// The most tokens that the API lists.
const LISTED: usize = 1000;

/// A token's life, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ttl(pub(super) i64);

/// A label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Label(String, String);

/// Does what was asked.
pub fn run(args: &TokenArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    match &args.command {
        TokenCommand::Create(args) => create(&client, args, global)?,
        TokenCommand::List => list(&client, global)?,
        TokenCommand::Revoke { id } => revoke(&client, id, global)?,
    }
    Ok(Exit::Answered)
}

fn create(client: &Client, args: &CreateArgs, global: &Global) -> anyhow::Result<()> {
    if let Some(out) = args.out.as_deref().filter(|out| out.symlink_metadata().is_ok()) {
        anyhow::bail!("{} is there already: name a new file with --out", out.display());
    }
    let new = NewTokenJson {
        ttl_ms: Some(args.ttl.0),
        uses: Some(args.uses),
        host: args.host.clone(),
        labels: labels(&args.label)?,
    };
    let answer = client.post("/tokens", &serde_json::to_string(&new)?)?;
    let created: TokenCreatedJson = client.read(&answer)?;
    if let Some(out) = &args.out {
        hand_over(client, &created, out)?;
    }
    if global.wants_json() {
        // What is in a file is not shown as well.
        let shown = match &args.out {
            Some(out) => {
                let file = out.to_string_lossy();
                serde_json::json!({ "id": created.id, "expires_at": created.expires_at, "file": file }).to_string()
            }
            None => answer,
        };
        return print::answer(format!("{shown}\n").as_bytes()).context("writing the answer");
    }
    let until = shown(&created.expires_at, &own_zone());
    match &args.out {
        Some(out) => {
            let text = format!("token {} is in {}, for use until {until}\n", created.id, out.display());
            print::answer(text.as_bytes()).context("writing the answer")
        }
        // Only the token goes to stdout: it may be sent to a file or another program.
        None => {
            eprintln!("token {}, for use until {until}; it is shown this once", created.id);
            print::answer(format!("{}\n", created.token).as_bytes()).context("writing the answer")
        }
    }
}

/// A token that could not be written down is nobody's: it is revoked.
fn hand_over(client: &Client, created: &TokenCreatedJson, out: &Path) -> anyhow::Result<()> {
    let written = secret_file::create(out, format!("{}\n", created.token).as_bytes());
    if written.is_err() {
        let _ = client.delete(&format!("/tokens/{}", segment(&created.id)));
    }
    Ok(written?)
}

fn list(client: &Client, global: &Global) -> anyhow::Result<()> {
    let answer = client.get("/tokens", &[])?;
    let json: TokensJson = client.read(&answer)?;
    if json.tokens.len() >= LISTED {
        eprintln!("highwater: only the newest {LISTED} tokens are listed");
    }
    if global.wants_json() {
        return print::answer(format!("{answer}\n").as_bytes()).context("writing the answer");
    }
    let text = listed(&json.tokens, &own_zone(), global.wants_color());
    print::answer(text.as_bytes()).context("writing the answer")
}

fn revoke(client: &Client, id: &str, global: &Global) -> anyhow::Result<()> {
    client.delete(&format!("/tokens/{}", segment(id)))?;
    let text = if global.wants_json() {
        format!("{}\n", serde_json::json!({ "id": id, "state": "revoked" }))
    } else {
        format!("token {id} is revoked\n")
    };
    print::answer(text.as_bytes()).context("writing the answer")
}

fn listed(tokens: &[TokenJson], zone: &TimeZone, color: bool) -> String {
    if tokens.is_empty() {
        return "no tokens\n".to_owned();
    }
    let plain = |text: &str| (text.to_owned(), Tone::Plain);
    let rows: Vec<Vec<(String, Tone)>> = tokens
        .iter()
        .map(|token| {
            let tone = if token.state == "valid" { Tone::Good } else { Tone::Faint };
            vec![
                plain(&token.id),
                (token.state.clone(), tone),
                plain(&shown(&token.created_at, zone)),
                plain(&shown(&token.expires_at, zone)),
                plain(&token.uses_left.to_string()),
                plain(token.host.as_deref().unwrap_or("new")),
            ]
        })
        .collect();
    table(&["ID", "STATE", "MADE", "USE UNTIL", "USES LEFT", "HOST"], &rows, color)
}

fn shown(at: &str, zone: &TimeZone) -> String {
    parse_rfc3339_ms(at).map_or_else(|| at.to_owned(), |ms| when::show(ms, zone))
}

fn labels(given: &[Label]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for Label(key, value) in given {
        anyhow::ensure!(labels.insert(key.clone(), value.clone()).is_none(), "--label {key} is given twice");
    }
    Ok(labels)
}

impl FromStr for Ttl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a number with s, m, h or d, such as 90s, 30m, 1h or 7d";
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or(FORM)?);
        let unit_ms = match unit {
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(FORM),
        };
        let number: i64 = number.parse().map_err(|_| FORM)?;
        number.checked_mul(unit_ms).map(Self).ok_or(FORM)
    }
}

impl FromStr for Label {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("a label is KEY=VALUE")?;
        Ok(Self(key.to_owned(), value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_a_number_with_a_unit() {
        for (text, ms) in [("90s", 90_000), ("30m", 1_800_000), ("1h", 3_600_000), ("7d", 604_800_000)] {
            assert_eq!(text.parse(), Ok(Ttl(ms)));
        }
        for other in ["", "1", "h", "-1h", "1.5h", "1w", "99999999999999999d", "99999999999999999999d"] {
            assert!(other.parse::<Ttl>().is_err(), "{other}");
        }
    }

    #[test]
    fn labels_are_pairs_and_each_key_comes_once() {
        let label: Label = "role=web=1".parse().unwrap();
        assert_eq!(label, Label("role".into(), "web=1".into()));
        assert!("role".parse::<Label>().is_err() && "=x".parse::<Label>().is_err());
        assert!(labels(std::slice::from_ref(&label)).is_ok());
        assert!(labels(&[label.clone(), label]).is_err());
    }

    #[test]
    fn tokens_are_listed_without_secrets() {
        let token = |id: &str, state: &str, host: Option<&str>| TokenJson {
            id: id.into(),
            state: state.into(),
            created_at: "2026-11-24T03:12:00.000Z".into(),
            expires_at: "2026-11-24T04:12:00.000Z".into(),
            uses_left: 1,
            host: host.map(Into::into),
        };
        let tokens = [token("a1", "valid", None), token("b2", "revoked", Some("00000000000000ab"))];
        assert_eq!(
            listed(&tokens, &TimeZone::UTC, false),
            "\
ID  STATE    MADE                       USE UNTIL                  USES LEFT  HOST
a1  valid    2026-11-24 03:12:00 +0000  2026-11-24 04:12:00 +0000  1          new
b2  revoked  2026-11-24 03:12:00 +0000  2026-11-24 04:12:00 +0000  1          00000000000000ab
"
        );
    }
}
