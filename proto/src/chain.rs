//! The hash that chains records.

use highwater_ipc::record::{Chain, RecordKind};
use sha2::{Digest, Sha256};

/// The chain that follows a record: first 8 bytes of SHA-256(`chain` ‖ `body`); a heartbeat hands `chain` on.
pub fn after(chain: Chain, kind: RecordKind, body: &[u8]) -> Chain {
    if kind == RecordKind::Heartbeat {
        return chain;
    }
    let digest = Sha256::new().chain_update(chain.0).chain_update(body).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    Chain(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_hands_the_chain_on_and_a_delta_does_not() {
        let chain = Chain([7; 8]);
        assert_eq!(after(chain, RecordKind::Heartbeat, b"x"), chain);
        assert_ne!(after(chain, RecordKind::Delta, b"x"), chain);
        assert_ne!(after(chain, RecordKind::Delta, b"x"), after(Chain::default(), RecordKind::Delta, b"x"));
    }
}
