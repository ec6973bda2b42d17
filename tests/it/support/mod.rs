//! What tests stand on.

use std::time::{Duration, Instant};

pub mod app;
mod caller;
pub mod child;
pub mod chrome;
pub mod cluster;
pub mod handlers;
pub mod postgres;
pub mod postgres_proxy;
mod programs;
pub mod proxy;
pub mod s3;
pub mod smtp;
mod template;

pub use app::{Kind, TestApp};
pub use caller::Caller;

/// Runs an `async fn` of this name, which takes a [`TestApp`], on both databases, with a clock that
/// stands still.
macro_rules! both {
    ($name:ident) => {
        crate::support::both_by!(new, $name);
    };
}

/// The same on the machine's clock, for running workers.
macro_rules! live {
    ($name:ident) => {
        crate::support::both_by!(live, $name);
    };
}

macro_rules! both_by {
    ($begin:ident, $name:ident) => {
        mod $name {
            use crate::support::{Kind, TestApp};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(TestApp::$begin(Kind::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name(TestApp::$begin(Kind::Postgres).await).await;
            }
        }
    };
}
pub(crate) use {both, both_by, live};

/// A limit on a wait, so long that only what hangs passes it. `BGFILES_TEST_PATIENCE=5` makes all of
/// them five times as long, for a machine that has other things to do.
pub fn patience(limit: Duration) -> Duration {
    let factor = std::env::var("BGFILES_TEST_PATIENCE").ok();
    limit.mul_f64(
        factor.map_or(1.0, |factor| factor.parse().expect("BGFILES_TEST_PATIENCE: a number")),
    )
}

/// Waits until `check` gives something, or fails after `seconds` (see [`patience`]).
pub async fn eventually<T>(
    what: &str,
    seconds: u64,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience(Duration::from_secs(seconds));
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
