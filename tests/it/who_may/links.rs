//! One policy for every door to a link; and how many of them, and how large.

use crate::support::TestApp;
use bgfiles::{file_request::links::store, toolbox::LinkOptions};
use serde_json::{Value, json};

use super::{House, links, refused};
use crate::support::{Caller, both};

both!(links_of_people_are_never_wider_than_their_type);
// {POST, PATCH, share, again, retry, SQL} × {max_uses, scanner_safe, requester_only, max_age}.
async fn links_of_people_are_never_wider_than_their_type(app: TestApp) {
    let house = House::new(app.kind).await;
    let (amy, toolbox) = (&house.amy, &house.app.toolbox);
    let narrow = |link: &Value| {
        assert_eq!(
            (&link["max_uses"], &link["scanner_safe"], &link["requester_only"]),
            (&json!(2), &json!(true), &json!(true)),
            "{link}"
        );
        assert_eq!(link["expires_at"], "2026-03-01T13:00:00Z");
    };
    // By SQL, asked for again, and tried again: the mailed link is as narrow.
    house
        .app
        .sql(
            "INSERT INTO bgfiles_file_requests (file_type, requester, requested_at, run_at) \
        VALUES ('narrow', 'amy', '2026-03-01T12:00:00+00:00', '2026-03-01T12:00:00+00:00')",
        )
        .await;
    let row = house.made().await;
    assert_eq!(house.form(amy, &format!("/files/{}/again", row.id), &[]).await.0, 303);
    let again = house.made().await;
    let failed = house.app.request("narrow", "").await;
    amy.post(&format!("/api/requests/{}/cancel", failed.id), json!({})).await;
    assert_eq!(amy.post(&format!("/api/requests/{}/retry", failed.id), json!({})).await.0, 202);
    for made in [&row, &again, &house.made().await] {
        let (_, list) = amy.get(&links(made)).await;
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
        narrow(&list["items"][0]);
    }
    // POST: what is not asked for is the type's; what is wider is refused, naming it.
    let path = links(&row);
    let (status, link) = amy.post(&path, json!({})).await;
    assert_eq!(status, 201);
    narrow(&link);
    let url = link["url"].as_str().unwrap();
    assert_eq!(house.download(url, None).await.0, 403);
    assert_eq!(house.download(url, Some(amy)).await.0, 303);
    assert_eq!(house.download(url, Some(amy)).await.0, 303);
    assert_eq!(house.download(url, Some(amy)).await, (403, "link_used_up".into()));
    for (field, wide) in [
        ("max_uses", json!(null)),
        ("max_uses", json!(3)),
        ("scanner_safe", json!(false)),
        ("requester_only", json!(false)),
        ("max_age", json!(3601)),
    ] {
        let answer = amy.post(&path, json!({field: wide})).await;
        assert!(refused(&answer), "POST {field} {wide}: {answer:?}");
        assert_eq!(answer.1["errors"][0]["field"], field);
    }
    let (status, link) = amy
        .post(
            &path,
            json!({"max_uses": 1, "max_age": 60, "scanner_safe": true, "requester_only": true}),
        )
        .await;
    assert_eq!(
        (status, &link["max_uses"], &link["expires_at"]),
        (201, &json!(1), &json!("2026-03-01T12:01:00Z")),
        "narrower is theirs to ask"
    );
    // PATCH, of the mailed link and of one's own.
    house.app.advance(1800);
    for link in amy.get(&path).await.1["items"].as_array().unwrap() {
        let one = format!("{path}/{}", link["jti"].as_str().unwrap());
        for (field, wide) in [
            ("max_uses", json!(null)),
            ("max_uses", json!(3)),
            ("scanner_safe", json!(false)),
            ("max_age", json!(1801)),
        ] {
            let answer = house.patch(amy, &one, json!({field: wide})).await;
            assert!(refused(&answer), "PATCH {field} {wide}: {answer:?}");
        }
        assert_eq!(house.patch(amy, &one, json!({"requester_only": false})).await.0, 422);
        assert_eq!(house.patch(amy, &one, json!({"max_age": 1800, "max_uses": 1})).await.0, 200);
    }
    // The button of the page.
    let share = format!("/files/{}/links", row.id);
    for form in [[("max_uses", "3"), ("days", "")], [("max_uses", "1"), ("days", "1")]] {
        let answer = house.form(amy, &share, &form).await;
        assert!(refused(&answer), "share {form:?}: {answer:?}");
    }
    assert_eq!(house.form(amy, &share, &[("max_uses", ""), ("days", "")]).await.0, 303);
    let made = &amy.get(&path).await.1["items"][0];
    assert_eq!(
        (&made["max_uses"], &made["scanner_safe"], &made["requester_only"], &made["expires_at"]),
        (&json!(2), &json!(true), &json!(true), &json!("2026-03-01T13:30:00Z"))
    );
    // The host's own calls are held to it, too, unless they say on whose word.
    let mut tx = toolbox.db().begin().await.unwrap();
    let wide = LinkOptions { max_uses: Some(None), ..LinkOptions::default() };
    assert_eq!(toolbox.create_link(&mut tx, &row, wide).await.unwrap_err().code(), "link_policy");
    drop(tx);
    assert_eq!(house.app.count("SELECT count(*) FROM bgfiles_audit").await, 0);
}

