//! What a caller may see and do: by the toolbox, without HTTP, and in a host's own transaction.

use bgfiles::{
    Error, FileRequest, RequestId, Status,
    auth_token::{Caller, Proof, Role},
    request_token::NewRequestToken,
    toolbox::{Editor, Expected, LinkOptions, RequestFilter},
};

use crate::support::{TestApp, both};

const AUDIT: &str = "SELECT count(*) FROM bgfiles_audit";

fn caller(name: &str, role: Role) -> Caller {
    let email = format!("{name}@example.com");
    Caller { username: name.into(), email, role, proof: Proof::Host }
}

fn editor(caller: &Caller) -> Editor<'_> {
    Editor { name: &caller.username, session: None, token: None }
}

fn is_missing<T>(outcome: bgfiles::Result<T>) -> bool {
    matches!(outcome, Err(Error::NotFound("request")))
}

both!(what_is_done_in_a_hosts_transaction_takes_effect_with_it);
async fn what_is_done_in_a_hosts_transaction_takes_effect_with_it(app: TestApp) {
    let root = caller("root", Role::Staff);
    let (toolbox, row) = (&app.toolbox, app.request("hello", "").await);
    let requests = toolbox.requests().by(&root);
    for commits in [false, true] {
        let mut tx = toolbox.db().begin().await.unwrap();
        let edited = requests.describe_in(&mut tx, row.id, "  by root ", editor(&root)).await;
        assert_eq!(edited.unwrap().description, "by root");
        let cancelled = requests.cancel_in(&mut tx, row.id).await.unwrap();
        assert_eq!(cancelled.status, Status::Cancelled);
        match commits {
            true => tx.commit().await.unwrap(),
            false => drop(tx),
        }
        let now = app.row(row.id).await;
        assert_eq!(now.status == Status::Cancelled, commits);
        assert_eq!(now.description == "by root", commits);
        // One line each.
        assert_eq!(app.count(AUDIT).await, if commits { 2 } else { 0 });
    }
    let mut tx = toolbox.db().begin().await.unwrap();
    requests.delete_in(&mut tx, row.id, editor(&root)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(app.count(AUDIT).await, 3);
    requests.find(row.id).await.expect("the cleaner has not come yet");
}

both!(what_is_not_theirs_is_not_there);
async fn what_is_not_theirs_is_not_there(app: TestApp) {
    let (bob, amy) = (caller("bob", Role::User), caller("amy", Role::User));
    let id: RequestId = app.request("hello", "").await.id;
    let (toolbox, row) = (&app.toolbox, app.row(id).await);
    let requests = toolbox.requests().by(&bob);
    assert!(is_missing(requests.find(id).await));
    assert!(is_missing(requests.history(id).await));
    assert!(is_missing(requests.cancel(id).await));
    assert!(is_missing(requests.retry(id).await));
    assert!(is_missing(requests.again(id).await));
    assert!(is_missing(requests.describe(id, "mine", editor(&bob)).await));
    assert!(is_missing(requests.delete(id, editor(&bob)).await));
    assert!(is_missing(toolbox.links().by(&bob).of(id).await));
    let all = RequestFilter { requester: Some("amy".into()), ..RequestFilter::default() };
    assert!(requests.list(all.clone(), 10).await.unwrap().is_empty());
    let own: Vec<FileRequest> = toolbox.requests().by(&amy).list(all, 10).await.unwrap();
    assert_eq!(own.len(), 1);
    // What is for operators is for nobody else, of their own requests neither.
    for who in [&amy, &caller("shop", Role::Service)] {
        let requests = toolbox.requests().by(who);
        assert_eq!(requests.expire(id).await.unwrap_err().code(), "forbidden");
        assert_eq!(requests.mail_again(id).await.unwrap_err().code(), "forbidden");
        assert!(toolbox.accounts().by(who).is_err() && toolbox.operations().by(who).is_err());
    }
    assert!(toolbox.request_tokens().by(&amy).is_err());
    assert_eq!(app.row(id).await, row);
    assert_eq!(app.count(AUDIT).await, 0);
}

both!(a_change_that_counts_on_what_was_seen_changes_nothing_else);
async fn a_change_that_counts_on_what_was_seen_changes_nothing_else(app: TestApp) {
    let amy = caller("amy", Role::User);
    let (toolbox, row) = (&app.toolbox, app.request("hello", "").await);
    let seen = Expected::OneOf(vec![toolbox.request_tag(&row)]);
    let requests = toolbox.requests().by(&amy).expecting(seen);
    requests.describe(row.id, "another", editor(&amy)).await.unwrap();
    let late = requests.cancel(row.id).await.unwrap_err();
    assert!(matches!(late, Error::PreconditionFailed), "{late}");
    assert_eq!(app.row(row.id).await.status, Status::Pending);
    // Nothing of what people do to their own stands in the audit log.
    assert_eq!(app.count(AUDIT).await, 0);
}

both!(links_and_tokens_are_made_on_the_callers_word);
async fn links_and_tokens_are_made_on_the_callers_word(app: TestApp) {
    let shop = caller("shop", Role::Service);
    let (toolbox, row) = (&app.toolbox, app.finished("hello", "").await);
    app.deliver_notices().await;
    let links = toolbox.links().by(&shop).of(row.id).await.unwrap();
    let options =
        LinkOptions { created_by: "somebody".into(), role: Role::Staff, ..LinkOptions::default() };
    let (link, _) = links.create(options).await.unwrap();
    assert_eq!(link.created_by, "shop");
    links.revoke(link.jti).await.unwrap();
    let tokens = toolbox.request_tokens().by(&shop).unwrap();
    let new = NewRequestToken { created_by: "somebody".into(), ..NewRequestToken::new("report") };
    let mut tx = toolbox.db().begin().await.unwrap();
    let token = tokens.create_in(&mut tx, new).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(token.created_by, "shop");
    let lines = "SELECT count(*) FROM bgfiles_audit WHERE actor = 'shop' AND action IN \
        ('request.link', 'request.revoke', 'request_token.create')";
    assert_eq!(app.count(lines).await, 3);
}
