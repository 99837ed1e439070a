//! Parsers of single values. Each returns what it expects, also for an empty value.

use std::{fmt::Display, net::IpAddr, ops::RangeInclusive, str::FromStr, time::Duration};

use config::ValueKind;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use reqwest::Url;

use super::reader::{Expected, Leaf};
use crate::domain::mac;
use planner::{
    SLUG_MAX,
    period::Period,
    units::{MilliWattHours, MilliWatts},
};

/// Longest name for people, in characters.
const NAME_MAX: usize = 64;

/// `true` or `false`.
pub(super) fn boolean(leaf: &Leaf<'_>) -> Result<bool, Expected> {
    leaf.boolean().ok_or_else(|| "true or false".to_owned())
}

/// Any text.
pub(super) fn text(leaf: &Leaf<'_>) -> Result<String, Expected> {
    let text = leaf.text().ok_or_else(|| "a string; quote it".to_owned())?;
    Ok(text.to_owned())
}

/// The address of a web server. A parser of addresses takes what stands behind too many slashes, or none, for the host.
pub(super) fn web_address(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let url: Url = text.parse().ok()?;
    let is_web = ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str());
    (is_web && !rest.starts_with(['/', '\\']) && url.has_host()).then_some(url)
}

/// A name for people: one line, not empty.
pub(super) fn name(leaf: &Leaf<'_>) -> Result<String, Expected> {
    let fits = |text: &&str| {
        !text.is_empty() && text.chars().count() <= NAME_MAX && !text.chars().any(char::is_control)
    };
    let name = leaf.text().map(str::trim).filter(fits);
    name.map(str::to_owned).ok_or_else(|| {
        format!(
            "a text of 1 to {NAME_MAX} characters on one line{}",
            quote_it(leaf)
        )
    })
}

/// A MAC, with or without colons or dashes.
pub(super) fn mac(leaf: &Leaf<'_>) -> Result<String, Expected> {
    let only_digits = |text: &&str| {
        text.chars()
            .all(|c| c.is_ascii_hexdigit() || c == ':' || c == '-')
    };
    let mac = leaf.text().filter(only_digits).and_then(mac::mac);
    mac.ok_or_else(|| "a MAC, such as \"AA:BB:CC:DD:EE:FF\"".to_owned())
}

/// A whole number within a range.
pub(super) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&Leaf<'_>) -> Result<T, Expected>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    move |leaf| {
        let number = leaf.integer().and_then(|number| T::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
    }
}

/// Any finite number.
pub(super) fn finite(leaf: &Leaf<'_>) -> Result<f64, Expected> {
    leaf.number().ok_or_else(|| "a number".to_owned())
}

/// A number within a range.
pub(super) fn number(range: RangeInclusive<f64>) -> impl Fn(&Leaf<'_>) -> Result<f64, Expected> {
    move |leaf| {
        let number = leaf.number().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("a number from {} to {}", range.start(), range.end()))
    }
}

/// One of a few words, in any case.
pub(super) fn word<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Leaf<'_>) -> Result<T, Expected> {
    |leaf| {
        let found = leaf
            .text()
            .and_then(|text| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("one of {}", words.join(", "))
        })
    }
}

/// `"30m"`, `"1h30m"`, or a number of seconds, within a range.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Leaf<'_>) -> Result<Duration, Expected> {
    move |leaf| {
        let duration = leaf
            .number()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        duration
            .or_else(|| friendly(leaf.text()?))
            .filter(|duration| range.contains(duration))
            .ok_or_else(|| {
                let (from, to) = (in_words(*range.start()), in_words(*range.end()));
                format!("a duration from {from} to {to}, such as \"1h30m\", \"45s\" or a number of seconds")
            })
    }
}

/// A [`duration`] as the scheduler has it. The range starts above zero.
pub(super) fn period(range: RangeInclusive<Duration>) -> impl Fn(&Leaf<'_>) -> Result<Period, Expected> {
    let parse = duration(range);
    move |leaf| {
        let length = SignedDuration::try_from(parse(leaf)?).unwrap_or(SignedDuration::MAX);
        Period::new(length).map_err(|error| format!("a duration; this {error}"))
    }
}

