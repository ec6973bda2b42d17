//! File requests: who wants which file, with which criteria, and what became of it.
//!
//! The row is the truth. The queue only wakes workers; every step that matters is one
//! conditional statement in [`store`].

pub mod attempts;
pub mod criteria;
pub mod filename;
pub mod links;
pub mod model;
pub mod notice;
pub mod shown;
pub mod status;
pub mod store;

pub use criteria::{Criteria, StoredCriteria};
pub use model::{FileRequest, NewFileRequest, Requester};
pub use shown::Shown;
pub use status::Status;
