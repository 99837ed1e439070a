//! Reads the holidays of an iCalendar file (RFC 5545): its all-day events.
//!
//! Our own reader: the crates for iCalendar bring a parser generator, regular expressions and a second time zone database along,
//! for times of day that are no holidays. It reads what calendars of holidays have, events of whole days that come once or each
//! year, and names what it does not read.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{
    Span,
    civil::{Date, Weekday},
};
use planner::{holidays::HolidayDates, shortened};

use super::recurrence::Recurrence;

/// The largest calendar.
pub(crate) const LARGEST: usize = 1024 * 1024;
/// Holidays of one calendar, all its years together.
const DATES_MAX: usize = 20_000;
/// The longest event.
const DAYS_MAX: i64 = 366;
/// Characters of a name that are kept.
const NAME_MAX: usize = 80;
/// Events before this year are not kept.
const FIRST_YEAR: i16 = 2000;

/// What a calendar says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReadCalendar {
    /// Its holidays.
    pub(crate) dates: HolidayDates,
    /// The events that are left out because they are not understood.
    pub(crate) left_out: Vec<IcsError>,
}

/// Why a calendar, or an event of it, is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IcsError {
    /// Not a calendar at all.
    #[error("not an iCalendar file: it does not begin with BEGIN:VCALENDAR")]
    NoCalendar,
    /// The end is missing: cut off.
    #[error("cut off: END:VCALENDAR is missing")]
    CutOff,
    /// Too large.
    #[error("larger than 1 MiB")]
    TooLarge,
    /// Too many holidays.
    #[error("more than {DATES_MAX} days")]
    TooMany,
    /// No event of a whole day.
    #[error("no all-day event in it; one from 00:00 to 24:00 is none")]
    Empty,
    /// A property of an event is not understood.
    #[error("event \"{event}\" (line {line}): {property} {value:?} is not supported; {expected}")]
    Event {
        /// Its name.
        event: String,
        /// The line where it begins.
        line: usize,
        /// The property.
        property: &'static str,
        /// Its value.
        value: String,
        /// What is.
        expected: &'static str,
    },
}

/// Reads a calendar. Events at a time of day are no holidays, and are left out without a word; so are those that are cancelled.
///
/// # Errors
/// It is no calendar, not whole, too large, or has no all-day event.
pub(crate) fn read(bytes: &[u8]) -> Result<ReadCalendar, IcsError> {
    if bytes.len() > LARGEST {
        return Err(IcsError::TooLarge);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut lines = unfolded(&text).into_iter();
    if !lines
        .next()
        .is_some_and(|(_, line)| is_named(&line, "BEGIN:VCALENDAR"))
    {
        return Err(IcsError::NoCalendar);
    }
    let mut events: Vec<CalendarEvent> = Vec::new();
    // The components around a line, below the calendar.
    let mut inside: Vec<String> = Vec::new();
    let mut event = CalendarEvent::default();
    let mut is_whole = false;
    for (number, line) in lines {
        let Some(property) = Property::read(&line) else {
            continue;
        };
        match (property.name.as_str(), inside.as_slice()) {
            ("BEGIN", _) => {
                if inside.is_empty() {
                    event = CalendarEvent {
                        line: number,
                        ..CalendarEvent::default()
                    };
                }
                inside.push(property.value.to_ascii_uppercase());
            }
            ("END", []) => {
                is_whole = true;
                break;
            }
            ("END", [component]) => {
                if component == "VEVENT" {
                    events.push(std::mem::take(&mut event));
                }
                inside.pop();
            }
            ("END", _) => {
                inside.pop();
            }
            (_, [component]) if component == "VEVENT" => event.take(property),
            _ => {}
        }
    }
    if !is_whole {
        return Err(IcsError::CutOff);
    }
    let calendar = holidays(events)?;
    if calendar.dates.is_empty() && calendar.left_out.is_empty() {
        return Err(IcsError::Empty);
    }
    Ok(calendar)
}

/// The holidays of all events. One that takes the place of a single day of another event is read beside it, wherever it
/// stands.
fn holidays(events: Vec<CalendarEvent>) -> Result<ReadCalendar, IcsError> {
    let mut moved: BTreeMap<String, Vec<Date>> = BTreeMap::new();
    for event in &events {
        if let Some(date) = event.instead_of {
            moved.entry(event.uid.clone()).or_default().push(date);
        }
    }
    let mut calendar = ReadCalendar::default();
    for mut event in events {
        if event.instead_of.is_none() {
            event
                .exceptions
                .extend(moved.get(&event.uid).into_iter().flatten());
        }
        event.add_to(&mut calendar)?;
    }
    Ok(calendar)
}

fn is_named(line: &str, name: &str) -> bool {
    line.trim_start_matches('\u{feff}')
        .trim_end()
        .eq_ignore_ascii_case(name)
}

/// The lines with their numbers; one that goes on behind a line break and a blank is one.
fn unfolded(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(rest), Some((_, before))) => before.push_str(rest),
            _ if line.is_empty() => {}
            _ => lines.push((index + 1, line.to_owned())),
        }
    }
    lines
}

