//! What the routes need.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::extract::FromRef;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::view;
use crate::{
    config::{Origins, Serve},
    toolbox::Toolbox,
};

/// How long a request's body may take: one that dribbles must not keep a connection for days.
const BODY_TIME: Duration = Duration::from_secs(60);

/// What the routes need.
#[derive(Clone)]
pub struct WebState {
    /// The operations.
    pub toolbox: Toolbox,
    /// Who sends the bytes of a download.
    pub serve: Serve,
    /// Most bytes of a request body.
    pub body_limit: usize,
    /// How long all of it may take.
    pub body_time: Duration,
    /// Fires when the process should end; long answers end with it.
    pub shutdown: CancellationToken,
    /// What `/metrics` shows; nothing when `None`.
    pub metrics: Option<PrometheusHandle>,
    /// Whether there are pages for people besides the API.
    pub pages: bool,
    /// The folder of mails that `/dev/mail` shows; for development.
    pub mailbox: Option<PathBuf>,
    /// Origins whose pages may call the API from a browser, without cookies.
    pub cors: Origins,
    /// Receipts being written; wait for them before the process ends.
    pub receipts: TaskTracker,
}

impl WebState {
    /// With the defaults of the configuration.
    pub fn new(toolbox: Toolbox) -> Self {
        WebState {
            toolbox,
            serve: Serve::Stream,
            body_limit: 1024 * 1024,
            body_time: BODY_TIME,
            shutdown: CancellationToken::new(),
            metrics: None,
            pages: true,
            mailbox: None,
            cors: Origins::None,
            receipts: TaskTracker::new(),
        }
    }
}

impl FromRef<Arc<WebState>> for Toolbox {
    fn from_ref(state: &Arc<WebState>) -> Self {
        state.toolbox.clone()
    }
}

impl WebState {
    /// What pages may link to.
    pub(super) fn site(&self) -> view::Site {
        view::Site { pages: self.pages, mailbox: self.mailbox.is_some() }
    }
}

/// The state, as handlers take it.
pub(super) type Shared = axum::extract::State<Arc<WebState>>;
