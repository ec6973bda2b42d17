//! Names of files, from what somebody asks for to the header of the download.

use bgfiles::{Registry, auth_token::Role};
use serde_json::{Value, json};

use crate::{
    declared::define,
    support::{
        Caller, TestApp,
        app::{self, Parts},
        both,
    },
};

/// An app that offers `thing`, whose name is made by `filename`.
async fn offering(app: &TestApp, filename: &str) -> (TestApp, Caller) {
    let toml = format!(
        "formats = [\"csv\", \"csv.gz\"]\n{filename}query = \"SELECT :who AS who, :limit AS n\"\n\
         [criteria.who]\ntype = \"text\"\n[criteria.limit]\ntype = \"integer\"\n"
    );
    let mut registry = Registry::new();
    registry.register(define(app, &toml)).unwrap();
    let parts = Parts { registry: Some(registry), ..Parts::default() };
    let app = TestApp::with(app.kind, parts).await;
    let base = format!("http://{}", app.serve().await);
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    (app, shop)
}

/// The name in the request and the header of its download, which is also that of `now`.
async fn named(app: &TestApp, shop: &Caller, mut body: Value) -> (String, String) {
    body["file_type"] = "thing".into();
    let (status, made) = shop.post("/api/requests", body.clone()).await;
    assert_eq!(status, 202, "{made}");
    let id = made["id"].as_str().unwrap();
    app.dispatch(id.parse().unwrap()).await;
    let (_, done) = shop.get(&format!("/api/requests/{id}")).await;
    let link = done["download_url"].as_str().unwrap_or_else(|| panic!("{done}"));
    let link = link.replace("http://files.example.com", &shop.base);
    let header = |answer: reqwest::Response| {
        answer.headers()["content-disposition"].to_str().unwrap().to_owned()
    };
    let header_of_link = header(app.http.get(link).send().await.unwrap());
    body["deliver"] = "now".into();
    let now = shop.call("POST", "/api/requests").json(&body).send().await.unwrap();
    assert_eq!(header(now), header_of_link);
    (done["filename"].as_str().unwrap().to_owned(), header_of_link)
}

both!(a_name_that_is_given_ends_as_its_format);
async fn a_name_that_is_given_ends_as_its_format(app: TestApp) {
    let (app, shop) = offering(&app, "").await;
    for (given, format, name) in [
        ("Q1 results", "csv", "Q1 results.csv"),
        ("report.xlsx", "csv", "report.xlsx.csv"),
        ("report.CSV", "csv", "report.CSV"),
        ("report.csv", "csv.gz", "report.csv.gz"),
        ("report", "csv.gz", "report.csv.gz"),
        (".bashrc", "csv", "bashrc.csv"),
        ("-rf.csv", "csv", "rf.csv"),
        ("...", "csv", "thing.csv"),
    ] {
        let (stored, header) =
            named(&app, &shop, json!({"filename": given, "format": format})).await;
        assert_eq!(stored, name);
        assert_eq!(header, format!("attachment; filename=\"{name}\""));
    }
    // Written by hand, past the API.
    let mut new = TestApp::new_request("thing", "");
    new.format = Some("csv".into());
    let row = app.add(new).await;
    app.sql("UPDATE bgfiles_file_requests SET filename = '../Q2' WHERE status = 'pending'").await;
    app.dispatch(row.id).await;
    assert_eq!(app.row(row.id).await.filename, "Q2.csv");
}

both!(names_are_for_every_program);
async fn names_are_for_every_program(app: TestApp) {
    let (app, shop) = offering(&app, "filename = \"list-{who}-{limit}.{ext}\"\n").await;
    let day = "thing-2026-03-02.csv";
    for (who, name, plain) in [
        ("हिन्दी", "list-हिन्दी.csv", day),
        ("東京", "list-東京.csv", day),
        ("Fußball", "list-Fußball.csv", day),
        ("e\u{301}te\u{301}", "list-e\u{301}te\u{301}.csv", "list-ete.csv"),
        ("été", "list-été.csv", "list-ete.csv"),
    ] {
        // It is already the next day there.
        let body = json!({"criteria": {"who": who}, "timezone": "Pacific/Kiritimati"});
        let (stored, header) = named(&app, &shop, body).await;
        assert_eq!(stored, name);
        let encoded =
            percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let encoded = encoded.to_string().replace("%2D", "-").replace("%2E", ".");
        assert_eq!(header, format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"));
    }
    let (_, header) = named(&app, &shop, json!({"filename": "percent%41.csv"})).await;
    assert_eq!(
        header,
        "attachment; filename=\"percent_41.csv\"; filename*=UTF-8''percent%2541.csv"
    );
    for (limit, name) in [(-5, "list--5.csv"), (5, "list-5.csv")] {
        assert_eq!(named(&app, &shop, json!({"criteria": {"limit": limit}})).await.0, name);
    }
    // As long as is taken, and as long as file systems take.
    let long = format!("{}.csv", "東".repeat(196));
    let (stored, _) = named(&app, &shop, json!({"filename": long})).await;
    assert_eq!(stored, format!("{}.csv", "東".repeat(65)));
    let (status, problem) = shop
        .post("/api/requests", json!({"file_type": "thing", "filename": "x".repeat(201)}))
        .await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("filename")));
}

both!(a_name_without_a_word_tells_type_and_day);
async fn a_name_without_a_word_tells_type_and_day(app: TestApp) {
    let (app, shop) = offering(&app, "filename = \"{who}.{ext}\"\n").await;
    for (who, name) in
        [("", "thing-2026-03-02.csv"), ("../..", "thing-2026-03-02.csv"), ("x", "x.csv")]
    {
        let body = json!({"criteria": {"who": who}, "timezone": "Pacific/Kiritimati"});
        assert_eq!(named(&app, &shop, body).await.0, name);
    }
    let (stored, _) = named(&app, &shop, json!({"format": "csv.gz"})).await;
    assert_eq!(stored, "thing-2026-03-01.csv.gz");
    let row = app.request("thing", "").await;
    let file = std::io::Cursor::new(b"x".to_vec());
    let attached = app.toolbox.attach_file(
        row.id,
        file,
        bgfiles::toolbox::FileOverrides { filename: "東京.pdf".into(), ..Default::default() },
    );
    let row = attached.await.unwrap();
    let answer = app.http.get(format!("{}{}", shop.base, app.link(&row))).send().await.unwrap();
    assert_eq!(
        answer.headers()["content-disposition"],
        "attachment; filename=\"thing-2026-03-01.pdf\"; filename*=UTF-8''%E6%9D%B1%E4%BA%AC.pdf"
    );
    assert_eq!(app::json(answer).await.0, 200);
}