/// One line: `DTSTART;VALUE=DATE:20261225`.
struct Property {
    name: String,
    value: String,
}

impl Property {
    /// `None`: not of that form. The value begins behind the first colon outside of quotes.
    fn read(line: &str) -> Option<Self> {
        let mut is_quoted = false;
        let colon = line.char_indices().find(|(_, sign)| {
            is_quoted ^= *sign == '"';
            *sign == ':' && !is_quoted
        });
        let (name, value) = line.split_at_checked(colon?.0)?;
        let name = name.split(';').next().unwrap_or(name);
        Some(Self {
            name: name.trim().to_ascii_uppercase(),
            value: value.get(1..)?.trim().to_owned(),
        })
    }
}

/// What an event has of what matters here.
#[derive(Default)]
struct CalendarEvent {
    line: usize,
    uid: String,
    name: String,
    start: Option<String>,
    end: Option<String>,
    duration: Option<String>,
    rule: Option<String>,
    more_dates: Option<String>,
    exceptions: Vec<Date>,
    /// The day of the event with the same `uid` in the place of which this one is.
    instead_of: Option<Date>,
    is_cancelled: bool,
}

impl CalendarEvent {
    fn take(&mut self, property: Property) {
        let value = property.value;
        match property.name.as_str() {
            "UID" => self.uid = value,
            "RECURRENCE-ID" => self.instead_of = date(value.split('T').next().unwrap_or_default()),
            "SUMMARY" => self.name = name(&value),
            "DTSTART" => self.start = Some(value),
            "DTEND" => self.end = Some(value),
            "DURATION" => self.duration = Some(value),
            "RRULE" => self.rule = Some(value),
            "RDATE" => self.more_dates = Some(value),
            "EXDATE" => self.exceptions.extend(value.split(',').filter_map(date)),
            "STATUS" => self.is_cancelled = value.eq_ignore_ascii_case("CANCELLED"),
            _ => {}
        }
    }

    fn add_to(self, calendar: &mut ReadCalendar) -> Result<(), IcsError> {
        let Some(start) = self
            .start
            .as_deref()
            .and_then(date)
            .filter(|_| !self.is_cancelled)
        else {
            return Ok(());
        };
        match self.dates(start) {
            Ok((first_days, days)) => {
                let name: Arc<str> = self.name.as_str().into();
                for first in first_days {
                    let dates = first.series(Span::new().days(1)).take(days);
                    let dates = dates.filter(|date| date.year() >= FIRST_YEAR);
                    for date in dates {
                        // Of two on one day the first has its name shown.
                        calendar.dates.entry(date).or_insert_with(|| name.clone());
                    }
                    if calendar.dates.len() > DATES_MAX {
                        return Err(IcsError::TooMany);
                    }
                }
            }
            Err(error) => calendar.left_out.push(error),
        }
        Ok(())
    }

