//! What dj-bgfiles did: the numbered cases of its specification, and its bugs, absent.

use std::{io::Cursor, time::Duration};

use bgfiles::{
    Criteria, Error, NewFileRequest, Status,
    cleaner::{self, Ended, Limits, Sweeps},
    file_request::{filename::content_disposition, store},
    registry::{Job, MailKind},
    signer::Signer,
    toolbox::{Deliver, Dispatched, FileOverrides, IdempotencyKey, Response, Rules},
};
use chrono::TimeDelta;
use futures::TryStreamExt;
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use crate::support::{TestApp, both};

const BOTH_OFF: Rules = Rules { require_requester: false, verify_requester: false };

async fn to_handle(app: &TestApp) -> Vec<bgfiles::RequestId> {
    let mut tx = app.toolbox.db().read().await.unwrap();
    let rows =
        store::to_handle(&mut tx, &app.toolbox.known_types(), app.toolbox.clock().now(), 100)
            .await
            .unwrap();
    rows.into_iter().map(|row| row.id).collect()
}

fn only_requests() -> Sweeps {
    let mut sweeps = Sweeps::default();
    sweeps.setting("expired_requests").unwrap().keep = 0;
    sweeps.setting("orphan_objects").unwrap().enabled = false;
    sweeps.setting("queue").unwrap().enabled = false;
    sweeps.setting("idempotency_keys").unwrap().enabled = false;
    sweeps
}

both!(case_1_to_handle_is_unfinished_and_oldest_first);
async fn case_1_to_handle_is_unfinished_and_oldest_first(app: TestApp) {
    let first = app.request("hello", "").await;
    app.advance(1);
    let second = app.request("hello", "").await;
    app.advance(1);
    let third = app.request("hello", "").await;
    app.dispatch(second.id).await;
    assert_eq!(to_handle(&app).await, [first.id, third.id]);
    // A time of asking that lies ahead does not matter, only when it is due.
    app.toolbox.clock().advance(TimeDelta::seconds(-1));
    assert_eq!(to_handle(&app).await, [first.id]);
}

/// Three finished requests that expire one second after the other; none at first.
async fn three(app: &TestApp) -> Vec<bgfiles::RequestId> {
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(app.finished("hello", "").await.id);
        app.advance(1);
    }
    ids
}

both!(case_2_expiry_at_the_threshold_is_removed_and_later_is_kept);
async fn case_2_expiry_at_the_threshold_is_removed_and_later_is_kept(app: TestApp) {
    let ids = three(&app).await;
    let pending = app.request("hello", "").await;
    let expires = app.row(ids[1]).await.expires_at.unwrap();
    let ahead = expires - app.toolbox.clock().now();
    app.toolbox.clock().advance(ahead);
    let swept = cleaner::clean(&app.toolbox, &only_requests(), Limits::default()).await.unwrap();
    assert_eq!((swept[0].ended, swept[0].removed, swept[0].total), (Ended::Processed, 2, Some(2)));
    assert!(app.find(ids[0]).await.is_none() && app.find(ids[1]).await.is_none());
    // Later, and never.
    assert!(app.find(ids[2]).await.is_some() && app.find(pending.id).await.is_some());
}

both!(case_3_max_items_removes_the_earliest_only);
async fn case_3_max_items_removes_the_earliest_only(app: TestApp) {
    let ids = three(&app).await;
    app.advance(90_000);
    let limits = Limits { items: Some(1), timeout: Some(Duration::ZERO), ..Limits::default() };
    let swept = cleaner::clean(&app.toolbox, &only_requests(), limits).await.unwrap();
    assert_eq!((swept[0].ended, swept[0].removed, swept[0].total), (Ended::MaxItems, 1, Some(3)));
    assert!(app.find(ids[0]).await.is_none() && app.find(ids[1]).await.is_some());
}

both!(case_4_a_timeout_of_nothing_removes_exactly_one);
async fn case_4_a_timeout_of_nothing_removes_exactly_one(app: TestApp) {
    three(&app).await;
    app.advance(90_000);
    let limits = Limits { timeout: Some(Duration::ZERO), ..Limits::default() };
    let swept = cleaner::clean(&app.toolbox, &only_requests(), limits).await.unwrap();
    assert_eq!((swept[0].ended, swept[0].removed, swept[0].total), (Ended::Timeout, 1, Some(3)));
}

