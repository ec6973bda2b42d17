//! Locks: who may take which, and taking them.

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Expected, Toolbox, requests::already};
use crate::{
    auth_token::{Caller, Role},
    db::{Conn, Tx},
    error::{Error, Result},
    file_request::{FileRequest, Status, filename::is_bidi_control, store as requests},
    ids::RequestId,
    lock_token::{Acquired, Ask, Check, Held, Lock, Resource, locked, store},
};

/// The kind of file requests.
const REQUESTS: &str = "bgfiles/file_request";
/// Longest reason, in characters.
const REASON: usize = 200;
/// How often one who waits looks.
const LOOK: Duration = Duration::from_millis(250);

/// Says which things there are and who may lock them; of the host application.
#[async_trait]
pub trait LockPolicy: Send + Sync + 'static {
    /// Whether `caller` (nobody, where locking is open) may lock the resource.
    ///
    /// # Errors
    /// When that cannot be found out.
    async fn access(&self, caller: Option<&Caller>, resource: &Resource) -> Result<LockAccess>;
}

/// What a [`LockPolicy`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockAccess {
    /// They may.
    Granted,
    /// They may not: 403.
    Refused,
    /// There is no such thing, or not for them: 404.
    Unknown,
    /// Not ours: our own rules say.
    NotMine,
}

/// A thing that can be locked.
#[async_trait]
pub trait Lockable: Send + Sync {
    /// Its name among locks.
    fn resource(&self) -> Resource;

    /// Locks it; with a token of its lock, renews that instead, expired or not.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::LockRefused`] for a token that does not hold it.
    async fn lock(&self, toolbox: &Toolbox, token: Option<&str>) -> Result<Held> {
        match token {
            Some(token) => toolbox.renew_lock(&self.resource(), token, None).await,
            None => toolbox.lock(&self.resource(), Ask::default()).await?.held(),
        }
    }

    /// Releases it.
    ///
    /// # Errors
    /// [`Error::LockRefused`] for a token that does not hold it.
    async fn unlock(&self, toolbox: &Toolbox, token: &str) -> Result<()> {
        toolbox.unlock(&self.resource(), token).await
    }

    /// Whether somebody holds it now.
    ///
    /// # Errors
    /// The database's.
    async fn is_locked(&self, toolbox: &Toolbox) -> Result<bool> {
        toolbox.is_locked(&self.resource()).await
    }

    /// What a token is worth.
    ///
    /// # Errors
    /// The database's.
    async fn check_lock_token(&self, toolbox: &Toolbox, token: &str) -> Result<Check> {
        toolbox.check_lock(&self.resource(), token).await
    }
}

impl Lockable for FileRequest {
    fn resource(&self) -> Resource {
        Resource::request(self.id)
    }
}

fn unknown() -> Error {
    Error::NotFound("resource")
}

impl Toolbox {
    /// Whether `caller` may lock a resource: as the host application's policy says; else requests
    /// that they may see, file types for applications and staff, and kinds that the settings list.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`]; what the policy fails with.
    pub async fn may_lock(&self, caller: Option<&Caller>, resource: &Resource) -> Result<()> {
        if let Some(policy) = &self.lock_policy {
            match policy.access(caller, resource).await? {
                LockAccess::Granted => return Ok(()),
                LockAccess::Refused => return Err(Error::Forbidden("you may not lock this")),
                LockAccess::Unknown => return Err(unknown()),
                LockAccess::NotMine => {}
            }
        }
        match resource.kind() {
            REQUESTS => {
                let id: RequestId = resource.id().parse().map_err(|_| unknown())?;
                let row = requests::find(&mut self.db.acquire().await?, id).await?;
                let seen = |row: &FileRequest| {
                    caller.is_some_and(|caller| caller.may_see(row.requester.as_deref()))
                };
                row.filter(seen).map(drop).ok_or_else(unknown)
            }
            kind @ ("bgfiles/file_type" | "bgfiles/user" | "bgfiles/client") => {
                if kind == "bgfiles/file_type" {
                    self.registry.get(resource.id()).map_err(|_| unknown())?;
                }
                match caller.map(|caller| caller.role) {
                    Some(Role::Staff) => Ok(()),
                    Some(Role::Service) if kind == "bgfiles/file_type" => Ok(()),
                    Some(_) => Err(Error::Forbidden("this is for staff to lock")),
                    None => Err(unknown()),
                }
            }
            _ if self.locks.lists(resource) => Ok(()),
            _ => Err(unknown()),
        }
    }

