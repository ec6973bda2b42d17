//! What is heard of new work.

use super::Kind;

/// Something is to be done in that queue; and whether a job says so.
#[derive(Clone, Copy)]
pub(super) struct Heard {
    pub(super) kind: Kind,
    pub(super) is_job: bool,
}