both!(case_5_it_sleeps_between_removals_only);
async fn case_5_it_sleeps_between_removals_only(app: TestApp) {
    three(&app).await;
    app.advance(90_000);
    let began = std::time::Instant::now();
    let limits = Limits { sleep: Duration::from_millis(300), ..Limits::default() };
    let swept = cleaner::clean(&app.toolbox, &only_requests(), limits).await.unwrap();
    assert_eq!(swept[0].removed, 3);
    // At least: how much longer is the machine's affair.
    assert!(began.elapsed() >= Duration::from_millis(600));
}

both!(case_6_and_7_attaching_keeps_what_no_override_changes_and_deleting_takes_the_file);
async fn case_6_and_7_attaching_keeps_what_no_override_changes_and_deleting_takes_the_file(
    app: TestApp,
) {
    let mut new = TestApp::new_request("hello", "");
    new.filename = Some("kept.txt".into());
    let row = app.add(new).await;
    let content = Cursor::new(b"attached".to_vec());
    let overrides = FileOverrides { content_type: "text/x-note".into(), ..Default::default() };
    let row = app.toolbox.attach_file(row.id, content, overrides).await.unwrap();
    assert_eq!(row.status, Status::Finished);
    assert_eq!((row.filename.as_str(), row.content_type.as_str()), ("kept.txt", "text/x-note"));
    assert_eq!(row.size, Some(8));
    assert_eq!(row.finished_at, Some(app.toolbox.clock().now()));
    let again = app.toolbox.attach_file(row.id, Cursor::new(b"newer"), FileOverrides::default());
    let again = again.await.unwrap();
    assert_eq!((again.filename, again.content_type), (row.filename, row.content_type));
    app.toolbox.delete(again.id).await.unwrap();
    assert!(app.find(again.id).await.is_none());
    // The first object is an orphan now, and swept as one.
    assert_eq!(app.objects().len(), 1);
}

both!(attach_local_file_takes_bytes_and_the_files_name);
async fn attach_local_file_takes_bytes_and_the_files_name(app: TestApp) {
    // dj-bgfiles opened it in text mode.
    let path = app.dir.path().join("données.bin");
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    std::fs::write(&path, &bytes).unwrap();
    let row = app.request("hello", "").await;
    let row = app.toolbox.attach_local_file(row.id, &path, FileOverrides::default()).await.unwrap();
    assert_eq!((row.filename.as_str(), row.size), ("données.bin", Some(300_000)));
    let file = app.toolbox.serve(&row).unwrap();
    let read: Vec<_> = file.read(0, file.size).await.unwrap().try_collect().await.unwrap();
    assert_eq!(read.concat(), bytes);
    let missing =
        app.toolbox.attach_local_file(row.id, "/no/such".as_ref(), FileOverrides::default());
    assert!(matches!(missing.await, Err(Error::Io { .. })));
}

#[test]
fn case_8_expire_in() {
    let now = crate::support::app::start();
    let mut row = TestApp::new_request("hello", "").into_row(now);
    row.expire_in(TimeDelta::hours(1), now);
    assert_eq!(row.expires_at, Some(now + TimeDelta::hours(1)));
    assert!(!row.is_expired(now) && row.is_expired(now + TimeDelta::hours(1)));
}

