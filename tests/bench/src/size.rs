//! What the binary weighs and of how many crates it is made; on demand what each of them weighs, and how long all of
//! it takes to build.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    time::Instant,
};

use crate::{
    Bench,
    figures::{Book, Goal},
};

const SECTION: &str = "Size";
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
/// Crates that are listed by name.
const LARGEST: usize = 15;

pub fn measure(bench: &Bench, book: &mut Book) {
    let bare = megabytes(&bench.binary);
    let name = "stripped binary without the demo";
    book.with_goal(SECTION, name, "MB", Goal::AtMost(8.0), bare);
    if let Some(full) = &bench.with_demo {
        book.note(SECTION, "the demo on top of it", "MB", megabytes(full) - bare);
    }
    book.note(
        SECTION,
        "crates without the demo",
        "",
        crates(&["--no-default-features"]),
    );
    book.note(SECTION, "crates with the demo", "", crates(&[]));
}

fn megabytes(file: &Path) -> f64 {
    fs::metadata(file).expect("the bridge was built").len() as f64 / 1e6
}

/// Crates that are built for the bridge, itself and what runs only in the build included.
fn crates(features: &[&str]) -> f64 {
    let tree = Command::new("cargo")
        .args(["tree", "--manifest-path", MANIFEST, "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}"])
        .args(features)
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8_lossy(&tree.stdout).replace(" (*)", "");
    text.lines()
        .filter(|line| !line.is_empty())
        .collect::<BTreeSet<_>>()
        .len() as f64
}

/// Builds all of it from clean, with symbols, and tells what each crate takes of the binary.
pub fn measure_build(book: &mut Book) {
    let target = tempfile::tempdir().expect("a directory");
    let started = Instant::now();
    let built = Command::new("cargo")
        .args([
            "build",
            "--manifest-path",
            MANIFEST,
            "--quiet",
            "--release",
            "--no-default-features",
            "--bin",
            "tapo2mqtt",
        ])
        .env("CARGO_TARGET_DIR", target.path())
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the bridge builds");
    let taken = started.elapsed().as_secs_f64();
    book.note(SECTION, "build from clean, without the demo", "s", taken);
    let symbols = Command::new("nm")
        .args(["--print-size", "--demangle", "--radix=d"])
        .arg(target.path().join("release/tapo2mqtt"))
        .output()
        .expect("binutils are installed");
    let mut sizes: Vec<_> = by_crate(&String::from_utf8_lossy(&symbols.stdout))
        .into_iter()
        .collect();
    sizes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    for (name, bytes) in sizes.into_iter().take(LARGEST) {
        book.note(SECTION, format!("symbols of {name}"), "MB", bytes as f64 / 1e6);
    }
}

/// Bytes by crate. Generic code counts for the crate whose path comes first in its name.
fn by_crate(symbols: &str) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    for line in symbols.lines() {
        // Address, size, type, name.
        let mut fields = line.splitn(4, ' ');
        let (Some(_), Some(Ok(bytes)), Some(_), Some(name)) = (
            fields.next(),
            fields.next().map(str::parse::<u64>),
            fields.next(),
            fields.next(),
        ) else {
            continue;
        };
        *sizes.entry(crate_of(name).to_owned()).or_default() += bytes;
    }
    sizes
}

fn crate_of(name: &str) -> &str {
    if !name.contains("::") {
        return if name.starts_with("aws_lc") {
            "aws-lc (C)"
        } else {
            "names without a path (C and constants)"
        };
    }
    let path = name.trim_start_matches(['<', '&', '(', '[', '*']);
    let path = path.trim_start_matches("mut ").trim_start_matches("dyn ");
    path.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_count_for_the_crate_that_is_named_first() {
        let symbols = "0000000000123456 0000000000000100 t <tokio::sync::Notify as core::fmt::Debug>::fmt\n\
                       0000000000123456 0000000000000010 t tokio::runtime::start\n\
                       0000000000123456 0000000000000007 t core::ptr::drop_in_place<tapo::Error>\n\
                       0000000000123456 0000000000000050 T aws_lc_0_47_0_sha256\n\
                       0000000000123456 T no_size\n";
        let sizes = by_crate(symbols);
        let of = |name: &str| sizes.get(name).copied();
        assert_eq!(
            (of("tokio"), of("core"), of("aws-lc (C)"), sizes.len()),
            (Some(110), Some(7), Some(50), 3)
        );
    }
}
