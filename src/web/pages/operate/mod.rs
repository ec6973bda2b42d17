//! What operators look after. For `staff` only.

pub(super) mod accounts;
pub(super) mod bulk;
mod plot;
pub(super) mod requests;

use axum::{
    extract::{Path, Query},
    response::Response,
};
use chrono::{DurationRound, TimeDelta};
use minijinja::{Value, context};
use serde::Deserialize;

use super::{Person, form::Posted};
use crate::{
    auth_token::Role,
    error::Result,
    file_request::{links::RequesterOnly, model::rfc3339},
    lock_token::Resource,
    toolbox::{AuditFilter, RequestTokenFilter},
    web::{Problem, api::paging, api::request_tokens::number},
};

/// Hours that the plot shows.
const HOURS: i64 = 24;
/// Types that nobody knows, as many as are named.
const UNKNOWN: usize = 5;
/// Lines of a table.
const LINES: i64 = 100;

pub(super) async fn overview(person: Person) -> Result<Response, Problem> {
    let operator = person.operator()?;
    let toolbox = person.toolbox();
    let now = toolbox.clock().now();
    let hour = now.duration_trunc(TimeDelta::hours(1)).unwrap_or(now);
    let since = hour - TimeDelta::hours(HOURS - 1);
    let all = operator.overview(since).await?;
    let bars: Vec<plot::Bar> = (0..HOURS)
        .map(|n| {
            let at = since + TimeDelta::hours(n);
            let name = at.format("%Y-%m-%d %H").to_string();
            let of_hour = all.ended.iter().find(|ended| ended.hour == name);
            plot::Bar {
                label: at.with_timezone(&person.view.timezone).format("%H").to_string(),
                good: of_hour.map_or(0, |ended| ended.finished),
                bad: of_hour.map_or(0, |ended| ended.failed),
            }
        })
        .collect();
    let workers: Vec<Value> = all
        .workers
        .iter()
        .map(|worker| {
            let at: Vec<Value> = worker
                .at
                .iter()
                .map(|row| context! { id => row.id.to_string(), description => &row.description })
                .collect();
            context! {
                name => &worker.state.name,
                host => &worker.state.host,
                slots => worker.state.slots,
                busy => worker.busy,
                more => worker.more,
                alive => worker.alive,
                ended => worker.state.ended_at.is_some(),
                started_at => rfc3339(Some(worker.state.started_at)),
                seen_at => rfc3339(Some(worker.state.seen_at)),
                knows => worker.state.knows().map(str::to_owned).collect::<Vec<_>>(),
                at,
            }
        })
        .collect();
    let counts: Vec<Value> = all
        .counts
        .iter()
        .map(|(status, count)| context! { status => status.as_str(), count })
        .collect();
    let sweeps: Vec<Value> = all
        .sweeps
        .iter()
        .map(|run| {
            context! {
                name => &run.name,
                ran_at => rfc3339(Some(run.ran_at)),
                outcome => &run.outcome,
                removed => run.removed,
                failed => run.failed,
                millis => run.millis,
            }
        })
        .collect();
    let more_unknown = all.unknown.len().saturating_sub(UNKNOWN);
    let unknown: Vec<Value> = all
        .unknown
        .iter()
        .take(UNKNOWN)
        .map(|one| context! { file_type => &one.file_type, since => rfc3339(Some(one.since)) })
        .collect();
    let [mails_waiting, mails_failed] = all.mails;
    let own = context! {
        counts,
        workers,
        more_workers => all.more_workers,
        unknown,
        more_unknown,
        sweeps,
        mails_waiting,
        mails_failed,
        stored => context! { files => all.stored.files, bytes => all.stored.bytes },
        waiting_for => all.waiting_for.map(|wait| wait.as_secs()),
        plot => plot::svg(&bars, &person.view, toolbox),
    };
    person.page("page/operate/overview.html", own)
}

pub(super) async fn file_types(person: Person) -> Result<Response, Problem> {
    person.operator()?;
    let language = person.view.language;
    let toolbox = person.toolbox();
    let types: Vec<Value> = toolbox
        .registry()
        .iter()
        .map(|handler| {
            let policy = handler.policy();
            let roles = toolbox.roles_for(handler.file_type());
            context! {
                name => handler.file_type(),
                title => handler.title(language),
                formats => handler.formats().to_vec(),
                max_attempts => handler.max_attempts(),
                timeout => handler.timeout().as_secs(),
                expires_after => handler.expires_after().map(|keep| keep.as_secs()),
                max_uses => policy.max_uses.map(|max| max.get()),
                scanner_safe => policy.scanner_safe,
                max_age => policy.max_age.map(|age| age.as_secs()),
                requester_only => policy.requester_only != RequesterOnly::No,
                always => policy.requester_only == RequesterOnly::Always,
                roles => roles.into_iter().map(Role::as_str).collect::<Vec<_>>(),
                criteria => Value::from(minijinja::value::Serde(handler.criteria_schema(language))),
            }
        })
        .collect();
    person.page("page/operate/file_types.html", context! { types })
}

