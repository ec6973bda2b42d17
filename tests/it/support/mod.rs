//! What tests stand on.

pub mod app;
mod caller;
pub mod child;
pub mod chrome;
pub mod cluster;
pub mod handlers;
pub mod postgres;
pub mod postgres_proxy;
pub mod proxy;
pub mod s3;
pub mod smtp;

pub use app::{Kind, TestApp};
pub use caller::Caller;

/// One test body, run on both databases, with a clock that stands still.
macro_rules! both {
    (async fn $name:ident($app:ident) $body:block) => {
        crate::support::both_by!(new, $name, $app, $body);
    };
}

/// The same on the machine's clock, for running workers.
macro_rules! live {
    (async fn $name:ident($app:ident) $body:block) => {
        crate::support::both_by!(live, $name, $app, $body);
    };
}

macro_rules! both_by {
    ($begin:ident, $name:ident, $app:ident, $body:block) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn body($app: crate::support::TestApp) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                body(crate::support::TestApp::$begin(crate::support::Kind::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                body(crate::support::TestApp::$begin(crate::support::Kind::Postgres).await).await;
            }
        }
    };
}
pub(crate) use {both, both_by, live};

/// Waits until `check` gives something, or fails after `seconds`.
pub async fn eventually<T>(
    what: &str,
    seconds: u64,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "not within {seconds} s: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
}
