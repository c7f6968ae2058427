//! Where the programs under test are.

use std::path::{Path, PathBuf};

/// The `highwater` program of this build.
pub fn highwater() -> PathBuf {
    built("highwater")
}

/// The `highwater-agent` program of this build.
pub fn agent() -> PathBuf {
    built("highwater-agent")
}

/// The tool that makes and changes System V IPC objects.
pub fn ipc_tool() -> PathBuf {
    built("ipc-tool")
}

/// What compacts a database until nothing is due.
pub fn compactor() -> PathBuf {
    built("compactor")
}

/// A program beside the running test: `target/debug/deps/e2e-…` finds `target/debug/NAME`.
///
/// # Panics
///
/// If it is not built. Cargo builds the programs of one package for its tests, not those of others.
#[track_caller]
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a test below target/PROFILE/deps");
    let program = profile.join(name);
    assert!(
        program.is_file(),
        "{} is not built: run `cargo build --workspace` first, or `make test`, which does",
        program.display()
    );
    program
}

/// Copies a program, to run it from elsewhere or by another name. A process of its own writes it: what this one had open
/// for writing could still be so in a child that another test forked meanwhile, and then cannot be run (ETXTBSY).
///
/// # Panics
///
/// If it cannot.
#[track_caller]
pub fn copy(from: impl AsRef<Path>, to: &Path) {
    let mut cp = std::process::Command::new("cp");
    cp.arg(from.as_ref()).arg(to);
    crate::process::run(cp);
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ lies in the repository").to_owned()
}
