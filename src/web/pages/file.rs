//! A request as pages show it.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use minijinja::{Value, context};

use super::Person;
use crate::{
    auth_token::Role,
    error::{Result, went_wrong},
    file_request::{FileRequest, Status, links::Link, model::rfc3339, notice::NoticeStatus},
    mail,
    messages::fill,
    toolbox::{History, Toolbox},
    web::api::requests::request_id,
};

/// Share of the work that is done, and how long the rest takes if it goes on like that.
fn progress(row: &FileRequest, now: DateTime<Utc>) -> (Option<i64>, Option<i64>) {
    let Some(total) = row.progress_total.filter(|total| *total > 0) else { return (None, None) };
    let done = row.progress_done.clamp(0, total);
    // The last percent is publishing; an estimate may have been low, too.
    let percent = (done.saturating_mul(100) / total).min(99);
    let elapsed = row.started_at.map_or(0, |began| (now - began).num_milliseconds());
    // The clock of the first attempt says nothing about the second one.
    let known = row.attempts == 1 && done > 0 && elapsed > 1000;
    let left =
        known.then(|| ((total - done) as f64 / done as f64 * elapsed as f64 / 1000.0) as i64);
    (Some(percent), left)
}

/// What `f` is in templates.
pub(super) fn card(person: &Person, row: &FileRequest) -> Value {
    let (toolbox, caller) = (person.toolbox(), &person.caller);
    let now = toolbox.clock().now();
    let language = person.view.language;
    let handler = toolbox.registry().get(row.file_type.as_str()).ok();
    let title = handler.map_or_else(|| row.file_type.to_string(), |h| h.title(language));
    let over = row.is_expired(now) && row.status == Status::Finished;
    let status = if over { Status::Expired } else { row.status };
    let ready = status == Status::Finished;
    let (percent, eta) = progress(row, now);
    let requests = person.requests();
    let own = requests.owns(row);
    let criteria: Vec<[String; 2]> = match row.criteria() {
        Ok(criteria) => {
            let schema = handler.map(|h| h.criteria_schema(language)).unwrap_or_default();
            let label = |name: &str| {
                let title = schema["properties"][name]["title"].as_str();
                title.unwrap_or(name).to_owned()
            };
            criteria.iter().map(|(name, value)| [label(name), value.to_owned()]).collect()
        }
        Err(_) => Vec::new(),
    };
    // A link bound to somebody else is of no use to an operator.
    let bound = toolbox.is_bound(row, None);
    let download_url = (ready && (own || !bound)).then(|| toolbox.download_url(row));
    let may_ask = requests.file_type(row.file_type.as_str()).is_ok();
    let may_retry = requests.check_retry(row).is_ok();
    context! {
        id => row.id.to_string(),
        description => if row.description.is_empty() { &title } else { &row.description },
        title => title,
        file_type => row.file_type.as_str(),
        format => &row.format,
        status => status.as_str(),
        live => !row.status.is_terminal(),
        percent,
        eta,
        done => row.progress_done,
        total => row.progress_total,
        estimated => row.progress_estimated,
        cancel_requested => row.cancel_requested,
        rows => row.rows,
        size => row.size,
        sha256 => &row.sha256,
        filename => &row.filename,
        error => row.error_message.as_deref().map(|text| told(person, row, text)),
        cause => row.error_cause.as_deref().filter(|_| caller.role == Role::Staff),
        run_at => rfc3339(Some(row.run_at)),
        requested_at => rfc3339(Some(row.requested_at)),
        finished_at => rfc3339(row.finished_at),
        expires_at => rfc3339(row.expires_at),
        requester => &row.requester,
        email => &row.requester_email,
        notify => row.notify,
        foreign => !own,
        downloads => row.downloads,
        limit => row.download_limit,
        criteria,
        download_url,
        can => context! {
            cancel => !row.status.is_terminal() && !row.cancel_requested,
            retry => matches!(row.status, Status::Failed | Status::Cancelled) && may_retry,
            again => row.status.is_terminal() && may_ask,
            share => ready,
            edit => row.status != Status::Expired,
            delete => row.status.is_terminal(),
            expire => ready,
            mail => ready || row.status == Status::Failed,
        },
    }
}

/// What its requester reads of an error: in their language where it is a text of ours.
fn told(person: &Person, row: &FileRequest, message: &str) -> String {
    let texts = person.toolbox().templates().messages();
    match texts.get(person.view.language, "file.went_wrong") {
        Some(text) if message == went_wrong(row.id) => fill(text, |_| Some(row.id.to_string())),
        _ => capitalized(message),
    }
}

/// With a capital letter, as a sentence.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The request of a path, if it is theirs to see.
pub(super) async fn of_path(person: &Person, id: &str) -> Result<FileRequest> {
    person.requests().find(request_id(id)?).await
}