    /// Takes a lock, or says who has it. Whether the caller may is not asked here.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `ttl` or `reason`; [`Error::Quota`] when its owner holds too many others;
    /// the database's.
    pub async fn lock(&self, resource: &Resource, ask: Ask) -> Result<Acquired> {
        let mut tx = self.db.begin().await?;
        let acquired = self.lock_in(&mut tx, resource, &ask).await?;
        tx.commit().await?;
        let outcome = if matches!(acquired, Acquired::Held(_)) { "held" } else { "taken" };
        metrics::counter!("bgfiles_locks_total", "outcome" => outcome).increment(1);
        Ok(acquired)
    }

    pub(super) async fn lock_in(
        &self,
        tx: &mut Tx,
        resource: &Resource,
        ask: &Ask,
    ) -> Result<Acquired> {
        let ttl = self.locks.ttl(ask.ttl)?;
        if ask.reason.chars().count() > REASON || ask.reason.chars().any(char::is_control) {
            let message = format!("must be up to {REASON} characters, in one line");
            return Err(Error::invalid("reason", message));
        }
        if let Some(lease) = self.lease_of(tx.conn(), resource).await? {
            return Ok(Acquired::Taken(Box::new(lease)));
        }
        if let Some(owner) = &ask.owner {
            let others = store::count_of(tx.conn(), owner, resource, self.clock.now()).await?;
            let most = self.locks.most;
            if others >= i64::from(most) {
                return Err(Error::Quota(format!("you hold {most} locks; release one first")));
            }
        }
        let reason = ask.reason.chars().filter(|c| !is_bidi_control(*c)).collect();
        let ask = &Ask { reason, ..ask.clone() };
        let token = Uuid::new_v4().simple().to_string();
        store::acquire(tx, resource, ask, ttl, &token, self.clock.now()).await
    }

    /// A worker's lease on a request, as a lock.
    async fn lease_of(&self, conn: Conn<'_>, resource: &Resource) -> Result<Option<Lock>> {
        let id = (resource.kind() == REQUESTS).then(|| resource.id().parse());
        let Some(Ok(id)) = id else { return Ok(None) };
        Ok(requests::find(conn, id).await?.and_then(|row| self.lease(row)))
    }

    fn lease(&self, row: FileRequest) -> Option<Lock> {
        let now = self.clock.now();
        let expires_at = row.lease_until.filter(|end| *end > now)?;
        (row.status == Status::Running).then(|| Lock {
            resource: REQUESTS.into(),
            object_id: row.id.to_string(),
            fence: row.generation,
            owner: row.leased_by,
            reason: "a worker makes the file".into(),
            locked_at: row.started_at.unwrap_or(now),
            expires_at,
            session: None,
        })
    }

    /// Who holds a resource now: somebody with a lock, or a worker with its lease.
    ///
    /// # Errors
    /// The database's.
    pub async fn lock_on(&self, resource: &Resource) -> Result<Option<Lock>> {
        let mut conn = self.db.acquire().await?;
        let lease = self.lease_of(Conn::from(&mut conn), resource).await?;
        if lease.is_some() {
            return Ok(lease);
        }
        let now = self.clock.now();
        Ok(store::find(&mut conn, resource).await?.filter(|lock| !lock.has_expired(now)))
    }