both!(case_9_and_10_and_11_tokens_carry_what_they_should);
async fn case_9_and_10_and_11_tokens_carry_what_they_should(app: TestApp) {
    let row = app.finished("hello", "").await;
    let mut extra = Map::new();
    extra.insert("note".into(), json!("Fußball"));
    let token = app.toolbox.create_token(&row, extra.clone()).unwrap();
    let (claims, _) = app.toolbox.decode(&token, true).await.unwrap();
    assert_eq!(claims.data["note"], "Fußball");
    assert_eq!(claims.data["kind"], "hello", "the handler's own data");
    assert_eq!(claims.data["id"], row.id.to_string(), "the id is text");
    assert_eq!(claims.requester.as_deref(), Some("amy"));
    // The caller's data is left alone (dj-bgfiles changed it).
    assert_eq!(extra.len(), 1);
    let general = app.toolbox.create_general_token(&row, Map::new());
    let (claims, _) = app.toolbox.decode(&general, false).await.unwrap();
    assert_eq!(claims.requester, None);
    // The keys that decide cannot be smuggled in as data.
    let mut forged = Map::new();
    forged.insert("requester".into(), json!("mallory"));
    forged.insert("id".into(), json!("another"));
    let general = app.toolbox.create_general_token(&row, forged);
    let (claims, found) = app.toolbox.decode(&general, false).await.unwrap();
    assert_eq!((claims.requester, found.id), (None, row.id));
    let mut new = TestApp::new_request("hello", "");
    new.requester.id = None;
    let nobodys = app.add(new).await;
    assert!(matches!(app.toolbox.create_token(&nobodys, Map::new()), Err(Error::Invalid(_))));
    let general = app.toolbox.create_general_token(&nobodys, Map::new());
    assert!(app.toolbox.decode(&general, false).await.is_ok());
}

both!(case_12_a_requester_changed_since_finds_nothing);
async fn case_12_a_requester_changed_since_finds_nothing(app: TestApp) {
    let row = app.finished("hello", "").await;
    let token = app.toolbox.create_token(&row, Map::new()).unwrap();
    app.sql("UPDATE bgfiles_file_requests SET requester = 'bob'").await;
    assert!(matches!(app.toolbox.decode(&token, true).await, Err(Error::NotFound(_))));
}

both!(case_13_a_missing_requester_is_noticed_before_a_missing_row);
async fn case_13_a_missing_requester_is_noticed_before_a_missing_row(app: TestApp) {
    let row = app.finished("hello", "").await;
    let general = app.toolbox.create_general_token(&row, Map::new());
    app.toolbox.delete(row.id).await.unwrap();
    assert!(matches!(app.toolbox.decode(&general, true).await, Err(Error::BadToken(_))));
    assert!(matches!(app.toolbox.decode(&general, false).await, Err(Error::NotFound(_))));
}

both!(case_14_and_15_serving_without_file_type_or_name);
async fn case_14_and_15_serving_without_file_type_or_name(app: TestApp) {
    let row = app.request("hello", "").await;
    assert!(matches!(app.toolbox.serve(&row), Err(Error::NotReady("pending"))));
    let row = app.toolbox.attach_file(row.id, Cursor::new(b"x"), FileOverrides::default());
    let file = app.toolbox.serve(&row.await.unwrap()).unwrap();
    assert_eq!((file.content_type.as_str(), file.disposition), ("application/octet-stream", None));
}

