//! What a command's end means to the script that called it.

use std::process::ExitCode;

/// The exit codes of `highwater`, one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: the answer was printed.
    Answered,
    /// 1: an error; one line on stderr said what, where and the remedy.
    Error,
    /// 2: the arguments make no command.
    Usage,
    /// 3: "yes, trouble", for the questions that ask for it by `--exit-code`.
    Trouble,
    /// 4: no data for that instant; the gap was printed with its bounds and reason.
    NoData,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Answered => 0,
            Exit::Error => 1,
            Exit::Usage => 2,
            Exit::Trouble => 3,
            Exit::NoData => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
