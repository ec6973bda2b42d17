//! Every mail as it would be: for each outcome, in each language, of each file type with templates of
//! its own. For `bgfiles check`, so that a broken template is known before the first mail of the night.

use std::{collections::BTreeSet, time::Duration};

use chrono::TimeDelta;
use serde_json::Map;
use uuid::Uuid;

use super::{Toolbox, requests::notices::template_names};
use crate::{
    error::{Error, Result},
    file_request::{
        FileRequest, NewFileRequest, Requester,
        links::Link,
        notice::{MailKind, Notice},
    },
    ids::FileType,
};

/// A file type that nobody has: its mails are made of the common templates.
const COMMON: &str = "a-file-type";

/// How long the mail of an example may take.
const EXAMPLE: Duration = Duration::from_secs(60);

impl Toolbox {
    /// Renders every mail, and gives what is wrong beside what the templates
    /// [remember](crate::templates::Templates::that_remember): mails without a subject, by their
    /// templates' names. `folders` are those below `mail/` that have templates.
    ///
    /// # Errors
    /// None that mails have.
    pub(crate) fn rehearse_mails(
        &self,
        languages: &BTreeSet<String>,
        folders: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>> {
        let mut without_subject = BTreeSet::new();
        let own =
            self.registry().iter().filter(|handler| folders.contains(handler.mail_templates()));
        let types = own.map(|handler| handler.file_type()).chain([COMMON]);
        for file_type in types {
            for language in languages {
                for kind in [MailKind::Ready, MailKind::Failed] {
                    for (row, link) in self.examples(file_type.parse().ok(), language, kind) {
                        without_subject.extend(self.rehearse(&row, link.as_ref(), kind));
                    }
                }
            }
        }
        Ok(without_subject)
    }

    /// Mails an example of a finished file, whose link leads nowhere, and gives what the server
    /// answered.
    ///
    /// # Errors
    /// Of templates and mail.
    pub(crate) async fn send_example(&self, to: &str, language: &str) -> Result<String> {
        let now = self.clock().now();
        let examples = self.examples(COMMON.parse().ok(), language, MailKind::Ready);
        let row = examples.into_iter().map(|(row, _)| row).next_back();
        let row = row.ok_or_else(|| Error::Internal("there is no example".into()))?;
        let notice = Notice::about(row.id, 0, MailKind::Ready, &self.base_url().host(), now);
        let mut mail = self.compose(&notice, &row, None)?;
        mail.to = vec![to.to_owned()];
        match tokio::time::timeout(EXAMPLE, self.mailer().deliver(&mail, now)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Mail { temporary: true, message: "took too long".into() }),
        }
    }

    /// The name of the text template when what it gives does not begin with a subject.
    fn rehearse(&self, row: &FileRequest, link: Option<&Link>, kind: MailKind) -> Option<String> {
        let handler = self.registry().get(row.file_type.as_str()).ok();
        let folder = handler.map_or(row.file_type.as_str(), |h| h.mail_templates());
        let context = self.mail_context(row, kind, link);
        let named = |ending: &str| template_names(folder, kind, row.language(), ending);
        // Templates remember what fails.
        let _ = self.templates().render(&named("html"), &context);
        let names = named("txt");
        let text = self.templates().render(&names, &context).ok()??;
        let subject = text.lines().next().unwrap_or_default().strip_prefix("Subject:");
        match subject.is_some_and(|subject| !subject.trim().is_empty()) {
            true => None,
            false => self.templates().first(&names).cloned(),
        }
    }

    /// Requests with much and with little in them, and the links that their mails may have.
    fn examples(
        &self,
        file_type: Option<FileType>,
        language: &str,
        kind: MailKind,
    ) -> Vec<(FileRequest, Option<Link>)> {
        let Some(file_type) = file_type else { return Vec::new() };
        let now = self.clock().now();
        let mut new = NewFileRequest::new(file_type);
        new.language = Some(language.to_owned());
        let mut little = new.clone().into_row(now);
        new.requester = Requester { id: Some("amy".into()), email: "amy@example.com".into() };
        new.description = Some("An example".into());
        new.filename = Some("example.csv".into());
        new.timezone = Some("Europe/Amsterdam".into());
        new.requester_only = Some(true);
        let mut much = new.into_row(now);
        for row in [&mut little, &mut much] {
            row.finished_at = Some(now);
            row.expires_at = Some(now + TimeDelta::days(1));
            match kind {
                MailKind::Ready => {
                    row.filename = "example.csv".into();
                    row.content_type = "text/csv".into();
                    row.size = Some(1_234_567);
                }
                MailKind::Failed => {
                    row.error_code = Some("timeout".into());
                    row.error_message = Some("It took too long.".into());
                }
            }
        }
        much.rows = Some(1_000);
        let link = |max_uses| Link {
            jti: Uuid::new_v4(),
            request_id: much.id,
            requester_only: None,
            data: Map::new(),
            created_by: "amy".into(),
            created_at: now,
            expires_at: now + TimeDelta::hours(1),
            revoked_at: None,
            not_before: None,
            max_uses,
            uses: 0,
            scanner_safe: false,
            last_used_at: None,
        };
        let links = match kind {
            MailKind::Ready => {
                vec![None, Some(link(None)), Some(link(Some(1))), Some(link(Some(5)))]
            }
            MailKind::Failed => vec![None],
        };
        let with = |row: &FileRequest| {
            links.iter().map(|link| (row.clone(), link.clone())).collect::<Vec<_>>()
        };
        [with(&little), with(&much)].concat()
    }
}
