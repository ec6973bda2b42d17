//! What has to hold whatever happened. Each finding is a line for people.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    evidence::{Evidence, Row},
    smtp::Taken,
    workload::expected_sha256,
};

/// Endings of a request.
const ENDED: [&str; 4] = ["finished", "failed", "cancelled", "expired"];

/// Crashes after which a request may be given up.
const MAX_ATTEMPTS: usize = 3;

pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut found = evidence.told.wrong.clone();
    acknowledged(evidence, &mut found);
    rows(evidence, &mut found);
    attempts(evidence, &mut found);
    objects(evidence, &mut found);
    mails(evidence, &mut found);
    uses(evidence, &mut found);
    processes(evidence, &mut found);
    found
}

/// Whoever was told that it is recorded, cancelled or deleted was told the truth.
fn acknowledged(evidence: &Evidence, found: &mut Vec<String>) {
    let row = |id| evidence.rows.iter().find(|row| row.id == id);
    let told = &evidence.told;
    for (tag, id) in &told.acknowledged {
        match row(*id) {
            Some(row) if row.tag() != tag => {
                found.push(format!("{id} was acknowledged for {tag} and is {}", row.tag()));
            }
            Some(_) => {}
            None if told.deleted.contains(id) || told.gone_soon.contains(id) => {}
            None => found.push(format!("{tag} ({id}) was acknowledged and is not there")),
        }
    }
    for id in &told.cancelled {
        if let Some(row) = row(*id).filter(|row| row.status != "cancelled") {
            found.push(format!("{} ({id}) was cancelled and is {}", row.tag(), row.status));
        }
    }
    for id in told.deleted.iter().filter(|id| row(**id).is_some()) {
        found.push(format!("{id} was deleted and is still there"));
    }
    let mut tags = BTreeMap::<_, usize>::new();
    for row in &evidence.rows {
        *tags.entry(row.tag()).or_default() += 1;
    }
    for (tag, count) in tags.into_iter().filter(|(_, count)| *count > 1) {
        found.push(format!("{tag} was asked for once and recorded {count} times"));
    }
}

/// Everything has ended, in a way that fits what was asked for.
fn rows(evidence: &Evidence, found: &mut Vec<String>) {
    let deaths = evidence.ended.iter().filter(|ended| ended.name.starts_with("worker")).count();
    for row in &evidence.rows {
        let name = format!("{} ({}, {})", row.tag(), row.id, row.file_type);
        if !ENDED.contains(&row.status.as_str()) {
            found.push(format!("{name} is {} for ever", row.status));
        }
        let error = row.error_code.as_deref().unwrap_or_default();
        match (row.file_type.as_str(), row.status.as_str()) {
            ("bounded", "finished") => {
                found.push(format!("{name} is finished in spite of its limit"))
            }
            ("bounded", "failed") if error == "too_many_rows" => {}
            (_, "failed") if error == "worker_died" && deaths >= MAX_ATTEMPTS => {}
            (_, "failed") => found.push(format!("{name} failed: {error}")),
            _ => {}
        }
    }
    if evidence.notices_waiting > 0 {
        found.push(format!("{} notices wait for ever", evidence.notices_waiting));
    }
    if evidence.left_open > 0 {
        found.push(format!("{} transactions are left open", evidence.left_open));
    }
}

/// The log of attempts: a line for each, but those that ended without a word.
fn attempts(evidence: &Evidence, found: &mut Vec<String>) {
    for row in &evidence.rows {
        let lines = evidence.attempts.iter().filter(|line| line.request_id == row.id);
        let lines: BTreeMap<i64, &str> =
            lines.map(|line| (line.generation, line.outcome.as_str())).collect();
        let name = format!("{} ({})", row.tag(), row.id);
        let has_ended = ["finished", "failed"].contains(&row.status.as_str());
        if has_ended && lines.get(&row.generation) != Some(&row.status.as_str()) {
            let last = lines.get(&row.generation).unwrap_or(&"no line");
            found.push(format!("{name} is {}, and its log says {last}", row.status));
        }
        let silent = (1..=row.generation).filter(|number| !lines.contains_key(number)).count();
        if silent > usize::try_from(row.crashes + row.lost).unwrap_or_default() {
            found.push(format!(
                "{name} lacks {silent} lines of {} attempts, and counts {} crashes, {} lost",
                row.generation, row.crashes, row.lost
            ));
        }
        if i64::from(row.attempts) > row.generation - i64::from(row.lost) {
            found
                .push(format!("{name} is charged {} attempts of {}", row.attempts, row.generation));
        }
        let finished = lines.values().filter(|outcome| **outcome == "finished").count();
        if finished > 1 {
            found.push(format!("{name} was finished {finished} times"));
        }
    }
}

