//! Redeeming links. One redemption is one use and gives a grant, under which the file can be
//! fetched in one piece or in many, and again after the connection broke.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use crate::{
    error::{Error, Result},
    file_request::{
        FileRequest,
        links::{Event, Grant, GrantSecret, Hit, line, store},
        store as requests,
    },
    toolbox::{
        Toolbox, Visit,
        links::tokens::{has_file, is_requester},
    },
    visitor::Visitor,
};

/// Who redeems.
#[derive(Clone, Copy, Debug)]
pub struct Redeemer<'a> {
    /// Who is logged in.
    pub user: Option<&'a str>,
    /// Where from.
    pub visitor: &'a Visitor,
    /// The same text gives the same grant: a second click, or a program that never saw the first
    /// answer, is not a second use.
    pub nonce: Option<&'a str>,
}

impl Toolbox {
    /// Redeems a link: one use, unless `by.nonce` was redeemed already. A link without a limit gives
    /// a network the grant that it has, and counts: whoever has the link makes no more
    /// grants than there are hours.
    ///
    /// # Errors
    /// What [`Visit::verdict`] says; also when others were faster.
    pub async fn redeem(&self, visit: Visit, by: Redeemer<'_>) -> Result<GrantSecret> {
        Ok(self.redeem_once(visit, by).await?.0)
    }

    /// As [`Toolbox::redeem`]; and whether it was redeemed by `by.nonce` before, so that this is no
    /// use of it.
    ///
    /// # Errors
    /// As there.
    pub async fn redeem_once(&self, visit: Visit, by: Redeemer<'_>) -> Result<(GrantSecret, bool)> {
        let limited = visit.link.as_ref().is_some_and(|link| link.max_uses.is_some());
        let about = visit.claims.jti.unwrap_or(visit.row.id.0);
        let signer = self.signer_for(visit.row.file_type.as_str());
        let derived = |text: String| GrantSecret::from_bytes(signer.derive("grant", &text));
        let secret = match by.nonce {
            _ if !limited => derived(self.whose(&visit, by)),
            Some(nonce) => derived(format!("{about}:{nonce}")),
            None => GrantSecret::random(),
        };
        if limited && by.nonce.is_some() && self.evaluate_grant(&secret, by.user).await.is_ok() {
            return Ok((secret, true));
        }
        let redeemed = match visit.verdict {
            Ok(()) => self.spend(&visit, limited, &secret, by).await,
            Err(error) => Err(error),
        };
        match redeemed {
            Ok(is_new) => Ok((secret, !is_new)),
            Err(error) => {
                let denied = hit(&visit.row, visit.claims.jti, Event::Denied, by);
                self.record_hit(Hit { reason: Some(error.code().to_owned()), ..denied }).await?;
                Err(error)
            }
        }
    }

    /// Whose grant to a file it is, for as long as a grant lasts.
    fn whose(&self, visit: &Visit, by: Redeemer<'_>) -> String {
        let about = visit.claims.jti.unwrap_or(visit.row.id.0);
        let (file, user) = (visit.row.sha256.as_deref(), by.user.unwrap_or_default());
        let age = i64::try_from(self.grant_age().as_secs()).unwrap_or(i64::MAX).max(1);
        let while_it_lasts = self.clock().now().timestamp().div_euclid(age);
        // Not the program: whoever asks may call it what they like, each time.
        let network = by.visitor.network();
        let bound = visit.row.requester.as_deref().filter(|_| visit.bound).unwrap_or_default();
        format!(
            "open\n{about}\n{}\n{while_it_lasts}\n{network}\n{bound}\n{user}",
            file.unwrap_or_default()
        )
    }

    /// `false` when the same click was counted already.
    async fn spend(
        &self,
        visit: &Visit,
        limited: bool,
        secret: &GrantSecret,
        by: Redeemer<'_>,
    ) -> Result<bool> {
        let (row, jti, now) = (&visit.row, visit.claims.jti, self.clock().now());
        let age = TimeDelta::from_std(self.grant_age()).unwrap_or(TimeDelta::hours(1));
        let grant = Grant {
            hash: secret.hash(),
            request_id: row.id,
            jti,
            requester: row.requester.clone().filter(|_| visit.bound),
            sha256: row.sha256.clone().unwrap_or_default(),
            created_at: now,
            expires_at: now + age,
            completed_at: None,
        };
        self.write_earlier_receipts().await;
        let mut tx = self.db().begin().await?;
        if let Some(jti) = jti
            && !store::consume(&mut tx, jti, now).await?
        {
            // Somebody was faster; the row tells what happened.
            let link = store::find(&mut tx, jti).await?;
            return Err(link.and_then(|link| link.denial(now)).unwrap_or(Error::LinkRevoked));
        }
        // The request before the grant, as who removes it does.
        line::store::hold(&mut tx, &BTreeSet::from([row.id])).await?;
        if !store::insert_grant(&mut tx, &grant).await? {
            if limited {
                // The same click twice: this one is taken back with the transaction.
                return Ok(false);
            }
            store::renew_grant(&mut tx, &grant.hash, grant.expires_at).await?;
        }
        let redeemed = hit(row, jti, Event::Redeemed, by);
        let redeemed = Hit { grant: Some(grant.hash), ..redeemed };
        line::store::log(&mut tx, &[(redeemed, now)]).await?;
        store::count_download(&mut tx, row.id, now).await?;
        tx.commit().await?;
        metrics::counter!("bgfiles_links_total", "event" => "redeemed").increment(1);
        Ok(true)
    }

    /// The file of a grant, if `caller` may have it: as long as the grant lasts, past the end of
    /// the link and of the file's own time too, while the file is there.
    ///
    /// # Errors
    /// [`Error::NotFound`] for none of ours; [`Error::LinkRevoked`], [`Error::LinkExpired`],
    /// [`Error::NotRequester`]; [`Error::FileChanged`] when the file was made anew since;
    /// [`Error::FileExpired`] once it is removed.
    pub async fn evaluate_grant(
        &self,
        secret: &GrantSecret,
        caller: Option<&str>,
    ) -> Result<(FileRequest, Grant)> {
        let missing = || Error::NotFound("download");
        let mut tx = self.db().read().await?;
        let grant = store::find_grant(&mut tx, &secret.hash()).await?.ok_or_else(missing)?;
        let row = requests::find(&mut tx, grant.request_id).await?.ok_or_else(missing)?;
        let link = match grant.jti {
            Some(jti) => {
                let link = store::find(&mut tx, jti).await?;
                let link = link.filter(|link| link.revoked_at.is_none());
                Some(link.ok_or(Error::LinkRevoked)?)
            }
            None => None,
        };
        drop(tx);
        let of_another = grant.requester.is_some() && grant.requester.as_deref() != caller;
        if of_another || (self.is_bound(&row, link.as_ref()) && !is_requester(&row, caller)) {
            return Err(Error::NotRequester);
        }
        if grant.expires_at <= self.clock().now() {
            return Err(Error::LinkExpired);
        }
        has_file(&row)?;
        if row.sha256.as_deref() != Some(grant.sha256.as_str()) {
            return Err(Error::FileChanged);
        }
        Ok((row, grant))
    }
}

fn hit(row: &FileRequest, jti: Option<uuid::Uuid>, event: Event, by: Redeemer<'_>) -> Hit {
    Hit {
        request_id: row.id,
        jti,
        grant: None,
        event,
        reason: None,
        first_byte: None,
        bytes: None,
        visitor: by.visitor.clone(),
        user: by.user.map(str::to_owned),
    }
}
