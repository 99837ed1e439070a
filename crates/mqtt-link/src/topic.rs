//! Topics and filters that a broker cannot choke on.

use std::{fmt, str::FromStr, sync::Arc};

use rumqttc::valid_filter;

/// Longest text that MQTT can carry, in bytes (MQTT 3.1.1, section 1.5.3).
pub(super) const TEXT_MAX: usize = 65_535;

/// A topic that can be published to: not empty, no wildcard, no NUL, at most 65,535 bytes (MQTT 3.1.1, section 4.7.3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// A pattern that can be subscribed to: a topic in which `+` stands for one level and a final `#` for the rest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(Arc<str>);

/// Why a text is neither a topic nor a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// MQTT has no empty topic.
    #[error("is empty")]
    Empty,
    /// More than 65,535 bytes.
    #[error("is longer than {TEXT_MAX} bytes")]
    TooLong,
    /// Brokers close the connection on U+0000.
    #[error("contains a NUL character")]
    Nul,
    /// `+` or `#` in a topic.
    #[error("contains a wildcard (+ or #)")]
    Wildcard,
    /// A wildcard that shares its level with text, or a `#` before the last level.
    #[error("has a misplaced wildcard: + and # stand alone in their level, and # is the last one")]
    MisplacedWildcard,
}

/// What holds for every text in an MQTT packet.
fn well_formed(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TEXT_MAX {
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
        well_formed(text)?;
        if text.contains(['+', '#']) {
            return Err(TopicError::Wildcard);
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Filter {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        well_formed(text)?;
        if !valid_filter(text) {
            return Err(TopicError::MisplacedWildcard);
        }
        Ok(Self(text.into()))
    }
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// The text itself.
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

text_newtype!(Topic);
text_newtype!(Filter);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_one_place() {
        for good in [
            "a",
            "/",
            "tapo2mqtt/bridge/state",
            "with space",
            &"x".repeat(TEXT_MAX),
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
            "x".repeat(TEXT_MAX + 1).parse::<Topic>(),
            Err(TopicError::TooLong)
        );
    }

    #[test]
    fn a_filter_has_its_wildcards_in_the_right_place() {
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
