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
        let content = fs::read(Path::new(ASSETS).join(&name))?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&content)?;
        let name = name.to_string_lossy();
        let compressed = out.join(format!("{name}.gz"));
        fs::write(&compressed, gzip.finish()?)?;
        let mut hash = DefaultHasher::new();
        hash.write(&content);
        let (name, hash, compressed) = (name.as_ref(), hash.finish(), compressed.to_string_lossy());
        let etag = format!("\"{hash:016x}\"");
        writeln!(
            list,
            "    Asset {{ name: {name:?}, etag: {etag:?}, gzip: include_bytes!({compressed:?}) }},"
        )?;
    }
    list.extend_from_slice(b"]\n");
    fs::write(out.join("assets.rs"), list)
}
