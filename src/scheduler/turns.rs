//! Turns to switch on: the members of a group with `stagger` go on one after the other.

use jiff::SignedDuration;
use planner::{Steady, rules::Group};

/// When the next member of one group may be switched on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turns {
    next: Option<Steady>,
}

impl Turns {
    /// Takes the turn if it has come; else returns when it will.
    ///
    /// # Errors
    /// When the turn comes.
    pub fn claim(&mut self, group: &Group, now: Steady) -> Result<(), Steady> {
        let Some(pause) = pause(group) else { return Ok(()) };
        if let Some(next) = self.next.filter(|next| *next > now) {
            return Err(next);
        }
        self.next = Some(now.after(pause));
        Ok(())
    }

    /// Takes the next turn, whenever it comes.
    pub fn reserve(&mut self, group: &Group, now: Steady) -> Steady {
        let Some(pause) = pause(group) else { return now };
        let turn = self.next.map_or(now, |next| next.max(now));
        self.next = Some(turn.after(pause));
        turn
    }

    /// Gives back the last turn that was booked. Earlier ones stay with those that booked them.
    pub fn give_back(&mut self, group: &Group, turn: Steady) {
        if let Some(pause) = pause(group)
            && self.next == Some(turn.after(pause))
        {
            self.next = Some(turn);
        }
    }
}

fn pause(group: &Group) -> Option<SignedDuration> {
    group.stagger.map(planner::period::Period::length)
}
