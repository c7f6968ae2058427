//! What a call answered, as it stands in a line: in words, as a symbol, or as a number.

/// An answer that calls of System V IPC, and filters in front of them, are known to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Errno {
    /// The number on Linux, `errno(3)`.
    pub number: u32,
    /// The symbol.
    pub name: &'static str,
    /// glibc's words.
    words: &'static str,
}

const fn errno(number: u32, name: &'static str, words: &'static str) -> Errno {
    Errno { number, name, words }
}

impl Errno {
    /// All of them.
    pub const ALL: [Errno; 18] = [
        errno(1, "EPERM", "operation not permitted"),
        errno(2, "ENOENT", "no such file or directory"),
        errno(4, "EINTR", "interrupted system call"),
        errno(7, "E2BIG", "argument list too long"),
        errno(11, "EAGAIN", "resource temporarily unavailable"),
        errno(12, "ENOMEM", "cannot allocate memory"),
        errno(13, "EACCES", "permission denied"),
        errno(14, "EFAULT", "bad address"),
        errno(17, "EEXIST", "file exists"),
        errno(22, "EINVAL", "invalid argument"),
        errno(23, "ENFILE", "too many open files in system"),
        errno(24, "EMFILE", "too many open files"),
        errno(27, "EFBIG", "file too large"),
        errno(28, "ENOSPC", "no space left on device"),
        errno(34, "ERANGE", "numerical result out of range"),
        errno(38, "ENOSYS", "function not implemented"),
        errno(42, "ENOMSG", "no message of desired type"),
        errno(43, "EIDRM", "identifier removed"),
    ];

    /// The one of that symbol.
    pub fn from_name(name: &str) -> Option<Errno> {
        Self::ALL.into_iter().find(|e| e.name == name)
    }

    /// The one of that number.
    pub fn from_number(number: u32) -> Option<Errno> {
        Self::ALL.into_iter().find(|e| e.number == number)
    }
}

/// Other words for the same: other C libraries, and who translates for people.
const ALSO: [(&str, &str); 3] =
    [("not enough space", "ENOMEM"), ("out of memory", "ENOMEM"), ("identifier removed error", "EIDRM")];

/// What a number that follows is.
const MARKS: [&str; 10] =
    ["status: ", "errno: ", "errno=", "errno = ", "errno ", "oserr: ", "error: ", "error ", "rc=", "rc = "];

/// The first answer in a line: words win over symbols, those over numbers. `line` is in lower case.
pub fn find(line: &str) -> Option<Errno> {
    // Longer words first: "too many open files in system" holds "too many open files".
    let in_words = Errno::ALL.into_iter().filter_map(|e| Some((line.find(e.words)?, e)));
    let first = in_words.min_by_key(|(at, e)| (*at, usize::MAX - e.words.len())).map(|(_, e)| e);
    first
        .or_else(|| symbol(line))
        .or_else(|| number(line))
        .or_else(|| ALSO.iter().find(|(words, _)| line.contains(words)).and_then(|(_, name)| Errno::from_name(name)))
}

fn symbol(line: &str) -> Option<Errno> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter_map(|word| Errno::from_name(&word.to_ascii_uppercase())).next()
}

/// The first number behind a mark, in brackets (`[28]`, `(28)`), or as IBM quotes it (`'28 - `). One in brackets right
/// behind a word is a section of the manual (`semop(2)`).
fn number(line: &str) -> Option<Errno> {
    let known = |text: &str| text.parse().ok().and_then(Errno::from_number);
    let rest = |at: usize| line.get(at..).unwrap_or_default();
    let marked = MARKS.iter().flat_map(|mark| line.match_indices(mark)).filter_map(|(at, mark)| {
        let digits = rest(at + mark.len()).split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        Some((at, known(digits)?))
    });
    let brackets = [("[", "]"), ("(", ")"), ("'", " - "), ("(", ": ")];
    let enclosed = brackets.iter().flat_map(|(open, close)| {
        let stands_alone = |at: usize| !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        line.match_indices(open).filter(move |(at, _)| stands_alone(*at)).filter_map(move |(at, open)| {
            let (inside, _) = rest(at + open.len()).split_once(close)?;
            Some((at, known(inside)?))
        })
    });
    marked.chain(enclosed).min_by_key(|(at, _)| *at).map(|(_, errno)| errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_symbols_and_numbers_are_read_in_that_order() {
        for (line, name) in [
            ("(5)(28)no space left on device: x", "ENOSPC"),
            ("too many open files in system", "ENFILE"),
            ("too many open files", "EMFILE"),
            ("oserr: enospc (28)", "ENOSPC"),
            ("semget failed with status: 28", "ENOSPC"),
            ("semop(1): errno 22", "EINVAL"),
            ("msgget: [28] whatever", "ENOSPC"),
            ("'12 - not enough space' from shmget", "ENOMEM"),
            ("ora-27102: out of memory linux error: 28: zurück", "ENOSPC"),
            ("out of memory", "ENOMEM"),
            ("shmat: [22]: operating system error, errno 14", "EINVAL"),
            ("msgsnd(2) failed: error 11", "EAGAIN"),
        ] {
            assert_eq!(find(line).map(|e| e.name), Some(name), "{line}");
        }
        for line in ["", "semget(5432001, 17, 03600)", "sqlstate=57019", "error 4711", "[line 519]", "semop(2) failed"]
        {
            assert_eq!(find(line), None, "{line}");
        }
    }
}
