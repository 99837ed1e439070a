//! What is wrong with the settings, as text that people can act on.

use std::fmt;

use config::ValueKind;

/// How much of an offending text is shown, in characters.
const SHOWN_CHARACTERS: usize = 40;

/// How much of an unknown key is shown where passwords are, in characters: enough to find it beside its line.
const SHOWN_OF_A_SECRET_KEY: usize = 3;

/// One mistake in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The settings file, the environment variable, or the built-in defaults.
    pub source: String,
    /// Which key, such as `device[2].address`. Lists count from 0. Empty for a file as a whole.
    pub path: String,
    /// The path as a person reads it, with its line in the file: `device "lamp": address (line 13)`.
    pub place: String,
    /// The offending value, cut and escaped; `***` for a secret; `None` where nothing is set or the key
    /// itself is the mistake.
    pub value: Option<String>,
    /// What is wrong, such as `expected true or false`.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if !self.place.is_empty() {
            write!(f, ": {}", self.place)?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Every mistake in the settings, in the order of the sections. Never empty as an error of
/// [`load`](super::load).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the settings have a problem:")?,
            n => write!(f, "the settings have {n} problems:")?,
        }
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Problems {
    /// One text for each.
    pub fn into_reasons(self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// A value as a problem shows it. Of a list or a table only the kind: a secret may be inside.
pub(super) fn shown(value: &ValueKind) -> String {
    match value {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::String(text) => format!("\"{}\"", cut(&without_userinfo(text))),
        scalar => scalar.to_string(),
    }
}

/// The first characters of a text from outside, escaped so that it stays on one line.
pub(super) fn cut(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARACTERS)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN_CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}

/// A key from outside. Only one that looks like a key is shown: a damaged file may have put anything there.
pub(super) fn shown_key(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.[]".contains(c);
    if !key.is_empty() && key.chars().all(plain) {
        cut(key)
    } else {
        "(unreadable key)".to_owned()
    }
}

/// The start of a key from outside that may be a secret.
pub(super) fn cut_key(key: &str) -> String {
    let start: String = key.chars().take(SHOWN_OF_A_SECRET_KEY).collect();
    if start.len() == key.len() {
        shown_key(key)
    } else {
        format!("{}…", shown_key(&start))
    }
}

/// A user who writes `mqtt://user:password@host` as the host must not find the password in the log.
fn without_userinfo(text: &str) -> String {
    let Some((userinfo, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    match userinfo.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://***@{host}"),
        None if userinfo.contains(':') => format!("***@{host}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        shown(&ValueKind::String(text.to_owned()))
    }

    #[test]
    fn values_are_cut_and_escaped() {
        assert_eq!(text("a\n\"b\u{1b}"), r#""a\n\"b\u{1b}""#);
        assert_eq!(text(&"x".repeat(41)), format!("\"{}…\"", "x".repeat(40)));
        assert_eq!(text(&"x".repeat(40)), format!("\"{}\"", "x".repeat(40)));
    }

    #[test]
    fn a_password_inside_a_url_is_not_shown() {
        assert_eq!(
            text("mqtt://me:hunter2@broker:1883"),
            r#""mqtt://***@broker:1883""#
        );
        assert_eq!(text("me:hun@ter2@broker"), r#""***@broker""#);
        assert_eq!(text("you@example.com"), r#""you@example.com""#);
    }

    #[test]
    fn problems_read_like_a_list() {
        let problem = |path: &str, value: Option<&str>| Problem {
            source: "bridge.toml".to_owned(),
            path: path.to_owned(),
            place: path.to_owned(),
            value: value.map(str::to_owned),
            message: "expected better".to_owned(),
        };
        let one = Problems(vec![problem("", None)]);
        assert_eq!(
            one.to_string(),
            "the settings have a problem:\n  bridge.toml: expected better"
        );
        let two = Problems(vec![
            problem("mqtt.port", Some("0")),
            problem("device 2: id", None),
        ]);
        assert_eq!(
            two.to_string(),
            "the settings have 2 problems:\
             \n  bridge.toml: mqtt.port = 0: expected better\
             \n  bridge.toml: device 2: id: expected better"
        );
    }
}
