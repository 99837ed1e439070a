//! The body of a reply, which can end early and notifies when it was written.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

pub(super) struct ReplyBody {
    data: Option<Bytes>,
    /// Bytes that are announced and never come.
    withheld: u64,
    written: Option<Arc<Notify>>,
}

/// The body ends before its announced length.
#[derive(Debug, thiserror::Error)]
#[error("the reply is cut off on purpose")]
pub(super) struct CutOff;

impl ReplyBody {
    pub(super) fn new(data: Bytes, withheld: u64, written: Option<Arc<Notify>>) -> Self {
        Self {
            data: Some(data).filter(|data| !data.is_empty()),
            withheld,
            written,
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready((self.withheld > 0).then_some(Err(CutOff)))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.withheld == 0
    }

    fn size_hint(&self) -> SizeHint {
        let ready = self.data.as_ref().map_or(0, |data| data.len() as u64);
        SizeHint::with_exact(ready + self.withheld)
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        if let Some(written) = &self.written {
            written.notify_one();
        }
    }
}
