//! A JSON object as commands use it: flat, each key once, nothing unknown.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;

use super::{
    payload_error::{PayloadError, Shown},
    value::Transaction,
};

/// The key that every command may carry.
const TRANSACTION: &str = "transaction";
/// What a `set` knows fits without growing twice.
const USUAL_KEYS: usize = 12;

/// A value in such an object. What is inside an array or an object is not kept: no command has one, and
/// however deep it is, it costs no stack.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A finite number.
    Number(Number),
    /// A text.
    Text(String),
    /// `[..]`
    Array,
    /// `{..}`
    Object,
}

impl Scalar {
    /// The value for an error message.
    pub fn shown(&self) -> Shown {
        match self {
            Self::Null => Shown::text("null"),
            Self::Bool(value) => Shown::text(&value.to_string()),
            Self::Number(value) => Shown::text(&value.to_string()),
            Self::Text(value) => Shown::text(value),
            Self::Array => Shown::text("[..]"),
            Self::Object => Shown::text("{..}"),
        }
    }

    /// A number, also one in a text.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => number.as_f64(),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Null | Self::Bool(_) | Self::Array | Self::Object => None,
        }
    }

    /// A text in lower case; empty if it is none.
    pub(super) fn word(&self) -> String {
        match self {
            Self::Text(text) => text.trim().to_ascii_lowercase(),
            _ => String::new(),
        }
    }
}

/// The keys and values of one object. Taking a key makes it known; a key that is left is an error.
#[derive(Debug, Default)]
pub struct Fields {
    entries: Vec<(String, Scalar)>,
    known: Vec<&'static str>,
}

impl Fields {
    /// Reads an object, and as much as can be read of a broken one.
    pub(super) fn read(bytes: &[u8]) -> (Self, Result<(), serde_json::Error>) {
        let mut fields = Self {
            entries: Vec::with_capacity(USUAL_KEYS),
            known: Vec::with_capacity(USUAL_KEYS),
        };
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let read = Collect(&mut fields.entries).deserialize(&mut reader);
        let result = read.and_then(|()| reader.end());
        (fields, result)
    }

    /// The transaction, if there is a sound one, without taking it.
    pub(super) fn transaction(&self) -> Option<Transaction> {
        let (_, value) = self.entries.iter().find(|(key, _)| key == TRANSACTION)?;
        Transaction::try_from(value.clone()).ok()
    }

    /// Refuses an object in which a key is there twice.
    pub(super) fn check_duplicates(&self) -> Result<(), PayloadError> {
        let mut seen = BTreeSet::new();
        match self.entries.iter().find(|(key, _)| !seen.insert(key)) {
            None => Ok(()),
            Some((key, _)) => Err(PayloadError::DuplicateKey {
                shown: Shown::text(key),
            }),
        }
    }

    /// Whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name == key)
    }

    /// Takes the value of a key out.
    pub fn take(&mut self, key: &'static str) -> Option<Scalar> {
        self.known.push(key);
        let place = self.entries.iter().position(|(name, _)| name == key)?;
        Some(self.entries.remove(place).1)
    }

    /// Takes the value of a key out and reads it.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn take_as<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Scalar) -> Result<T, PayloadError>,
    ) -> Result<Option<T>, PayloadError> {
        self.take(key).map(|value| read(&value)).transpose()
    }

    /// Takes a text.
    ///
    /// # Errors
    /// `expected` when the value is of another type.
    pub fn take_text(
        &mut self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<Option<String>, PayloadError> {
        match self.take(key) {
            None => Ok(None),
            Some(Scalar::Text(text)) => Ok(Some(text)),
            Some(other) => Err(PayloadError::InvalidValue {
                key,
                expected,
                shown: other.shown(),
            }),
        }
    }

    /// Takes a boolean.
    ///
    /// # Errors
    /// When the value is of another type.
    pub fn take_bool(&mut self, key: &'static str) -> Result<Option<bool>, PayloadError> {
        match self.take(key) {
            None => Ok(None),
            Some(Scalar::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(PayloadError::InvalidValue {
                key,
                expected: "true or false",
                shown: other.shown(),
            }),
        }
    }

    /// Takes the transaction, which must be valid, and refuses keys that are left.
    pub(super) fn finish(mut self) -> Result<(), PayloadError> {
        if let Some(value) = self.take(TRANSACTION) {
            let shown = value.shown();
            Transaction::try_from(value).map_err(|expected| PayloadError::InvalidValue {
                key: TRANSACTION,
                expected,
                shown,
            })?;
        }
        match self.entries.first() {
            None => Ok(()),
            Some((key, _)) => Err(PayloadError::UnknownKey {
                shown: Shown::text(key),
                known: self.known.join(", "),
            }),
        }
    }
}

/// Pushes the entries of an object as they are read, so that those before a mistake are kept.
struct Collect<'a>(&'a mut Vec<(String, Scalar)>);

impl<'de> DeserializeSeed<'de> for Collect<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(entry) = map.next_entry()? {
            self.0.push(entry);
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
        let finite = Number::from_f64(value).map(Scalar::Number);
        finite.ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Object)
    }
}
