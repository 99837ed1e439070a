//! Messages that do not fit into a channel.

use std::collections::VecDeque;

use tokio::sync::mpsc::{self, error::TrySendError};

/// Messages that wait for room in a channel, in order. A newer message replaces an older one about the same, so no more
/// wait than there are things that messages are about.
#[derive(Debug)]
pub(crate) struct Overflow<M> {
    waiting: VecDeque<M>,
    is_replaced: fn(&M, &M) -> bool,
}

impl<M> Overflow<M> {
    /// Nothing waits. `is_replaced` says whether the first message, the older one, is replaced by the second.
    pub(crate) fn new(is_replaced: fn(&M, &M) -> bool) -> Self {
        Self {
            waiting: VecDeque::new(),
            is_replaced,
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lets a message wait behind the others; returns the one that it replaces.
    pub(crate) fn push(&mut self, message: M) -> Option<M> {
        let is_replaced = |older: &M| (self.is_replaced)(older, &message);
        let at = self.waiting.iter().position(is_replaced);
        let replaced = at.and_then(|at| self.waiting.remove(at));
        self.waiting.push_back(message);
        replaced
    }

    /// Takes the message that waits longest.
    pub(crate) fn pop(&mut self) -> Option<M> {
        self.waiting.pop_front()
    }

    /// Sends what there is room for. Nothing is kept for a receiver that is gone.
    pub(crate) fn send_to(&mut self, channel: &mpsc::Sender<M>) {
        while let Some(message) = self.waiting.pop_front() {
            if let Err(TrySendError::Full(message)) = channel.try_send(message) {
                self.waiting.push_front(message);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_message_replaces_one_about_the_same() {
        let mut overflow: Overflow<(char, u8)> = Overflow::new(|older, newer| older.0 == newer.0);
        assert_eq!(overflow.push(('a', 1)), None);
        assert_eq!(overflow.push(('b', 2)), None);
        assert_eq!(overflow.push(('a', 3)), Some(('a', 1)));
        let (sender, mut receiver) = mpsc::channel(1);
        overflow.send_to(&sender);
        assert_eq!(receiver.try_recv(), Ok(('b', 2)));
        assert_eq!(overflow.pop(), Some(('a', 3)));
        assert!(overflow.is_empty());

        drop(receiver);
        overflow.push(('c', 4));
        overflow.send_to(&sender);
        assert!(overflow.is_empty(), "there is no receiver any more");
    }
}
