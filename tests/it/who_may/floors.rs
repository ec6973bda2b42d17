//! `requester_only` of a file type is a floor.

use crate::support::TestApp;
use bgfiles::{
    Error, Toolbox,
    toolbox::{LinkOptions, Redeemer, Rules},
    visitor::Visitor,
};
use serde_json::{Map, json};

use super::{House, id, links, refused, registry};
use crate::support::{both, eventually};

/// Inserts by SQL with the columns that the README names, due at the fixed time.
macro_rules! insert {
    ($columns:literal, $values:literal) => {
        concat!(
            "INSERT INTO bgfiles_file_requests (requested_at, run_at, ",
            $columns,
            ") VALUES ('2026-03-01T12:00:00+00:00', '2026-03-01T12:00:00+00:00', ",
            $values,
            ")"
        )
    };
}

both!(no_door_opens_a_file_for_anybody_but_its_requester);
async fn no_door_opens_a_file_for_anybody_but_its_requester(app: TestApp) {
    let house = House::new(app.kind).await;
    let toolbox = &house.app.toolbox;
    // A plain INSERT, as in the README: its mail, its address, and a token of the host's own.
    house
        .app
        .sql(insert!("file_type, requester, requester_email", "'closed', 'amy', 'amy@example.com'"))
        .await;
    let row = house.made().await;
    assert_eq!(row.requester_only, None);
    house.app.deliver_notices().await;
    let mail = toolbox.mailer().sent().pop().unwrap().text;
    let mailed = mail.split_whitespace().find(|word| word.contains("/d/")).unwrap();
    house.is_amys_alone(mailed, "mailed").await;
    assert!(mail.contains("Only you can"), "{mail}");
    house.is_amys_alone(&toolbox.download_url(&row), "the address").await;
    let general = toolbox.create_general_token(&row, Map::new());
    house.is_amys_alone(&format!("http://files.example.com/d/{general}"), "a general token").await;
    let off = Rules { require_requester: false, verify_requester: false };
    assert!(matches!(
        toolbox.evaluate_request(&general, None, off).await,
        Err(Error::NotRequester)
    ));
    // Links: by the button, by POST and by PATCH; said, not said and null.
    let path = links(&row);
    assert_eq!(
        house
            .form(
                &house.amy,
                &format!("/files/{}/links", row.id),
                &[("max_uses", ""), ("days", "1")]
            )
            .await
            .0,
        303
    );
    for body in [json!({}), json!({"requester_only": null}), json!({"requester_only": true})] {
        let (status, link) = house.amy.post(&path, body.clone()).await;
        assert_eq!((status, &link["requester_only"]), (201, &json!(true)), "{body}");
    }
    let said = house.amy.post(&path, json!({"requester_only": false})).await;
    assert!(refused(&said), "{said:?}");
    assert_eq!(said.1["errors"][0]["field"], "requester_only");
    let one = house.amy.get(&path).await.1["items"][0]["jti"].as_str().unwrap().to_owned();
    assert_eq!(
        house.patch(&house.amy, &format!("{path}/{one}"), json!({"requester_only": false})).await.0,
        422
    );
    let urls = house.urls(&row).await;
    assert_eq!(urls.len(), 4);
    for url in urls {
        house.is_amys_alone(&url, "a link").await;
    }
    // Asking for it so; and where the type says nothing, `false` is nothing that is kept.
    let ask = json!({"file_type": "closed", "requester_only": false});
    for deliver in ["later", "auto", "now"] {
        let mut ask = ask.clone();
        ask["deliver"] = json!(deliver);
        let answer = house.amy.post("/api/requests", ask).await;
        assert!(refused(&answer), "{deliver}: {answer:?}");
    }
    let (status, body) = house
        .amy
        .post("/api/requests", json!({"file_type": "open", "requester_only": false}))
        .await;
    assert_eq!((status, house.app.row(id(&body)).await.requester_only), (202, None));
    // The page says whom links are for.
    let amy = &house.amy;
    let page = |path: String| async move {
        amy.call("GET", &path)
            .header("accept", "text/html")
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    let shown = page(format!("/files/{}", row.id)).await;
    assert!(
        shown.contains("for amy only")
            && shown.contains("The link is for amy only")
            && !shown.contains("for whoever"),
        "{shown}"
    );
    let open = house.made().await;
    house.amy.post(&links(&open), json!({})).await;
    let shown = page(format!("/files/{}", open.id)).await;
    assert!(
        shown.contains("for whoever has it") && shown.contains("Whoever has the link"),
        "{shown}"
    );
}

both!(one_request_is_loosened_by_who_may_and_what_is_always_so_by_nobody);
async fn one_request_is_loosened_by_who_may_and_what_is_always_so_by_nobody(app: TestApp) {
    let house = House::new(app.kind).await;
    let toolbox = &house.app.toolbox;
    let ask = |file_type: &str| json!({"file_type": file_type, "requester": {"id": "amy"}, "requester_only": false});
    for who in [&house.shop, &house.root] {
        let sealed = who.post("/api/requests", ask("sealed")).await;
        assert!(refused(&sealed), "{sealed:?}");
        let (status, body) = who.post("/api/requests", ask("closed")).await;
        assert_eq!(status, 202, "{body}");
        let row = house.made().await;
        assert_eq!((row.id, row.requester_only), (id(&body), Some(false)));
        assert_eq!(house.download(&toolbox.download_url(&row), None).await.0, 200);
        // It was for this request: asked for again, the type's word counts.
        let (status, _) = house.form(&house.amy, &format!("/files/{}/again", row.id), &[]).await;
        let again = house.made().await;
        assert_eq!((status, again.requester_only), (303, None));
        house.is_amys_alone(&toolbox.download_url(&again), "again").await;
        // Or for one link.
        let (status, link) = who.post(&links(&again), json!({"requester_only": false})).await;
        assert_eq!((status, &link["requester_only"]), (201, &json!(false)));
        assert_eq!(house.download(link["url"].as_str().unwrap(), None).await.0, 200);
        assert_eq!(
            house.download(link["url"].as_str().unwrap(), None).await.0,
            200,
            "out of memory"
        );
        // Taken back by SQL: a moment later, in every process.
        house.app.sql("UPDATE bgfiles_links SET requester_only = NULL").await;
        eventually("the type's word", 10, async || {
            (house.download(link["url"].as_str().unwrap(), None).await.0 == 403).then_some(())
        })
        .await;
    }
    for action in [
        "SELECT count(*) FROM bgfiles_audit WHERE action = 'request.loosen'",
        "SELECT count(*) FROM bgfiles_audit WHERE action = 'link.widen'",
    ] {
        assert_eq!(house.app.count(action).await, 2, "{action}");
    }
    // By SQL the application says so; but what is always so stays.
    house.app.sql(insert!("file_type, requester, requester_only", "'closed', 'amy', false")).await;
    assert_eq!(house.download(&toolbox.download_url(&house.made().await), None).await.0, 200);
    house.app.sql(insert!("file_type, requester, requester_only", "'sealed', 'amy', false")).await;
    let row = house.made().await;
    house.is_amys_alone(&toolbox.download_url(&row), "sealed").await;
    for who in [&house.amy, &house.shop, &house.root] {
        assert!(refused(&who.post(&links(&row), json!({"requester_only": false})).await));
    }
    // A file that nobody could download is not made.
    for sql in [
        insert!("file_type, requester_email", "'closed', 'amy@example.com'"),
        insert!("file_type, requester_only", "'sealed', false"),
    ] {
        house.app.sql(sql).await;
        assert_eq!(house.made().await.error_code.as_deref(), Some("requester_missing"));
    }
}

both!(what_is_loosened_is_audited_once_however_often_its_key_comes);
async fn what_is_loosened_is_audited_once_however_often_its_key_comes(app: TestApp) {
    let house = House::new(app.kind).await;
    let body = json!({"file_type": "closed", "requester": {"id": "amy"}, "requester_only": false});
    for replayed in [None, Some("true"), Some("true")] {
        let call = house.shop.call("POST", "/api/requests").header("idempotency-key", "k");
        let answer = call.json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let said = answer.headers().get("idempotency-replayed");
        assert_eq!(said.map(|value| value.to_str().unwrap()), replayed);
    }
    let lines = "SELECT count(*) FROM bgfiles_audit WHERE action = 'request.loosen'";
    assert_eq!(house.app.count(lines).await, 1);
}

both!(links_and_downloads_that_are_about_take_their_types_word);
async fn links_and_downloads_that_are_about_take_their_types_word(app: TestApp) {
    let house = House::new(app.kind).await;
    let toolbox = &house.app.toolbox;
    let row = house.finished("closed").await;
    // Of a release that had no such rule.
    let before = house.app.sibling_with(registry(true));
    let plain = before.toolbox.download_url(&row);
    let mut tx = before.toolbox.db().begin().await.unwrap();
    let (_, listed) =
        before.toolbox.create_link(&mut tx, &row, LinkOptions::default()).await.unwrap();
    tx.commit().await.unwrap();
    for url in [&plain, &listed] {
        let token = url.rsplit('/').next().unwrap();
        let visit = before.toolbox.visit(token, None).await.unwrap();
        assert!(visit.verdict.is_ok());
        let visitor = Visitor::default();
        let grant = before
            .toolbox
            .redeem(visit, Redeemer { user: None, visitor: &visitor, nonce: None })
            .await
            .unwrap();
        assert!(before.toolbox.evaluate_grant(&grant, None).await.is_ok());
        house.is_amys_alone(url, url).await;
        for who in [None, Some("bob")] {
            assert!(
                matches!(toolbox.evaluate_grant(&grant, who).await, Err(Error::NotRequester)),
                "{who:?}"
            );
        }
        assert!(toolbox.evaluate_grant(&grant, Some("amy")).await.is_ok());
    }
}

/// Rows of a database as it was before this release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_before_take_their_types_word() {
    use crate::support::postgres;
    use sqlx::migrate::Migrator;
    const FILL: [&str; 4] = [
        "INSERT INTO bgfiles_file_requests (file_type, requester, requester_only) VALUES ('closed', 'amy', true)",
        "INSERT INTO bgfiles_file_requests (file_type, requester, requester_only) VALUES ('closed', 'amy', false)",
        "INSERT INTO bgfiles_links (jti, request_id, requester_only, data, created_by, created_at, expires_at) \
            SELECT id, id, requester_only, '{}', 'amy', requested_at, requested_at FROM bgfiles_file_requests",
        "UPDATE bgfiles_file_requests SET status = 'finished'",
    ];
    const COUNTS: [(&str, i64); 6] = [
        ("SELECT count(*) FROM bgfiles_file_requests WHERE requester_only", 1),
        ("SELECT count(*) FROM bgfiles_file_requests WHERE requester_only IS NULL", 1),
        ("SELECT count(*) FROM bgfiles_links WHERE requester_only", 1),
        ("SELECT count(*) FROM bgfiles_links WHERE requester_only IS NULL", 1),
        // What counts them is there still.
        ("SELECT CAST(sum(n) AS bigint) FROM bgfiles_tally WHERE status = 'finished'", 2),
        (
            "SELECT count(*) FROM bgfiles_links l JOIN bgfiles_file_requests r ON r.id = l.request_id",
            2,
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let (name, postgres_url) = postgres::create_empty().await;
    for url in [format!("sqlite:{}", dir.path().join("old.db").display()), postgres_url] {
        let db = bgfiles::Db::open(&url).unwrap();
        let mut old =
            Migrator::new(std::path::Path::new("migrations").join(db.kind())).await.unwrap();
        old.migrations = old.migrations.iter().filter(|m| m.version < 12).cloned().collect();
        old.dangerous_set_table_name("_bgfiles_migrations");
        macro_rules! fill {
            ($pool:expr) => {{
                old.run($pool).await.unwrap();
                for sql in FILL {
                    sqlx::query(sql).execute($pool).await.unwrap();
                }
                Toolbox::migrate(&db).await.unwrap();
                for (sql, expected) in COUNTS {
                    let found: i64 = sqlx::query_scalar(sql).fetch_one($pool).await.unwrap();
                    assert_eq!(found, expected, "{sql}");
                }
            }};
        }
        match &db {
            bgfiles::Db::Postgres(pool) => fill!(pool),
            bgfiles::Db::Sqlite(pool) => fill!(pool),
        }
        db.close().await;
    }
    postgres::drop_database(name);
}
