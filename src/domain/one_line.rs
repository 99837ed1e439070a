//! A list of mistakes on one line.

/// Mistakes that are listed. More do not help, and a response or a line of the log has a size.
const LISTED: usize = 20;

/// The first mistakes, and how many more there are.
pub(crate) fn one_line(mistakes: &[String]) -> String {
    let (listed, more) = listed(mistakes);
    match more {
        None => listed.join("; "),
        Some(more) => format!("{}; {more}", listed.join("; ")),
    }
}

/// The first mistakes, and what says how many more there are.
pub(crate) fn listed(mistakes: &[String]) -> (&[String], Option<String>) {
    let (listed, rest) = mistakes.split_at(mistakes.len().min(LISTED));
    let more = rest.len();
    (listed, (more > 0).then(|| format!("and {more} more")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_listed_and_the_rest_is_counted() {
        let mistakes: Vec<String> = (1..=LISTED + 480).map(|number| number.to_string()).collect();
        let line = one_line(&mistakes);
        assert!(
            line.starts_with("1; 2; ") && line.ends_with("; 20; and 480 more"),
            "{line}"
        );
        assert_eq!(one_line(&mistakes[..2]), "1; 2");
        assert_eq!(one_line(&[]), "");
    }
}
