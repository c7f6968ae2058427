//! A judge between two steps, as bytes.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most bytes of a state, unpacked: 320 series of 16 KiB.
const MOST: usize = 8 << 20;
/// Most series are flat, and then it does not matter; of the others more effort gains nothing.
const EFFORT: u8 = 3;
/// The first byte: how what follows is written. Another version's state begins anew.
const VERSION: u8 = 3;

/// Packs it.
pub fn pack<T: Serialize>(state: &T) -> Option<Vec<u8>> {
    let plain = postcard::to_allocvec(state).ok()?;
    let mut bytes = vec![VERSION];
    bytes.extend(compress_to_vec(&plain, EFFORT));
    Some(bytes)
}

/// Unpacks it; `None` = it is of another version, or damaged: whoever asks begins anew.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (&VERSION, packed) = bytes.split_first()? else { return None };
    let plain = decompress_to_vec_with_limit(packed, MOST).ok()?;
    postcard::from_bytes(&plain).ok()
}