#[derive(Deserialize)]
pub(super) struct Older {
    cursor: Option<String>,
}

pub(super) async fn request_tokens(
    person: Person,
    Query(page): Query<Older>,
) -> Result<Response, Problem> {
    person.operator()?;
    let toolbox = person.toolbox();
    let before = paging::before(page.cursor.as_deref())?;
    let filter = RequestTokenFilter { before, ..RequestTokenFilter::default() };
    let tokens = toolbox.request_tokens().by(&person.caller)?;
    let mut rows = tokens.list(&filter, LINES + 1).await?;
    let more = rows.len() as i64 > LINES;
    rows.truncate(LINES as usize);
    let next = rows.last().filter(|_| more).map(|token| token.id);
    let now = toolbox.clock().now();
    let tokens: Vec<Value> = rows
        .iter()
        .map(|token| {
            context! {
                id => token.id,
                scope => &token.scope,
                user => &token.user_id,
                mode => token.login_mode.as_str(),
                used => token.used_to_date,
                max => token.max_uses,
                expires_at => rfc3339(token.expiration_time),
                alive => token.expiration_time.is_none_or(|at| at > now),
            }
        })
        .collect();
    person.page("page/operate/request_tokens.html", context! { tokens, next })
}

pub(super) async fn expire_request_token(
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    person.operator()?;
    person.toolbox().request_tokens().by(&person.caller)?.expire(number(&id)?).await?;
    person.done("/operate/request-tokens", "token_expired")
}

pub(super) async fn locks(person: Person) -> Result<Response, Problem> {
    person.operator()?;
    let locks = person.toolbox().locks().by(&person.caller).list(None, None, LINES).await?;
    let locks: Vec<Value> = locks
        .iter()
        .map(|lock| {
            let (app, model) = lock.resource.split_once('/').unwrap_or_default();
            context! {
                app,
                model,
                resource => &lock.resource,
                object => &lock.object_id,
                owner => &lock.owner,
                reason => &lock.reason,
                since => rfc3339(Some(lock.locked_at)),
                until => rfc3339(Some(lock.expires_at)),
                // A worker's lease ends by itself.
                breakable => lock.is_breakable(),
            }
        })
        .collect();
    person.page("page/operate/locks.html", context! { locks })
}

pub(super) async fn break_lock(posted: Posted) -> Result<Response, Problem> {
    let person = &posted.person;
    person.operator()?;
    let field = |name: &str| posted.form.get(name).unwrap_or_default();
    let resource = Resource::new(field("app"), field("model"), field("id"))?;
    person.toolbox().break_lock(&person.caller, &resource).await?;
    person.done(posted.next("/operate/locks"), "broken")
}

#[derive(Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    actor: String,
    #[serde(default)]
    subject: String,
    cursor: Option<String>,
}

pub(super) async fn audit(person: Person, Query(which): Query<Which>) -> Result<Response, Problem> {
    let operator = person.operator()?;
    let given = |text: &'_ str| !text.trim().is_empty() && !text.contains('\0');
    let filter = AuditFilter {
        actor: Some(which.actor.trim()).filter(|text| given(text)),
        subject: Some(which.subject.trim()).filter(|text| given(text)),
        before: paging::before(which.cursor.as_deref())?,
    };
    let mut rows = operator.audit_log(&filter, LINES + 1).await?;
    let more = rows.len() as i64 > LINES;
    rows.truncate(LINES as usize);
    let next = rows.last().filter(|_| more).map(|last| {
        let pairs = [
            ("actor", &which.actor),
            ("subject", &which.subject),
            ("cursor", &last.id.to_string()),
        ];
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        person.toolbox().base_url().path(&format!("/operate/audit?{query}"))
    });
    let entries: Vec<Value> = rows
        .iter()
        .map(|entry| {
            context! {
                at => rfc3339(Some(entry.at)),
                actor => &entry.actor,
                action => &entry.action,
                subject => &entry.subject,
                detail => &entry.detail,
                request => entry.action.starts_with("request."),
            }
        })
        .collect();
    let own = context! { entries, next, actor => which.actor, subject => which.subject };
    person.page("page/operate/audit.html", own)
}
