//! "Did you mean": the known name nearest to a mistyped one.

/// Longer names than this get no suggestion: a mistyped key is never that long.
const NAME_MAX: usize = 40;

/// What people write who come from other tools, and what it is called here.
const ALIASES: [(&str, &str); 13] = [
    ("broker", "host"),
    ("server", "host"),
    ("hostname", "host"),
    ("user", "username"),
    ("email", "username"),
    ("pass", "password"),
    ("ip", "address"),
    ("host", "address"),
    ("friendly_name", "name"),
    ("slug", "id"),
    ("index", "position"),
    ("prefix", "discovery_prefix"),
    ("topic", "base_topic"),
];

/// "one of a, b, c", with the nearest of them named where one is near.
pub(super) fn one_of(known: &[&str], found: &str) -> String {
    let list = format!("one of {}", known.join(", "));
    match nearest(known, found) {
        Some(name) => format!("{list}; did you mean {name}?"),
        None => list,
    }
}

/// The known name that is most likely meant.
pub(crate) fn nearest<'a>(known: &[&'a str], found: &str) -> Option<&'a str> {
    let found = found.to_lowercase().replace('-', "_");
    // Two letters swapped are two replacements.
    let allowed = (found.len() / 2).clamp(1, 3);
    if found.len() > NAME_MAX {
        return None;
    }
    let alias = ALIASES
        .iter()
        .find(|(other, name)| *other == found && known.contains(name));
    if let Some((_, name)) = alias {
        return known.iter().copied().find(|known| known == name);
    }
    let measured = known.iter().map(|name| (distance(name, &found), *name));
    measured
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Insertions, deletions and replacements between two texts (Levenshtein), one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, above) in b.chars().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *above;
            left = replaced.min(left + 1).min(diagonal + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshtein() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("host", "hots", 2),
            ("kitten", "sitting", 3),
        ];
        for (a, b, expected) in cases {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let mqtt = ["host", "port", "username", "password", "base_topic"];
        assert_eq!(nearest(&mqtt, "prot"), Some("port"));
        assert_eq!(nearest(&mqtt, "hosts"), Some("host"));
        assert_eq!(nearest(&mqtt, "Base-Topic"), Some("base_topic"));
        assert_eq!(nearest(&mqtt, "user"), Some("username"));
        assert_eq!(nearest(&["address", "id"], "ip"), Some("address"));
        assert_eq!(nearest(&mqtt, "zigbee"), None);
        assert_eq!(nearest(&mqtt, &"host".repeat(100)), None);
    }
}
