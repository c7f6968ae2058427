//! A mail server on loopback that takes everything, or refuses as it is told: enough of SMTP (RFC 5321) for a real client.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A mail that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// Its `AUTH` line, if there was one.
    pub auth: Option<String>,
    /// Address of `MAIL FROM`.
    pub from: String,
    /// Addresses of `RCPT TO`.
    pub to: Vec<String>,
    /// All of it, dots undone, lines ended by LF.
    pub text: String,
}

impl Mail {
    /// The value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\n\n").next().unwrap_or("");
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

type Mails = Arc<Mutex<Vec<Mail>>>;

/// A running mail server; it serves until the test process ends.
#[derive(Debug)]
pub struct MailSink {
    address: SocketAddr,
    mails: Mails,
}

impl MailSink {
    /// Starts one; `refuse` may answer the end of a mail, by its number from 0 on, with a line like `451 later`.
    ///
    /// # Panics
    ///
    /// If there is no port.
    pub fn start(refuse: impl Fn(usize) -> Option<&'static str> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("its address");
        let mails = Mails::default();
        let taken = mails.clone();
        let ends = Arc::new(Mutex::new(0));
        let refuse = Arc::new(refuse);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (taken, ends, refuse) = (taken.clone(), ends.clone(), refuse.clone());
                thread::spawn(move || {
                    let mut refuse = || {
                        let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
                        *ends += 1;
                        refuse(*ends - 1)
                    };
                    talk(stream, &taken, &mut refuse)
                });
            }
        });
        Self { address, mails }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What was taken so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One client, to its QUIT. One that goes away early is no error here.
fn talk(stream: TcpStream, taken: &Mails, refuse: &mut dyn FnMut() -> Option<&'static str>) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    let mut say = |text: &str| out.write_all(format!("{text}\r\n").as_bytes()).ok();
    say("220 sink.test")?;
    let mut mail = Mail::default();
    while let Some(Ok(line)) = lines.next() {
        let verb = line.split(' ').next().unwrap_or("").to_ascii_uppercase();
        let address = |line: &str| line.split(['<', '>']).nth(1).unwrap_or("").to_owned();
        match verb.as_str() {
            "EHLO" => say("250-sink.test\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME")?,
            "HELO" | "RSET" | "NOOP" => say("250 ok")?,
            "AUTH" => {
                mail.auth = Some(line);
                say("235 ok")?;
            }
            "MAIL" => {
                mail.from = address(&line);
                say("250 ok")?;
            }
            "RCPT" => {
                mail.to.push(address(&line));
                say("250 ok")?;
            }
            "DATA" => {
                say("354 go on")?;
                for line in lines.by_ref() {
                    let line = line.ok()?;
                    if line == "." {
                        break;
                    }
                    mail.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                    mail.text.push('\n');
                }
                if let Some(refused) = refuse() {
                    say(refused)?;
                } else {
                    taken.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut mail));
                    say("250 taken")?;
                }
            }
            "QUIT" => return say("221 bye"),
            _ => say("502 no")?,
        }
    }
    None
}
