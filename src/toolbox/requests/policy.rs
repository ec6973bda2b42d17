//! Who may ask for which files, and what links to them may be: the one place where a file type's
//! word is held against the caller's. Every door asks here.

use crate::{
    auth_token::{Caller, Role},
    db::Conn,
    error::{Error, Result},
    file_request::{
        FileRequest, NewFileRequest,
        links::{Link, LinkPolicy, Wish},
    },
    toolbox::Toolbox,
};

impl Toolbox {
    /// What a file type lets links be. Where nobody knows the type, nobody limits them.
    pub fn link_policy(&self, file_type: &str) -> LinkPolicy {
        self.registry().get(file_type).map(|handler| handler.policy()).unwrap_or_default()
    }

    /// Whether a request's links are for its requester alone, by what the type, the request and,
    /// where there is one, the link's row say. It is asked with each download: links that are about
    /// follow.
    pub fn is_bound(&self, row: &FileRequest, link: Option<&Link>) -> bool {
        let said = link.and_then(|link| link.requester_only).or(row.requester_only);
        self.link_policy(row.file_type.as_str()).requester_only.counts(said)
    }

    /// Whether somebody of this role may ask for files of a type. Of a type that nobody knows here
    /// its handler says so elsewhere.
    ///
    /// # Errors
    /// [`Error::Forbidden`].
    pub fn check_role(&self, file_type: &str, role: Role) -> Result<()> {
        let handler = self.registry().get(file_type);
        let may = handler.map_or(true, |handler| handler.may_ask(role));
        may.then_some(()).ok_or(Error::Forbidden("your role may not ask for this file type"))
    }

    /// The roles that may ask for files of a type.
    pub fn roles_for(&self, file_type: &str) -> Vec<Role> {
        let roles = [Role::User, Role::Service, Role::Staff];
        roles.into_iter().filter(|role| self.check_role(file_type, *role).is_ok()).collect()
    }

    /// Whether somebody of this role may ask for this. Whether that loosens what the file type says
    /// of its links, which is for the audit log.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when the role may not ask for the type; [`Error::LinkPolicy`] when it
    /// may not loosen its policy.
    pub fn check_ask(&self, new: &mut NewFileRequest, role: Role) -> Result<bool> {
        self.check_role(new.file_type.as_str(), role)?;
        let policy = self.link_policy(new.file_type.as_str());
        let wish = Wish { requester_only: new.requester_only, ..Wish::default() };
        judge(&policy, &wish, policy.requester_only.counts(None), role)?;
        if role == Role::User && new.requester_only == Some(false) {
            // In the table `false` is the word of somebody who may loosen. The type says so anyhow.
            new.requester_only = None;
        }
        Ok(self.loosens(new))
    }

    /// Whether a request says that its links are for anybody, where its file type says otherwise.
    pub(super) fn loosens(&self, new: &NewFileRequest) -> bool {
        let floor = self.link_policy(new.file_type.as_str()).requester_only;
        floor.counts(None) && !floor.counts(new.requester_only)
    }

    /// Writes down that a request was loosened.
    pub(super) async fn note_loosened(
        &self,
        conn: impl Into<Conn<'_>>,
        by: &str,
        row: &FileRequest,
    ) -> Result<()> {
        self.audit(conn, by, "request.loosen", &row.id.to_string(), "requester_only").await
    }
}

/// Whether a caller is an operator.
///
/// # Errors
/// [`Error::Forbidden`].
pub(in crate::toolbox) fn staff(caller: &Caller) -> Result<()> {
    match caller.role {
        Role::Staff => Ok(()),
        _ => Err(Error::Forbidden("this is for staff")),
    }
}

/// Whether somebody of this role may make a link as it is asked for; in what it would be wider than
/// its file type says, which is for the audit log.
///
/// # Errors
/// [`Error::LinkPolicy`].
pub(in crate::toolbox) fn judge(
    policy: &LinkPolicy,
    wish: &Wish,
    bound: bool,
    role: Role,
) -> Result<Option<String>> {
    let wider = policy.wider(wish, bound);
    let never = wish.requester_only == Some(false) && policy.requester_only.counts(Some(false));
    if wider.is_empty() && !never {
        return Ok(None);
    }
    if role == Role::User || never {
        return Err(Error::LinkPolicy(wider));
    }
    let fields: Vec<&str> = wider.iter().map(|one| one.field.as_str()).collect();
    Ok(Some(fields.join(", ")))
}
