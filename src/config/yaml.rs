//! A YAML file, event by event, before the parser builds a tree of it: the lines of its keys, and what it must not have.

use std::collections::BTreeMap;

use yaml_rust2::{
    Event,
    parser::{Parser, Tag},
    scanner::ScanError,
};

use super::{
    layers::VALUES_MAX,
    place::{Lines, join},
    problem::cut,
    reader::Expected,
};

/// What a value weighs beside its text, in bytes.
const VALUE_WEIGHT: usize = 64;
/// The weight of all values, each alias with all that it stands for. A few hundred bytes of aliases could stand for more
/// than any machine has.
const WEIGHT_MAX: usize = VALUES_MAX * VALUE_WEIGHT;
/// How deep settings may be nested. The parser that comes next recurses.
const DEPTH_MAX: usize = 64;
/// The tags that YAML itself defines.
const OWN_TAGS: &str = "tag:yaml.org,2002:";
/// The key whose value other parsers merge into its mapping.
const MERGE_KEY: &str = "<<";

/// The line of each key and each item of a list, by its path.
///
/// # Errors
/// What is expected of a file instead: it is no YAML, or has something that would be read as something else than what is
/// meant, or that would take too much memory.
pub(super) fn yaml_lines(text: &str) -> Result<Lines, Expected> {
    let mut parser = Parser::new_from_str(text);
    let mut reader = YamlReader::default();
    loop {
        // Without recursion, however deep the text is nested.
        match parser.next_token() {
            Ok((Event::StreamEnd, _)) => return Ok(reader.lines),
            Ok((event, mark)) => reader.on_event(event, mark.line())?,
            Err(error) => return Err(syntax(&error)),
        }
    }
}

/// These messages quote nothing of the file.
fn syntax(error: &ScanError) -> Expected {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    format!("valid YAML (line {line} column {column}: {})", error.info())
}

/// What is open around an event.
#[derive(Debug)]
struct Open {
    block: Block,
    /// 0 is no anchor.
    anchor: usize,
    /// The weight of all before it.
    before: usize,
}

#[derive(Debug)]
enum Block {
    /// The path of a mapping, and the key whose value comes next.
    Mapping(Option<String>, Option<String>),
    /// The path of a sequence, and the index of its next item.
    Sequence(Option<String>, usize),
}

#[derive(Debug, Default)]
struct YamlReader {
    open: Vec<Open>,
    lines: Lines,
    /// The weight of all values so far, and of what each anchor stands for.
    weight: usize,
    anchors: BTreeMap<usize, usize>,
}

impl YamlReader {
    fn on_event(&mut self, event: Event, line: usize) -> Result<(), Expected> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                check_tag(tag.as_ref(), line)?;
                let weight = VALUE_WEIGHT + text.len();
                self.add(weight, line)?;
                self.anchors.insert(anchor, weight);
                let plain = style == yaml_rust2::scanner::TScalarStyle::Plain;
                let is_key = matches!(self.node(Some(&text), line), YamlNode::Key);
                if plain && !is_key && is_infinite(&text) {
                    return Err(format!(
                        "numbers that are finite (line {line}), not {}",
                        cut(&text)
                    ));
                }
                if is_key && plain && text == MERGE_KEY {
                    return Err(format!(
                        "keys without {MERGE_KEY} (line {line}): merging is no part of YAML 1.2; repeat the keys there"
                    ));
                }
            }
            Event::Alias(anchor) => {
                // An anchor has a weight once its value is complete.
                let weight = self.anchors.get(&anchor).copied().ok_or_else(|| {
                    format!("an alias of something that is complete before it (line {line})")
                })?;
                self.add(weight, line)?;
                self.node(None, line);
            }
            Event::MappingStart(anchor, tag) => {
                self.open(anchor, tag.as_ref(), line, |path| Block::Mapping(path, None))?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(anchor, tag.as_ref(), line, |path| Block::Sequence(path, 0))?;
            }
            Event::MappingEnd | Event::SequenceEnd => {
                if let Some(open) = self.open.pop() {
                    self.anchors.insert(open.anchor, self.weight - open.before);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        anchor: usize,
        tag: Option<&Tag>,
        line: usize,
        block: impl FnOnce(Option<String>) -> Block,
    ) -> Result<(), Expected> {
        check_tag(tag, line)?;
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("YAML that is not nested so deeply (line {line})"));
        }
        let before = self.weight;
        self.add(VALUE_WEIGHT, line)?;
        let path = match self.node(None, line) {
            YamlNode::At(path) => path,
            YamlNode::Key => None,
        };
        self.open.push(Open {
            block: block(path),
            anchor,
            before,
        });
        Ok(())
    }

    fn add(&mut self, weight: usize, line: usize) -> Result<(), Expected> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight > WEIGHT_MAX {
            return Err(format!(
                "at most {VALUES_MAX} values (line {line}); an alias counts as all that it stands for"
            ));
        }
        Ok(())
    }

    /// What the node is that begins here.
    fn node(&mut self, scalar: Option<&str>, line: usize) -> YamlNode {
        match self.open.last_mut().map(|open| &mut open.block) {
            None => YamlNode::At(Some(String::new())),
            Some(Block::Mapping(path, key)) => {
                if let Some(key) = key.take() {
                    return YamlNode::At(path.as_deref().and_then(|path| join(path, &key)));
                }
                let name = scalar.unwrap_or_default();
                if let Some(path) = path.as_deref().and_then(|path| join(path, name)) {
                    self.lines.insert(path, line);
                }
                *key = Some(name.to_owned());
                YamlNode::Key
            }
            Some(Block::Sequence(path, index)) => {
                let path = path.as_ref().map(|path| format!("{path}[{index}]"));
                *index += 1;
                if let Some(path) = &path {
                    self.lines.insert(path.clone(), line);
                }
                YamlNode::At(path)
            }
        }
    }
}

