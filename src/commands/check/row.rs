//! The table that `check` prints.

/// One line of the table.
pub(in crate::commands) struct Row {
    what: String,
    status: RowResult,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowResult {
    Ok,
    /// Nothing is wrong, but worth knowing.
    Note,
    Failed,
}

impl Row {
    pub(in crate::commands) fn new(what: impl Into<String>, result: Result<String, String>) -> Self {
        let (status, text) = match result {
            Ok(text) => (RowResult::Ok, text),
            Err(text) => (RowResult::Failed, text),
        };
        Self {
            what: what.into(),
            status,
            text,
        }
    }

    pub(in crate::commands) fn note(what: impl Into<String>, text: String) -> Self {
        Self {
            status: RowResult::Note,
            ..Self::new(what, Ok(text))
        }
    }

    pub(in crate::commands) fn failed(&self) -> bool {
        self.status == RowResult::Failed
    }
}

pub(in crate::commands) fn table(rows: &[Row], color: bool) -> String {
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
    let line = |row: &Row| {
        let (word, code) = match row.status {
            RowResult::Ok => ("ok", 32),
            RowResult::Note => ("note", 33),
            RowResult::Failed => ("failed", 31),
        };
        let mut status = format!("{word:<6}");
        if color {
            status = format!("\u{1b}[{code}m{status}\u{1b}[0m");
        }
        format!("{:<width$}  {status}  {}\n", row.what, row.text)
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_colors_only_where_they_are_wanted() {
        let rows = [
            Row::new("settings", Ok("bridge.toml".to_owned())),
            Row::note("time zone", "UTC".to_owned()),
            Row::new("broker", Err("refused".to_owned())),
        ];
        assert_eq!(
            table(&rows, false),
            "settings   ok      bridge.toml\ntime zone  note    UTC\nbroker     failed  refused\n"
        );
        assert_eq!(
            table(&rows, true).lines().next_back(),
            Some("broker     \u{1b}[31mfailed\u{1b}[0m  refused")
        );
        assert_eq!(rows.iter().filter(|row| row.failed()).count(), 1);
    }
}
