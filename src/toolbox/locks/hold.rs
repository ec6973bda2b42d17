//! Taking locks, renewing them and letting go.

use std::{future::Future, time::Duration};

use uuid::Uuid;

use crate::{
    auth_token::{Caller, Role},
    db::{Conn, Tx},
    error::{Error, Result},
    file_request::filename::is_bidi_control,
    lock_token::{Acquired, Ask, Check, Held, Lock, Resource, locked, store},
    toolbox::Toolbox,
};

/// Longest reason, in characters.
const REASON: usize = 200;
/// How often one who waits looks.
const LOOK: Duration = Duration::from_millis(250);

impl Toolbox {
    /// Takes a lock, or says who has it. Whether the caller may is not asked here.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `ttl` or `reason`; [`Error::Quota`] when its owner holds too many others;
    /// the database's.
    pub async fn lock(&self, resource: &Resource, ask: Ask) -> Result<Acquired> {
        let mut tx = self.db().begin().await?;
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
        let ttl = self.lock_settings().ttl(ask.ttl)?;
        if ask.reason.chars().count() > REASON || ask.reason.chars().any(char::is_control) {
            let message = format!("must be up to {REASON} characters, in one line");
            return Err(Error::invalid("reason", message));
        }
        if let Some(lease) = self.lease_of(tx.conn(), resource).await? {
            return Ok(Acquired::Taken(Box::new(lease)));
        }
        if let Some(owner) = &ask.owner {
            let others = store::count_of(tx.conn(), owner, resource, self.clock().now()).await?;
            let most = self.lock_settings().most;
            if others >= i64::from(most) {
                return Err(Error::Quota(format!("you hold {most} locks; release one first")));
            }
        }
        let reason = ask.reason.chars().filter(|c| !is_bidi_control(*c)).collect();
        let ask = &Ask { reason, ..ask.clone() };
        let token = Uuid::new_v4().simple().to_string();
        store::acquire(tx, resource, ask, ttl, &token, self.clock().now()).await
    }

    /// Who holds a resource now: somebody with a lock, or a worker with its lease.
    ///
    /// # Errors
    /// The database's.
    pub async fn lock_on(&self, resource: &Resource) -> Result<Option<Lock>> {
        let mut conn = self.db().acquire().await?;
        let lease = self.lease_of(Conn::from(&mut conn), resource).await?;
        if lease.is_some() {
            return Ok(lease);
        }
        let now = self.clock().now();
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
        let mut conn = self.db().acquire().await?;
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
        let ttl = ttl.map(|ttl| self.lock_settings().ttl(Some(ttl))).transpose()?;
        let mut tx = self.db().begin().await?;
        let renewed = store::renew(&mut tx, resource, token, ttl, self.clock().now()).await?;
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
        let mut tx = self.db().begin().await?;
        if !store::release(&mut tx, resource, token, self.clock().now()).await? {
            return Err(refused(store::find(&mut tx, resource).await?.is_some()));
        }
        tx.commit().await
    }

    /// What a token is worth.
    ///
    /// # Errors
    /// The database's.
    pub async fn check_lock(&self, resource: &Resource, token: &str) -> Result<Check> {
        store::check(&mut self.db().acquire().await?, resource, token, self.clock().now()).await
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
        let mut tx = self.db().begin().await?;
        if self.lease_of(tx.conn(), resource).await?.is_some() {
            return Err(locked(&lock));
        }
        let now = self.clock().now();
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
}

/// A token does not hold the lock; whether another does.
pub(super) fn refused(held: bool) -> Error {
    Error::LockRefused { held }
}
