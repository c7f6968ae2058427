//! Payloads as files, so that each change of one shows in review. HIGHWATER_BLESS=1 rewrites them.

use std::path::Path;

/// Compares with `golden/NAME`.
#[track_caller]
pub(super) fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/notify/golden").join(name);
    let text = text.replace("\r\n", "\n");
    let text = format!("{}\n", text.trim_end());
    if std::env::var_os("HIGHWATER_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{} differs; HIGHWATER_BLESS=1 rewrites it", path.display());
}
