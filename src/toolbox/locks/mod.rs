//! Locks: who may take which, and taking them.
//!
//! ```text
//! policy     may_lock: which things there are, and who may lock them
//! hold       lock · renew_lock · unlock · guard_lock · break_lock · get_and_lock
//! sessions   lock_for_session · lock_for_page: locks that the tabs of a browser share
//! edits      begin_edit · end_edit: changes of ours, under a lock
//! lease      a worker's lease on a request, seen as a lock
//! list       list_locks · remove_stale_locks
//! actor      locks().by(&caller): what a caller may see of all that
//! lockable   things that can be locked
//! ```

mod actor;
mod edits;
mod hold;
mod lease;
mod list;
mod lockable;
mod policy;
mod sessions;

pub use actor::{ActingOnLocks, Locks};
pub use edits::{Edit, Editor};
pub use lockable::Lockable;
pub use policy::{LockAccess, LockPolicy};
