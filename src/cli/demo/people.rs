//! Who is in the demo: an ordinary user and an operator, with something to look at.

use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    auth_token::{Role, TokenPolicy},
    cli::output::note,
    error::{Error, Result},
    file_request::{Criteria, NewFileRequest, Requester, store},
    ids::random_bytes,
    limits::TokenTtl,
    queue,
    request_token::NewRequestToken,
    toolbox::{NewUser, Toolbox},
};

/// Name, role and, on the first run, password.
pub(super) struct People(Vec<(&'static str, Role, Option<String>)>);

/// Adds them on the first run.
pub(super) async fn invite(toolbox: &Toolbox) -> Result<People> {
    let mut people = Vec::new();
    for (name, role) in [("amy", Role::User), ("olga", Role::Staff)] {
        let password = URL_SAFE_NO_PAD.encode(random_bytes::<12>());
        let new = NewUser {
            username: name.into(),
            email: format!("{name}@example.com"),
            role,
            password: Some(password.clone()),
        };
        match toolbox.create_user(new).await {
            Ok(_) => people.push((name, role, Some(password))),
            Err(Error::Conflict { .. }) => people.push((name, role, None)),
            Err(error) => return Err(error),
        }
    }
    if people.iter().any(|(name, _, password)| *name == "amy" && password.is_some()) {
        let ttl = Some(TokenTtl::DAY);
        match toolbox.create_client("api", ttl, "", TokenPolicy::OneOnly).await {
            Ok(_) | Err(Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        populate(toolbox).await?;
    }
    Ok(People(people))
}

/// Requests in every state.
async fn populate(toolbox: &Toolbox) -> Result<()> {
    let ask =
        |description: &str, format: &str, criteria: &[(&str, &str)]| -> Result<NewFileRequest> {
            let pairs = criteria.iter().map(|(name, value)| (name.to_string(), value.to_string()));
            Ok(NewFileRequest {
                file_type: "flights".parse()?,
                criteria: Criteria::from_pairs(pairs)?,
                format: Some(format.into()),
                requester: Requester { id: Some("amy".into()), email: "amy@example.com".into() },
                filename: None,
                description: Some(description.into()),
                language: None,
                timezone: Some("America/New_York".into()),
                requester_only: None,
                notify: None,
            })
        };
    let mut tx = toolbox.db().begin().await?;
    let united = [("origin", "JFK"), ("carrier", "UA")];
    toolbox.add_request(&mut tx, ask("United from JFK", "csv", &united)?).await?;
    let unwanted = toolbox
        .add_request(&mut tx, ask("Everything from EWR", "jsonl", &[("origin", "EWR")])?)
        .await?;
    toolbox.cancel(&mut tx, unwanted.id).await?;
    // As SQL may insert it: nobody looks at the criteria before the file is made.
    let hopeless = ask("Everything from Atlanta", "csv", &[("origin", "ATL")])?;
    let hopeless = hopeless.into_row(toolbox.clock().now());
    store::insert(&mut tx, &hopeless).await?;
    queue::push(tx.conn(), queue::Wake::request(hopeless.id), hopeless.requested_at).await?;
    let token = NewRequestToken { max_uses: Some(3), ..NewRequestToken::new("ledger") };
    toolbox.create_request_token(&mut tx, token).await?;
    tx.commit().await
}

impl People {
    /// How to log in, while the passwords are known.
    pub(super) fn greet(&self, toolbox: &Toolbox, database: &Path) {
        note(format_args!("Open {} and log in:\n", toolbox.base_url().join("/")));
        for (name, role, password) in &self.0 {
            match password {
                Some(password) => {
                    note(format_args!("  {name} ({}), password {password}", role.as_str()))
                }
                None => note(format_args!(
                    "  {name} ({}), password as printed at the first run",
                    role.as_str()
                )),
            }
        }
        if self.0.iter().any(|(_, _, password)| password.is_none()) {
            note(format_args!(
                "\nPasswords are kept as hashes and cannot be shown again. To set another one:\n\n  \
                 bgfiles set-password amy --database-url sqlite:{}",
                database.display()
            ));
        }
        note(format_args!("\nMail is at {}.\n", toolbox.base_url().join("/dev/mail")));
    }
}