/// What a new link can be, and whom it is for, as templates show it.
pub(super) fn share(person: &Person, row: &FileRequest) -> Value {
    let policy = person.toolbox().link_policy(row.file_type.as_str());
    let days = policy.max_age.map(|age| age.as_secs() / 86_400);
    context! {
        for_requester => person.toolbox().is_bound(row, None),
        max_uses => policy.max_uses.map(NonZeroU32::get),
        days,
        // Who may widen is not kept from it by the form.
        held => person.caller.role == Role::User,
    }
}

/// The links of a request, as templates show them.
pub(super) fn links(toolbox: &Toolbox, row: &FileRequest, links: &[Link]) -> Vec<Value> {
    let now = toolbox.clock().now();
    let state = |link: &Link| {
        if link.revoked_at.is_some() {
            "revoked"
        } else if link.not_before.is_some_and(|at| at > now) {
            "early"
        } else if link.denial(now).is_some() {
            "over"
        } else {
            "works"
        }
    };
    let one = |link: &Link| {
        let state = state(link);
        context! {
            jti => link.jti.to_string(),
            url => toolbox.link_url(row, link),
            for_requester => toolbox.is_bound(row, Some(link)),
            state,
            works => matches!(state, "works" | "early"),
            uses => link.uses,
            max_uses => link.max_uses,
            expires_at => rfc3339(Some(link.expires_at)),
        }
    };
    links.iter().map(one).collect()
}

/// What happened to a request, the first thing first.
pub(super) fn timeline(person: &Person, row: &FileRequest, history: &History) -> Vec<Value> {
    let mut lines: Vec<(DateTime<Utc>, String, String, &str)> = Vec::new();
    let mut line =
        |at, what: &str, text: String, tone| lines.push((at, what.to_owned(), text, tone));
    let who = row.requester.clone().unwrap_or_else(|| row.requester_email.clone());
    line(row.requested_at, "requested", who, "");
    let mut expected = 1;
    for attempt in &history.attempts {
        // Generations without a word before one that has one.
        if attempt.generation > expected {
            line(attempt.started_at, "attempt_lost", String::new(), "bad");
        }
        expected = attempt.generation + 1;
        let tone = match attempt.outcome {
            Status::Finished => "good",
            Status::Failed => "bad",
            _ => "",
        };
        let staff = person.caller.role == Role::Staff;
        let worker = if staff { attempt.worker.as_str() } else { "" };
        let cause = attempt.cause.clone().filter(|_| staff);
        let error = attempt.error.as_deref().map(|text| told(person, row, text));
        let text = match (cause.or(error), worker) {
            (Some(error), "") => error,
            (Some(error), worker) => format!("{error} ({worker})"),
            (None, "") => String::new(),
            (None, worker) => format!("({worker})"),
        };
        line(attempt.ended_at, &format!("attempt_{}", attempt.outcome.as_str()), text, tone);
    }
    if row.status == Status::Running
        && let Some(at) = row.started_at
    {
        if history.attempts.is_empty() && row.crashes > 0 {
            line(at, "attempt_lost", String::new(), "bad");
        }
        line(at, "began", String::new(), "");
    }
    for notice in &history.notices {
        let failed = notice.status == NoticeStatus::Failed;
        let tone = if failed { "bad" } else { "" };
        let at = notice.done_at.unwrap_or(notice.created_at);
        let to = row.requester_email.clone();
        // What a mail server says is for operators; what is wrong with the address is for all.
        let wrong = mail::address(&to).err().filter(|_| failed);
        let error = notice.error.clone().filter(|_| person.caller.role == Role::Staff);
        let error = error.or(wrong.map(|why| format!("the address {why}")));
        let text = error.map_or(to.clone(), |error| format!("{to}: {error}"));
        line(at, &format!("mail_{}", notice.status.as_str()), text, tone);
    }
    for link in &history.links {
        line(link.created_at, "link", link.created_by.clone(), "");
        if let Some(at) = link.revoked_at {
            line(at, "link_revoked", String::new(), "");
        }
    }
    for hit in &history.hits {
        let who = hit.user_id.as_deref().or(hit.client_ip.as_deref()).unwrap_or_default();
        let agent: String = hit.user_agent.chars().take(80).collect();
        let reason = hit.reason.as_deref().map(|r| format!("{r} ")).unwrap_or_default();
        let times = if hit.times > 1 { format!("{} × ", hit.times) } else { String::new() };
        let text = format!("{times}{reason}{who} {agent}").trim().to_owned();
        let tone = if hit.event == "denied" { "bad" } else { "" };
        line(hit.timestamp, &hit.event, text, tone);
    }
    if row.status == Status::Finished
        && let Some(at) = row.expires_at
    {
        line(at, "expires", String::new(), "");
    }
    lines.sort_by_key(|(at, ..)| *at);
    let shown = lines.into_iter().map(|(at, what, text, tone)| {
        context! { at => rfc3339(Some(at)), what, text, tone }
    });
    shown.collect()
}
