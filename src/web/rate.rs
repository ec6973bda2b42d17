//! How much of a caller's rate is left, in each answer that counts against one.
//!
//! `RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-09.

use std::sync::{Arc, OnceLock};

use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, request::Parts};

use crate::web::visitor::visitor;
use crate::{
    auth_token::Caller,
    error::{Error, Result},
    limits::Left,
    toolbox::Toolbox,
};

/// Where a call is noted that was counted, for its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<OnceLock<Left>>);

impl Meter {
    /// The one of a request; of layers around each other the outermost has it.
    pub(super) fn of(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_default::<Meter>().clone()
    }

    /// Says in an answer what is left, if its call was counted.
    pub(super) fn show(&self, headers: &mut HeaderMap) {
        let Some(Left { rate, calls, full_in }) = self.0.get() else { return };
        let window = rate.period() / 1_000_000;
        // Rounded up: nobody is to come a moment too early.
        let reset = full_in.as_millis().div_ceil(1000);
        let mut set = |name, text: String| {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("ratelimit-policy", format!("\"calls\";q={};w={window}", rate.count()));
        set("ratelimit", format!("\"calls\";r={calls};t={reset}"));
    }
}

/// Counts a call of somebody, or of nobody in particular, and notes what is left.
///
/// # Errors
/// [`Error::Throttled`] above the rate; the database's.
pub(super) async fn count(toolbox: &Toolbox, parts: &Parts, caller: Option<&Caller>) -> Result<()> {
    let visitor = visitor(&parts.headers, &parts.extensions, toolbox.trusted_proxies());
    let counted = toolbox.throttle(caller, &visitor).await;
    let left = match &counted {
        Ok(left) => *left,
        Err(Error::Throttled { retry_after }) => {
            let rate = toolbox.rate_of(caller);
            rate.map(|rate| Left { rate, calls: 0, full_in: *retry_after })
        }
        Err(_) => None,
    };
    if let (Some(left), Some(meter)) = (left, parts.extensions.get::<Meter>()) {
        // Whoever is counted twice has less left the second time, and sees the first.
        let _ = meter.0.set(left);
    }
    counted.map(drop)
}