both!(applications_and_operators_widen_with_a_line_in_the_audit);
async fn applications_and_operators_widen_with_a_line_in_the_audit(app: TestApp) {
    let house = House::new(app.kind).await;
    let row = house.finished("narrow").await;
    let path = links(&row);
    let lines = async || {
        house.app.count("SELECT count(*) FROM bgfiles_audit WHERE action = 'link.widen'").await
    };
    for (number, who) in [&house.shop, &house.root].into_iter().enumerate() {
        let number = 2 * number as i64;
        // What nobody asks for is as the type says for them, too.
        let (status, link) = who.post(&path, json!({})).await;
        assert_eq!((status, &link["max_uses"], lines().await), (201, &json!(2), number));
        let one = format!("{path}/{}", link["jti"].as_str().unwrap());
        let (status, link) =
            house.patch(who, &one, json!({"max_uses": null, "max_age": 7200})).await;
        assert_eq!(
            (status, &link["max_uses"], &link["expires_at"], lines().await),
            (200, &json!(null), &json!("2026-03-01T14:00:00Z"), number + 1)
        );
        let (status, link) = who.post(&path, json!({"max_uses": null, "scanner_safe": false, "requester_only": false, "max_age": 7200})).await;
        assert_eq!((status, lines().await), (201, number + 2));
        assert_eq!(
            (&link["max_uses"], &link["scanner_safe"], &link["requester_only"]),
            (&json!(null), &json!(false), &json!(false))
        );
        for _ in 0..3 {
            assert_eq!(house.download(link["url"].as_str().unwrap(), None).await.0, 200);
        }
        // Its requester may end it sooner, and not widen it further.
        let one = format!("{path}/{}", link["jti"].as_str().unwrap());
        assert_eq!(house.patch(&house.amy, &one, json!({"max_age": 7000})).await.0, 200);
        assert!(refused(&house.patch(&house.amy, &one, json!({"max_age": 7100})).await));
    }
    let mut conn = house.app.toolbox.db().acquire().await.unwrap();
    let filter =
        bgfiles::operations::store::AuditFilter { actor: Some("shop"), ..Default::default() };
    let written = bgfiles::operations::store::audit_log(&mut conn, &filter, 10).await.unwrap();
    let widened = written.iter().find(|line| line.action == "link.widen").unwrap();
    assert!(
        widened.detail.ends_with(": requester_only, max_uses, scanner_safe, max_age"),
        "{written:?}"
    );
    assert_eq!(widened.subject, row.id.to_string());
}

