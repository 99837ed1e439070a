//! `config/default.toml` as an outline: sections, keys and their comments.

use super::*;

/// A table of the settings with its keys, in the order of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// As written: `[mqtt]`, `[[device.outlet]]`.
    pub(super) header: String,
    pub(super) comment: String,
    pub(super) keys: Vec<Key>,
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) value: String,
    /// Whether the value is the default; otherwise it is an example.
    pub(super) in_effect: bool,
    /// Keys that follow without a comment share the one before them.
    pub(super) comment: String,
}

impl Section {
    /// `group[].schedule[]`, as the other tests write paths.
    pub(super) fn path(&self) -> String {
        let name = self.header.trim_matches(['[', ']']);
        let list = |name: &str| DEFAULTS.contains(&format!("[[{name}]]"));
        let levels: Vec<&str> = name.split('.').collect();
        let mut path = Vec::new();
        for depth in 1..=levels.len() {
            let marks = if list(&levels[..depth].join(".")) {
                "[]"
            } else {
                ""
            };
            path.push(format!("{}{marks}", levels[depth - 1]));
        }
        path.join(".")
    }
}

/// What stands before the first section.
pub(super) fn preface() -> String {
    let lines = DEFAULTS.lines().skip(1).take_while(|line| line.starts_with('#'));
    let text: Vec<_> = lines.map(|line| line.trim_start_matches('#').trim()).collect();
    text.join("\n").trim().to_owned()
}

/// The sections, each once: what later blocks of the same section add is put into the first one.
pub(super) fn outline() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let (mut comment, mut block_comment) = (String::new(), String::new());
    let (mut current, mut follows_header, mut is_again) = (None, false, false);
    for line in DEFAULTS.lines() {
        let (line, in_effect) = match line.strip_prefix('#') {
            Some(rest) if rest.is_empty() || rest.starts_with(' ') => {
                comment = format!("{comment} {}", rest.trim()).trim().to_owned();
                continue;
            }
            Some(example) => (example, false),
            None => (line, true),
        };
        if line.is_empty() {
            comment.clear();
        } else if line.starts_with('[') {
            // Of two headers in a row the comment is about the inner one.
            let about = std::mem::take(&mut comment);
            if !about.is_empty() || !follows_header {
                block_comment = about;
            }
            follows_header = true;
            let known = sections.iter().position(|section| section.header == line);
            is_again = known.is_some();
            current = Some(known.unwrap_or_else(|| {
                sections.push(Section {
                    header: line.to_owned(),
                    comment: block_comment.clone(),
                    keys: Vec::new(),
                });
                sections.len() - 1
            }));
        } else {
            follows_header = false;
            let (name, value) = line.split_once(" = ").expect("a key");
            let section: &mut Section = &mut sections[current.expect("a section")];
            let keys = &mut section.keys;
            if !keys.iter().any(|key| key.name == name) {
                let own = std::mem::take(&mut comment);
                let shared = match keys.last() {
                    Some(before) if !is_again => &before.comment,
                    _ if block_comment.is_empty() => &section.comment,
                    _ => &block_comment,
                };
                let shared = shared.clone();
                keys.push(Key {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    in_effect,
                    comment: if own.is_empty() { shared } else { own },
                });
            }
            comment.clear();
        }
    }
    sections
}

/// A file of the repository that is made from the sources: it is up to date, or is written where
/// `TAPO2MQTT_REGENERATE` is set.
pub(super) fn is_up_to_date(file: &str, content: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("TAPO2MQTT_REGENERATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == content,
        "{file} is not up to date: TAPO2MQTT_REGENERATE=1 cargo test --lib config"
    );
}