/// One visible file for each finished row, with the right bytes, and nothing else.
fn objects(evidence: &Evidence, found: &mut Vec<String>) {
    let mut wanted = BTreeSet::new();
    for row in evidence.rows.iter().filter(|row| row.status == "finished") {
        let name = format!("{} ({})", row.tag(), row.id);
        let Some(key) = &row.storage_key else {
            found.push(format!("{name} is finished without a file"));
            continue;
        };
        if !key.starts_with(&format!("requests/{}/", row.id)) {
            found.push(format!("{name} has somebody else's file {key}"));
        }
        wanted.insert(key.clone());
        let expected = expected(row);
        if row.sha256.as_deref() != Some(&expected) {
            found.push(format!("{name}: the row's SHA-256 is not that of its rows"));
        }
        match evidence.objects.get(key) {
            None => found.push(format!("{name}: its file {key} is not there")),
            Some((size, sha256)) => {
                if *sha256 != expected || i64::try_from(*size).ok() != row.size {
                    found.push(format!("{name}: its file {key} has the wrong bytes"));
                }
            }
        }
    }
    for key in evidence.objects.keys().filter(|key| !wanted.contains(*key)) {
        found.push(format!("{key} is nobody's after a pass of the cleaner"));
    }
    found.extend(evidence.unfinished.iter().map(|name| format!("{name} is left of an upload")));
}

pub fn expected(row: &Row) -> String {
    let rows = row.criterion("upto").and_then(|rows| rows.parse().ok()).unwrap_or_default();
    expected_sha256(&row.file_type, rows, row.tag())
}

/// At least one mail about each end, the same one if it came again, and again only for a reason.
fn mails(evidence: &Evidence, found: &mut Vec<String>) {
    let mut by_address = BTreeMap::<&str, Vec<&Taken>>::new();
    for mail in &evidence.mails {
        by_address.entry(&mail.to).or_default().push(mail);
    }
    for row in &evidence.rows {
        let is_told = row.notify && ["finished", "failed"].contains(&row.status.as_str());
        let mails = by_address.get(row.requester_email.as_str()).map_or(0, Vec::len);
        if is_told && mails == 0 {
            found.push(format!("nobody was told that {} is {}", row.tag(), row.status));
        }
        if !row.notify && mails > 0 {
            found.push(format!("{} was mailed although nobody wanted to be told", row.tag()));
        }
    }
    for (address, mut copies) in by_address {
        copies.sort_by_key(|mail| mail.at);
        let (first, last) = (copies[0], copies[copies.len() - 1]);
        if copies.iter().any(|mail| mail.message_id != first.message_id) {
            found.push(format!("{address} got mails with different Message-IDs"));
        }
        let slack = Duration::from_secs(2);
        let reasons = evidence
            .disruptions
            .iter()
            .filter(|one| one.from <= last.at && one.to + slack >= first.at)
            .count();
        let unanswered = copies.iter().filter(|mail| !mail.answered).count();
        if copies.len() - 1 > reasons + unanswered {
            found.push(format!(
                "{address} got {} copies of a mail with {reasons} reasons for it",
                copies.len()
            ));
        }
    }
}

/// No limit is passed, and each use is in the log.
fn uses(evidence: &Evidence, found: &mut Vec<String>) {
    for link in &evidence.links {
        let Some(most) = link.max_uses else { continue };
        if link.uses > most {
            found.push(format!("link {} was used {} times of {most}", link.jti, link.uses));
        }
        if link.grants != i64::from(link.uses) || link.redeemed != i64::from(link.uses) {
            found.push(format!(
                "link {}: {} uses, {} grants, {} lines in its log",
                link.jti, link.uses, link.grants, link.redeemed
            ));
        }
    }
    for (jti, most, let_in) in &evidence.told.links {
        let link = evidence.links.iter().find(|link| link.jti == *jti);
        if let_in > most || link.is_some_and(|link| i64::from(*let_in) > i64::from(link.uses)) {
            found.push(format!("link {jti} let {let_in} in of {most}, and counts {link:?}"));
        }
    }
    for token in &evidence.tokens {
        if token.used > token.max_uses || token.logged != i64::from(token.used) {
            found.push(format!(
                "request token {}: {} uses of {}, {} lines in its log",
                token.id, token.used, token.max_uses, token.logged
            ));
        }
    }
    for (id, most, let_in) in &evidence.told.tokens {
        let used = evidence.tokens.iter().find(|token| token.id == *id).map(|token| token.used);
        if let_in > most || used.is_none_or(|used| i64::from(*let_in) > i64::from(used)) {
            found
                .push(format!("request token {id} let {let_in} in of {most}, and counts {used:?}"));
        }
    }
}

/// Nobody ended who was not made to.
fn processes(evidence: &Evidence, found: &mut Vec<String>) {
    for ended in &evidence.ended {
        if !ended.is_expected() {
            found.push(format!("{} ended by itself: {}", ended.name, ended.status));
        }
        if ended.asked == Some("TERM") && ended.took > evidence.drain {
            found.push(format!("{} took {:?} to end after SIGTERM", ended.name, ended.took));
        }
    }
}
