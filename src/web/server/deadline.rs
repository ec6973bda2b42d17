//! The time that a request's body may take.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Ends the bodies of requests that are not there after `time`.
pub(crate) fn within(time: Duration) -> impl Fn(Request) -> Request + Clone {
    move |request| match request.body().is_end_stream() {
        true => request,
        false => request.map(|body| Body::new(Within { body, end: Box::pin(sleep(time)) })),
    }
}

struct Within {
    body: Body,
    end: Pin<Box<Sleep>>,
}

impl HttpBody for Within {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        // What is there is taken, however busy we were.
        if frame.is_pending() && self.end.as_mut().poll(cx).is_ready() {
            let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Poll::Ready(Some(Err(axum::Error::new(late))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