    /// Whether somebody holds a resource now.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_locked(&self, resource: &Resource) -> Result<bool> {
        Ok(self.lock_on(resource).await?.is_some())
    }

    /// Waits until nobody holds a resource, so long at most; who holds it then.
    ///
    /// # Errors
    /// The database's.
    pub async fn wait_for_lock(&self, resource: &Resource, most: Duration) -> Result<Option<Lock>> {
        let deadline = tokio::time::Instant::now() + most;
        loop {
            let lock = self.lock_on(resource).await?;
            if lock.is_none() || tokio::time::Instant::now() >= deadline {
                return Ok(lock);
            }
            tokio::time::sleep_until(deadline.min(tokio::time::Instant::now() + LOOK)).await;
        }
    }

    /// The lock that a token holds, expired or not.
    ///
    /// # Errors
    /// [`Error::LockRefused`] when it holds none.
    pub async fn held_lock(&self, resource: &Resource, token: &str) -> Result<Held> {
        let mut conn = self.db.acquire().await?;
        let held = store::held(&mut conn, resource, token).await?;
        match held {
            Some(held) => Ok(held),
            None => Err(refused(store::find(&mut conn, resource).await?.is_some())),
        }
    }

    /// Makes a token last again; with `ttl`, for that many seconds from now on.
    ///
    /// # Errors
    /// [`Error::LockRefused`] when it holds no lock; [`Error::Invalid`] on `ttl`.
    pub async fn renew_lock(
        &self,
        resource: &Resource,
        token: &str,
        ttl: Option<u32>,
    ) -> Result<Held> {
        let ttl = ttl.map(|ttl| self.locks.ttl(Some(ttl))).transpose()?;
        let mut tx = self.db.begin().await?;
        let renewed = store::renew(&mut tx, resource, token, ttl, self.clock.now()).await?;
        match renewed {
            Some(held) => tx.commit().await.map(|()| held),
            None => Err(refused(store::find(&mut tx, resource).await?.is_some())),
        }
    }

    /// Lets go of a token; of the lock with its last one.
    ///
    /// # Errors
    /// [`Error::LockRefused`] when it holds no lock.
    pub async fn unlock(&self, resource: &Resource, token: &str) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !store::release(&mut tx, resource, token, self.clock.now()).await? {
            return Err(refused(store::find(&mut tx, resource).await?.is_some()));
        }
        tx.commit().await
    }

    /// What a token is worth.
    ///
    /// # Errors
    /// The database's.
    pub async fn check_lock(&self, resource: &Resource, token: &str) -> Result<Check> {
        store::check(&mut self.db.acquire().await?, resource, token, self.clock.now()).await
    }

    /// Makes sure, in a transaction of the host application's too, that a token holds the lock, at
    /// this fence if one is given, and that nobody takes it before the transaction ends. A writer
    /// who was late is refused.
    ///
    /// # Errors
    /// [`Error::LockRefused`]; the database's.
    pub async fn guard_lock(
        &self,
        conn: impl Into<Conn<'_>>,
        resource: &Resource,
        token: &str,
        fence: Option<i64>,
    ) -> Result<()> {
        let mut conn = conn.into();
        if store::guard(conn.reborrow(), resource, token, fence).await? {
            return Ok(());
        }
        Err(refused(store::find(conn, resource).await?.is_some()))
    }

    /// Ends somebody's lock. Owners may, and staff.
    ///
    /// # Errors
    /// [`Error::NotFound`] without a lock; [`Error::Forbidden`]; [`Error::Locked`] for a worker's
    /// lease, which ends by itself.
    pub async fn break_lock(&self, caller: &Caller, resource: &Resource) -> Result<()> {
        let lock = self.lock_on(resource).await?.ok_or(Error::NotFound("lock"))?;
        self.may_take_from(caller, &lock)?;
        let mut tx = self.db.begin().await?;
        if self.lease_of(tx.conn(), resource).await?.is_some() {
            return Err(locked(&lock));
        }
        let now = self.clock.now();
        if !store::break_lock(&mut tx, resource, None, Some(lock.fence), now).await? {
            return Err(Error::NotFound("lock"));
        }
        if caller.role == Role::Staff {
            let (what, whose) = (resource.to_string(), lock.owner.as_deref().unwrap_or_default());
            self.audit(&mut tx, &caller.username, "lock.break", &what, whose).await?;
        }
        tx.commit().await?;
        tracing::info!(%resource, by = caller.username, of = lock.owner, "a lock was broken");
        Ok(())
    }

    /// Whether a caller may end or take somebody's lock.
    ///
    /// # Errors
    /// [`Error::Forbidden`].
    pub fn may_take_from(&self, caller: &Caller, lock: &Lock) -> Result<()> {
        let own = lock.owner.as_deref() == Some(caller.username.as_str());
        let may = own || caller.role == Role::Staff;
        may.then_some(()).ok_or(Error::Forbidden("only its owner and staff may end a lock"))
    }

    /// Locks a thing, then loads it, so that what is read is what is locked; lets go if loading
    /// fails.
    ///
    /// # Errors
    /// [`Error::Locked`]; what `load` fails with.
    pub async fn get_and_lock<T, F: Future<Output = Result<T>>>(
        &self,
        resource: &Resource,
        ask: Ask,
        load: impl FnOnce() -> F,
    ) -> Result<(T, Held)> {
        let held = self.lock(resource, ask).await?.held()?;
        match load().await {
            Ok(thing) => Ok((thing, held)),
            Err(error) => {
                self.unlock(resource, &held.token).await?;
                Err(error)
            }
        }
    }

    /// Locks for a session, whatever identifies it: again and again, it is the session's.
    /// `force_new` begins anew what the session has, with another fence.
    ///
    /// # Errors
    /// [`Error::Locked`] when somebody else has it.
    pub async fn lock_for_session(
        &self,
        resource: &Resource,
        session: &str,
        owner: Option<&str>,
        force_new: bool,
    ) -> Result<Held> {
        let ask = Ask {
            session: Some(session.to_owned()),
            owner: owner.map(str::to_owned),
            ..Ask::default()
        };
        let mut tx = self.db.begin().await?;
        if force_new {
            let now = self.clock.now();
            store::break_lock(&mut tx, resource, Some(session), None, now).await?;
        }
        let held = self.lock_in(&mut tx, resource, &ask).await?.held()?;
        tx.commit().await?;
        Ok(held)
    }

    /// As [`Toolbox::lock_for_session`], for a page that is shown: its token is given back by the
    /// session's next [`Toolbox::unlock_with_pages`], unless somebody renews it.
    ///
    /// # Errors
    /// [`Error::Locked`] when somebody else has it.
    pub async fn lock_for_page(
        &self,
        resource: &Resource,
        session: &str,
        owner: Option<&str>,
    ) -> Result<Held> {
        let ask = Ask {
            session: Some(session.to_owned()),
            owner: owner.map(str::to_owned),
            ..Ask::default()
        };
        let mut tx = self.db.begin().await?;
        let held = self.lock_in(&mut tx, resource, &ask).await?.held()?;
        store::came_with_page(&mut tx, &held.token).await?;
        tx.commit().await?;
        Ok(held)
    }

    /// Lets go of a token, and of those that came with pages of the same session: what was edited
    /// there is saved. Tabs that renew their own tokens keep the lock.
    ///
    /// # Errors
    /// [`Error::LockRefused`] when it holds no lock.
    pub async fn unlock_with_pages(&self, resource: &Resource, token: &str) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !store::release_with_pages(&mut tx, resource, token, self.clock.now()).await? {
            return Err(refused(store::find(&mut tx, resource).await?.is_some()));
        }
        tx.commit().await
    }

    /// Lets go of a session's lock, of all its tabs.
    ///
    /// # Errors
    /// [`Error::LockRefused`] when it has none.
    pub async fn unlock_for_session(&self, resource: &Resource, session: &str) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !store::break_lock(&mut tx, resource, Some(session), None, self.clock.now()).await? {
            return Err(refused(store::find(&mut tx, resource).await?.is_some()));
        }
        tx.commit().await
    }

    /// Whether a session holds a lock, expired or not.
    ///
    /// # Errors
    /// The database's.
    pub async fn check_for_session(&self, resource: &Resource, session: &str) -> Result<bool> {
        let lock = store::find(&mut self.db.acquire().await?, resource).await?;
        Ok(lock.is_some_and(|lock| lock.session.as_deref() == Some(session)))
    }

    /// Removes locks whose time is over, and what is left of released ones. Answers how many
    /// locks, and how many rows in all.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_stale_locks(
        &self,
        before: DateTime<Utc>,
        limit: i64,
    ) -> Result<(u64, u64)> {
        let mut tx = self.db.begin().await?;
        let removed = store::delete_stale(&mut tx, before, limit).await?;
        tx.commit().await?;
        Ok(removed)
    }
}

