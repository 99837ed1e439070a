//! Whether a request to a meter is of use. Pure: time is counted in readings.

/// Unreadable or missing answers in a row before a request is left out of readings.
const FAILURES_TO_PAUSE: u8 = 3;
/// A pause is twice as long as the one before and a reading more, up to so many readings: ten minutes.
const LONGEST_PAUSE: u8 = 19;
/// Readings until a request that the device does not know is sent again: an hour. Its firmware may be another then, or
/// the answer was an error.
const UNKNOWN_PAUSE: u8 = 120;

/// Whether a request is sent with a reading. None is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ability {
    /// It is sent, with so many failures in a row.
    Asked(u8),
    /// It failed too often.
    Paused {
        /// It is left out of so many readings.
        left: u8,
        /// How many it is left out of if it fails again.
        next: u8,
    },
    /// The device does not know it (-1002, -1008); it is left out of so many readings.
    Unknown {
        /// How many.
        left: u8,
    },
}

impl Ability {
    /// A reading begins: whether the request is sent with it.
    pub(super) fn take_turn(&mut self) -> bool {
        match self {
            Self::Asked(_) => true,
            Self::Paused { left, .. } | Self::Unknown { left } => {
                let is_sent = *left == 0;
                *left = left.saturating_sub(1);
                is_sent
            }
        }
    }

    /// Whether its last answer could not be read.
    pub(super) fn fails(self) -> bool {
        match self {
            Self::Asked(failures) => failures > 0,
            Self::Paused { .. } => true,
            Self::Unknown { .. } => false,
        }
    }

    /// Whether its last answers are of no use.
    pub(super) fn is_paused(self) -> bool {
        matches!(self, Self::Paused { .. })
    }

    /// Whether the device knows the request, as far as its answers show.
    pub(super) fn is_known(self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }

    /// A login: what only failed is tried again.
    pub(super) fn on_login(&mut self) {
        if self.is_known() {
            *self = Self::Asked(0);
        }
    }

    /// The device answered.
    pub(super) fn on_answer(&mut self) {
        *self = Self::Asked(0);
    }

    /// The device does not know the request. Returns whether that is new.
    pub(super) fn on_unknown(&mut self) -> bool {
        let is_new = self.is_known();
        *self = Self::Unknown { left: UNKNOWN_PAUSE };
        is_new
    }

    /// Returns whether this failure begins the first pause since it last worked.
    pub(super) fn on_failure(&mut self) -> bool {
        match self {
            Self::Asked(failures) if *failures + 1 < FAILURES_TO_PAUSE => {
                *failures += 1;
                false
            }
            Self::Asked(_) | Self::Unknown { .. } => {
                *self = Self::Paused { left: 1, next: 3 };
                true
            }
            Self::Paused { left, next } => {
                *left = *next;
                *next = (*next * 2 + 1).min(LONGEST_PAUSE);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The readings, of so many, with which a request is sent that is answered so.
    fn sent(readings: usize, answer: impl Fn(usize, &mut Ability)) -> Vec<usize> {
        let mut ability = Ability::Asked(0);
        let is_sent = |reading: &usize| {
            let is_sent = ability.take_turn();
            if is_sent {
                answer(*reading, &mut ability);
            }
            is_sent
        };
        (1..=readings).filter(is_sent).collect()
    }

    #[test]
    fn a_request_that_fails_is_sent_again_ever_more_rarely() {
        let pauses = sent(100, |_, ability| {
            ability.on_failure();
        });
        assert_eq!(pauses, [1, 2, 3, 5, 9, 17, 33, 53, 73, 93]);
        let one_in_an_hour = sent(250, |_, ability| {
            ability.on_unknown();
        });
        assert_eq!(one_in_an_hour, [1, 122, 243]);
    }

    #[test]
    fn after_four_failures_it_is_back_within_ten_readings() {
        let good_from = |first: usize| {
            move |reading: usize, ability: &mut Ability| {
                if reading < first {
                    ability.on_failure();
                } else {
                    ability.on_answer();
                }
            }
        };
        assert_eq!(sent(12, good_from(6)), [1, 2, 3, 5, 9, 10, 11, 12]);
    }

    #[test]
    fn the_first_pause_is_said_once() {
        let mut ability = Ability::Asked(0);
        let said = (0..5).map(|_| ability.on_failure()).collect::<Vec<_>>();
        assert_eq!(said, [false, false, true, false, false]);
        ability.on_answer();
        assert!(!ability.fails() && !ability.on_failure());
        assert!(ability.on_unknown() && !ability.on_unknown());
        ability.on_login();
        assert!(!ability.is_known(), "a login does not change the firmware");
    }
}