enum YamlNode {
    /// A key of a mapping.
    Key,
    /// A value at a path, if that is short enough to matter.
    At(Option<String>),
}

/// Only what YAML defines is known here. Anything else would be read as if the tag were not there.
fn check_tag(tag: Option<&Tag>, line: usize) -> Result<(), Expected> {
    match tag {
        Some(tag) if tag.handle != OWN_TAGS => Err(format!(
            "values without a tag (line {line}): tags such as !secret belong to other programs. Write the value itself, \
             use password_file or a variable of the environment; quote a text that starts with !"
        )),
        _ => Ok(()),
    }
}

/// Whether a plain text is a number that the parser that comes next can make nothing of.
fn is_infinite(text: &str) -> bool {
    let word = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    let is_word = [".inf", ".nan"].contains(&word.as_str());
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    is_word || has_digit && text.parse::<f64>().is_ok_and(|number| !number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(String, usize)> {
        yaml_lines(text).unwrap().into_iter().collect()
    }

    #[test]
    fn keys_and_items_have_lines() {
        let text = "mqtt:\n  host: a\ndevice:\n- id: a\n- id: b\n  outlet:\n    - position: 1\n    -\n      position: 2\n\
                    group: [{id: c, outlets: [a]}]\n";
        let expected = [
            ("device", 3),
            ("device[0]", 4),
            ("device[0].id", 4),
            ("device[1]", 5),
            ("device[1].id", 5),
            ("device[1].outlet", 6),
            ("device[1].outlet[0]", 7),
            ("device[1].outlet[0].position", 7),
            ("device[1].outlet[1]", 9),
            ("device[1].outlet[1].position", 9),
            ("group", 10),
            ("group[0]", 10),
            ("group[0].id", 10),
            ("group[0].outlets", 10),
            ("group[0].outlets[0]", 10),
            ("mqtt", 1),
            ("mqtt.host", 2),
        ];
        assert_eq!(lines(text), expected.map(|(path, line)| (path.to_owned(), line)));
        let aliased = "device: &x\n  - {id: a}\nother: *x\nlast:\n  - b\n";
        assert!(lines(aliased).contains(&("last[0]".to_owned(), 5)));
    }

    #[test]
    fn a_number_that_is_not_finite_has_its_line() {
        for number in [".inf", "-.Inf", ".nan", "1e999"] {
            let error = yaml_lines(&format!("a: 1\nb:\n  c: {number}\n")).unwrap_err();
            assert_eq!(error, format!("numbers that are finite (line 3), not {number}"));
        }
        for text in ["'.inf'", "inf", "1e9", "infinity9", "nano"] {
            assert!(yaml_lines(&format!("a: {text}\n.inf: 1\n")).is_ok(), "{text}");
        }
    }

    #[test]
    fn aliases_count_as_what_they_stand_for() {
        let bomb: Vec<String> = (1..30)
            .map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1))
            .collect();
        let bomb = bomb.concat();
        let error = yaml_lines(&format!("a0: &a0 x\n{bomb}")).unwrap_err();
        assert!(error.starts_with("at most 100000 values (line "), "{error}");
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(100));
        assert!(yaml_lines(&long).is_err());
        assert!(yaml_lines(&format!("a: &a [1, 2]\nb: [{}]\n", "*a,".repeat(100))).is_ok());
        for text in ["a: &a [*a]\n", "a: &a\n  b: *a\n"] {
            let error = yaml_lines(text).unwrap_err();
            assert!(
                error.starts_with("an alias of something that is complete"),
                "{error}"
            );
        }
        assert!(
            yaml_lines("a: *b\n")
                .unwrap_err()
                .starts_with("valid YAML (line 1")
        );
    }

    #[test]
    fn what_would_be_read_as_something_else_is_refused() {
        let error = |text: &str| yaml_lines(text).unwrap_err();
        for text in [
            "a:\n  password: !secret x\n",
            "a:\n  b: !x {}\n",
            "a:\n  b: !x [1]\n",
        ] {
            assert!(
                error(text).starts_with("values without a tag (line 2)"),
                "{}",
                error(text)
            );
        }
        assert!(!error("a: !hunter2 x\n").contains("hunter2"));
        let merged = "base: &b {id: a}\ndevice:\n  - <<: *b\n    name: x\n";
        assert!(
            error(merged).starts_with("keys without << (line 3)"),
            "{}",
            error(merged)
        );
        for text in ["a: !!str 5\n", "a: '<<'\n", "a: {'<<': 1}\n", "a: <<\n"] {
            assert!(yaml_lines(text).is_ok(), "{text}");
        }
        assert!(error("a: [").starts_with("valid YAML (line "));
    }
}