    /// The first days of its occurrences, and how many days each has.
    fn dates(&self, start: Date) -> Result<(Vec<Date>, usize), IcsError> {
        let days = self.days(start)?;
        if let Some(dates) = &self.more_dates {
            return Err(self.refused("RDATE", dates, "a holiday comes once, or each year by an RRULE"));
        }
        let Some(text) = &self.rule else {
            return Ok((vec![start], days));
        };
        let rule: Recurrence = text
            .parse()
            .map_err(|expected| self.refused("RRULE", text, expected))?;
        let dates = rule.dates(start);
        let dates = dates.filter(|date| !self.exceptions.contains(date));
        Ok((dates.collect(), days))
    }

    fn days(&self, start: Date) -> Result<usize, IcsError> {
        let days = match (&self.end, &self.duration) {
            (Some(text), _) => {
                let end = date(text);
                let days = end.map(|end| end.duration_since(start).as_hours() / 24);
                // An end that is not later is read as the same day, as other programs do.
                days.map(|days| days.max(1))
                    .ok_or(("DTEND", text, "the end of a whole day is a date"))
            }
            (None, Some(text)) => {
                whole_days(text).ok_or(("DURATION", text, "a duration has whole days or weeks"))
            }
            (None, None) => Ok(1),
        };
        let days = days.map_err(|(property, value, expected)| self.refused(property, value, expected))?;
        let days = Some(days).filter(|days| (1..=DAYS_MAX).contains(days));
        days.and_then(|days| usize::try_from(days).ok()).ok_or_else(|| {
            let value = self.end.as_ref().or(self.duration.as_ref());
            self.refused(
                "DTEND",
                value.map_or("", |value| value),
                "an event has 1 to 366 days",
            )
        })
    }

    fn refused(&self, property: &'static str, value: &str, expected: &'static str) -> IcsError {
        IcsError::Event {
            event: self.name.clone(),
            line: self.line,
            property,
            value: shortened(value.to_owned(), NAME_MAX),
            expected,
        }
    }
}

/// A date; `None` is also a time of day.
fn date(text: &str) -> Option<Date> {
    let text = text.trim();
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = text.split_at_checked(4)?;
    let (month, day) = rest.split_at_checked(2)?;
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

/// `P2D`, `P1W`.
fn whole_days(text: &str) -> Option<i64> {
    let text = text.trim().strip_prefix('P')?;
    if let Some(weeks) = text.strip_suffix('W') {
        return weeks.parse::<i64>().ok()?.checked_mul(7);
    }
    text.strip_suffix('D')?.parse().ok()
}

/// A text without escapes and control characters.
fn name(text: &str) -> String {
    let mut name = String::new();
    let mut signs = text.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' => match signs.next() {
                Some('n' | 'N') => name.push(' '),
                Some(other) => name.push(other),
                None => {}
            },
            sign if sign.is_control() => {}
            sign => name.push(sign),
        }
    }
    shortened(name.trim().to_owned(), NAME_MAX)
}

