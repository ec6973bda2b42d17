//! The sweep of objects in the storage that no request refers to.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures::StreamExt;

use super::run::{Ended, Run};
use crate::{
    error::Result,
    file_request::{Status, store},
    ids::RequestId,
    storage::StorageKey,
    toolbox::Toolbox,
};

/// Objects whose requests are looked up together.
const OBJECTS: usize = 500;

/// Objects that no row refers to: of crashed workers, lost leases and interrupted removals.
/// Young ones may be about to be published and are left alone.
pub(super) async fn sweep(
    toolbox: &Toolbox,
    before: DateTime<Utc>,
    run: &mut Run,
) -> Result<Ended> {
    if let Some(ended) = unfinished_uploads(toolbox, before, run).await? {
        return Ok(ended);
    }
    // Fused: its end is met once by the last objects and once more after them.
    let mut objects = toolbox.storage().list().fuse();
    loop {
        let mut old = Vec::with_capacity(OBJECTS);
        while old.len() < OBJECTS {
            let Some(object) = objects.next().await.transpose()? else { break };
            if object.modified < before {
                old.push(object.key);
            }
        }
        if old.is_empty() {
            return Ok(Ended::Processed);
        }
        for key in unwanted(toolbox, &old).await? {
            if let Some(ended) = run.ended() {
                return Ok(ended);
            }
            // Pauses may have passed since it was looked up with the others.
            if unwanted(toolbox, &[key]).await?.is_empty() {
                continue;
            }
            match toolbox.storage().delete(key).await {
                Ok(()) => run.removed += 1,
                Err(error) => {
                    tracing::warn!(object = %key, %error, "could not remove an orphan object");
                    run.failed += 1;
                }
            }
            run.pause().await;
        }
    }
}

/// What is left of uploads whose process did not live to give them up.
async fn unfinished_uploads(
    toolbox: &Toolbox,
    before: DateTime<Utc>,
    run: &mut Run,
) -> Result<Option<Ended>> {
    let uploads = match toolbox.storage().unfinished().await {
        Ok(uploads) => uploads,
        Err(error) => {
            // A bucket may keep us from listing them, for ever: that fails no run.
            tracing::warn!(%error, "could not see which uploads were cut off");
            return Ok(None);
        }
    };
    for upload in uploads.iter().filter(|upload| upload.begun < before) {
        if let Some(ended) = run.ended() {
            return Ok(Some(ended));
        }
        let states = states(toolbox, &[upload.key]).await?;
        if states.get(&upload.key.request).is_some_and(|state| is_making(state, upload.key)) {
            continue;
        }
        match toolbox.storage().give_up(upload).await {
            Ok(()) => run.removed += 1,
            Err(error) => {
                tracing::warn!(object = %upload.key, %error, "could not give up an upload");
                run.failed += 1;
            }
        }
        run.pause().await;
    }
    Ok(None)
}

/// Those of the objects that no request refers to, and that none is making.
async fn unwanted(toolbox: &Toolbox, keys: &[StorageKey]) -> Result<Vec<StorageKey>> {
    let states = states(toolbox, keys).await?;
    let wanted = |key: &&StorageKey| {
        let state = states.get(&key.request);
        state.is_some_and(|state| has(state, **key) || is_making(state, **key))
    };
    Ok(keys.iter().filter(|key| !wanted(key)).copied().collect())
}

fn has(state: &store::ObjectState, key: StorageKey) -> bool {
    state.storage_key.as_ref().is_some_and(|at| *at == key.to_string())
}

fn is_making(state: &store::ObjectState, key: StorageKey) -> bool {
    state.status == Status::Running && state.generation == key.generation
}

/// What is known of the requests that the objects were made for.
async fn states(
    toolbox: &Toolbox,
    keys: &[StorageKey],
) -> Result<HashMap<RequestId, store::ObjectState>> {
    let ids: Vec<_> = keys.iter().map(|key| key.request).collect();
    let mut tx = toolbox.db().read().await?;
    let states = store::object_states(&mut tx, &ids).await?;
    Ok(states.into_iter().map(|state| (state.id, state)).collect())
}
