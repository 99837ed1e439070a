//! Samples, figures over several rounds, and how they are written.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

/// Durations of equal things.
#[derive(Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// The value that a part `rank` (0 to 1) of the samples does not exceed, in milliseconds.
    pub fn rank(&self, rank: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = (rank * last as f64).round() as usize;
        sorted.get(index).map_or(f64::NAN, |sample| millis(*sample))
    }

    pub fn p50(&self) -> f64 {
        self.rank(0.5)
    }

    pub fn max(&self) -> f64 {
        self.rank(1.0)
    }
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

/// One figure, a value a round.
#[derive(Debug, Serialize)]
struct Figure {
    unit: &'static str,
    goal: Option<Goal>,
    values: Vec<f64>,
}

impl Figure {
    /// Smallest, middle and largest value.
    fn spread(&self) -> [f64; 3] {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        [at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1))]
    }
}

#[derive(Debug, Serialize)]
struct Section {
    title: &'static str,
    figures: Vec<(String, Figure)>,
}

/// All figures, in the order in which they were first noted.
#[derive(Debug, Default, Serialize)]
pub struct Book {
    sections: Vec<Section>,
    /// Parts that took too long.
    left: Vec<String>,
}

impl Book {
    /// Notes one value of a figure.
    pub fn note(&mut self, section: &'static str, name: impl Into<String>, unit: &'static str, value: f64) {
        self.with_goal(section, name, unit, None, value);
    }

    /// Notes one value of a figure that has a goal.
    pub fn with_goal(
        &mut self,
        section: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        goal: impl Into<Option<Goal>>,
        value: f64,
    ) {
        let (name, figures) = (name.into(), self.section(section));
        eprintln!("  {section} | {name}: {} {unit}", short(value));
        if let Some((_, figure)) = figures.iter_mut().find(|(known, _)| *known == name) {
            figure.values.push(value);
            return;
        }
        let figure = Figure {
            unit,
            goal: goal.into(),
            values: vec![value],
        };
        figures.push((name, figure));
    }

    fn section(&mut self, title: &'static str) -> &mut Vec<(String, Figure)> {
        let known = self.sections.iter().position(|section| section.title == title);
        let index = known.unwrap_or_else(|| {
            let figures = Vec::new();
            self.sections.push(Section { title, figures });
            self.sections.len() - 1
        });
        &mut self.sections[index].figures
    }

    /// A part ran out of its time: what it measured until then is kept.
    pub fn gave_up(&mut self, part: &str) {
        eprintln!("  {part} took too long and was left");
        self.left.push(part.to_owned());
    }

    /// Markdown: what has a goal, then a table a section.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        for part in &self.left {
            let _ = writeln!(text, "**{part} took too long and was left before its end.**\n");
        }
        let all = self.sections.iter().flat_map(|section| &section.figures);
        table(
            &mut text,
            "Goals",
            all.filter(|(_, figure)| figure.goal.is_some()),
        );
        for section in &self.sections {
            table(&mut text, section.title, section.figures.iter());
        }
        text
    }
}

fn table<'a>(text: &mut String, title: &str, figures: impl Iterator<Item = &'a (String, Figure)>) {
    let _ = writeln!(
        text,
        "### {title}\n\n| what | min | median | max | unit | goal | |\n|---|--:|--:|--:|---|---|---|"
    );
    for (name, figure) in figures {
        let [min, median, max] = figure.spread().map(short);
        let (goal, verdict) = match figure.goal {
            None => (String::new(), ""),
            Some(goal) if goal.met(figure.spread()[1]) => (written(goal), "met"),
            Some(goal) => (written(goal), "**missed**"),
        };
        let _ = writeln!(
            text,
            "| {name} | {min} | {median} | {max} | {} | {goal} | {verdict} |",
            figure.unit
        );
    }
    text.push('\n');
}

fn written(goal: Goal) -> String {
    match goal {
        Goal::AtMost(limit) => format!("≤ {limit}"),
        Goal::AtLeast(limit) => format!("≥ {limit}"),
    }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_sorted_samples() {
        let mut samples = Samples::default();
        for ms in [5, 1, 4, 2, 3] {
            samples.push(Duration::from_millis(ms));
        }
        assert_eq!(
            [samples.rank(0.0), samples.p50(), samples.max()].map(short),
            ["1.00", "3.00", "5.00"]
        );
    }

    #[test]
    fn the_median_is_held_against_the_goal() {
        let mut book = Book::default();
        for value in [9.0, 1.0, 2.0] {
            book.with_goal("section", "figure", "ms", Goal::AtMost(2.0), value);
        }
        assert!(
            book.tables()
                .contains("| figure | 1.00 | 2.00 | 9.00 | ms | ≤ 2 | met |")
        );
    }
}
