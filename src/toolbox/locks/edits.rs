//! Changes of what is ours, under a lock: that of whoever edits, or one of the edit's own.

use crate::{
    db::Tx,
    error::Result,
    lock_token::{Ask, Resource, locked, store},
    toolbox::Toolbox,
};

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
    /// [`crate::Error::Locked`] when somebody else or a worker is at it;
    /// [`crate::Error::LockRefused`] for a token that holds nothing.
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

    /// Ends an edit: lets go of what [`Toolbox::begin_edit`] took.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_edit(&self, tx: &mut Tx, edit: Edit) -> Result<()> {
        if let Some(token) = &edit.token {
            store::release(tx, &edit.resource, token, self.clock().now()).await?;
        }
        Ok(())
    }
}
