//! A record that knows whether it may have changed since it was looked at.

use std::ops::{Deref, DerefMut};

/// A record of a table, and whether anything had access to change it since [`Tracked::settle`]. Boxed, because the table has
/// room for up to twice as many.
#[derive(Debug)]
pub(super) struct Tracked<T> {
    record: Box<T>,
    is_touched: bool,
}

impl<T> Tracked<T> {
    /// One that nothing has looked at yet.
    pub(super) fn new(record: T) -> Self {
        Self {
            record: Box::new(record),
            is_touched: true,
        }
    }

    /// Whether it may have changed since it was looked at.
    pub(super) fn is_touched(&self) -> bool {
        self.is_touched
    }

    /// What follows from it is done.
    pub(super) fn settle(&mut self) {
        self.is_touched = false;
    }

    /// Without the table.
    pub(super) fn into_inner(self) -> T {
        *self.record
    }
}

impl<T> Deref for Tracked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.record
    }
}

impl<T> DerefMut for Tracked<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.is_touched = true;
        &mut self.record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_that_may_change_it_is_noticed() {
        let mut tracked = Tracked::new(1);
        assert!(tracked.is_touched());
        tracked.settle();
        assert!(*tracked == 1 && !tracked.is_touched());
        *tracked = 2;
        assert!(tracked.is_touched());
        assert_eq!(tracked.into_inner(), 2);
    }
}
