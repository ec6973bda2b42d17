//! The SQL of file requests. Each race is decided by one conditional statement; a function that
//! may lose a race returns `None` or `false`.

mod claim;
mod figures;
mod idempotency;
mod insert;
mod life;
mod list;
mod publish;
mod removal;
#[cfg(test)]
mod tests;
mod unknown;

pub use self::{
    claim::{Claimable, Claimant, Which, claim, claim_some, claimable, seize, to_handle},
    figures::{Earlier, LOOKED_BACK, counts, earlier, leases, oldest_due},
    idempotency::{KeyedRequest, delete_keys, insert_key, keyed},
    insert::{discard, insert, insert_all},
    life::{Beat, Ending, Told, cancel, describe, end, expire, forgive_crash, heartbeat, retry},
    list::{Filter, SEARCHED, find, find_all, list},
    publish::{Publication, Published, publish, publish_all},
    removal::{
        ObjectState, begin_deletion, begin_removal, count_expired, expired, finish_removal,
        object_states,
    },
    unknown::{WaitingType, note_unknown, waiting_types},
};
