//! The language that settings are written in: advice is in its words.

use std::path::Path;

/// A language of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// A file, and what stands for one.
    Toml,
    /// A file.
    Yaml,
    /// A request.
    Json,
}

impl Language {
    /// That of the user's file.
    pub(super) fn of(file: Option<&Path>) -> Self {
        let extension = file.and_then(Path::extension);
        if extension.is_some_and(|extension| extension == "yaml" || extension == "yml") {
            Self::Yaml
        } else {
            Self::Toml
        }
    }

    /// What a single table is, where a list was found.
    pub(super) fn one_table(self, path: &str) -> String {
        match self {
            Self::Toml => format!("one table: write [{}] in single brackets", header(path)),
            Self::Yaml => format!("keys below `{}:`, without a - in front", last(path)),
            Self::Json => "an object".to_owned(),
        }
    }

    /// What a list of tables is, where something else was found.
    pub(super) fn list_of_tables(self, path: &str) -> String {
        match self {
            Self::Toml => format!("a list of tables: write [[{}]] in double brackets", header(path)),
            Self::Yaml => format!("a list below `{}:`, each item with a - in front", last(path)),
            Self::Json => "an array of objects".to_owned(),
        }
    }

    /// Advice that is written for TOML, in this language.
    pub(super) fn advice(self, toml: String) -> String {
        if self != Self::Yaml {
            return toml;
        }
        let mut yaml = String::new();
        let mut rest = toml.as_str();
        while let Some((before, after)) = rest.split_once('[') {
            let (open, close) = if after.starts_with('[') {
                ("[", "]]")
            } else {
                ("", "]")
            };
            let name = after.strip_prefix(open).and_then(|name| name.split_once(close));
            yaml.push_str(before);
            match name {
                // A list of texts is the same in both.
                Some((name, behind))
                    if !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '.') =>
                {
                    yaml.extend(["`", &last(name), ":`"]);
                    rest = behind;
                }
                _ => {
                    yaml.push('[');
                    rest = after;
                }
            }
        }
        yaml.push_str(rest);
        yaml.replace(" = ", ": ")
    }
}

/// `group[0].schedule[8].when` as a header of TOML has it.
fn header(path: &str) -> String {
    let steps = path.split('.').map(|step| step.split('[').next().unwrap_or(step));
    steps.collect::<Vec<_>>().join(".")
}

fn last(path: &str) -> String {
    let header = header(path);
    header.rsplit('.').next().unwrap_or(&header).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_in_the_words_of_the_file() {
        let yaml = Language::of(Some(Path::new("bridge.yml")));
        assert_eq!(yaml, Language::Yaml);
        for (toml, in_yaml) in [
            (
                "the id of a [[device]], one of a",
                "the id of a `device:`, one of a",
            ),
            ("a place in [location]", "a place in `location:`"),
            (
                "end = \"08:00\", or all_day = true",
                "end: \"08:00\", or all_day: true",
            ),
            ("a list, such as [\"a\", \"b\"]", "a list, such as [\"a\", \"b\"]"),
            ("[fd00::5]:80 or [v6]:port [", "[fd00::5]:80 or [v6]:port ["),
        ] {
            assert_eq!(yaml.advice(toml.to_owned()), in_yaml);
            assert_eq!(Language::Toml.advice(toml.to_owned()), toml);
        }
        let path = "group[0].schedule[8].when";
        assert_eq!(
            Language::Toml.list_of_tables(path),
            "a list of tables: write [[group.schedule.when]] in double brackets"
        );
        assert_eq!(
            Language::Yaml.list_of_tables(path),
            "a list below `when:`, each item with a - in front"
        );
        assert_eq!(
            Language::Toml.one_table("tapo"),
            "one table: write [tapo] in single brackets"
        );
    }
}
