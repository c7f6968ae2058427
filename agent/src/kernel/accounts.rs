//! `/etc/passwd` and `/etc/group`: names of uids and gids (`passwd(5)`, `group(5)`).

use std::collections::BTreeMap;

use highwater_ipc::text::HostText;

/// Names by id; of several lines with one id the first counts, as for `getpwuid(3)`. Both files have the name first
/// and the number third. Lines that are none (comments, NIS `+` lines, no number) are passed over, as the C library
/// does; a name may be any bytes but `:` and newline. At most `limit` names are kept.
pub fn parse(bytes: &[u8], limit: usize) -> BTreeMap<u32, HostText> {
    let mut names = BTreeMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let id = std::str::from_utf8(id).ok().filter(|id| !id.starts_with('+')).and_then(|id| id.parse::<u32>().ok());
        let Some(id) = id.filter(|_| !name.is_empty() && !matches!(name[0], b'#' | b'+' | b'-')) else { continue };
        if names.len() >= limit {
            break;
        }
        names.entry(id).or_insert_with(|| HostText::cut(name));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_name_of_an_id_counts_and_any_bytes_are_a_name() {
        let text =
            b"root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/:\n# c:x:5:\n+nis::6:\nbad\nx:x:+7:\n\xff\x1b:x:33:33:::\n";
        let names = parse(text, 100);
        assert_eq!(names, BTreeMap::from([(0, "root".into()), (33, HostText::cut(b"\xff\x1b"))]));
        assert_eq!(parse(text, 1).len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, 10);
        }
    }
}
