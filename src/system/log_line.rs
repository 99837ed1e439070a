//! How a line of the log looks: its time and its fields. No text from outside can end a line or control a terminal.

use std::fmt::{self, Debug};

use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, format::Writer, time::FormatTime},
};

use super::clock::Clock;

/// Local time with its offset, to the millisecond.
#[derive(Debug)]
pub(super) struct LocalTime {
    zone: TimeZone,
    clock: Clock,
}

impl LocalTime {
    pub(super) fn new(zone: TimeZone) -> Self {
        let clock = Clock::system();
        Self { zone, clock }
    }
}

impl FormatTime for LocalTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = self.clock.now().to_zoned_datetime(self.zone.clone());
        write!(writer, "{}", now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"))
    }
}

/// The message, then `name=value` for each field that has a value.
#[derive(Debug)]
pub(super) struct LogFields;

impl<'writer> FormatFields<'writer> for LogFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = FieldWriter {
            writer,
            result: Ok(()),
            separator: "",
        };
        fields.record(&mut line);
        line.result
    }
}

struct FieldWriter<'writer> {
    writer: Writer<'writer>,
    result: fmt::Result,
    separator: &'static str,
}

impl FieldWriter<'_> {
    fn write(&mut self, field: &Field, value: &str) {
        if value.is_empty() || self.result.is_err() {
            return;
        }
        let separator = std::mem::replace(&mut self.separator, " ");
        let value = escaped(value);
        self.result = match field.name() {
            "message" => write!(self.writer, "{separator}{value}"),
            name => write!(self.writer, "{separator}{name}={value}"),
        };
    }
}

impl Visit for FieldWriter<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.write(field, value),
            _ if value.is_empty() => {}
            _ => self.write(field, &format!("{value:?}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, &format!("{value:?}"));
    }
}

/// The text without characters that end a line, control a terminal or change the direction of text.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printed(c) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_default());
        }
    }
    escaped
}

fn is_printed(c: char) -> bool {
    // Separators of lines and paragraphs, and marks that are not seen.
    let is_mark = matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    );
    !(c.is_control() || is_mark)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::system::log_text::LogText;

    /// What these events are written as.
    fn logged(events: impl FnOnce()) -> String {
        let lines = LogText::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_target(false)
            .with_timer(LocalTime::new(TimeZone::get("Asia/Kolkata").unwrap()))
            .fmt_fields(LogFields)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), events);
        lines.text()
    }

    #[test]
    fn a_line_has_local_time_and_no_empty_fields() {
        let nothing: Option<&str> = None;
        let line = logged(|| {
            tracing::warn!(device = "heater", path = %"mats/1", empty = "", none = %"", nothing, n = 3, "lost: {}", "x");
        });
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(
            time.ends_with("+05:30") && time.len() == "2026-11-30T06:12:33.256+05:30".len(),
            "{time}"
        );
        assert_eq!(rest, " WARN lost: x device=\"heater\" path=mats/1 n=3\n");
    }

    #[test]
    fn no_text_from_outside_forges_a_line() {
        let control = (0..=0x9f).filter_map(char::from_u32).filter(|c| c.is_control());
        let marks = "\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}\u{feff}\u{e0041}".chars();
        for c in control.chain(marks) {
            let text = format!("P110{c}2026-11-30T05:00:00.000Z  INFO forged");
            let error = io::Error::other(text.clone());
            for line in [
                logged(|| tracing::info!("model {text}")),
                logged(|| tracing::info!(model = %text, "message")),
                logged(|| tracing::info!(model = ?text, "message")),
                logged(|| tracing::info!(model = text, "message")),
                logged(|| tracing::info!(model = text.as_str(), "message")),
                logged(|| tracing::info!(model = Some(text.clone()), "message")),
                logged(|| tracing::info!(%error, "message")),
                logged(|| tracing::info!(error = &error as &dyn std::error::Error, "message")),
            ] {
                let body = line.strip_suffix('\n').unwrap();
                assert!(body.chars().all(is_printed), "{c:?}: {body:?}");
                assert!(body.contains("forged"), "{body:?}");
            }
        }
    }

    #[test]
    fn letters_of_all_languages_are_printed() {
        for text in ["Küche", "台所", "кухня", "3.5 °C", "🔥"] {
            assert_eq!(escaped(text), text);
        }
    }
}
