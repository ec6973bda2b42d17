//! Redeeming links. One redemption is one use and gives a grant, under which the file can be
//! fetched in one piece or in many, and again after the connection broke.

use chrono::TimeDelta;

use super::{Toolbox, Visit, tokens::has_file};
use crate::{
    error::{Error, Result},
    file_request::{
        FileRequest,
        links::{Event, Grant, GrantSecret, Hit, store},
        store as requests,
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
    /// Redeems a link: one use, unless `by.nonce` was redeemed already.
    ///
    /// # Errors
    /// What [`Visit::verdict`] says; also when others were faster.
    pub async fn redeem(&self, visit: Visit, by: Redeemer<'_>) -> Result<GrantSecret> {
        let secret = match by.nonce {
            Some(nonce) => {
                let about = visit.claims.jti.unwrap_or(visit.row.id.0);
                let signer = self.signer_for(visit.row.file_type.as_str());
                GrantSecret::from_bytes(signer.derive("grant", &format!("{about}:{nonce}")))
            }
            None => GrantSecret::random(),
        };
        if by.nonce.is_some() && self.evaluate_grant(&secret, by.user).await.is_ok() {
            return Ok(secret);
        }
        let redeemed = match visit.verdict {
            Ok(()) => self.spend(&visit.row, visit.claims.jti, &visit.claims, &secret, by).await,
            Err(error) => Err(error),
        };
        if let Err(error) = redeemed {
            let denied = hit(&visit.row, visit.claims.jti, Event::Denied, by);
            self.record_hit(Hit { reason: Some(error.code().to_owned()), ..denied }).await?;
            return Err(error);
        }
        Ok(secret)
    }

    async fn spend(
        &self,
        row: &FileRequest,
        jti: Option<uuid::Uuid>,
        claims: &crate::signer::Claims,
        secret: &GrantSecret,
        by: Redeemer<'_>,
    ) -> Result<()> {
        let now = self.clock.now();
        let age = TimeDelta::from_std(self.grant_age).unwrap_or(TimeDelta::hours(1));
        let grant = Grant {
            hash: secret.hash(),
            request_id: row.id,
            jti,
            requester: claims.requester.clone(),
            sha256: row.sha256.clone().unwrap_or_default(),
            created_at: now,
            expires_at: now + age,
            completed_at: None,
        };
        self.write_earlier_receipts().await;
        let mut tx = self.db.begin().await?;
        if let Some(jti) = jti
            && !store::consume(&mut tx, jti, now).await?
        {
            // Somebody was faster; the row tells what happened.
            let link = store::find(&mut tx, jti).await?;
            return Err(link.and_then(|link| link.denial(now)).unwrap_or(Error::LinkRevoked));
        }
        if !store::insert_grant(&mut tx, &grant).await? {
            // The same click twice: this one is taken back with the transaction.
            return Ok(());
        }
        let redeemed = hit(row, jti, Event::Redeemed, by);
        store::log(&mut tx, &Hit { grant: Some(grant.hash), ..redeemed }, now).await?;
        store::count_download(&mut tx, row.id, now).await?;
        tx.commit().await?;
        metrics::counter!("bgfiles_links_total", "event" => "redeemed").increment(1);
        Ok(())
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
        let mut tx = self.db.read().await?;
        let grant = store::find_grant(&mut tx, &secret.hash()).await?.ok_or_else(missing)?;
        let row = requests::find(&mut tx, grant.request_id).await?.ok_or_else(missing)?;
        if let Some(jti) = grant.jti {
            let link = store::find(&mut tx, jti).await?;
            if link.is_none_or(|link| link.revoked_at.is_some()) {
                return Err(Error::LinkRevoked);
            }
        }
        drop(tx);
        if grant.requester.is_some() && grant.requester.as_deref() != caller {
            return Err(Error::NotRequester);
        }
        if grant.expires_at <= self.clock.now() {
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
