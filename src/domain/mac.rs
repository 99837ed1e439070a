//! MAC addresses as text.

/// `AA-BB-CC-DD-EE-FF` or `AABBCCDDEEFF` to `aa:bb:cc:dd:ee:ff`; anything else is not a MAC.
pub fn mac(raw: &str) -> Option<String> {
    let digits: Vec<char> = raw
        .chars()
        .filter(char::is_ascii_hexdigit)
        .map(|c| c.to_ascii_lowercase())
        .take(DIGITS + 1)
        .collect();
    (digits.len() == DIGITS).then(|| {
        let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
        pairs.join(":")
    })
}

const DIGITS: usize = 12;
