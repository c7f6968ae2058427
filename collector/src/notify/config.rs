//! The file of receivers (`--notify-config`), TOML. The tables below are its manual; README.md shows one of each kind.
//!
//! Everything in it is checked at the start: an unknown key is an error that names the nearest known one, and secrets are
//! read from files of mode 0600 that belong to this user, never from this file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Table;

use super::notice::Severity;
use super::receiver::{Endpoint, Receiver, Receivers, Secret, Security, Smtp, Way, is_loopback};
use crate::config::{self, ConfigError, Place};
use crate::secret_file;

/// The most receivers.
pub const MOST: usize = 32;
/// The most bytes of a name.
const NAME: usize = 64;

/// Keys of the file itself: the receivers, and where people read what to do about a flag (`{kind}`, `{resource}` and
/// `{severity}` are filled in).
const FILE_KEYS: &[&str] = &["receiver", "runbook_url"];
/// Keys of every receiver: what it is called, which kind it is (`webhook`, `alertmanager`, `slack`, `smtp`), of which
/// severities it is told (default both), which labels a host must have, certificates instead of the system's, and leave to
/// send in the clear to another machine.
const COMMON: &[&str] = &["name", "kind", "severities", "labels", "ca_file", "allow_plain_http"];
/// A webhook: where, and what it is signed with.
const WEBHOOK: &[&str] = &["url", "secret_file"];
/// An Alertmanager: its root; a bearer token, or with `username` a password; how often an open alert is sent again, seconds
/// (10 to 3600, default 60).
const ALERTMANAGER: &[&str] = &["url", "secret_file", "username", "refresh_s"];
/// Slack: its URL is the secret.
const SLACK: &[&str] = &["secret_file"];
/// A mail server: `security` is `starttls` (default), `tls` or `plain`; `port` is 587, 465 or 25 unless told.
const SMTP: &[&str] = &["server", "port", "security", "from", "to", "username", "secret_file"];

/// Reads the file and all that it names.
pub fn load(path: &Path) -> Result<Receivers, ConfigError> {
    parse(path, &config::read(path, "--notify-config")?)
}

/// Takes the text; `path` is for errors, and what files are named from.
fn parse(path: &Path, text: &str) -> Result<Receivers, ConfigError> {
    let table = config::table(path, text)?;
    let file = Place::file(path);
    file.known(&table, FILE_KEYS)?;
    let runbook_url = table.get("runbook_url").map(|v| file.text("runbook_url", v)).transpose()?;
    let mut list: Vec<Receiver> = Vec::new();
    for (table, number) in file.tables(&table, "receiver")?.into_iter().zip(1..) {
        let receiver = receiver(path, number, table)?;
        if list.iter().any(|other| other.name == receiver.name) {
            return Err(file.wrong(format!("two receivers are called \"{}\"", receiver.name)));
        }
        list.push(receiver);
    }
    if list.is_empty() || list.len() > MOST {
        let what = format!("it has {} receivers; give 1 to {MOST}, each as [[receiver]]", list.len());
        return Err(file.wrong(what));
    }
    Ok(Receivers { list, runbook_url })
}

/// All keys of all kinds; which of them a kind takes is checked before.
#[derive(Deserialize)]
struct Raw {
    severities: Option<Vec<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_plain_http: bool,
    url: Option<String>,
    secret_file: Option<PathBuf>,
    username: Option<String>,
    refresh_s: Option<i64>,
    server: Option<String>,
    port: Option<u16>,
    security: Option<String>,
    from: Option<String>,
    to: Option<Vec<String>>,
}

fn receiver(path: &Path, number: usize, table: &Table) -> Result<Receiver, ConfigError> {
    let mut at = Place { path, place: format!("receiver {number}") };
    let name = table.get("name").map(|v| at.text("name", v)).transpose()?.unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME || !name.chars().all(is_name) {
        return Err(at.wrong(format!("name must be 1 to {NAME} of a-z, A-Z, 0-9, -, _ and .")));
    }
    at.place = format!("receiver \"{name}\"");
    let kind = table.get("kind").map(|v| at.text("kind", v)).transpose()?.unwrap_or_default();
    let own = match kind.as_str() {
        "webhook" => WEBHOOK,
        "alertmanager" => ALERTMANAGER,
        "slack" => SLACK,
        "smtp" => SMTP,
        _ => return Err(at.wrong("kind must be webhook, alertmanager, slack or smtp")),
    };
    if kind == "slack" && table.contains_key("url") {
        let what = "whoever knows the URL of a Slack webhook may post: put it into secret_file (0600), not here";
        return Err(at.wrong(what));
    }
    at.known(table, &[COMMON, own].concat())?;
    let raw: Raw = table.clone().try_into().map_err(|e: toml::de::Error| at.wrong(e.message()))?;
    let severities = at.severities(raw.severities.as_deref())?;
    let labels = raw.labels.clone();
    let ca_pem = raw.ca_file.as_deref().map(|file| at.certificates(file)).transpose()?;
    Ok(Receiver { way: at.way(&kind, raw)?, name, severities, labels, ca_pem })
}

