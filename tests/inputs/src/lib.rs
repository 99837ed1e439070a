//! What the tests of several crates share, above all the property tests of everything that takes bytes from outside.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read as _},
};

use proptest::prelude::*;
use serde_json::{Map, Value};
use zip::ZipArchive;

/// So many cases, unless `PROPTEST_CASES` sets how many. A test whose cases are expensive runs fewer of them.
pub fn cases(usual: u32) -> ProptestConfig {
    if std::env::var_os("PROPTEST_CASES").is_some() {
        ProptestConfig::default()
    } else {
        ProptestConfig::with_cases(usual)
    }
}

/// Any JSON, with some of these keys in its objects.
pub fn json(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        ".{0,80}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 8, move |inner| {
        let key = prop_oneof![prop::sample::select(keys).prop_map(str::to_owned), ".{0,6}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..8)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// What JSON is made of.
const JSON_MARKS: [u8; 8] = *b"\"{}[]:,0";

/// A whole text with some bytes changed, inserted or cut off.
pub fn damaged(whole: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    prop::collection::vec(change, 0..6).prop_map(move |changes| {
        let mut bytes = whole.clone();
        for (place, byte, how) in changes {
            let place = place.index(bytes.len() + 1);
            match how {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, byte),
                2 => bytes.insert(
                    place,
                    JSON_MARKS.into_iter().nth(usize::from(byte % 8)).unwrap_or(byte),
                ),
                _ => {
                    if let Some(old) = bytes.get_mut(place) {
                        *old = byte;
                    }
                }
            }
        }
        bytes
    })
}

/// The files of a ZIP file, which are texts.
///
/// # Errors
/// It is none.
pub fn unpacked(zip: Vec<u8>) -> io::Result<BTreeMap<String, String>> {
    let mut archive = ZipArchive::new(Cursor::new(zip)).map_err(io::Error::other)?;
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(io::Error::other)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let name = file.name().map_err(io::Error::other)?.into_owned();
        files.insert(name, text);
    }
    Ok(files)
}
