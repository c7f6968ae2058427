//! What is linked: one version of what must not come twice, one TLS stack, one registry.

use crate::repository::root;

/// Two of one of these are two runtimes, two protocols or two crypto providers in one program.
const ONCE: &[&str] =
    &["tokio", "hyper", "h2", "http", "tower", "axum", "tonic", "prost", "rustls", "ring", "sqlx-core", "zstd"];

/// Never: a second TLS stack, a second crypto provider, a second runtime.
const NEVER: &[&str] = &["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys", "async-std"];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What is wrong with a `Cargo.lock`.
fn wrong_packages(lock: &str) -> Vec<String> {
    let field =
        |line: &str, name: &str| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"').map(str::to_owned);
    let names: Vec<String> = lock.lines().filter_map(|l| field(l, "name")).collect();
    let sources = lock.lines().filter_map(|l| field(l, "source"));
    let mut wrong: Vec<String> = sources.filter(|s| s != REGISTRY).map(|s| format!("a package from {s}")).collect();
    for once in ONCE {
        let versions = names.iter().filter(|n| n == once).count();
        if versions > 1 {
            wrong.push(format!("{versions} versions of {once}: `cargo tree --invert {once}` shows who wants which"));
        }
    }
    wrong.extend(NEVER.iter().filter(|n| names.iter().any(|name| name == *n)).map(|n| format!("{n} is linked")));
    wrong
}

#[test]
fn what_must_not_come_twice_comes_once() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    assert!(lock.contains("name = \"tokio\""));
    assert_eq!(wrong_packages(&lock), Vec::<String>::new());
}

#[test]
fn a_second_version_is_found() {
    let package = |name: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"1\"\nsource = \"{REGISTRY}\"\n");
    assert_eq!(wrong_packages(&package("tokio")), Vec::<String>::new());
    assert_eq!(wrong_packages(&(package("h2") + &package("h2"))).len(), 1);
    assert_eq!(wrong_packages(&package("openssl")).len(), 1);
    assert_eq!(wrong_packages("source = \"git+https://example.org/x\"").len(), 1);
}
