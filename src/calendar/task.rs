//! The task that reads the calendar again, for what another program writes into it.

use std::{sync::Arc, time::Duration};

use jiff::{civil::Date, tz::TimeZone};
use planner::holidays::HolidayDates;
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{CalendarSources, CalendarUrl, ReadCalendar};
use crate::{
    domain::{one_line::one_line, scheduling::SchedulerMsg, section_issues::SectionIssues},
    system::clock::Clock,
};

/// Between two readings.
const INTERVAL: Duration = Duration::from_hours(1);
/// The section of the settings.
const SECTION: &str = "calendar";

/// What the task is made of.
#[derive(Debug)]
pub struct CalendarParts {
    /// The calendars of the settings in force. Sent with each reload.
    pub sources: watch::Receiver<CalendarSources>,
    /// To the scheduler.
    pub scheduler: mpsc::Sender<SchedulerMsg>,
    /// What is wrong with it, for `bridge/health`.
    pub issues: SectionIssues,
    /// For what is over.
    pub clock: Clock,
}

/// Reads the calendar from time to time, and hands its holidays to the scheduler. One that cannot be read changes nothing.
#[derive(Debug)]
pub struct CalendarTask {
    parts: CalendarParts,
    /// What was wrong with it, as it was logged.
    issue: Option<String>,
}

impl CalendarTask {
    /// Nothing is read before [`CalendarTask::run`].
    pub fn new(parts: CalendarParts) -> Self {
        Self { parts, issue: None }
    }

    /// Reads until the stop.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.read_for_ever() => {}
        }
    }

    async fn read_for_ever(&mut self) {
        loop {
            let sources = self.parts.sources.borrow_and_update().clone();
            // What there is counts before a server is waited for.
            let mut issues = self.read(&sources).await;
            if let Some(url) = &sources.url {
                match self.fetch(url).await {
                    Ok(true) => issues = self.read(&sources).await,
                    Ok(false) => {}
                    Err(issue) => issues.push(issue),
                }
            }
            self.report(&issues);
            // At once where other settings are in force. Without an event loop there are none any more.
            if let Ok(Err(_)) = timeout(INTERVAL, self.parts.sources.changed()).await {
                return;
            }
        }
    }

    /// Reads what is on this machine, and returns what is wrong with it.
    async fn read(&self, sources: &CalendarSources) -> Vec<String> {
        let names = [
            sources.file.as_ref().map(ToString::to_string),
            sources.url.as_ref().map(ToString::to_string),
        ];
        let name = names.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        let sources = sources.clone();
        let calendar = match spawn_blocking(move || sources.read()).await {
            Ok(Ok(Some(calendar))) => calendar,
            Ok(Ok(None)) => return Vec::new(),
            Ok(Err(error)) => {
                return vec![format!("calendar {name}: {error}; its holidays of before count")];
            }
            Err(error) => return vec![format!("calendar {name}: {error}")],
        };
        let issue = wrong_with(&name, &calendar, self.today());
        self.hand_over(Arc::new(calendar.dates)).await;
        issue.into_iter().collect()
    }

    /// Asks the web server, if that is due. Returns whether there is an answer.
    async fn fetch(&self, url: &CalendarUrl) -> Result<bool, String> {
        let now = self.parts.clock.now();
        let known = spawn_blocking({
            let url = url.clone();
            move || url.copy()
        });
        let known = known.await.unwrap_or_default();
        if !known.is_due(now) {
            return Ok(false);
        }
        let fetched = url.fetch(known, now).await;
        fetched.map_err(|error| format!("calendar of {url}: {error}; its holidays of before count"))?;
        Ok(true)
    }

    /// Waits for room, which delays nothing but this task. A scheduler that is gone needs nothing.
    async fn hand_over(&self, dates: Arc<HolidayDates>) {
        let _gone = self.parts.scheduler.send(SchedulerMsg::Holidays(dates)).await;
    }

    /// In the zone of the machine: a day more or less does not matter here.
    fn today(&self) -> Date {
        TimeZone::system().to_datetime(self.parts.clock.now()).date()
    }

    fn report(&mut self, issues: &[String]) {
        let issue = (!issues.is_empty()).then(|| issues.join("; "));
        if let Some(issue) = &issue
            && self.issue.as_ref() != Some(issue)
        {
            warn!("{issue}");
        }
        self.parts.issues.set(SECTION, issue.clone());
        self.issue = issue;
    }
}

