//! What operators do to several requests at once.

use super::*;

const AUDIT: &str = "SELECT count(*) FROM bgfiles_audit";

both!(an_action_without_requests_says_what_to_tick);
async fn an_action_without_requests_says_what_to_tick(app: TestApp) {
    let staff = Person::new(&app, "root", Role::Staff).await;
    let failed = app.request("permanent", "").await;
    app.dispatch(failed.id).await;
    let audit = app.count(AUDIT).await;
    for action in ["retry", "cancel", "expire", "mail"] {
        let fields = [("action", action), ("next", "/operate/requests?status=failed")];
        let page = staff.post("/operate/requests", &fields).await;
        assert_eq!(page.status, 422, "{action}");
        assert!(page.shows("Nothing is ticked") && page.shows("role=\"alert\""), "{}", page.text);
        assert!(!page.shows("Done for"), "{}", page.text);
        // It is the list as it was.
        assert!(page.shows("value=\"failed\" selected"), "{}", page.text);
        assert!(page.shows(&failed.id.to_string()));
    }
    assert_eq!(app.count(AUDIT).await, audit);
    assert_eq!(app.row(failed.id).await.status.as_str(), "failed");
    let id = failed.id.to_string();
    let many: Vec<(&str, &str)> = vec![("id", id.as_str()); 201];
    let page = staff.post("/operate/requests", &[&many[..], &[("action", "mail")]].concat()).await;
    assert!(page.status == 422 && page.shows("at most 200"), "{}", page.text);
    assert_eq!(app.count(AUDIT).await, audit);
    let german = Person { language: "de", ..Person::nobody(&app).await };
    assert_eq!(german.log_in("root", PASSWORD).await.status, 303);
    let page = german.post("/operate/requests", &[("action", "retry")]).await;
    assert!(page.shows("Es ist nichts angekreuzt"), "{}", page.text);
}

both!(expiring_several_asks_first);
async fn expiring_several_asks_first(app: TestApp) {
    let staff = Person::new(&app, "root", Role::Staff).await;
    let rows = [app.finished("hello", "").await, app.finished("hello", "").await];
    let ids = rows.each_ref().map(|row| row.id.to_string());
    let mut fields: Vec<(&str, &str)> = ids.iter().map(|id| ("id", id.as_str())).collect();
    fields.extend([("action", "expire"), ("next", "/operate/requests?q=hello")]);
    let page = staff.post("/operate/requests", &fields).await;
    assert_eq!(page.status, 200);
    assert!(page.shows("Let 2 files expire now?") && page.shows("Expire 2 files"), "{}", page.text);
    for row in &rows {
        assert!(!app.row(row.id).await.is_expired(app.toolbox.clock().now()));
        assert!(page.shows(&format!("name=\"id\" value=\"{}\"", row.id)), "{}", page.text);
    }
    assert_eq!(
        app.count("SELECT count(*) FROM bgfiles_audit WHERE action = 'request.expire'").await,
        0
    );
    // The way back is to the list as it was.
    assert!(
        page.text.replace("&#x2f;", "/").contains("/operate/requests?q=hello"),
        "{}",
        page.text
    );
    fields.push(("sure", "yes"));
    let page = staff.post("/operate/requests", &fields).await;
    assert_eq!(page.location.as_deref(), Some("/operate/requests?q=hello&done=bulk"));
    for row in &rows {
        assert!(app.row(row.id).await.is_expired(app.toolbox.clock().now()));
    }
    assert_eq!(
        app.count("SELECT count(*) FROM bgfiles_audit WHERE action = 'request.expire'").await,
        2
    );
    // One by one, the page asks by itself.
    let row = app.finished("hello", "").await;
    let page = staff.get(&format!("/files/{}", row.id)).await;
    assert!(page.shows("Expire for good"), "{}", page.text);
}

both!(the_overview_says_how_many_slots_are_taken);
async fn the_overview_says_how_many_slots_are_taken(app: TestApp) {
    let staff = Person::new(&app, "root", Role::Staff).await;
    app.sql(
        "INSERT INTO bgfiles_workers (name, host, slots, started_at, seen_at, file_types) VALUES \
         ('w1', 'h', 8, '2026-03-01T12:00:00+00:00', '2026-03-01T12:00:00+00:00', 'hello')",
    )
    .await;
    // A worker holds leases of files that wait for their commit, too.
    app.sql(
        "INSERT INTO bgfiles_file_requests (file_type, description, status, lease_until, leased_by) \
         SELECT 'hello', 'number ' || i, 'running', '2026-03-01T12:00:10+00:00', 'w1' FROM \
         (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30) \
         SELECT i FROM n) AS numbers",
    )
    .await;
    let page = staff.get("/operate").await;
    assert!(page.shows("8 of 8 slots"), "{}", page.text);
    assert_eq!(page.text.matches(">number ").count(), 20, "{}", page.text);
    assert!(page.shows("and 10 more"), "{}", page.text);
    // Leases that ran out take no slot.
    app.advance(60);
    assert!(staff.get("/operate").await.shows("0 of 8 slots"));
}
