//! The token of a session, which becomes a part of the path of its requests.

use serde_json::Value;

use crate::Error;

/// Real tokens have 32 characters.
const LONGEST: usize = 256;

/// Reads a token that a device chose.
pub(crate) fn token(given: Option<&Value>) -> Result<&str, Error> {
    given
        .and_then(Value::as_str)
        .filter(|token| !token.is_empty() && token.len() <= LONGEST)
        .filter(|token| {
            token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~%+=".contains(&byte))
        })
        .ok_or(Error::Unreadable("it has no token"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_part_of_a_path() {
        assert_eq!(token(Some(&json!("AB-12_~"))), Ok("AB-12_~"));
        for bad in [
            "",
            "a b",
            "a#b",
            "a?b",
            "a/b",
            "a\r\nb",
            "\u{e4}",
            &"A".repeat(257),
        ] {
            assert_eq!(
                token(Some(&json!(bad))),
                Err(Error::Unreadable("it has no token")),
                "{bad}"
            );
        }
        assert!(token(None).is_err() && token(Some(&json!(7))).is_err());
    }
}