impl Place<'_> {
    fn severities(&self, given: Option<&[String]>) -> Result<Vec<Severity>, ConfigError> {
        let Some(given) = given else { return Ok(Severity::ALL.to_vec()) };
        let read: Option<Vec<_>> = given.iter().map(|word| Severity::from_name(word)).collect();
        let read = read.filter(|list| !list.is_empty());
        read.ok_or_else(|| self.wrong("severities must be a list of \"warning\" and \"critical\"".to_owned()))
    }

    fn certificates(&self, file: &Path) -> Result<Vec<u8>, ConfigError> {
        let file = self.beside(file);
        let text = config::read_bounded(&file).map_err(|e| self.wrong(format!("ca_file {}: {e}", file.display())))?;
        super::tls::roots(Some(text.as_bytes())).map_err(|e| self.wrong(format!("ca_file {}: {e}", file.display())))?;
        Ok(text.into_bytes())
    }

    /// A file that is named without a directory lies beside the configuration.
    fn beside(&self, file: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }

    fn secret(&self, file: Option<&Path>) -> Result<Option<Secret>, ConfigError> {
        let Some(file) = file else { return Ok(None) };
        let failed = |source| ConfigError::Secret { path: self.path.to_owned(), place: self.place.clone(), source };
        let bytes = secret_file::read(&self.beside(file), config::FILE_MAX).map_err(failed)?;
        let trimmed = bytes.trim_ascii().to_vec();
        let one_line = !trimmed.is_empty() && trimmed.iter().all(|byte| !byte.is_ascii_control());
        let what = || self.wrong(format!("secret_file {} must hold one line", file.display()));
        if one_line { Ok(Some(Secret::new(trimmed))) } else { Err(what()) }
    }

    fn needed<T>(&self, key: &str, value: Option<T>) -> Result<T, ConfigError> {
        value.ok_or_else(|| self.wrong(format!("{key} is missing")))
    }

    fn endpoint(&self, key: &str, url: &str, plain: bool) -> Result<Endpoint, ConfigError> {
        let endpoint = Endpoint::parse(url).map_err(|what| self.wrong(format!("{key} {what}")))?;
        if !endpoint.tls && !plain && !is_loopback(&endpoint.host) {
            let what = format!(
                "{key} is http:// to another machine, where all between could read and change what is sent: use \
                 https://, or say allow_plain_http = true"
            );
            return Err(self.wrong(what));
        }
        Ok(endpoint)
    }

    fn way(&self, kind: &str, raw: Raw) -> Result<Way, ConfigError> {
        let secret = self.secret(raw.secret_file.as_deref())?;
        let plain = raw.allow_plain_http;
        let url = || self.needed("url", raw.url.as_deref());
        match kind {
            "webhook" => Ok(Way::Webhook {
                endpoint: self.endpoint("url", url()?, plain)?,
                secret: self.needed("secret_file", secret)?,
            }),
            "alertmanager" => {
                let endpoint = self.endpoint("url", url()?, plain)?.below("/api/v2/alerts");
                let seconds = raw.refresh_s.unwrap_or(60);
                if !(10..=3600).contains(&seconds) {
                    return Err(self.wrong("refresh_s must be 10 to 3600 seconds".to_owned()));
                }
                let authorization = self.authorization(raw.username.as_deref(), secret)?;
                Ok(Way::Alertmanager { endpoint, authorization, refresh_ms: seconds * 1000 })
            }
            "slack" => {
                let url = self.needed("secret_file", secret)?;
                let url = String::from_utf8_lossy(url.reveal()).into_owned();
                Ok(Way::Slack { endpoint: self.endpoint("the URL in secret_file", &url, plain)? })
            }
            _ => self.smtp(raw, secret).map(Way::Smtp),
        }
    }

    fn authorization(&self, username: Option<&str>, secret: Option<Secret>) -> Result<Option<Secret>, ConfigError> {
        use base64::Engine as _;
        let value = match (username, secret) {
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(self.wrong("username needs a secret_file with the password".to_owned())),
            (None, Some(token)) => [b"Bearer ", token.reveal()].concat(),
            (Some(user), Some(password)) => {
                let pair = [user.as_bytes(), b":", password.reveal()].concat();
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)).into_bytes()
            }
        };
        Ok(Some(Secret::new(value)))
    }

    fn smtp(&self, raw: Raw, secret: Option<Secret>) -> Result<Smtp, ConfigError> {
        let security = match raw.security.as_deref() {
            None | Some("starttls") => Security::StartTls,
            Some("tls") => Security::Tls,
            Some("plain") => Security::Plain,
            Some(_) => return Err(self.wrong("security must be starttls, tls or plain".to_owned())),
        };
        let server = self.needed("server", raw.server)?;
        if security == Security::Plain && !raw.allow_plain_http && !is_loopback(&server) {
            let what = "security is plain to another machine, where all between could read and change what is sent: use \
                        starttls or tls, or say allow_plain_http = true";
            return Err(self.wrong(what.to_owned()));
        }
        let login = match (raw.username, secret) {
            (None, None) => None,
            (Some(user), Some(password)) => Some((user, password)),
            _ => return Err(self.wrong("username and secret_file (with the password) go together".to_owned())),
        };
        if login.is_some() && security == Security::Plain && !is_loopback(&server) {
            return Err(self.wrong("a password is never sent in the clear to another machine".to_owned()));
        }
        let to = self.needed("to", raw.to)?;
        let from = self.needed("from", raw.from)?;
        if to.is_empty() || to.len() > MOST {
            return Err(self.wrong(format!("to must be a list of 1 to {MOST} addresses")));
        }
        if let Some(bad) = to.iter().chain([&from]).find(|address| !super::smtp::is_address(address)) {
            return Err(self.wrong(format!("\"{}\" is no mail address", bad.escape_debug())));
        }
        let default = match security {
            Security::Tls => 465,
            Security::StartTls => 587,
            Security::Plain => 25,
        };
        Ok(Smtp { server, port: raw.port.unwrap_or(default), security, from, to, login })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a secret `s` (0600).
    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        secret_file::create(&dir.path().join("s"), b"s3cret\n").unwrap();
        secret_file::create(&dir.path().join("slack"), b"https://hooks.example.org/services/T/B/X\n").unwrap();
        dir
    }

    fn read(dir: &tempfile::TempDir, text: &str) -> Result<Receivers, String> {
        let path = dir.path().join("notify.toml");
        std::fs::write(&path, text).unwrap();
        load(&path).map_err(|e| e.to_string())
    }

    /// The example of the README, each kind once.
    #[test]
    fn the_example_of_the_readme_reads() {
        let dir = directory();
        for name in ["oncall.secret", "mail.secret"] {
            secret_file::create(&dir.path().join(name), b"s3cret").unwrap();
        }
        secret_file::create(&dir.path().join("slack.url"), b"https://hooks.example.org/services/T/B/X").unwrap();
        let readme = include_str!("../../../README.md");
        let example = readme.split("```toml\n# /etc/highwater/notify.toml").nth(1).and_then(|t| t.split("```").next());
        let example = example.expect("an example in the README").replace("/etc/highwater/", "");
        let read = read(&dir, &format!("#{example}")).unwrap();
        let kinds: Vec<_> = read.list.iter().map(|r| r.way.name()).collect();
        assert_eq!(kinds, ["webhook", "alertmanager", "slack", "smtp"]);
        assert!(read.runbook_url.is_some());
    }

    #[test]
    fn an_unknown_key_names_the_nearest_one_that_this_kind_has() {
        let dir = directory();
        for (text, nearest) in [
            ("[[reciever]]\nname = \"a\"", "receiver"),
            ("[[receiver]]\nname = \"a\"\nkind = \"webhook\"\nulr = \"x\"", "url"),
            ("[[receiver]]\nname = \"a\"\nkind = \"webhook\"\nsecret = \"x\"", "secret_file"),
            ("[[receiver]]\nname = \"a\"\nkind = \"webhook\"\nseverity = [\"critical\"]", "severities"),
            ("[[receiver]]\nname = \"a\"\nkind = \"smtp\"\nserver_port = 25", "server"),
        ] {
            let error = read(&dir, text).unwrap_err();
            assert!(error.contains(&format!("did you mean \"{nearest}\"?")), "{error}");
        }
    }

    #[test]
    fn what_would_go_over_a_network_in_the_clear_is_refused_unless_it_is_allowed() {
        let dir = directory();
        let webhook = |url: &str, more: &str| {
            read(&dir, &format!("[[receiver]]\nname=\"a\"\nkind=\"webhook\"\nsecret_file=\"s\"\nurl=\"{url}\"\n{more}"))
        };
        assert!(webhook("https://a.example/x", "").is_ok() && webhook("http://127.0.0.1:1/x", "").is_ok());
        let error = webhook("http://a.example/x", "").unwrap_err();
        assert!(error.contains("allow_plain_http = true"), "{error}");
        assert!(webhook("http://a.example/x", "allow_plain_http = true").is_ok());
        let smtp = |more: &str| {
            let text = "[[receiver]]\nname=\"m\"\nkind=\"smtp\"\nfrom=\"a@b.example\"\nto=[\"c@d.example\"]\n";
            read(&dir, &format!("{text}{more}"))
        };
        assert!(smtp("server=\"mail.example\"\nsecurity=\"plain\"").unwrap_err().contains("allow_plain_http"));
        let login =
            "username=\"u\"\nsecret_file=\"s\"\nserver=\"mail.example\"\nsecurity=\"plain\"\nallow_plain_http=true";
        assert!(smtp(login).unwrap_err().contains("never sent in the clear"));
        assert!(smtp("server=\"127.0.0.1\"\nsecurity=\"plain\"\nport=2525").is_ok());
    }

    #[test]
    fn a_secret_that_others_can_read_or_that_stands_in_the_file_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = directory();
        let slack = "[[receiver]]\nname=\"a\"\nkind=\"slack\"\n";
        assert!(read(&dir, &format!("{slack}secret_file=\"slack\"")).is_ok());
        let error = read(&dir, &format!("{slack}url=\"https://hooks.example.org/SECRET\"")).unwrap_err();
        assert!(error.contains("secret_file") && !error.contains("SECRET"), "{error}");
        std::fs::set_permissions(dir.path().join("slack"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = read(&dir, &format!("{slack}secret_file=\"slack\"")).unwrap_err();
        assert!(error.contains("chmod 600") && error.contains("receiver \"a\""), "{error}");
        let open = "[[receiver]]\nname=\"a\"\nkind=\"webhook\"\nurl=\"https://u:pw@a.example/\"\nsecret_file=\"s\"";
        let error = read(&dir, open).unwrap_err();
        assert!(!error.contains("pw@"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_said_with_where_it_stands() {
        let dir = directory();
        for (text, words) in [
            ("", "it has 0 receivers"),
            ("receiver = 1", "[[receiver]]"),
            ("[[receiver]]\nkind=\"slack\"", "receiver 1: name must be"),
            ("[[receiver]]\nname=\"a b\"\nkind=\"slack\"", "name must be"),
            ("[[receiver]]\nname=\"a\"\nkind=\"pager\"", "kind must be"),
            ("[[receiver]]\nname=\"a\"\nkind=\"webhook\"\nurl=\"https://a.example\"", "secret_file is missing"),
            (
                "[[receiver]]\nname=\"a\"\nkind=\"slack\"\nseverities=[\"bad\"]\nsecret_file=\"slack\"",
                "severities must",
            ),
            ("[[receiver]]\nname=\"a\"\nkind=\"slack\"\nsecret_file=\"slack\"\nca_file=\"s\"", "ca_file"),
            (
                "[[receiver]]\nname=\"a\"\nkind=\"alertmanager\"\nurl=\"https://a.example\"\nrefresh_s=1",
                "refresh_s must",
            ),
            (
                "[[receiver]]\nname=\"a\"\nkind=\"smtp\"\nserver=\"m.example\"\nfrom=\"a\"\nto=[\"b@c.example\"]",
                "no mail address",
            ),
        ] {
            let error = read(&dir, text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let twice = "[[receiver]]\nname=\"a\"\nkind=\"slack\"\nsecret_file=\"slack\"\n".repeat(2);
        assert!(read(&dir, &twice).unwrap_err().contains("two receivers are called \"a\""));
    }
}
