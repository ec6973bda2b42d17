//! One log line and one measurement an answer. A path is logged as its route, never as it came:
//! `/d/{token}` and not the token.
//!
//! Small files that are sent out of memory are logged at `debug`: the log lines of tens of thousands
//! of them a second would cost more than the files. Each has its receipt in the database, as ever.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use metrics::Histogram;
use tracing::Instrument;
use uuid::Uuid;

use crate::ids::random_bytes;
use crate::web::{WebState, download};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Measurements are kept one by one until somebody looks at them; after so many they are summed up,
/// whether anybody looks or not.
const MANY: u64 = 16_384;

/// Most characters of a method that stand in the log.
const METHOD: usize = 16;

/// What watching answers needs.
pub(crate) struct Observer {
    state: Arc<WebState>,
    /// Found by method, route and status, as making a name of these takes longer than measuring.
    seconds: RwLock<HashMap<(&'static str, String, u16), Histogram>>,
    /// Random, and how many ids were made of it.
    ids: (u128, AtomicU64),
    answers: AtomicU64,
}

impl Observer {
    pub(crate) fn new(state: &Arc<WebState>) -> Arc<Self> {
        let ids = (u128::from_le_bytes(random_bytes()), AtomicU64::new(0));
        Arc::new(Observer {
            state: state.clone(),
            seconds: RwLock::default(),
            ids,
            answers: AtomicU64::new(0),
        })
    }

    /// The caller's own id when it is harmless, else a new one.
    fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        let harmless = |id: &&HeaderValue| {
            (1..=64).contains(&id.len())
                && id
                    .as_bytes()
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if let Some(id) = headers.get(REQUEST_ID).filter(harmless) {
            return id.clone();
        }
        let mut text = Uuid::encode_buffer();
        let id = self.new_id().hyphenated().encode_lower(&mut text);
        // Hexadecimal digits and hyphens fit into any header.
        HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("none"))
    }

    /// Ids are no secrets, but two processes must not make the same. One request to the system's
    /// randomness is enough for that; counting on in steps of an odd number repeats nothing.
    fn new_id(&self) -> Uuid {
        const STEP: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let number = u128::from(self.ids.1.fetch_add(1, Ordering::Relaxed));
        let bytes = self.ids.0.wrapping_add(number.wrapping_mul(STEP)).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    fn measure(&self, method: &Method, route: &str, status: u16, seconds: f64) {
        let method = label(method);
        let key = (method, route.to_owned(), status);
        let known = {
            let handles = self.seconds.read().unwrap_or_else(PoisonError::into_inner);
            handles.get(&key).cloned()
        };
        let histogram = known.unwrap_or_else(|| {
            let made = metrics::histogram!("bgfiles_http_seconds", "method" => method,
                "route" => route.to_owned(), "status" => status.to_string());
            let mut handles = self.seconds.write().unwrap_or_else(PoisonError::into_inner);
            handles.insert(key, made.clone());
            made
        });
        histogram.record(seconds);
    }

    fn sum_up(&self) {
        let answers = self.answers.fetch_add(1, Ordering::Relaxed);
        if answers % MANY == MANY - 1
            && let Some(metrics) = &self.state.metrics
        {
            metrics.run_upkeep();
        }
    }
}

/// A method as numbers are kept by it: those of RFC 9110 and RFC 5789, and one word for all that
/// somebody invents. What was measured once is kept for ever.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

/// A method as it is logged: with its first characters, which are ASCII.
fn shown(method: &Method) -> &str {
    method.as_str().get(..METHOD).unwrap_or(method.as_str())
}

pub(crate) async fn observe(
    State(observer): State<Arc<Observer>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    // A body cannot be shared between threads, and is not looked at here.
    let (parts, body) = request.into_parts();
    let id = observer.request_id(&parts.headers);
    let method = parts.method.clone();
    let path = parts.extensions.get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("none", MatchedPath::as_str);
    let request_id = id.to_str().unwrap_or_default();
    let (mut response, plain) = match download::at_once(&observer.state, &parts).await {
        Some(response) => (response, true),
        None => {
            let span = tracing::info_span!("http", request_id, method = shown(&method), route);
            let request = Request::from_parts(parts, body);
            let response = next.run(request).instrument(span.clone()).await;
            let (status, ms) = (response.status().as_u16(), milliseconds(began));
            span.in_scope(|| tracing::info!(status, ms, "answered"));
            (response, false)
        }
    };
    let status = response.status().as_u16();
    if plain {
        let ms = milliseconds(began);
        tracing::debug!(request_id, method = shown(&method), route, status, ms, "answered");
    }
    observer.measure(&method, route, status, began.elapsed().as_secs_f64());
    observer.sum_up();
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn milliseconds(began: Instant) -> f64 {
    (began.elapsed().as_secs_f64() * 1000.0).round()
}
