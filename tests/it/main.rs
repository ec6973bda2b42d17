//! Everything through the public door: HTTP, the command line, the toolbox. Each behaviour runs on
//! SQLite and on PostgreSQL (`both!`).
//!
//! `scripts/test` brings what this needs; see there.

#![allow(missing_docs, unreachable_pub, reason = "tests are their own documentation")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking")]

mod support;

mod acting;
mod api;
mod architecture;
mod attacks;
mod auth_tokens;
mod book;
mod browser;
mod browsing;
mod callers;
mod checking;
mod claims;
mod cleaning;
mod cli;
mod conditional;
mod conformance;
mod connections;
mod corpora;
mod criteria;
mod databases;
mod declared;
mod downloads;
mod estimates;
mod faults;
mod file_requests;
mod flat;
mod formats;
mod front_door;
mod fuzzing;
mod links;
mod locks;
mod mailing;
mod matrix;
mod naming;
mod openapi;
mod packaging;
mod pages;
mod poolers;
mod query_faults;
mod queueing;
mod request_tokens;
mod silence;
mod starting;
mod storing;
mod strangers;
mod values;
mod who_may;
