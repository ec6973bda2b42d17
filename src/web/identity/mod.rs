//! Who calls, and the layers that admit.

pub(super) mod caller;
mod client_guard;
mod guard;
mod lock_guard;
mod token_guard;

pub use caller::RequesterId;
pub use client_guard::{
    CallerLayer, CallerService, allow_clients, disallow_clients, require_caller,
};
pub use lock_guard::{LockLayer, LockService, holds_lock_on_object, locks_object};
pub use token_guard::{
    RequestToken, Scope, TokenLayer, TokenService, optional_token, request_tokens, require_token,
};
