//! Rows that cannot work, each with what to do: for `bgfiles check --database`.

use std::collections::BTreeMap;

use argon2::password_hash::phc::PasswordHash;
use futures::{StreamExt, stream};

use super::Toolbox;
use crate::{
    auth_token::username_key,
    error::{Error, Result},
    file_request::{model::rfc3339, store},
    limits::Rate,
    operations::sound_store::{self, FinishedFile},
    storage::StorageKey,
};

/// Rows that are read together.
const BATCH: i64 = 500;
/// Objects that are looked up at the same time.
const AT_ONCE: usize = 16;

impl Toolbox {
    /// Every row that cannot work, a sentence each. `others` are file types that are known besides,
    /// if not as they should be.
    ///
    /// # Errors
    /// When database or store do not answer.
    pub(crate) async fn unsound_rows(&self, others: &[String]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        self.wait_for_nobody(others, &mut found).await?;
        self.names(&mut found).await?;
        let mut conn = self.db().acquire().await?;
        for (client, rate) in sound_store::rates(&mut conn).await? {
            if !rate.is_empty() && rate.parse::<Rate>().is_err() {
                found.push(format!(
                    "client {client:?}: the rate {rate:?} cannot be read; write N/s, N/m, N/h or N/d with \
                     N above 0 at /operate/accounts, or nothing for no limit"
                ));
            }
        }
        for behind in sound_store::sequences_behind(&mut conn).await? {
            let (table, most) = (behind.table, behind.most);
            found.push(format!(
                "{table}: the sequence of its numbers is behind row {most}, so that new rows are refused; \
                 run SELECT setval(pg_get_serial_sequence('{table}', 'id'), {most})"
            ));
        }
        drop(conn);
        self.files_that_are_gone(&mut found).await?;
        Ok(found)
    }

    async fn wait_for_nobody(&self, others: &[String], found: &mut Vec<String>) -> Result<()> {
        let mut conn = self.db().acquire().await?;
        let waiting = store::waiting_types(&mut conn).await?;
        drop(conn);
        let elsewhere = self.known_elsewhere().await?;
        for one in waiting {
            let name = one.file_type;
            let is_known = self.registry().get(&name).is_ok() || others.contains(&name);
            if !is_known && !elsewhere.contains(&name) {
                let since = rfc3339(Some(one.since)).unwrap_or_default();
                found.push(format!(
                    "requests wait for file type {name:?} since {since}, and nobody knows it; add \
                     jobs/{name}.toml, start the worker that has it, or cancel them at /operate/requests"
                ));
            }
        }
        Ok(())
    }

    async fn names(&self, found: &mut Vec<String>) -> Result<()> {
        let mut conn = self.db().acquire().await?;
        let users = sound_store::users(&mut conn).await?;
        drop(conn);
        let mut same: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for user in users {
            let name = user.username;
            match username_key(&name) {
                Some(key) => {
                    if user.username_key.as_deref() != Some(key.as_str()) {
                        found.push(format!(
                            "user {name:?}: was written by hand and is found by nobody; run `bgfiles \
                             migrate`"
                        ));
                    }
                    same.entry(key).or_default().push(name.clone());
                }
                None => found.push(format!(
                    "user {name:?}: the name is too long, so that nobody can log in by it; rename them"
                )),
            }
            if let Some(hash) = user.password_hash
                && !is_readable(&hash)
            {
                found.push(format!(
                    "user {name:?}: the hash of their password cannot be read (argon2 in PHC form is \
                     known); run `bgfiles set-password`, or set it to NULL"
                ));
            }
        }
        for names in same.into_values().filter(|names| names.len() > 1) {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            found.push(format!(
                "users {}: they have the same name but for case or form; rename all but one, then run \
                 `bgfiles migrate`",
                names.join(" and ")
            ));
        }
        Ok(())
    }

    /// Goes through all finished requests, however many there are.
    async fn files_that_are_gone(&self, found: &mut Vec<String>) -> Result<()> {
        let mut after = None;
        loop {
            let mut conn = self.db().acquire().await?;
            let batch = sound_store::finished_files(&mut conn, after, BATCH).await?;
            drop(conn);
            let Some(last) = batch.last() else { return Ok(()) };
            after = Some(last.id);
            let mut looks = stream::iter(batch)
                .map(|file| async move { self.file_is_gone(&file).await })
                .buffered(AT_ONCE);
            while let Some(fault) = looks.next().await {
                found.extend(fault?);
            }
        }
    }

    async fn file_is_gone(&self, file: &FinishedFile) -> Result<Option<String>> {
        let what = match self.look_for(file).await {
            Ok(()) => return Ok(None),
            Err(Error::NotFound(what)) => format!("its file is not in the store ({what})"),
            Err(Error::FileLost(what)) => what.to_owned(),
            Err(other) => return Err(other),
        };
        let id = file.id;
        Ok(Some(format!(
            "request {id} is finished, but {what}; restore it, or make it anew: `Again` on its page, or \
             POST /api/requests/{id}/retry after expiring it"
        )))
    }

    async fn look_for(&self, file: &FinishedFile) -> Result<()> {
        let Some(text) = &file.storage_key else {
            return Err(Error::FileLost("its row says no storage_key"));
        };
        let key: Option<StorageKey> = text.parse().ok();
        let Some(key) = key.filter(|key| key.request == file.id) else {
            return Err(Error::FileLost("its storage_key is no place of its own"));
        };
        let Some(size) = file.size.and_then(|size| u64::try_from(size).ok()) else {
            return Err(Error::FileLost("its row says no size"));
        };
        if file.sha256.is_none() {
            return Err(Error::FileLost("its row says no sha256"));
        }
        self.storage().confirm(key, size).await
    }
}

/// Whether logins can make something of a stored hash.
fn is_readable(hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| hash.algorithm.as_str().starts_with("argon2"))
}
