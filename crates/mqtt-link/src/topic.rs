//! Valid topics and topic filters.

use std::{fmt, str::FromStr, sync::Arc};

use rumqttc::valid_filter;

/// Maximum length of an MQTT string, in bytes (MQTT 3.1.1, section 1.5.3).
pub(crate) const MAX_STRING_LENGTH: usize = 65_535;

/// A topic name: not empty, no wildcard, no NUL, at most 65,535 bytes (MQTT 3.1.1, section 4.7.3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// A topic filter: a topic in which `+` matches one level and a final `#` matches all remaining levels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(Arc<str>);

/// Why a string is not a valid topic or filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The string is empty.
    #[error("is empty")]
    Empty,
    /// More than 65,535 bytes.
    #[error("is longer than {MAX_STRING_LENGTH} bytes")]
    TooLong,
    /// Brokers close the connection on U+0000.
    #[error("contains a NUL character")]
    Nul,
    /// `+` or `#` in a topic name.
    #[error("contains a wildcard (+ or #)")]
    Wildcard,
    /// A wildcard next to other characters in its level, or a `#` before the last level.
    #[error("has a misplaced wildcard: + and # must be alone in their level, and # must be the last level")]
    MisplacedWildcard,
}

/// Checks the rules for every topic and filter.
fn validate(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_STRING_LENGTH {
        return Err(TopicError::TooLong);
    }
    if text.contains('\0') {
        return Err(TopicError::Nul);
    }
    Ok(())
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        validate(text)?;
        if text.contains(['+', '#']) {
            return Err(TopicError::Wildcard);
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Filter {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        validate(text)?;
        if !valid_filter(text) {
            return Err(TopicError::MisplacedWildcard);
        }
        Ok(Self(text.into()))
    }
}

macro_rules! string_newtype {
    ($name:ident) => {
        impl $name {
            /// The string itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = TopicError;

            fn try_from(text: &str) -> Result<Self, TopicError> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = TopicError;

            fn try_from(text: String) -> Result<Self, TopicError> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

string_newtype!(Topic);
string_newtype!(Filter);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_no_wildcards() {
        for good in [
            "a",
            "/",
            "tapo2mqtt/bridge/state",
            "with space",
            &"x".repeat(MAX_STRING_LENGTH),
        ] {
            assert_eq!(good.parse::<Topic>().unwrap().as_str(), good);
        }
        let cases = [
            ("", TopicError::Empty),
            ("a/+/b", TopicError::Wildcard),
            ("a/#", TopicError::Wildcard),
            ("a\0b", TopicError::Nul),
        ];
        for (bad, why) in cases {
            assert_eq!(bad.parse::<Topic>(), Err(why), "{bad:?}");
        }
        assert_eq!(
            "x".repeat(MAX_STRING_LENGTH + 1).parse::<Topic>(),
            Err(TopicError::TooLong)
        );
    }

    #[test]
    fn a_filter_has_its_wildcards_in_valid_positions() {
        for good in ["a", "#", "+", "a/+/set", "a/#", "+/+/#"] {
            assert!(good.parse::<Filter>().is_ok(), "{good}");
        }
        let cases = [
            ("", TopicError::Empty),
            ("a/b+", TopicError::MisplacedWildcard),
            ("a/#/b", TopicError::MisplacedWildcard),
            ("a\0", TopicError::Nul),
        ];
        for (bad, why) in cases {
            assert_eq!(bad.parse::<Filter>(), Err(why), "{bad:?}");
        }
    }
}
