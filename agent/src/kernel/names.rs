//! Names of users and groups, cached, without ever keeping the sampler waiting for long.
//!
//! `ipcs` asks `getpwuid(3)`, which may ask the network. So `/etc/passwd` and `/etc/group` are read first, at once; an
//! id that is not there is asked of the name service switch on a thread of its own. A sample waits for that thread at
//! most half a second, once per silence: while it hangs, names that are not known are missing, and the sample after
//! the answer has them. (The one difference to `getpwuid(3)`: where another source comes before `files` in
//! `nsswitch.conf` and gives one uid another name, the name of the file is shown.)
//!
//! Answers are kept for [`REFRESH_US`] and until the files change; then they are asked again, and the old one is shown
//! until the new one is there.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use highwater_ipc::text::HostText;

use super::Account;

/// Age at which names are asked again, microseconds.
pub const REFRESH_US: u64 = 300_000_000;
/// Most names kept of each file, and most answers of the switch. Beyond it ids have no name.
pub const MAX_NAMES: usize = 16_384;

/// Asks the name service switch; may take long. `None` = no such account; `Err` = it could not be asked.
pub type LookUp = fn(Account) -> Result<Option<Vec<u8>>, crate::sys::errno::Errno>;

/// The cache.
#[derive(Debug)]
pub struct Names {
    users: BTreeMap<u32, HostText>,
    groups: BTreeMap<u32, HostText>,
    answers: BTreeMap<Account, Answer>,
    resolver: Option<Resolver>,
    look_up: LookUp,
    refreshed_us: Option<u64>,
    /// Ids that this sample may still wait for.
    waits_left: u32,
    /// How often this sample may still wait [`SLICE`] in vain.
    slices_left: u32,
}

#[derive(Debug, Default)]
struct Answer {
    name: Option<HostText>,
    /// Asked or to be asked again.
    stale: bool,
    asked: bool,
}

#[derive(Debug)]
struct Resolver {
    questions: SyncSender<Account>,
    answers: Receiver<(Account, Option<Option<HostText>>)>,
    /// A sample waited in vain; nobody waits until an answer comes.
    silent: bool,
}

impl Names {
    /// An empty cache that asks `look_up` for what the files lack.
    pub fn new(look_up: LookUp) -> Self {
        Self {
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            answers: BTreeMap::new(),
            resolver: None,
            look_up,
            refreshed_us: None,
            waits_left: WAITS,
            slices_left: SLICES,
        }
    }

    /// A sample begins: it may wait anew.
    pub fn begin_sample(&mut self) {
        (self.waits_left, self.slices_left) = (WAITS, SLICES);
    }

    /// Whether the files are to be read again at that boot time, given whether they changed.
    pub fn is_due(&self, boot_us: u64, changed: bool) -> bool {
        changed || self.refreshed_us.is_none_or(|before| boot_us.saturating_sub(before) >= REFRESH_US)
    }

    /// The files as they are now; a file that could not be read keeps its old names.
    pub fn refresh(
        &mut self,
        boot_us: u64,
        users: Option<BTreeMap<u32, HostText>>,
        groups: Option<BTreeMap<u32, HostText>>,
    ) {
        self.refreshed_us = Some(boot_us);
        self.users = users.unwrap_or_else(|| std::mem::take(&mut self.users));
        self.groups = groups.unwrap_or_else(|| std::mem::take(&mut self.groups));
        for answer in self.answers.values_mut() {
            answer.stale = true;
        }
    }

    /// The name, as far as it is known now.
    pub fn name(&mut self, account: Account) -> Option<HostText> {
        let filed = match account {
            Account::User(uid) => self.users.get(&uid),
            Account::Group(gid) => self.groups.get(&gid),
        };
        if let Some(name) = filed {
            return Some(name.clone());
        }
        self.collect();
        let first_sight = !self.answers.contains_key(&account);
        if first_sight && self.answers.len() >= MAX_NAMES {
            return None;
        }
        let answer = self.answers.entry(account).or_insert_with(|| Answer { stale: true, ..Answer::default() });
        if answer.stale && !answer.asked {
            self.ask(account);
            if first_sight {
                self.wait_for(account);
            }
        }
        self.answers.get(&account).and_then(|answer| answer.name.clone())
    }

    fn ask(&mut self, account: Account) {
        let look_up = self.look_up;
        if self.resolver.is_none() {
            self.resolver = Resolver::start(look_up);
        }
        let Some(resolver) = self.resolver.as_mut() else { return };
        match resolver.questions.try_send(account) {
            Ok(()) => self.mark_asked(account),
            // Full: a later sample asks. Gone: the next question starts another.
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => self.forget_resolver(),
        }
    }

    fn mark_asked(&mut self, account: Account) {
        if let Some(answer) = self.answers.get_mut(&account) {
            answer.asked = true;
        }
    }