/// Power with its unit: `"3.5 kW"` or `"5 W"`.
pub(super) fn power(range: RangeInclusive<MilliWatts>) -> impl Fn(&Leaf<'_>) -> Result<MilliWatts, Expected> {
    move |leaf| {
        let watts = leaf
            .text()
            .and_then(|text| quantity(text, &[("kw", 1000.0), ("w", 1.0)]));
        let power = watts.map(MilliWatts::from_decimal);
        power.filter(|power| range.contains(power)).ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            format!("a power from {from} to {to}, such as \"5 W\" or \"3.5 kW\"")
        })
    }
}

/// Energy with its unit: `"4 kWh"` or `"500 Wh"`.
pub(super) fn energy(
    range: RangeInclusive<MilliWattHours>,
) -> impl Fn(&Leaf<'_>) -> Result<MilliWattHours, Expected> {
    move |leaf| {
        let kilowatt_hours = leaf
            .text()
            .and_then(|text| quantity(text, &[("kwh", 1.0), ("wh", 0.001)]));
        let energy = kilowatt_hours.map(MilliWattHours::from_kilowatt_hours);
        energy.filter(|energy| range.contains(energy)).ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            format!("an energy from {from} to {to}, such as \"500 Wh\" or \"4 kWh\"")
        })
    }
}

/// A plain number and one of the units, each with its factor. Units are known in any case.
fn quantity(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim().to_lowercase();
    let (unit, factor) = units.iter().find(|(unit, _)| text.ends_with(unit))?;
    let number = text.strip_suffix(unit)?.trim_end();
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    Some(number.parse::<f64>().ok().filter(|_| plain)? * factor)
}

fn friendly(text: &str) -> Option<Duration> {
    let span: Span = text.trim().parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok()
}

/// A duration as a person writes it.
pub(super) fn in_words(duration: Duration) -> String {
    match SignedDuration::try_from(duration) {
        Ok(duration) => format!("{duration:#}").replace(' ', ""),
        Err(_) => format!("{}s", duration.as_secs()),
    }
}

/// A name that becomes a topic level and part of an identity.
pub(super) fn slug<T>(leaf: &Leaf<'_>) -> Result<T, Expected>
where
    T: FromStr<Err = planner::SlugError>,
{
    let rule = format!("1 to {SLUG_MAX} of a-z, 0-9, _ and -");
    let text = leaf.text().ok_or_else(|| format!("{rule}{}", quote_it(leaf)))?;
    text.parse().map_err(|why| format!("{rule}; this {why}"))
}

/// Advice for a number or a boolean where a text is expected.
fn quote_it(leaf: &Leaf<'_>) -> String {
    match &leaf.0.kind {
        kind @ (ValueKind::I64(_) | ValueKind::Float(_) | ValueKind::Boolean(_)) => {
            format!("; quote it: \"{kind}\"")
        }
        _ => String::new(),
    }
}

/// A host name or an IP address, without a port. Brackets around an IPv6 address are dropped.
pub(super) fn host(leaf: &Leaf<'_>) -> Result<String, Expected> {
    let host = leaf.text().and_then(host_of);
    host.ok_or_else(|| "a host name or an IP address, without mqtt:// and without a port".to_owned())
}

/// The canonical form of a host name or an IP address.
pub(super) fn host_of(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare.unwrap_or(text).parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) | Err(_) if bare.is_some() => None,
        Ok(ip) => Some(ip.to_string()),
        Err(_) => host_name(text),
    }
}

