//! An id from a name for people: `Einfahrt Süd` is `einfahrt-sued`.

/// Longest id that is made, in bytes. There is room for a number behind it.
const LONGEST: usize = 48;

/// Letters, and how they are written without marks. Those that are not here and not in `a-z0-9` separate words.
const WRITTEN: [(&str, &str); 34] = [
    ("äæ", "ae"),
    ("öœø", "oe"),
    ("ü", "ue"),
    ("ß", "ss"),
    ("å", "aa"),
    ("þ", "th"),
    ("àáâãāăą", "a"),
    ("çćĉċč", "c"),
    ("ďđð", "d"),
    ("èéêëēĕėęě", "e"),
    ("ĝğġģ", "g"),
    ("ĥħ", "h"),
    ("ìíîïĩīĭįı", "i"),
    ("ĵ", "j"),
    ("ķ", "k"),
    ("ĺļľŀł", "l"),
    ("ñńņňŋ", "n"),
    ("òóôõōŏő", "o"),
    ("ŕŗř", "r"),
    ("śŝşšș", "s"),
    ("ţťŧț", "t"),
    ("ùúûũūŭůűų", "u"),
    ("ŵ", "w"),
    ("ýÿŷ", "y"),
    ("źżž", "z"),
    // Marks that follow their letter, and what stands within words.
    (
        "\u{300}\u{301}\u{302}\u{303}\u{304}\u{306}\u{307}\u{30a}\u{30b}\u{30c}\u{327}\u{328}",
        "",
    ),
    ("\u{308}", "e"),
    ("'’", ""),
    ("²", "2"),
    ("³", "3"),
    ("½", "1-2"),
    ("&", "-and-"),
    ("+", "-plus-"),
    ("°", ""),
];

/// The id that a name makes; empty for a name of other letters.
pub(crate) fn id_from_name(name: &str) -> String {
    let mut id = String::new();
    for letter in name.chars().flat_map(char::to_lowercase) {
        let written = WRITTEN.iter().find(|(letters, _)| letters.contains(letter));
        match written {
            Some((_, written)) => id.push_str(written),
            None if letter.is_ascii_alphanumeric() => id.push(letter),
            None => id.push('-'),
        }
    }
    let words: Vec<&str> = id.split('-').filter(|word| !word.is_empty()).collect();
    let mut id = words.join("-");
    id.truncate(LONGEST);
    id.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_in_plain_letters() {
        let cases = [
            ("Einfahrt Süd", "einfahrt-sued"),
            ("  Große Straße  ", "grosse-strasse"),
            ("Café / Entrée", "cafe-entree"),
            ("Su\u{308}d", "sued"),
            ("Żółw", "zolw"),
            ("Tom's lamp_2", "toms-lamp-2"),
            ("Boiler & Pump", "boiler-and-pump"),
            ("-- ", ""),
            ("Лампа", ""),
            ("灯 1", "1"),
        ];
        for (name, id) in cases {
            assert_eq!(id_from_name(name), id, "{name}");
        }
        assert_eq!(id_from_name(&"ab ".repeat(50)).len(), LONGEST - 1);
    }
}
