//! A bound on what the client of the `tapo` crate reads for one operation.
//!
//! It collects the body of an answer without a limit, and its HTTP client cannot be replaced. But it hands the body on in
//! pieces of a bounded size, and wakes the operation for each.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// How often one request may wake its operation. The largest answer of a device comes in about 20 packets; a piece has at
/// most 0.4 MB, and that only from a sender as fast as this machine.
const WAKES_PER_REQUEST: u32 = 64;

/// An answer came in more pieces than any of a device.
#[derive(Debug)]
pub(super) struct TooManyPieces;

/// An operation that ends when its answer does not.
pub(super) struct Fenced<F> {
    operation: Pin<Box<F>>,
    wakes: Arc<Wakes>,
    limit: u32,
}

/// Counts how often the operation itself is woken, and not the task around it.
struct Wakes {
    count: AtomicU32,
    task: Mutex<Option<Waker>>,
}

impl<F: Future> Fenced<F> {
    pub(super) fn new(operation: Pin<Box<F>>, requests: u32) -> Self {
        Self {
            operation,
            wakes: Arc::new(Wakes {
                count: AtomicU32::new(0),
                task: Mutex::new(None),
            }),
            limit: WAKES_PER_REQUEST * requests,
        }
    }
}

impl<F: Future> Future for Fenced<F> {
    type Output = Result<F::Output, TooManyPieces>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.wakes.count.load(Ordering::Relaxed) > self.limit {
            return Poll::Ready(Err(TooManyPieces));
        }
        self.wakes.set_task(context.waker());
        let waker = Waker::from(self.wakes.clone());
        self.operation
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .map(Ok)
    }
}

impl Wakes {
    fn set_task(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::{sync::mpsc, time::timeout};

    use super::*;

    /// Receives this many pieces, each of which comes after the one before was taken.
    async fn receive(pieces: u32) -> Result<u32, TooManyPieces> {
        let (sender, mut receiver) = mpsc::channel(1);
        let sending = async {
            for piece in 1..=pieces {
                if sender.send(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(sender);
        };
        let receiving = async move {
            let mut last = 0;
            while let Some(piece) = receiver.recv().await {
                last = piece;
            }
            last
        };
        let fenced = Fenced::new(Box::pin(receiving), 1);
        let both = async { tokio::join!(fenced, sending).0 };
        timeout(Duration::from_secs(5), both).await.unwrap()
    }

    #[tokio::test]
    async fn an_operation_that_is_woken_without_end_is_ended() {
        assert_eq!(receive(20).await.unwrap(), 20);
        assert!(receive(1000).await.is_err());
    }

    #[tokio::test]
    async fn what_else_wakes_the_task_does_not_count() {
        let mut fenced = Fenced::new(Box::pin(std::future::pending::<()>()), 1);
        for _ in 0..1000 {
            poll_fn(|context| {
                assert!(Pin::new(&mut fenced).poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        }
    }
}
