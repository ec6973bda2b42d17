//! One try to mail a notice.

use std::time::Duration;

use chrono::{DateTime, Utc};
use minijinja::context;
use uuid::Uuid;

use super::{backoff::backoff, publisher::ClaimedNotice};
use crate::{
    error::{Error, Result, went_wrong},
    failpoint,
    file_request::{
        FileRequest,
        links::{self, Link},
        model::rfc3339,
        notice::{self, LEASE, Notice, NoticeStatus},
        store,
    },
    mail::Mail,
    registry::MailKind,
    toolbox::Toolbox,
};

/// How often a claim is renewed.
const RENEW: Duration = Duration::from_secs(3);
/// How long one try may take, all steps together.
const TRY: Duration = Duration::from_secs(120);
/// Most text of a server's answer that is kept.
const MAX_ERROR: usize = 500;

impl Toolbox {
    /// Mails a notice that is due. Trouble is written to the notice and never to the request.
    /// `false`: there was nothing to do.
    ///
    /// # Errors
    /// Only the database's.
    pub async fn deliver_notice(&self, id: Uuid) -> Result<bool> {
        let now = self.clock().now();
        // The claim is a statement, and so a transaction, of its own.
        let claimed =
            notice::store::claim(&mut self.db().acquire().await?, id, now, now + LEASE).await?;
        match claimed {
            Some(notice) => self.deliver_claimed(notice, now).await,
            None => Ok(false),
        }
    }

    /// Claims so many notices that are due at most, for [`Toolbox::deliver_claimed`]; and when.
    pub(crate) async fn claim_notices(&self, most: usize) -> Result<(Vec<Notice>, DateTime<Utc>)> {
        let (now, most) = (self.clock().now(), i64::try_from(most).unwrap_or(i64::MAX));
        let mut conn = self.db().acquire().await?;
        // A claim that finds nothing waits for SQLite's writers all the same.
        if !notice::store::is_any_due(&mut conn, now).await? {
            return Ok((Vec::new(), now));
        }
        Ok((notice::store::claim_some(&mut conn, most, now, now + LEASE).await?, now))
    }

    /// Mails a notice that was claimed a moment ago. `false`: there was nothing to do.
    pub(crate) async fn deliver_claimed(
        &self,
        notice: Notice,
        claimed_at: DateTime<Utc>,
    ) -> Result<bool> {
        let mut conn = self.db().acquire().await?;
        // A request that is gone took its notices along.
        let Some(row) = store::find(&mut conn, notice.request_id).await? else { return Ok(false) };
        let link = match notice.jti.or(row.link_jti) {
            Some(jti) => links::store::find(&mut conn, jti).await?,
            None => None,
        };
        drop(conn);
        self.deliver(&ClaimedNotice { notice, row, link, claimed_at }).await?;
        Ok(true)
    }

    /// Mails a notice that was claimed, unless it waited for so long that somebody else has it.
    /// Trouble is written to the notice.
    ///
    /// # Errors
    /// As [`Toolbox::deliver_notice`].
    pub(crate) async fn deliver(&self, claimed: &ClaimedNotice) -> Result<()> {
        let notice = &claimed.notice;
        let waited = (self.clock().now() - claimed.claimed_at).to_std().unwrap_or_default();
        if waited > RENEW && !self.renew(notice).await? {
            return Ok(());
        }
        let work = self.send(claimed);
        tokio::pin!(work);
        let sent = loop {
            tokio::select! {
                sent = &mut work => break sent,
                () = tokio::time::sleep(RENEW) => {}
            }
            // Whoever has it instead of us mails it a second time; ours cannot be stopped safely.
            if let Err(error) = self.renew(notice).await {
                tracing::warn!(notice = %notice.id, %error, "a notice's lease was not renewed");
            }
        };
        failpoint::reached("mailed");
        self.settle(notice, sent).await
    }

    async fn renew(&self, notice: &Notice) -> Result<bool> {
        let until = self.clock().now() + LEASE;
        notice::store::renew(&mut self.db().acquire().await?, notice.id, notice.generation, until)
            .await
    }

    async fn send(&self, claimed: &ClaimedNotice) -> Result<()> {
        let mail = self.compose(&claimed.notice, &claimed.row, claimed.link.as_ref())?;
        let sent = tokio::time::timeout(TRY, self.mailer().send(&mail, self.clock().now())).await;
        sent.unwrap_or_else(|_| {
            Err(Error::Mail { temporary: true, message: "took too long".into() })
        })
    }