#[test]
fn case_16_content_disposition() {
    let names = [
        ("plain.csv", r#"attachment; filename="plain.csv""#),
        ("Fußball.pdf", r#"attachment; filename="Fuball.pdf"; filename*=UTF-8''Fu%C3%9Fball.pdf"#),
        ("a/b\\c\"d;e.txt", r#"attachment; filename="a b c d e.txt""#),
        // dj-bgfiles crashed on these.
        (
            "東京.pdf",
            r#"attachment; filename="download.pdf"; filename*=UTF-8''%E6%9D%B1%E4%BA%AC.pdf"#,
        ),
        ("東京", r#"attachment; filename="download"; filename*=UTF-8''%E6%9D%B1%E4%BA%AC"#),
        ("x\r\nSet-Cookie: a=b", r#"attachment; filename="xSet-Cookie: a=b""#),
        ("100%.txt", r#"attachment; filename="100_.txt"; filename*=UTF-8''100%25.txt"#),
        (".htaccess", r#"attachment; filename="htaccess""#),
        ("\u{202e}fdp.exe", r#"attachment; filename="fdp.exe""#),
        (
            "full\u{ff0f}width.txt",
            "attachment; filename=\"full width.txt\"; filename*=UTF-8''full%EF%BC%8Fwidth.txt",
        ),
        ("", "attachment"),
    ];
    for (name, header) in names {
        assert_eq!(content_disposition(name, true), header);
        assert!(http::HeaderValue::from_str(&content_disposition(name, true)).is_ok());
    }
    assert_eq!(content_disposition("a.txt", false), r#"inline; filename="a.txt""#);
}

both!(case_17_deleted_expired_altered);
async fn case_17_deleted_expired_altered(app: TestApp) {
    let row = app.finished("hello", "").await;
    let token = app.toolbox.create_token(&row, Map::new()).unwrap();
    let evaluate = async |token: String| {
        app.toolbox.evaluate_request(&token, Some("amy"), Rules::default()).await
    };
    assert!(evaluate(token.clone()).await.is_ok());
    assert!(matches!(evaluate(format!("{token}a")).await, Err(Error::BadToken(_))));
    app.advance(86_401);
    assert!(matches!(evaluate(token).await, Err(Error::LinkExpired)));
    let row = app.finished("hello", "").await;
    let token = app.toolbox.create_token(&row, Map::new()).unwrap();
    app.toolbox.delete(row.id).await.unwrap();
    assert!(matches!(evaluate(token).await, Err(Error::NotFound(_))));
}

both!(case_18_and_19_who_may);
async fn case_18_and_19_who_may(app: TestApp) {
    let row = app.finished("hello", "").await;
    let evaluate = async |token: &str, caller: Option<&str>, rules: Rules| {
        app.toolbox.evaluate_request(token, caller, rules).await.map(|row| row.id)
    };
    let (strict, off) = (Rules::default(), BOTH_OFF);
    let token = app.toolbox.create_token(&row, Map::new()).unwrap();
    assert!(matches!(evaluate(&token, Some("bob"), strict).await, Err(Error::NotRequester)));
    assert!(matches!(evaluate(&token, None, strict).await, Err(Error::NotRequester)));
    let lenient = Rules { verify_requester: false, ..strict };
    assert_eq!(evaluate(&token, Some("bob"), lenient).await.unwrap(), row.id);
    let general = app.toolbox.create_general_token(&row, Map::new());
    let require_off = Rules { require_requester: false, ..strict };
    assert!(matches!(evaluate(&general, Some("bob"), require_off).await, Err(Error::NotRequester)));
    assert!(matches!(evaluate(&general, Some("bob"), lenient).await, Err(Error::BadToken(_))));
    assert_eq!(evaluate(&general, None, off).await.unwrap(), row.id);
}

#[test]
fn case_20_criteria_are_kept_in_order_with_repeats_and_without_csrf() {
    let text = "b=2&a=1&csrfmiddlewaretoken=x&a=3&empty=&sp=a+b%26c&_csrf=y";
    let criteria = Criteria::from_query(text).unwrap();
    assert_eq!(criteria.encode(), "b=2&a=1&a=3&empty=&sp=a+b%26c");
    assert_eq!(criteria.get("a"), Some("3"), "the last, as a QueryDict answers");
    assert_eq!(criteria.get_all("a").collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(criteria.get("sp"), Some("a b&c"));
    assert_eq!(Criteria::from_query(&criteria.encode()).unwrap(), criteria);
    let json = json!({"b": 2, "a": ["x", true], "none": null, "csrf_token": "z"});
    assert_eq!(Criteria::from_json(&json).unwrap().encode(), "b=2&a=x&a=true&none=");
    for wrong in [json!([1]), json!(7), json!({"a": {"b": 1}}), json!("a=\0"), json!({"a": [[1]]})]
    {
        assert!(matches!(Criteria::from_json(&wrong), Err(Error::Invalid(_))), "{wrong}");
    }
    assert!(Criteria::from_query(&"x".repeat(20_000)).is_err());
}

both!(case_21_dispatch);
async fn case_21_dispatch(app: TestApp) {
    let row = app.request("hello", "name=Amy").await;
    assert_eq!(app.dispatch(row.id).await, Dispatched::Handled);
    assert_eq!(app.dispatch(row.id).await, Dispatched::Ignored);
    assert_eq!(app.seen.writes.load(std::sync::atomic::Ordering::SeqCst), 1);
    let row = app.row(row.id).await;
    assert_eq!(row.filename, "hello.txt", "dj-bgfiles lost it (bug 2)");
    assert_eq!(row.content_type, "text/plain");
    assert_eq!(row.size, Some("hello Amy in en UTC\n".len() as i64), "dj-bgfiles had none (bug 6)");
    assert_eq!(row.expires_at, Some(row.finished_at.unwrap() + TimeDelta::days(1)));
}

both!(case_22_now_or_later);
async fn case_22_now_or_later(app: TestApp) {
    let new = TestApp::new_request("hello", "small=1");
    match app.toolbox.respond_to(new, Deliver::Auto, None).await.unwrap() {
        Response::Now(file) => {
            assert_eq!(file.disposition, r#"attachment; filename="hello.txt""#);
            let bytes: Vec<_> = file.into_stream().try_collect().await.unwrap();
            assert_eq!(bytes.concat(), b"hello world in en UTC\n");
        }
        Response::Later(_) | Response::Earlier(_) => panic!("it is small"),
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_file_requests").await, 0);
    for (criteria, deliver) in [("", Deliver::Auto), ("small=1", Deliver::Later)] {
        let new = TestApp::new_request("hello", criteria);
        let made = app.toolbox.respond_to(new, deliver, None).await.unwrap();
        assert!(matches!(made, Response::Later(_)));
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_file_requests").await, 2);
}

both!(the_requesters_language_and_timezone_are_the_handlers);
async fn the_requesters_language_and_timezone_are_the_handlers(app: TestApp) {
    let mut new = TestApp::new_request("hello", "");
    (new.language, new.timezone) = (Some("nl".into()), Some("Europe/Amsterdam".into()));
    let row = app.add(new).await;
    app.dispatch(row.id).await;
    let file = app.toolbox.serve(&app.row(row.id).await).unwrap();
    let bytes: Vec<_> = file.read(0, file.size).await.unwrap().try_collect().await.unwrap();
    assert_eq!(bytes.concat(), b"hello world in nl Europe/Amsterdam\n");
}

both!(bug_4_a_new_token_does_not_extend_the_file);
async fn bug_4_a_new_token_does_not_extend_the_file(app: TestApp) {
    let row = app.finished("hello", "").await;
    app.advance(86_000);
    let token = app.toolbox.create_general_token(&row, Map::new());
    assert_eq!(app.row(row.id).await.expires_at, row.expires_at);
    app.advance(400);
    let found = app.toolbox.evaluate_request(&token, None, BOTH_OFF).await;
    assert!(matches!(found, Err(Error::FileExpired)));
}

both!(bug_5_one_failure_stands_in_nobodys_way);
async fn bug_5_one_failure_stands_in_nobodys_way(app: TestApp) {
    let bad = app.request("hello", "").await;
    app.sql("UPDATE bgfiles_file_requests SET file_type = 'gone'").await;
    let panics = app.request("panics", "").await;
    let permanent = app.request("permanent", "").await;
    let good = app.request("hello", "").await;
    assert_eq!(app.dispatch(bad.id).await, Dispatched::Ignored, "for others");
    assert_eq!(app.dispatch(panics.id).await, Dispatched::Retrying);
    assert_eq!(app.dispatch(permanent.id).await, Dispatched::Failed);
    assert_eq!(app.dispatch(good.id).await, Dispatched::Handled);
    app.toolbox.give_up_unknown("w").await.unwrap();
    app.advance(301);
    app.toolbox.give_up_unknown("w").await.unwrap();
    let bad = app.row(bad.id).await;
    assert_eq!(
        (bad.status, bad.error_code.as_deref()),
        (Status::Failed, Some("unknown_file_type"))
    );
    let permanent = app.row(permanent.id).await;
    assert_eq!(permanent.error_message.as_deref(), Some("there is no data for that year"));
    assert!(permanent.expires_at.is_some(), "failed rows are removed too (bug 7)");
    assert_eq!(app.objects().len(), 1, "half a file is none");
    let panics = app.row(panics.id).await;
    assert_eq!(panics.error_code.as_deref(), Some("handler_panicked"));
}

both!(bug_6_signed_nonsense_is_refused);
async fn bug_6_signed_nonsense_is_refused(app: TestApp) {
    let signer = Signer::new([crate::support::app::SECRET], "bgfiles", None).unwrap();
    for data in [
        json!({}),
        json!([1]),
        json!({"id": "x"}),
        json!({"id": [1]}),
        json!("text"),
        json!({"id": 5}),
    ] {
        let token = signer.sign(&data, app.toolbox.clock().now());
        assert!(
            matches!(app.toolbox.decode(&token, false).await, Err(Error::BadToken(_))),
            "{data}"
        );
    }
    assert!(matches!(app.toolbox.decode("", false).await, Err(Error::BadToken(_))));
}

both!(failures_are_tried_again_later_and_then_told);
async fn failures_are_tried_again_later_and_then_told(app: TestApp) {
    let row = app.request("flaky", "failures=9").await;
    for attempt in 1..=2 {
        assert_eq!(app.dispatch(row.id).await, Dispatched::Retrying);
        assert_eq!(app.dispatch(row.id).await, Dispatched::Ignored, "not before its time");
        let waiting = app.row(row.id).await;
        assert_eq!((waiting.status, waiting.attempts), (Status::Pending, attempt));
        let wait = (waiting.run_at - app.toolbox.clock().now()).num_milliseconds();
        let base = 5_000 << (attempt - 1);
        assert!((base * 3 / 4..=base * 5 / 4).contains(&wait), "{wait}");
        app.advance(60);
    }
    assert_eq!(app.dispatch(row.id).await, Dispatched::Failed);
    let failed = app.row(row.id).await;
    assert_eq!((failed.status, failed.attempts), (Status::Failed, 3));
    assert_eq!(app.deliver_notices().await, 1);
    assert!(app.toolbox.mailer().sent()[0].text.contains("the source is busy"));
    let retried = {
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let row = app.toolbox.retry(&mut tx, row.id).await.unwrap();
        tx.commit().await.unwrap();
        row
    };
    assert_eq!((retried.status, retried.attempts, retried.error_code), (Status::Pending, 0, None));
    let row = app.request("flaky", "failures=1").await;
    assert_eq!(app.dispatch(row.id).await, Dispatched::Retrying);
    app.advance(60);
    assert_eq!(app.dispatch(row.id).await, Dispatched::Handled);
    assert_eq!(app.row(row.id).await.error_code, None);
}

both!(a_handler_that_hangs_ends_at_its_timeout);
async fn a_handler_that_hangs_ends_at_its_timeout(app: TestApp) {
    let row = app.request("hangs", "").await;
    assert_eq!(app.dispatch(row.id).await, Dispatched::Failed);
    assert_eq!(app.row(row.id).await.error_code.as_deref(), Some("timeout"));
}

both!(row_and_wake_up_stand_or_fall_together);
async fn row_and_wake_up_stand_or_fall_together(app: TestApp) {
    let mut tx = app.toolbox.db().begin().await.unwrap();
    app.toolbox.add_request(&mut tx, TestApp::new_request("hello", "")).await.unwrap();
    drop(tx);
    let jobs = match app.kind {
        crate::support::Kind::Sqlite => "SELECT count(*) FROM Jobs",
        crate::support::Kind::Postgres => "SELECT count(*) FROM apalis.jobs",
    };
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_file_requests").await, 0);
    assert_eq!(app.count(jobs).await, 0);
    app.request("hello", "").await;
    assert_eq!(app.count(jobs).await, 1);
}

both!(an_idempotency_key_makes_one_request);
async fn an_idempotency_key_makes_one_request(app: TestApp) {
    let once = async |key: &str, criteria: &str, fingerprint: &str| {
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let key = IdempotencyKey { caller: "app", key, fingerprint, before: None };
        let new = TestApp::new_request("hello", criteria);
        let made = app.toolbox.add_request_once(&mut tx, new, key).await;
        tx.commit().await.unwrap();
        made.map(|row| row.id)
    };
    let first = once("k1", "a=1", "f1").await.unwrap();
    assert_eq!(once("k1", "a=1", "f1").await.unwrap(), first);
    assert!(matches!(
        once("k1", "a=2", "f2").await,
        Err(Error::Conflict { code: "idempotency_key_reused", .. })
    ));
    assert_ne!(once("k2", "a=1", "f1").await.unwrap(), first);
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_file_requests").await, 2);
    // Twenty at once.
    let mut racers = Vec::new();
    for _ in 0..20 {
        let toolbox = app.toolbox.clone();
        racers.push(tokio::spawn(async move {
            let mut tx = toolbox.db().begin().await.unwrap();
            let key = IdempotencyKey { caller: "app", key: "race", fingerprint: "f", before: None };
            let row = toolbox
                .add_request_once(&mut tx, TestApp::new_request("hello", ""), key)
                .await
                .unwrap();
            tx.commit().await.unwrap();
            row.id
        }));
    }
    let ids = futures::future::try_join_all(racers).await.unwrap();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_file_requests").await, 3);
}

both!(cancelling);
async fn cancelling(app: TestApp) {
    let cancel = async |id| {
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let row = app.toolbox.cancel(&mut tx, id).await;
        tx.commit().await.unwrap();
        row
    };
    let waiting = app.request("hello", "").await;
    assert_eq!(cancel(waiting.id).await.unwrap().status, Status::Cancelled);
    assert_eq!(app.dispatch(waiting.id).await, Dispatched::Ignored);
    assert!(matches!(cancel(waiting.id).await, Err(Error::Conflict { .. })));
    let running = app.request("slow", "seconds=60").await;
    let toolbox = app.toolbox.clone();
    let work = tokio::spawn(async move {
        toolbox.dispatch(running.id, "w", &CancellationToken::new()).await.unwrap()
    });
    crate::support::eventually("it runs", 10, async || {
        (app.row(running.id).await.status == Status::Running).then_some(())
    })
    .await;
    assert!(cancel(running.id).await.unwrap().cancel_requested);
    assert_eq!(work.await.unwrap(), Dispatched::Cancelled);
    assert_eq!(app.row(running.id).await.status, Status::Cancelled);
    assert!(app.objects().is_empty());
    assert_eq!(app.deliver_notices().await, 0, "nobody is told what they did themselves");
}

both!(wrong_requests_name_every_field);
async fn wrong_requests_name_every_field(app: TestApp) {
    let mut new = NewFileRequest::new("hello".parse().unwrap());
    new.requester.email = "no address".into();
    new.requester.id = Some(String::new());
    new.timezone = Some("Mars/Olympus".into());
    new.language = Some("en_US!".into());
    new.filename = Some("x".repeat(201));
    match app.toolbox.prepare(new) {
        Err(Error::Invalid(errors)) => {
            let fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
            for field in ["requester.email", "requester.id", "timezone", "language", "filename"] {
                assert!(fields.contains(&field), "{field} of {fields:?}");
            }
        }
        other => panic!("{other:?}"),
    }
    let unknown = NewFileRequest::new("nothing".parse().unwrap());
    assert!(matches!(app.toolbox.prepare(unknown), Err(Error::UnknownFileType(_))));
    let mut format = TestApp::new_request("rows", "");
    format.format = Some("docx".into());
    assert!(app.toolbox.prepare(format).unwrap_err().to_string().contains("csv, jsonl, xlsx"));
    let mut only = TestApp::new_request("hello", "");
    (only.requester.id, only.requester_only) = (None, Some(true));
    assert!(app.toolbox.prepare(only).unwrap_err().to_string().contains("requester.id"));
    assert!(app.toolbox.prepare(TestApp::new_request("hello", "bad=1")).is_err());
}

both!(a_job_written_by_hand_is_worked_off);
async fn a_job_written_by_hand_is_worked_off(app: TestApp) {
    // Enqueued by SQL: nobody woke a worker; nothing but the type is given.
    app.sql("INSERT INTO bgfiles_file_requests (file_type, requester_email) VALUES ('hello', 'amy@example.com')").await;
    app.toolbox.clock().advance(TimeDelta::days(3650));
    let id = to_handle(&app).await[0];
    assert_eq!(app.dispatch(id).await, Dispatched::Handled);
    let job = Job::new(app.row(id).await).unwrap();
    assert_eq!(job.language, "en");
    let recipients =
        app.toolbox.registry().get("hello").unwrap().recipients(&job.request, MailKind::Ready);
    assert_eq!(recipients, ["amy@example.com"]);
}
