//! Files that are ready at the same time become visible together, and the mail sender of this
//! process mails what is made in it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::group_commit::GroupCommit;
use crate::{
    db::Tx,
    error::Result,
    failpoint,
    file_request::{
        FileRequest, Status,
        attempts::{self, Attempt},
        links::Link,
        notice::{
            self, Notice,
            store::{Carrier, insert_all},
        },
        store,
    },
    ids::RequestId,
    queue::{self, Wake},
    registry::MailKind,
    toolbox::Toolbox,
};

pub(in crate::toolbox) type Publisher = GroupCommit<Made, bool>;
pub(in crate::toolbox) type Sent = GroupCommit<(Uuid, i64), ()>;

pub(in crate::toolbox) fn publisher() -> Publisher {
    GroupCommit::new(|toolbox, made| async move { publish(&toolbox, &made).await }.boxed())
        .expecting(|toolbox| toolbox.0.at_work.load(Ordering::Relaxed), Duration::from_millis(3))
}

/// Notes of mails that were sent.
pub(in crate::toolbox) fn sent() -> Sent {
    GroupCommit::new(|toolbox, claims| {
        async move {
            notice::store::sent(toolbox.db(), &claims, toolbox.clock().now()).await?;
            Ok(vec![(); claims.len()])
        }
        .boxed()
    })
    // Nobody waits for them.
    .expecting(|_| usize::MAX, Duration::from_millis(5))
}

/// A file that is stored but not yet visible, and the line of its request's timeline.
#[derive(Clone, Debug)]
pub(in crate::toolbox) struct Made {
    pub(super) publication: Arc<store::Publication>,
    pub(super) attempt: Attempt,
}

/// A notice for the mail sender, already claimed, and what it is about.
#[derive(Debug)]
pub(crate) struct ClaimedNotice {
    pub(super) notice: Notice,
    pub(super) row: FileRequest,
    pub(super) link: Option<Link>,
    pub(super) claimed_at: DateTime<Utc>,
}

/// Notices that are to be stored with the end that they tell of. Those for the mail sender are
/// handed over once that is committed.
#[derive(Default)]
pub(super) struct Notices {
    claimed: Vec<(mpsc::OwnedPermit<ClaimedNotice>, ClaimedNotice)>,
    queued: Vec<Notice>,
}

/// Makes the files visible, writes down how the attempts ended and stores the notices, all in one
/// transaction. `false`: the lease was lost, or somebody cancelled.
async fn publish(toolbox: &Toolbox, made: &[Made]) -> Result<Vec<bool>> {
    let publications: Vec<_> = made.iter().map(|one| one.publication.clone()).collect();
    let mut tx = toolbox.db().begin().await?;
    let published = store::publish_all(&mut tx, &publications).await?;
    let mut published: HashMap<(RequestId, i64), FileRequest> =
        published.into_iter().map(|row| ((row.id, row.generation), row)).collect();
    let (mut visible, mut ended) = (Vec::with_capacity(made.len()), Vec::new());
    let mut notices = Notices::default();
    for one in made {
        let (id, generation) = (one.publication.id, one.publication.generation);
        if let Some(row) = published.remove(&(id, generation)) {
            let link = toolbox.standing_link(&mut tx, &row).await?;
            toolbox.announce(&mut notices, row, link, MailKind::Ready);
            ended.push(one.attempt.clone());
            visible.push(true);
        } else {
            // A commit whose answer was lost counts all the same.
            let row = store::find(&mut tx, id).await?;
            visible.push(
                row.is_some_and(|row| {
                    row.generation == generation && row.status == Status::Finished
                }),
            );
        }
    }
    attempts::store::insert_all(&mut tx, &ended).await?;
    notices.store(toolbox, &mut tx).await?;
    tx.commit().await?;
    failpoint::reached("published");
    notices.go();
    Ok(visible)
}

impl Notices {
    /// Stores them; those that nobody here sends go through the queue.
    pub(super) async fn store(&self, toolbox: &Toolbox, tx: &mut Tx) -> Result<()> {
        let ours: Vec<Notice> = self.claimed.iter().map(|(_, one)| one.notice.clone()).collect();
        // Should this process die, the sweeper finds them when the lease has ended.
        let until = toolbox.clock().now() + notice::LEASE;
        insert_all(&mut *tx, &ours, Carrier::Us(until)).await?;
        insert_all(&mut *tx, &self.queued, Carrier::Anybody).await?;
        let wakes: Vec<Wake> = self.queued.iter().map(|one| Wake::notice(one.id)).collect();
        queue::push_all(tx.conn(), &wakes, toolbox.clock().now()).await
    }

    /// Hands them over.
    pub(super) fn go(self) {
        for (permit, claimed) in self.claimed {
            permit.send(claimed);
        }
    }
}

impl Toolbox {
    /// Adds a notice, if anybody wants one.
    pub(super) fn announce(
        &self,
        notices: &mut Notices,
        row: FileRequest,
        link: Option<Link>,
        kind: MailKind,
    ) {
        if !row.notify || self.recipients(&row, kind).is_empty() {
            return;
        }
        let domain = self.base_url().host();
        let notice = Notice::about(row.id, row.generation, kind, &domain, self.clock().now());
        match self.mail_permit() {
            Some(permit) => {
                let claimed_at = notice.created_at;
                let notice = notice.claimed();
                let claimed = ClaimedNotice { notice, row, link, claimed_at };
                notices.claimed.push((permit, claimed));
            }
            None => notices.queued.push(notice),
        }
    }

    /// From now on, notices about what is made in this process go to `sender` and not through the
    /// queue, as long as it has room for them.
    pub(crate) fn set_mail_sender(&self, sender: mpsc::Sender<ClaimedNotice>) {
        *self.0.mail_sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    }

    fn mail_permit(&self) -> Option<mpsc::OwnedPermit<ClaimedNotice>> {
        let sender = self.0.mail_sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sender?.try_reserve_owned().ok()
    }
}