/// Who edits something of ours.
#[derive(Clone, Debug)]
pub struct Editor<'a> {
    /// Their name, for others to see.
    pub name: &'a str,
    /// Whose tabs share a lock.
    pub session: Option<String>,
    /// A token of the lock that they hold already.
    pub token: Option<&'a str>,
}

/// An edit under way, with the lock it took for itself.
#[derive(Debug)]
pub struct Edit {
    resource: Resource,
    token: Option<String>,
}

impl Toolbox {
    /// Begins an edit: with the lock that the editor holds, else with one of its own, until
    /// [`Toolbox::end_edit`] in the same transaction.
    ///
    /// # Errors
    /// [`Error::Locked`] when somebody else or a worker is at it; [`Error::LockRefused`] for a
    /// token that holds nothing.
    pub async fn begin_edit(
        &self,
        tx: &mut Tx,
        resource: Resource,
        editor: Editor<'_>,
    ) -> Result<Edit> {
        if let Some(lease) = self.lease_of(tx.conn(), &resource).await? {
            return Err(locked(&lease));
        }
        if let Some(token) = editor.token {
            self.guard_lock(&mut *tx, &resource, token, None).await?;
            return Ok(Edit { resource, token: None });
        }
        let ask =
            Ask { session: editor.session, owner: Some(editor.name.to_owned()), ..Ask::default() };
        let held = self.lock_in(tx, &resource, &ask).await?.held()?;
        Ok(Edit { resource, token: Some(held.token) })
    }