    async fn settle(&self, notice: &Notice, sent: Result<()>) -> Result<()> {
        let now = self.clock().now();
        let (status, error, again) = match sent {
            Ok(()) => (NoticeStatus::Sent, None, None),
            Err(e) => {
                let again = now + backoff(notice.attempts);
                // A broken template can be mended within the day.
                let hope = e.is_retryable() || matches!(e, Error::Template(_));
                let text: String = e.to_string().chars().take(MAX_ERROR).collect();
                match hope && again < notice.created_at + notice::KEEP_TRYING {
                    true => (NoticeStatus::Pending, Some(text), Some(again)),
                    false => (NoticeStatus::Failed, Some(text), None),
                }
            }
        };
        let (id, request) = (notice.id, notice.request_id);
        let (kind, outcome) = (notice.kind.as_str(), status.as_str());
        match &error {
            None => tracing::info!(%request, notice = %id, kind, "notice sent"),
            Some(error) => {
                tracing::warn!(%request, notice = %id, status = outcome, error, attempt = notice.attempts, "notice not sent");
            }
        }
        metrics::counter!("bgfiles_notices_total", "outcome" => outcome).increment(1);
        if status == NoticeStatus::Sent {
            return self.0.sent.submit(self, (id, notice.generation)).await;
        }
        let mut conn = self.db().acquire().await?;
        notice::store::end(&mut conn, notice, status, error.as_deref(), again, now).await?;
        Ok(())
    }

    /// The mail of a notice: the handler's templates before the common ones, the requester's
    /// language before English.
    pub(in crate::toolbox) fn compose(
        &self,
        notice: &Notice,
        row: &FileRequest,
        link: Option<&Link>,
    ) -> Result<Mail> {
        let kind = notice.kind;
        let handler = self.registry().get(row.file_type.as_str()).ok();
        let folder = handler.map_or(row.file_type.as_str(), |h| h.mail_templates());
        if notice.jti.is_some() && link.is_none_or(|link| link.revoked_at.is_some()) {
            let message = "the link was revoked before it was sent".into();
            return Err(Error::Mail { temporary: false, message });
        }
        let context = self.mail_context(row, kind, link);
        let named = |ending: &str| template_names(folder, kind, row.language(), ending);
        let text = self
            .templates()
            .render(&named("txt"), &context)?
            .ok_or_else(|| Error::Config(format!("there is no template {}", kind.as_str())))?;
        let (subject, text) = split_subject(&text, kind);
        Ok(Mail {
            to: self.recipients(row, kind),
            subject,
            text,
            html: self.templates().render(&named("html"), &context)?,
            message_id: notice.message_id.clone(),
            language: self.templates().messages().best(row.language()).to_owned(),
        })
    }

    /// What people call it; rows written by hand may say nothing.
    fn description(&self, row: &FileRequest) -> String {
        if !row.description.is_empty() {
            return row.description.clone();
        }
        let handler = self.registry().get(row.file_type.as_str());
        handler.map_or_else(|_| row.file_type.to_string(), |h| h.title(row.language()))
    }

    /// What a mail says of the error: the number is in its next sentence.
    fn told(&self, row: &FileRequest) -> Option<String> {
        let message = row.error_message.as_deref()?;
        let ours = self.templates().messages().get(row.language(), "problem.internal.title");
        Some(match ours {
            Some(text) if message == went_wrong(row.id) => text.to_owned(),
            _ => message.to_owned(),
        })
    }

    pub(in crate::toolbox) fn mail_context(
        &self,
        row: &FileRequest,
        kind: MailKind,
        link: Option<&Link>,
    ) -> minijinja::Value {
        let url = (kind == MailKind::Ready).then(|| match link {
            Some(link) => self.link_url(row, link),
            None => self.download_url(row),
        });
        let ends = link.map(|link| link.expires_at).or(row.expires_at);
        context! {
            id => row.id.to_string(),
            file_type => row.file_type.as_str(),
            filename => &row.filename,
            description => self.description(row),
            content_type => &row.content_type,
            size => &row.size,
            rows => &row.rows,
            requester => &row.requester,
            requester_email => &row.requester_email,
            requester_only => self.is_bound(row, link),
            max_uses => link.and_then(|link| link.max_uses),
            language => row.language(),
            timezone => row.timezone().name(),
            requested_at => rfc3339(Some(row.requested_at)),
            finished_at => rfc3339(row.finished_at),
            expires_at => rfc3339(ends),
            error_code => &row.error_code,
            error_message => self.told(row),
            download_url => url,
            base_url => self.base_url().join(""),
            footer => self.mailer().footer(),
        }
    }
}

/// `flights/ready.pt-BR`, `….pt`, `flights/ready` (whose texts are in the catalogue), `….en`; then
/// the same without the type.
pub(in crate::toolbox) fn template_names(
    folder: &str,
    kind: MailKind,
    language: &str,
    ending: &str,
) -> Vec<String> {
    let short = language.split('-').next().unwrap_or(language);
    let mut names = Vec::new();
    for folder in [format!("mail/{folder}/"), "mail/".to_owned()] {
        for part in [&format!(".{language}"), &format!(".{short}"), "", ".en"] {
            let name = format!("{folder}{}{part}.{ending}", kind.as_str());
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// A text template begins with `Subject: …` and an empty line.
fn split_subject(text: &str, kind: MailKind) -> (String, String) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    match first.strip_prefix("Subject:") {
        Some(subject) => {
            (subject.trim().to_owned(), rest.trim_start_matches(['\r', '\n']).to_owned())
        }
        None => (format!("Your file: {}", kind.as_str()), text.to_owned()),
    }
}
