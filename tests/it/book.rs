//! The book in `docs/src`: its generated parts are what the code says, its links lead somewhere, and
//! what it cites exists. What it says to type is typed.
//!
//! `BGFILES_WRITE_BOOK=1 scripts/test book::` writes the generated parts anew.

mod citations;
mod generated;
mod links;
mod page;
mod played;
mod repository;
