//! Compresses the files of the page, to be embedded.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::Hasher as _,
    io::{self, Write as _},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};

const ASSETS: &str = "src/web/assets";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={ASSETS}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    let out = Path::new(&out);
    let mut names: Vec<_> = fs::read_dir(ASSETS)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    names.sort();
    let mut list = Vec::from("&[\n");
    for name in names {
        let mut content = shortened(&fs::read_to_string(Path::new(ASSETS).join(&name))?);
        if Path::new(&name).extension().is_some_and(|end| end == "css") {
            content = without_spaces(&content);
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(content.as_bytes())?;
        let name = name.to_string_lossy();
        fs::write(out.join(name.as_ref()), &content)?;
        fs::write(out.join(format!("{name}.gz")), gzip.finish()?)?;
        let mut hash = DefaultHasher::new();
        hash.write(content.as_bytes());
        let (name, hash) = (name.as_ref(), hash.finish());
        let etag = format!("\"{hash:016x}\"");
        // Not the absolute paths of today: a target directory that was moved is still built.
        let included = |file: String| format!("include_bytes!(concat!(env!(\"OUT_DIR\"), {file:?}))");
        let (plain, compressed) = (included(format!("/{name}")), included(format!("/{name}.gz")));
        writeln!(
            list,
            "    Asset {{ name: {name:?}, etag: {etag:?}, plain: {plain}, gzip: {compressed} }},"
        )?;
    }
    list.extend_from_slice(b"]\n");
    fs::write(out.join("assets.rs"), list)
}

/// Without indentation and comments. A line stays a line, so that a browser names the line of the source.
fn shortened(text: &str) -> String {
    let mut in_comment = false;
    let mut short = String::with_capacity(text.len());
    for line in text.lines().map(str::trim) {
        let opens = line.starts_with("/*");
        if !(in_comment || opens || line.starts_with("//")) {
            short.push_str(without_comment(line));
        }
        in_comment = (in_comment || opens) && !line.ends_with("*/");
        short.push('\n');
    }
    short
}

/// A line without what ` // ` begins, where that is not in a text.
fn without_comment(line: &str) -> &str {
    match line.split_once(" // ") {
        Some((code, _)) if code.matches(['"', '`', '\'']).count().is_multiple_of(2) => code.trim_end(),
        _ => line,
    }
}

/// A style sheet without the spaces and line ends that have no meaning; rules and not lines are what a browser names.
fn without_spaces(css: &str) -> String {
    let mut short = String::with_capacity(css.len());
    for line in css.lines().filter(|line| !line.is_empty()) {
        if !(short.is_empty() || short.ends_with(['{', '}', ';', ',', ':'])) {
            short.push(' ');
        }
        short.push_str(&line.replace(" {", "{").replace(": ", ":"));
    }
    short
}
