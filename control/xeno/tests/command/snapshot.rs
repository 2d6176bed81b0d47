//! Texts kept beside the tests. `UPDATE_SNAPSHOTS=1 cargo test -p xeno` writes them anew: look at the difference.

use std::path::Path;

/// Compares a text with the one kept under this name.
pub fn check(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/command/snapshots")
        .join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, text).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        text, kept,
        "{name} is not as it was: if that is meant, run with UPDATE_SNAPSHOTS=1"
    );
}
