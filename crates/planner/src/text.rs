//! Texts for people, no longer than what shows them can take.

/// A text of at most so many characters. One that is longer ends after a whole word, with `…`.
pub fn shortened(mut text: String, most: usize) -> String {
    // Most are so short that no character need be counted.
    if text.len() <= most || text.char_indices().nth(most).is_none() {
        return text;
    }
    let room = text.char_indices().nth(most.saturating_sub(1));
    let room = room.map_or(text.len(), |(at, _)| at);
    // Without a blank for long it is no sentence.
    let blanks = text.char_indices().take(most).filter(|(_, c)| c.is_whitespace());
    let word = blanks.last().map(|(at, _)| at).filter(|at| *at > room / 2);
    text.truncate(word.unwrap_or(room));
    text.truncate(text.trim_end().len());
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_ends_after_a_whole_word() {
        let short = |text: &str, most| shortened(text.to_owned(), most);
        assert_eq!(short("the device is away", 18), "the device is away");
        assert_eq!(short("the device is away", 17), "the device is…");
        assert_eq!(short("the device is away", 14), "the device is…");
        assert_eq!(short("the device is away", 13), "the device…");
        assert_eq!(short("bärenstärke", 11), "bärenstärke");
        assert_eq!(short("bärenstärke", 6), "bären…");
        assert_eq!(short("a bärenstärke", 8), "a bären…");
    }
}
