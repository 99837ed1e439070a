//! A point in time as clients write it: RFC 3339.

use jiff::{Timestamp, fmt::temporal::Pieces};

/// A time of RFC 3339, which has an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TimeWithOffset {
    At(Timestamp),
    /// After the last one that can be counted, which is in the last days of 9999.
    Beyond,
}

impl TimeWithOffset {
    pub(super) const EXPECTED: &str = "an RFC 3339 time with an offset";

    pub(super) fn parse(text: &str) -> Option<Self> {
        if !has_shape(text) {
            return None;
        }
        match text.parse() {
            Ok(time) => Some(Self::At(time)),
            // Each part of it is right.
            Err(_) => Pieces::parse(text).is_ok().then_some(Self::Beyond),
        }
    }
}

/// The library reads more: times without seconds, with the name of a zone, and without separators.
fn has_shape(text: &str) -> bool {
    let shape = |text: &str| text.replace(|one: char| one.is_ascii_digit(), "0").to_uppercase();
    let Some((time, rest)) = text.split_at_checked("0000-00-00T00:00:00".len()) else {
        return false;
    };
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => match fraction.trim_start_matches(|one: char| one.is_ascii_digit()) {
            offset if offset.len() == fraction.len() => return false,
            offset => offset,
        },
        None => rest,
    };
    matches!(
        shape(time).as_str(),
        "0000-00-00T00:00:00" | "0000-00-00 00:00:00"
    ) && matches!(shape(offset).as_str(), "Z" | "+00:00" | "-00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_rfc_3339_are_read_and_others_are_not() {
        let at = |second| Some(TimeWithOffset::At(Timestamp::from_second(second).unwrap()));
        for text in [
            "2026-11-21T17:00:00Z",
            "2026-11-21t17:00:00z",
            "2026-11-21 18:00:00+01:00",
            "2026-11-21T17:00:00.000000+00:00",
            "2026-11-21T17:00:00-00:00",
        ] {
            assert_eq!(TimeWithOffset::parse(text), at(1_795_280_400), "{text}");
        }
        for text in ["9999-12-31T23:59:59Z", "9999-12-31T00:00:00.5-23:59"] {
            assert_eq!(
                TimeWithOffset::parse(text),
                Some(TimeWithOffset::Beyond),
                "{text}"
            );
        }
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T17:00:00",
            "2026-11-21T17:00Z",
            "2026-11-21T17:00:00+01",
            "2026-11-21T17:00:00+0100",
            "2026-11-21T17:00:00.Z",
            "2026-11-21T17:00:00,5Z",
            "20261121T170000Z",
            "+002026-11-21T17:00:00Z",
            "2026-11-21T17:00:00Z[Europe/Berlin]",
            "2026-11-21T17:00:00+01:00[Europe/Berlin]",
            "2026-11-31T17:00:00Z",
            "2026-11-21T24:00:00Z",
            "9999-12-32T23:59:59Z",
            "2026-11-21T17:00:0\u{e9}Z",
        ] {
            assert_eq!(TimeWithOffset::parse(text), None, "{text}");
        }
    }
}