/// `MO` to `SU`.
pub(super) fn weekday(text: &str) -> Option<Weekday> {
    Some(match text {
        "MO" => Weekday::Monday,
        "TU" => Weekday::Tuesday,
        "WE" => Weekday::Wednesday,
        "TH" => Weekday::Thursday,
        "FR" => Weekday::Friday,
        "SA" => Weekday::Saturday,
        "SU" => Weekday::Sunday,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(events: &[&str]) -> Result<ReadCalendar, IcsError> {
        let events: Vec<String> = events
            .iter()
            .map(|event| {
                format!(
                    "BEGIN:VEVENT\r\n{}\r\nEND:VEVENT\r\n",
                    event.replace('\n', "\r\n")
                )
            })
            .collect();
        let text = format!(
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{}END:VCALENDAR\r\n",
            events.concat()
        );
        read(text.as_bytes())
    }

    fn dates(event: &str) -> Vec<String> {
        let read = calendar(&[event]).unwrap();
        assert_eq!(read.left_out, []);
        read.dates
            .iter()
            .map(|(date, name)| format!("{date} {name}"))
            .collect()
    }

    #[test]
    fn an_event_of_whole_days_is_a_holiday_on_each() {
        let christmas = "SUMMARY:Christmas\\, all\nDTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261227";
        let expected = ["2026-12-25 Christmas, all", "2026-12-26 Christmas, all"];
        assert_eq!(dates(christmas), expected);
        assert_eq!(
            dates("SUMMARY:Day\nDTSTART;VALUE=DATE:20260501"),
            ["2026-05-01 Day"]
        );
        // As some programs write it.
        assert_eq!(dates("DTSTART:20260501\nDTEND:20260501"), ["2026-05-01 "]);
        assert_eq!(dates("DTSTART:20260501\nDURATION:P1W").len(), 7);
        let folded = "SUMMARY;LANGUAGE=\"a:b\":Tag der \n Arbeit\nDTSTART:20260501\nBEGIN:VALARM\nSUMMARY:x\nEND:VALARM";
        assert_eq!(dates(folded), ["2026-05-01 Tag der Arbeit"]);
    }

    #[test]
    fn an_event_that_comes_each_year_is_a_holiday_each_year() {
        let yearly = |rule: &str, start: &str| {
            let found = dates(&format!("SUMMARY:x\nDTSTART;VALUE=DATE:{start}\nRRULE:{rule}"));
            let dates: Vec<String> = found.iter().map(|line| line[..10].to_owned()).collect();
            dates
        };
        let new_year = yearly("FREQ=YEARLY", "16010101");
        assert_eq!((new_year[0].as_str(), new_year.len()), ("2000-01-01", 101));
        assert_eq!(
            yearly("FREQ=YEARLY;COUNT=2", "20260101"),
            ["2026-01-01", "2027-01-01"]
        );
        assert_eq!(
            yearly("FREQ=YEARLY;INTERVAL=4;UNTIL=20350101T000000Z", "20280229"),
            ["2028-02-29", "2032-02-29"]
        );
        // Thanksgiving, Memorial Day.
        assert_eq!(
            yearly("FREQ=YEARLY;BYMONTH=11;BYDAY=4TH;COUNT=2", "20261126"),
            ["2026-11-26", "2027-11-25"]
        );
        assert_eq!(
            yearly("FREQ=YEARLY;BYMONTH=5;BYDAY=-1MO;COUNT=2", "20260525"),
            ["2026-05-25", "2027-05-31"]
        );
        assert_eq!(
            yearly("FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=25;WKST=SU;COUNT=1", "20261225"),
            ["2026-12-25"]
        );
        let except = "DTSTART:20260101\nRRULE:FREQ=YEARLY;COUNT=3\nEXDATE;VALUE=DATE:20270101";
        assert_eq!(dates(except), ["2026-01-01 ", "2028-01-01 "]);
    }

    #[test]
    fn a_day_that_was_moved_is_no_holiday_any_more() {
        let yearly = "UID:a\nSUMMARY:King\nDTSTART:20260427\nRRULE:FREQ=YEARLY;COUNT=3";
        let moved = "UID:a\nSUMMARY:King\nRECURRENCE-ID;VALUE=DATE:20270427\nDTSTART:20270426";
        let cancelled = "UID:a\nRECURRENCE-ID:20280427T000000Z\nDTSTART:20280427\nSTATUS:CANCELLED";
        let other = "UID:b\nSUMMARY:Other\nDTSTART:20260501\nRRULE:FREQ=YEARLY;COUNT=2";
        for events in [
            [yearly, moved, cancelled, other],
            [other, cancelled, moved, yearly],
        ] {
            let read = calendar(&events).unwrap();
            let dates: Vec<String> = read.dates.keys().map(ToString::to_string).collect();
            assert_eq!(dates, ["2026-04-27", "2026-05-01", "2027-04-26", "2027-05-01"]);
        }
    }

    #[test]
    fn what_is_not_understood_is_named_and_left_out() {
        let good = "SUMMARY:Good\nDTSTART:20260501";
        for (event, expected) in [
            (
                "SUMMARY:Week\nDTSTART:20260501\nRRULE:FREQ=WEEKLY",
                "event \"Week\" (line 7): RRULE \"FREQ=WEEKLY\" is not supported; a holiday repeats FREQ=YEARLY",
            ),
            (
                "SUMMARY:Easter\nDTSTART:20260501\nRRULE:FREQ=YEARLY;BYEASTER=0",
                "RRULE \"FREQ=YEARLY;BYEASTER=0\" is not supported",
            ),
            (
                "DTSTART:20260501\nRDATE:20270501",
                "RDATE \"20270501\" is not supported",
            ),
            (
                "DTSTART:20260501\nDURATION:PT3H",
                "DURATION \"PT3H\" is not supported",
            ),
            (
                "DTSTART:20260501\nDTEND:20300501",
                "DTEND \"20300501\" is not supported; an event has 1 to 366 days",
            ),
        ] {
            let read = calendar(&[good, event]).unwrap();
            assert_eq!(read.dates.len(), 1);
            let [error] = read.left_out.as_slice() else {
                panic!("{event}: {read:?}");
            };
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn meetings_and_what_is_cancelled_are_no_holidays() {
        let read = calendar(&[
            "SUMMARY:Good\nDTSTART:20260501",
            "SUMMARY:Dentist\nDTSTART;TZID=Europe/Berlin:20260502T080000\nRRULE:FREQ=DAILY",
            "SUMMARY:Off\nDTSTART:20260503\nSTATUS:CANCELLED",
        ]);
        let read = read.unwrap();
        assert_eq!((read.dates.len(), read.left_out.len()), (1, 0));
    }

    #[test]
    fn what_is_no_calendar_is_refused() {
        assert_eq!(read(b"<html>"), Err(IcsError::NoCalendar));
        assert_eq!(read(b""), Err(IcsError::NoCalendar));
        assert_eq!(
            read(b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20260501\nEND:VEVENT\n"),
            Err(IcsError::CutOff)
        );
        assert_eq!(calendar(&[]), Err(IcsError::Empty));
        assert_eq!(read(&vec![b'x'; LARGEST + 1]), Err(IcsError::TooLarge));
        let yearly: Vec<String> = (1..=28)
            .flat_map(|day| (1..=12).map(move |month| (month, day)))
            .map(|(month, day)| format!("DTSTART:2000{month:02}{day:02}\nRRULE:FREQ=YEARLY"))
            .collect();
        let yearly: Vec<&str> = yearly.iter().map(String::as_str).collect();
        assert_eq!(calendar(&yearly), Err(IcsError::TooMany));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        use proptest::prelude::*;
        let part = prop_oneof![
            Just("BEGIN:VEVENT\n".to_owned()),
            Just("END:VEVENT\n".to_owned()),
            Just("END:VCALENDAR\n".to_owned()),
            Just("RRULE:FREQ=YEARLY".to_owned()),
            "(DTSTART|DTEND|EXDATE|RRULE|RDATE|DURATION|SUMMARY)[;:][0-9A-Z=;:\\\\,-]{0,20}\n",
            any::<String>(),
        ];
        let parts = proptest::collection::vec(part, 0..12);
        proptest!(|(parts in parts)| {
            let _any = read(format!("BEGIN:VCALENDAR\n{}", parts.concat()).as_bytes());
        });
    }
}