/// What a person should know about a calendar that was read.
fn wrong_with(name: &str, calendar: &ReadCalendar, today: Date) -> Option<String> {
    let mut wrong: Vec<String> = calendar.left_out.iter().map(ToString::to_string).collect();
    let last = calendar.dates.last_key_value().map(|(last, _)| *last);
    if let Some(last) = last.filter(|last| *last < today) {
        let over = format!(
            "its last holiday was on {last}, and days after that count by their weekday; get a newer one"
        );
        wrong.insert(0, over);
    }
    (!wrong.is_empty()).then(|| format!("calendar {name}: {}", one_line(&wrong)))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::calendar::CalendarFile;

    fn write(file: &Path, date: &str) {
        let event = format!("BEGIN:VEVENT\nSUMMARY:Day\nDTSTART:{date}\nEND:VEVENT\n");
        // As a program that takes care of its readers.
        let new = file.with_extension("new");
        fs::write(&new, format!("BEGIN:VCALENDAR\n{event}END:VCALENDAR\n")).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn sources_of(file: &Path) -> CalendarSources {
        CalendarSources {
            file: Some(CalendarFile(file.to_owned())),
            url: None,
        }
    }

    async fn next(messages: &mut mpsc::Receiver<SchedulerMsg>) -> Vec<String> {
        let Some(SchedulerMsg::Holidays(dates)) = messages.recv().await else {
            panic!("no holidays");
        };
        dates.keys().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn a_calendar_is_read_again_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("holidays.ics");
        write(&file, "20990101");
        let (sources, receiver) = watch::channel(sources_of(&file));
        let (scheduler, mut messages) = mpsc::channel(1);
        let issues = SectionIssues::default();
        let task = CalendarTask::new(CalendarParts {
            sources: receiver,
            scheduler,
            issues: issues.clone(),
            clock: Clock::system(),
        });
        let (stop, ended) = (CancellationToken::new(), mpsc::channel::<()>(1));
        let run = async {
            task.run(stop.clone()).await;
            drop(ended.0);
        };
        let check = async {
            assert_eq!(next(&mut messages).await, ["2099-01-01"]);
            write(&file, "20200501");
            // Its turn comes with a reload too.
            sources.send_replace(sources_of(&file));
            assert_eq!(next(&mut messages).await, ["2020-05-01"]);
            wait_for(&issues, "its last holiday was on 2020-05-01").await;
            fs::write(&file, "<html>").unwrap();
            sources.send_replace(sources_of(&file));
            wait_for(&issues, "not an iCalendar file").await;
            assert!(messages.try_recv().is_err());
            fs::remove_file(&file).unwrap();
            sources.send_replace(sources_of(&file));
            wait_for(&issues, "No such file").await;
            sources.send_replace(CalendarSources::default());
            wait_for(&issues, "").await;
            stop.cancel();
        };
        tokio::join!(run, check);
    }

    /// Until the only issue has this text; without a text, until there is none.
    async fn wait_for(issues: &SectionIssues, text: &str) {
        loop {
            let all = issues.list().join("; ");
            if text.is_empty() == all.is_empty() && all.contains(text) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_read_each_hour() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("holidays.ics");
        write(&file, "20990101");
        let (_sources, receiver) = watch::channel(sources_of(&file));
        let (scheduler, mut messages) = mpsc::channel(1);
        let task = CalendarTask::new(CalendarParts {
            sources: receiver,
            scheduler,
            issues: SectionIssues::default(),
            clock: Clock::system(),
        });
        let stop = CancellationToken::new();
        let check = async {
            let start = tokio::time::Instant::now();
            for date in ["2099-01-01", "2099-01-02", "2099-01-03"] {
                assert_eq!(next(&mut messages).await, [date]);
                write(
                    &file,
                    &format!("209901{:02}", date[8..].parse::<u8>().unwrap() + 1),
                );
            }
            assert!(start.elapsed() >= 2 * INTERVAL);
            stop.cancel();
        };
        tokio::join!(task.run(stop.clone()), check);
    }
}