both!(links_are_small_and_few_and_listed_in_pages);
async fn links_are_small_and_few_and_listed_in_pages(app: TestApp) {
    let house = House::new(app.kind).await;
    let amy = &house.amy;
    let row = house.finished("open").await;
    let path = links(&row);
    // `{"x":"…"}` is eight bytes more than what is in it.
    let of = |bytes: usize| json!({"data": {"x": "a".repeat(bytes - 8)}});
    assert_eq!(amy.post(&path, of(2048)).await.0, 201);
    for (who, bytes) in [(amy, 2049), (amy, 1_000_000), (&house.root, 2049)] {
        let (status, problem) = who.post(&path, of(bytes)).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("data")), "{bytes}");
    }
    // A hundred that are not over, also of many that come at once.
    let post = |caller: &Caller| caller.call("POST", &path).json(&json!({})).send();
    for _ in 0..94 {
        assert_eq!(post(amy).await.unwrap().status(), 201);
    }
    let many = futures::future::join_all((0..20).map(|_| post(amy))).await;
    let made = many.into_iter().filter(|answer| answer.as_ref().unwrap().status() == 201).count();
    assert_eq!(made, 5);
    for who in [amy, &house.root] {
        let (status, problem) = who.post(&path, json!({})).await;
        assert_eq!((status, &problem["code"]), (409, &json!("too_many_links")), "{problem}");
    }
    assert_eq!(
        house.form(amy, &format!("/files/{}/links", row.id), &[("max_uses", "1")]).await.0,
        409
    );
    // One that is over makes room; and takes it again when it is extended.
    let all = async || {
        let (mut jtis, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let (status, page) = amy.get(&format!("{path}?limit=30{cursor}")).await;
            assert_eq!(status, 200, "{page}");
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 30);
            jtis.extend(items.iter().map(|link| link["jti"].as_str().unwrap().to_owned()));
            pages += 1;
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return (jtis, pages),
            }
        }
    };
    let (jtis, pages) = all().await;
    let distinct: std::collections::BTreeSet<_> = jtis.iter().collect();
    assert_eq!((jtis.len(), distinct.len(), pages), (100, 100, 4));
    let (_, first) = amy.get(&path).await;
    assert_eq!(first["items"].as_array().unwrap().len(), 50, "a page when nobody says how many");
    for wrong in ["limit=0", "limit=201", "cursor=x"] {
        assert_eq!(amy.get(&format!("{path}?{wrong}")).await.0, 422, "{wrong}");
    }
    let one = format!("{path}/{}", jtis[0]);
    assert_eq!(house.patch(amy, &one, json!({"max_age": 1})).await.0, 200);
    house.app.advance(2);
    assert_eq!(post(amy).await.unwrap().status(), 201);
    let (status, problem) = house.patch(amy, &one, json!({"max_age": 60})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("too_many_links")));
    assert_eq!(
        amy.call("DELETE", &format!("{path}/{}", jtis[1])).send().await.unwrap().status(),
        204
    );
    assert_eq!(house.patch(amy, &one, json!({"max_age": 60})).await.0, 200);
    // The page shows those that work, however many there were.
    for _ in 0..3 {
        house.app.sql("UPDATE bgfiles_links SET revoked_at = '2026-03-01T12:00:00+00:00'").await;
        for _ in 0..60 {
            post(amy).await.unwrap();
        }
    }
    let shown = amy
        .call("GET", &format!("/files/{}", row.id))
        .header("accept", "text/html")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(shown.matches("data-select").count(), 60, "{shown}");
    assert_eq!(shown.matches("<li class=\"over\">").count(), 40);
    assert!(shown.contains("100 links are shown; there are more."));
    let mut conn = house.app.toolbox.db().acquire().await.unwrap();
    let now = house.app.toolbox.clock().now();
    assert_eq!(store::count_good(&mut conn, row.id, now).await.unwrap(), 60);
}
