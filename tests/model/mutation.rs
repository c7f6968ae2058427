//! Defects that are planted in the model's shells and devices, to see that the promises notice.

/// One planted defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// The collector acks what it is about to commit.
    AckBeforeCommit,
    /// The guard does not ask where the stream stands.
    GuardDropped,
    /// The guard does not ask whose session it is.
    SessionNotFenced,
    /// Nobody compares chains: neither in hello and welcome nor from record to record.
    ChainNotChecked,
    /// Acked segments go before the cursor that says so is on the device.
    CursorBeforeFsync,
}

impl Mutation {
    /// All of them.
    pub(crate) const ALL: [Mutation; 5] = [
        Mutation::AckBeforeCommit,
        Mutation::GuardDropped,
        Mutation::SessionNotFenced,
        Mutation::ChainNotChecked,
        Mutation::CursorBeforeFsync,
    ];

    /// Whether a promise that broke with these words can be broken by it.
    pub(crate) fn breaks(self, words: &str) -> bool {
        let can: &[&str] = match self {
            Mutation::AckBeforeCommit => &["was acked up to"],
            Mutation::GuardDropped => &["is stored twice", "begins twice", "no gap before", "and then", "is nowhere"],
            Mutation::SessionNotFenced => &["has fenced it"],
            Mutation::ChainNotChecked => {
                &["is stored as", "no gap before", "frame", "is not what sample", "is nowhere"]
            }
            Mutation::CursorBeforeFsync => &["is neither held nor acked"],
        };
        can.iter().any(|can| words.contains(can))
    }
}