/// RFC 1123, with the underscore that container networks use. A last label of digits only is a
/// mistyped IPv4 address, never a name.
fn host_name(text: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let digits = name.rsplit('.').next()?.chars().all(|c| c.is_ascii_digit());
    let valid = name.len() <= 253 && name.split('.').all(label) && !digits;
    valid.then(|| name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(
        value: impl Into<config::ValueKind>,
        parse: impl Fn(&Leaf<'_>) -> Result<T, Expected>,
    ) -> Option<T> {
        parse(&Leaf(&config::Value::new(None, value))).ok()
    }

    #[test]
    fn durations_are_words_or_seconds() {
        let any = || duration(Duration::ZERO..=Duration::from_hours(48));
        let cases = [
            ("30m", 1800),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("5s", 5),
            ("1d", 86_400),
            ("2 hours", 7200),
        ];
        for (text, seconds) in cases {
            assert_eq!(read(text, any()), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(read("500ms", any()), Some(Duration::from_millis(500)));
        assert_eq!(read(90, any()), Some(Duration::from_secs(90)));
        assert_eq!(read(0.5, any()), Some(Duration::from_millis(500)));
        for bad in ["", "soon", "-5s", "1 month", "5", "3d", "1h-30m"] {
            assert_eq!(read(bad, any()), None, "{bad}");
        }
        for bad in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(read(bad, any()), None, "{bad}");
        }
        assert_eq!(read(true, any()), None);
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        assert_eq!(in_words(Duration::from_mins(90)), "1h30m");
        assert_eq!(in_words(Duration::from_millis(500)), "500ms");
        assert_eq!(in_words(Duration::from_hours(24)), "24h");
    }

    #[test]
    fn power_and_energy_have_a_unit() {
        let any = || power(MilliWatts::ZERO..=MilliWatts::from_watts(100_000));
        for (text, watts) in [("3.5 kW", 3500), ("5W", 5), (" 20 w ", 20), ("1KW", 1000)] {
            assert_eq!(read(text, any()), Some(MilliWatts::from_watts(watts)), "{text}");
        }
        assert_eq!(read("0.5 W", any()), Some(MilliWatts::new(500)));
        let bad = [
            "", "W", "5", "-5 W", "1e3 W", "inf W", "NaN W", "5 mW", "5 Wh", "101 kW", "5 5 W", "1.2.3 W",
        ];
        for bad in bad {
            assert_eq!(read(bad, any()), None, "{bad}");
        }
        assert_eq!(read(5, any()), None);
        let any = || energy(MilliWattHours::new(1)..=MilliWattHours::from_kilowatt_hours(100.0));
        for (text, wh) in [("4 kWh", 4000), ("500Wh", 500), ("0.25 kwh", 250)] {
            assert_eq!(read(text, any()), Some(MilliWattHours::new(wh * 1000)), "{text}");
        }
        for bad in ["0 kWh", "4", "4 kW", "101 kWh", "4 MWh", "-1 kWh"] {
            assert_eq!(read(bad, any()), None, "{bad}");
        }
        let problem = any()(&Leaf(&config::Value::default())).unwrap_err();
        assert_eq!(
            problem,
            "an energy from 0 kWh to 100 kWh, such as \"500 Wh\" or \"4 kWh\""
        );
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let good = [
            "localhost",
            "core-mosquitto",
            "mqtt.lan",
            "my_broker",
            "192.168.1.5",
            "::1",
            "MQTT.Lan",
            "a.b.",
        ];
        for host in good {
            assert!(host_of(host).is_some(), "{host}");
        }
        assert_eq!(host_of("[2001:DB8::1]").as_deref(), Some("2001:db8::1"));
        let bad = [
            "",
            "mqtt://x",
            "x:1883",
            "a b",
            "192.168.1.500",
            "1.2.3",
            "-a",
            "a..b",
            "[1.2.3.4]",
            "[x]",
            "é",
        ];
        for host in bad {
            assert_eq!(host_of(host), None, "{host}");
        }
    }

    #[test]
    fn a_web_address_has_a_host_behind_two_slashes() {
        for good in [
            "http://a",
            "HTTPS://a.lan:8080/b?c",
            "https://me:hunter2@example.com/",
        ] {
            assert!(web_address(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "a",
            "http:///SECRET",
            "https:SECRET",
            "http:/SECRET",
            "http://\\SECRET",
            "http://",
            "http://?SECRET",
            "ftp://a",
            " http:///SECRET://",
        ] {
            assert_eq!(web_address(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_are_one_line() {
        assert_eq!(read("  Left mat ", name).as_deref(), Some("Left mat"));
        assert_eq!(read("Ü".repeat(64), name), Some("Ü".repeat(64)));
        for bad in ["", "  ", "a\nb", &"x".repeat(65)] {
            assert_eq!(read(bad, name), None, "{bad:?}");
        }
    }
}
