//! # bgfiles
//!
//! Background file requests: an application records that somebody wants a file, a worker makes it
//! later, object storage keeps it, a mail carries a signed link, and a cleaner removes it.
//!
//! The path of one request, and the map of this crate:
//!
//! 1. [`web`] takes `POST /api/requests`, or a host application calls [`Toolbox::add_request`] in
//!    a transaction of its own. The [`registry`]'s [`Handler`] checks the criteria.
//! 2. [`toolbox`] inserts the [`file_request`] and the [`queue`]'s wake-up in one transaction.
//! 3. [`worker`] is woken and calls [`Toolbox::dispatch`]: it claims the row, runs the handler
//!    (often a declared [`export`]), and streams its bytes into [`storage`].
//! 4. One transaction publishes the file and queues the notice, which [`mail`] carries.
//! 5. [`web`] checks the link with [`signer`] and streams the file.
//! 6. [`cleaner`] removes file and row once they have expired.
//!
//! `docs/src/explanation/architecture.md` tells it at length.

#![forbid(unsafe_code)]

pub mod auth_token;
pub mod cleaner;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
pub mod duration;
pub mod error;
pub mod export;
mod failpoint;
pub mod file_request;
mod idle;
pub mod ids;
pub mod limits;
pub mod lock_token;
pub mod mail;
pub mod messages;
mod nearest;
pub mod operations;
pub mod queue;
pub mod registry;
pub mod request_token;
pub mod signer;
pub mod storage;
pub mod templates;
mod tls;
pub mod toolbox;
pub mod visitor;
pub mod web;
pub mod worker;

pub use clock::Clock;
pub use config::Config;
pub use db::{Conn, Db, Tx};
pub use error::{Error, Result};
pub use file_request::{Criteria, FileRequest, NewFileRequest, Requester, Status};
pub use ids::{FileType, RequestId};
pub use registry::{Handler, Job, Output, Registry};
pub use toolbox::Toolbox;

/// Pages of the book whose Rust is compiled with the documentation's examples.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../docs/src/how-to/lock-while-editing.md")]
    mod lock_while_editing {}
    #[doc = include_str!("../docs/src/how-to/protect-a-route.md")]
    mod protect_a_route {}
    #[doc = include_str!("../docs/src/how-to/write-a-handler.md")]
    mod write_a_handler {}
}