    /// Takes the answers that are there.
    fn collect(&mut self) {
        while let Some((account, name)) = self.resolver.as_mut().and_then(|resolver| resolver.answers.try_recv().ok()) {
            self.take(account, name);
        }
    }

    fn wait_for(&mut self, account: Account) {
        if self.waits_left == 0 {
            return;
        }
        self.waits_left -= 1;
        while self.answers.get(&account).is_some_and(|answer| answer.asked) {
            let Some(resolver) = self.resolver.as_mut().filter(|resolver| !resolver.silent) else { return };
            match resolver.answers.recv_timeout(SLICE) {
                Ok((account, name)) => self.take(account, name),
                Err(RecvTimeoutError::Timeout) if self.slices_left > 0 => self.slices_left -= 1,
                Err(RecvTimeoutError::Timeout) => resolver.silent = true,
                Err(RecvTimeoutError::Disconnected) => self.forget_resolver(),
            }
        }
    }

    /// The thread died (a name service module panicked or unwound): what it was asked is asked again.
    fn forget_resolver(&mut self) {
        self.resolver = None;
        for answer in self.answers.values_mut() {
            answer.asked = false;
        }
    }

    fn take(&mut self, account: Account, name: Option<Option<HostText>>) {
        if let Some(resolver) = self.resolver.as_mut() {
            resolver.silent = false;
        }
        if let Some(answer) = self.answers.get_mut(&account) {
            // An error keeps the name known before.
            answer.name = name.unwrap_or_else(|| answer.name.take());
            (answer.stale, answer.asked) = (false, false);
        }
    }
}

impl Resolver {
    /// `None` if no thread can be made: ids then show as numbers.
    fn start(look_up: LookUp) -> Option<Resolver> {
        let (questions, asked) = sync_channel::<Account>(QUESTIONS);
        let (answered, answers) = sync_channel(QUESTIONS);
        let work = move || {
            for account in asked {
                let name = look_up(account).ok().map(|name| name.map(|bytes| HostText::cut(&bytes)));
                if answered.send((account, name)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("names".into()).stack_size(STACK).spawn(work).ok()?;
        Some(Resolver { questions, answers, silent: false })
    }
}

/// Ids that one sample waits for at most; more new ones than this get their names with the next sample.
const WAITS: u32 = 64;
/// Waits that bring nothing, and how many of them a sample spends: half a second.
const SLICE: Duration = Duration::from_millis(10);
const SLICES: u32 = 50;
/// Questions under way at most; those beyond wait for a later sample.
const QUESTIONS: usize = 64;
/// Name service modules are foreign code with their own buffers on the stack.
const STACK: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::errno::Errno;

    fn answers(account: Account) -> Result<Option<Vec<u8>>, Errno> {
        match account {
            Account::User(70_000) => Ok(Some(b"anna\xff".to_vec())),
            Account::User(_) => Ok(None),
            Account::Group(_) => Err(Errno::EIO),
        }
    }

    fn hangs(_: Account) -> Result<Option<Vec<u8>>, Errno> {
        // Waits for something that never comes: a directory server behind a dead link.
        let (_silent, forever) = std::sync::mpsc::channel::<()>();
        let _ = forever.recv();
        Ok(None)
    }

    #[test]
    fn the_file_answers_first_and_the_switch_what_it_lacks() {
        let mut names = Names::new(answers);
        names.refresh(0, Some(BTreeMap::from([(33, "www-data".into())])), None);
        assert_eq!(names.name(Account::User(33)), Some("www-data".into()));
        assert_eq!(names.name(Account::User(70_000)), Some(HostText::cut(b"anna\xff")));
        assert_eq!(names.name(Account::User(u32::MAX)), None);
        assert_eq!(names.name(Account::Group(33)), None);
    }

    #[test]
    fn names_age_and_a_changed_file_is_read_at_once() {
        let mut names = Names::new(answers);
        assert!(names.is_due(0, false));
        names.refresh(0, None, None);
        assert!(!names.is_due(REFRESH_US - 1, false));
        assert!(names.is_due(REFRESH_US, false) && names.is_due(1, true));
    }

    #[test]
    fn an_old_answer_is_shown_until_the_new_one_is_there() {
        let mut names = Names::new(answers);
        assert_eq!(names.name(Account::User(70_000)), Some(HostText::cut(b"anna\xff")));
        names.look_up = hangs;
        names.resolver = None;
        names.refresh(1, None, None);
        assert_eq!(names.name(Account::User(70_000)), Some(HostText::cut(b"anna\xff")));
    }

    #[test]
    fn a_resolver_that_died_is_asked_anew() {
        fn dies(_: Account) -> Result<Option<Vec<u8>>, Errno> {
            std::panic::resume_unwind(Box::new("a module of the name service died"))
        }
        let mut names = Names::new(dies);
        assert_eq!(names.name(Account::User(70_000)), None);
        names.look_up = answers;
        assert_eq!(names.name(Account::User(70_000)), None, "asked, not waited for: it was seen before");
        assert!(names.resolver.is_some());
    }
}
