//! A value of the state file that is encoded once.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};
use serde_json::value::{RawValue, to_raw_value};

/// One of many values of a part, with its form in the file, which is made when it is first written. Clones share both.
pub struct Stored<T>(Arc<Encodable<T>>);

struct Encodable<T> {
    value: T,
    text: OnceLock<Box<RawValue>>,
}

impl<T: Clone> Stored<T> {
    /// Changes it in place.
    pub fn change(&mut self, change: impl FnOnce(&mut T)) {
        let mut value = self.0.value.clone();
        change(&mut value);
        *self = value.into();
    }
}

impl<T> From<T> for Stored<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(Encodable {
            value,
            text: OnceLock::new(),
        }))
    }
}

impl<T> Deref for Stored<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Clone for Stored<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Default> Default for Stored<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Stored<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Stored<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.value == other.0.value
    }
}

impl<T: Serialize> Serialize for Stored<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = if let Some(text) = self.0.text.get() {
            text
        } else {
            let text = to_raw_value(&self.0.value).map_err(S::Error::custom)?;
            self.0.text.get_or_init(|| text)
        };
        text.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Stored<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_encoded_and_a_clone_keeps_what_was() {
        let mut stored = Stored::from(vec![1, 2]);
        let before = stored.clone();
        assert_eq!(serde_json::to_string_pretty(&stored).unwrap(), "[1,2]");
        stored.change(|value| value.push(3));
        assert_eq!(serde_json::to_string(&stored).unwrap(), "[1,2,3]");
        assert_eq!(serde_json::to_string(&before).unwrap(), "[1,2]");
        assert_eq!(
            serde_json::from_str::<Stored<Vec<u8>>>("[1,2]").unwrap(),
            Stored::from(vec![1, 2])
        );
    }
}