    /// Removes a request for somebody, unless somebody else is at it; its lock goes with it. Of
    /// what an operator removes, the audit log tells.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::PreconditionFailed`]; as [`Toolbox::delete`].
    pub async fn delete_as(
        &self,
        id: RequestId,
        caller: &Caller,
        editor: Editor<'_>,
        expected: &Expected,
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let resource = Resource::request(id);
        // The lock before the row, as every edit takes them.
        match self.begin_edit(&mut tx, resource.clone(), editor).await {
            Err(Error::Locked(_)) if self.lease_of(tx.conn(), &resource).await?.is_some() => {
                return Err(already(tx.conn(), id, "deleted; cancel it first").await?);
            }
            edit => drop(edit?),
        }
        self.expect(&mut tx, id, expected).await?;
        let row = self.begin_deletion(&mut tx, id).await?;
        let own = row.requester.as_deref() == Some(caller.username.as_str());
        if caller.role == Role::Staff && !own {
            let (actor, id) = (&caller.username, id.to_string());
            self.audit(&mut tx, actor, "request.delete", &id, &row.description).await?;
        }
        store::break_lock(&mut tx, &resource, None, None, self.clock.now()).await?;
        tx.commit().await?;
        self.remove(&row).await
    }

    /// Locks that hold now, the newest first; and the leases of workers on requests.
    ///
    /// # Errors
    /// [`Error::Invalid`] on a filter that is no name; the database's.
    pub async fn locks(&self, filter: &store::Filter<'_>, limit: i64) -> Result<Vec<Lock>> {
        for (field, text) in [("resource", filter.resource), ("owner", filter.owner)] {
            if text.is_some_and(|text| text.chars().any(char::is_control)) {
                return Err(Error::invalid(field, "must be a name"));
            }
        }
        let mut conn = self.db.acquire().await?;
        let mut locks = store::list(&mut conn, filter, self.clock.now(), limit).await?;
        if filter.owner.is_none() && filter.resource.is_none_or(|kind| kind == REQUESTS) {
            let running = requests::Filter { status: Some(Status::Running), ..Default::default() };
            for row in requests::list(&mut conn, &running, limit).await? {
                locks.extend(self.lease(row));
            }
            locks.sort_by_key(|lock| std::cmp::Reverse(lock.locked_at));
            locks.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        Ok(locks)
    }

    /// Ends an edit: lets go of what [`Toolbox::begin_edit`] took.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_edit(&self, tx: &mut Tx, edit: Edit) -> Result<()> {
        if let Some(token) = &edit.token {
            store::release(tx, &edit.resource, token, self.clock.now()).await?;
        }
        Ok(())
    }
}

fn refused(held: bool) -> Error {
    Error::LockRefused { held }
}
