//! What was counted before, and what a new count is beside it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// How many percent a count may grow.
const TOLERATED: u64 = 10;

/// Counts, and what they depend on beside the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The output of `rustc --version`.
    pub rustc: String,
    /// `x86_64`, `aarch64`...
    pub arch: String,
    /// Instructions of one run of each path.
    pub instructions: BTreeMap<String, u64>,
}

/// What a count is beside the stored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// About the same.
    Same { stored: u64, now: u64 },
    /// More than tolerated.
    More { stored: u64, now: u64 },
    /// Fewer by as much.
    Less { stored: u64, now: u64 },
    /// A path that has no baseline.
    New { now: u64 },
    /// A baseline that has no path.
    Gone { stored: u64 },
}

impl Verdict {
    fn of(stored: u64, now: u64) -> Self {
        if now * 100 > stored * (100 + TOLERATED) {
            Self::More { stored, now }
        } else if now * 100 < stored * (100 - TOLERATED) {
            Self::Less { stored, now }
        } else {
            Self::Same { stored, now }
        }
    }

    /// A path without a baseline is held against nothing, and a baseline without a path holds nothing: both must not
    /// go unseen.
    pub fn is_failure(self) -> bool {
        match self {
            Self::More { .. } | Self::New { .. } | Self::Gone { .. } => true,
            Self::Same { .. } | Self::Less { .. } => false,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same { stored, now } => write!(f, "{now} instructions, stored are {stored}"),
            Self::More { stored, now } => {
                write!(
                    f,
                    "{now} instructions, more than {TOLERATED} % above the {stored} stored"
                )
            }
            Self::Less { stored, now } => {
                write!(
                    f,
                    "{now} instructions, more than {TOLERATED} % below the {stored} stored"
                )
            }
            Self::New { now } => write!(
                f,
                "{now} instructions, nothing stored; scripts/gate --write stores it"
            ),
            Self::Gone { stored } => write!(f, "not measured any more; {stored} stored"),
        }
    }
}

impl Baseline {
    /// Whether a difference between the two is one of the source.
    pub fn is_of_the_same_machine(&self, other: &Self) -> bool {
        self.rustc == other.rustc && self.arch == other.arch
    }

    /// Each path that either has.
    pub fn compare(&self, measured: &Self) -> Vec<(String, Verdict)> {
        let measured_or_new = measured.instructions.iter().map(|(name, now)| {
            let verdict = match self.instructions.get(name) {
                Some(stored) => Verdict::of(*stored, *now),
                None => Verdict::New { now: *now },
            };
            (name.clone(), verdict)
        });
        let gone = self
            .instructions
            .iter()
            .filter(|(name, _)| !measured.instructions.contains_key(*name))
            .map(|(name, stored)| (name.clone(), Verdict::Gone { stored: *stored }));
        measured_or_new.chain(gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(counts: &[(&str, u64)]) -> Baseline {
        Baseline {
            rustc: "rustc 1.95.0".to_owned(),
            arch: "x86_64".to_owned(),
            instructions: counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
        }
    }

    #[test]
    fn only_more_than_a_tenth_on_top_fails() {
        assert!(!Verdict::of(1000, 1100).is_failure());
        assert!(Verdict::of(1000, 1101).is_failure());
        assert!(!Verdict::of(1000, 1).is_failure());
        assert_eq!(
            Verdict::of(1000, 899),
            Verdict::Less {
                stored: 1000,
                now: 899
            }
        );
    }

    #[test]
    fn paths_that_only_one_side_has_fail() {
        let verdicts = baseline(&[("a", 10), ("b", 10)]).compare(&baseline(&[("b", 10), ("c", 10)]));
        let failed: Vec<_> = verdicts
            .iter()
            .filter(|(_, verdict)| verdict.is_failure())
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(failed, ["c", "a"]);
    }

    #[test]
    fn another_compiler_is_another_machine() {
        let other = Baseline {
            rustc: "rustc 1.96.0".to_owned(),
            ..baseline(&[])
        };
        assert!(!baseline(&[]).is_of_the_same_machine(&other));
        assert!(baseline(&[]).is_of_the_same_machine(&baseline(&[("a", 1)])));
    }
}
