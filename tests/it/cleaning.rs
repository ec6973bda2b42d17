//! The cleaner's sweeps beside the expiry of requests (see `file_requests`).

use bgfiles::{
    Status,
    cleaner::{self, Ended, Limits, Sweeps},
    storage::{Headers, Storage, StorageKey},
    toolbox::{Dispatched, IdempotencyKey},
};

use crate::support::{TestApp, app::Parts, both, child, s3};

both!(orphans_go_and_everything_referenced_stays);
async fn orphans_go_and_everything_referenced_stays(app: TestApp) {
    let kept = app.finished("hello", "").await;
    let running = app.request("hello", "").await;
    app.sql("UPDATE bgfiles_file_requests SET status = 'running', generation = 7 WHERE status = 'pending'").await;
    let put = |path: String| {
        let path = app.files().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    };
    put(format!("requests/{}/7", running.id));
    put(format!("requests/{}/6", running.id));
    put(format!("requests/{}/9", kept.id));
    put(format!("requests/{}/1", uuid::Uuid::new_v4()));
    put(format!("requests/{}/8#1", running.id));
    put("somebody/elses.txt".into());
    // The store's clock is the machine's: the app's must be past it for things to be old.
    let wait = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now())
        - app.toolbox.clock().now();
    app.toolbox.clock().advance(wait);
    let mut sweeps = Sweeps::default();
    sweeps.setting("expired_requests").unwrap().enabled = false;
    let swept = cleaner::clean(&app.toolbox, &sweeps, Limits::default()).await.unwrap();
    assert_eq!(
        (swept[0].name, swept[0].removed),
        ("orphan_objects", 0),
        "young ones are left alone"
    );
    app.advance(7 * 3600);
    let swept = cleaner::clean(&app.toolbox, &sweeps, Limits::default()).await.unwrap();
    assert_eq!((swept[0].removed, swept[0].ended), (4, Ended::Processed));
    let mut expected = vec![
        format!("requests/{}/7", running.id),
        kept.storage_key.clone().unwrap(),
        "somebody/elses.txt".into(),
    ];
    expected.sort();
    assert_eq!(app.objects(), expected);
}

both!(uploads_that_were_cut_off_are_given_up_in_a_bucket);
async fn uploads_that_were_cut_off_are_given_up_in_a_bucket(app: TestApp) {
    let endpoint = s3::serve(&app.dir.path().join("s3")).await;
    let storage = s3::storage(&endpoint, s3::SECRET);
    let app =
        TestApp::with(app.kind, Parts { storage: Some(storage.clone()), ..Parts::default() }).await;
    let row = app.request("hello", "").await;
    app.sql("UPDATE bgfiles_file_requests SET status = 'running', generation = 7").await;
    // Under way when its worker is killed: the first part is there.
    let cut_off = async |storage: &Storage, key: StorageKey| {
        let headers =
            Headers { content_type: "text/plain".into(), disposition: "attachment".into() };
        let (pieces, from) = tokio::sync::mpsc::channel(1);
        pieces.send(vec![b'x'; 9 << 20].into()).await.unwrap();
        let begun = async {
            while !storage.unfinished().await.unwrap().iter().any(|upload| upload.key == key) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            _ = storage.upload(key, &headers, from, async { Ok(()) }) => panic!("it ended"),
            () = begun => drop(pieces),
        }
    };
    let stranger =
        StorageKey { request: uuid::Uuid::new_v4().to_string().parse().unwrap(), generation: 1 };
    for generation in [5, 6, 7] {
        cut_off(&storage, StorageKey { request: row.id, generation }).await;
    }
    cut_off(&storage, stranger).await;
    // Of another installation, in the same bucket.
    let beside = s3::storage_at(&endpoint, "s3://bucket/some/prefix/of-another");
    cut_off(&beside, stranger).await;
    let clean = async || {
        let swept =
            cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
        let swept = swept.into_iter().find(|swept| swept.name == "orphan_objects").unwrap();
        (swept.removed, swept.failed)
    };
    // The store's clock is the machine's: the app's must be past it for things to be old.
    let wait = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now())
        - app.toolbox.clock().now();
    app.toolbox.clock().advance(wait);
    assert_eq!(clean().await, (0, 0), "young ones are left alone");
    app.advance(7 * 3600);
    assert_eq!(clean().await, (3, 0));
    let left = storage.unfinished().await.unwrap();
    let left: Vec<_> = left.iter().map(|upload| upload.key.generation).collect();
    assert_eq!(left, [7], "one is at work on it");
    app.sql("UPDATE bgfiles_file_requests SET status = 'cancelled'").await;
    assert_eq!(clean().await, (1, 0));
    assert_eq!(beside.unfinished().await.unwrap().len(), 1);
}

both!(a_bucket_that_keeps_its_uploads_secret_is_swept_all_the_same);
async fn a_bucket_that_keeps_its_uploads_secret_is_swept_all_the_same(app: TestApp) {
    let endpoint = s3::serve(&app.dir.path().join("s3")).await;
    let storage = s3::storage_at(&endpoint, &format!("s3://bucket/{}", s3::SECRETIVE));
    let app =
        TestApp::with(app.kind, Parts { storage: Some(storage.clone()), ..Parts::default() }).await;
    let error = storage.unfinished().await.unwrap_err().to_string();
    assert!(error.contains("403") && !error.contains("Signature="), "{error}");
    let row = app.finished("hello", "").await;
    app.sql("DELETE FROM bgfiles_file_requests").await;
    // The store's clock is the machine's.
    let wait = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now())
        - app.toolbox.clock().now();
    app.toolbox.clock().advance(wait);
    app.advance(7 * 3600);
    let swept = cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    let swept = swept.into_iter().find(|swept| swept.name == "orphan_objects").unwrap();
    assert_eq!((swept.removed, swept.failed), (1, 0), "the object of {}", row.id);
}

both!(the_leeway_lets_downloads_end);
async fn the_leeway_lets_downloads_end(app: TestApp) {
    let row = app.finished("hello", "").await;
    app.advance(86_400 + 3_599);
    let swept = cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    assert_eq!(swept[0].removed, 0);
    app.advance(1);
    let swept = cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    assert_eq!(swept[0].removed, 1);
    assert!(app.find(row.id).await.is_none() && app.objects().is_empty());
}

both!(a_removal_cut_in_the_middle_is_finished_next_time);
async fn a_removal_cut_in_the_middle_is_finished_next_time(app: TestApp) {
    let row = app.finished("hello", "").await;
    // The object is gone, the row still says so.
    std::fs::remove_file(app.files().join(row.storage_key.as_deref().unwrap())).unwrap();
    app.sql("UPDATE bgfiles_file_requests SET status = 'expired'").await;
    app.advance(90_001);
    let swept = cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    assert_eq!((swept[0].removed, swept[0].failed), (1, 0));
    assert!(app.find(row.id).await.is_none());
}

both!(a_running_request_is_never_removed);
async fn a_running_request_is_never_removed(app: TestApp) {
    app.request("hello", "").await;
    app.sql("UPDATE bgfiles_file_requests SET status = 'running', expires_at = '2020-01-01T00:00:00+00:00'").await;
    let swept = cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    assert_eq!(swept[0].removed, 0);
}

both!(failed_and_cancelled_requests_go_after_a_month);
async fn failed_and_cancelled_requests_go_after_a_month(app: TestApp) {
    let failed = app.request("permanent", "").await;
    assert_eq!(app.dispatch(failed.id).await, Dispatched::Failed);
    app.advance(29 * 86_400);
    cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    assert_eq!(app.row(failed.id).await.status, Status::Failed);
    app.advance(86_400 + 3_600);
    cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    assert!(app.find(failed.id).await.is_none());
}

both!(idempotency_keys_are_forgotten_after_a_day);
async fn idempotency_keys_are_forgotten_after_a_day(app: TestApp) {
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let key = IdempotencyKey { caller: "a", key: "k", fingerprint: "f", before: None };
    app.toolbox.add_request_once(&mut tx, TestApp::new_request("hello", ""), key).await.unwrap();
    tx.commit().await.unwrap();
    let keys = "SELECT count(*) FROM bgfiles_idempotency_keys";
    app.advance(86_400);
    cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    assert_eq!(app.count(keys).await, 1);
    app.advance(1);
    cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    assert_eq!(app.count(keys).await, 0);
}

both!(the_command_line_takes_named_limits_and_says_what_it_did);
async fn the_command_line_takes_named_limits_and_says_what_it_did(app: TestApp) {
    for _ in 0..3 {
        app.finished("hello", "").await;
    }
    app.sql("UPDATE bgfiles_file_requests SET expires_at = '2020-01-01T00:00:00+00:00'").await;
    let clean = |arguments: &[&str]| {
        let files = url::Url::from_file_path(app.files()).unwrap();
        let output = child::bgfiles()
            .args(["clean", "--database-url", &app.url, "--storage", files.as_str()])
            .args(["--mail", "memory:", "--jobs-dir", app.dir.path().to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().next().unwrap().to_owned()
    };
    assert_eq!(clean(&["--items", "1"]), "expired_requests: removed 1 of 3 (max_items)");
    // dj-bgfiles took --sleep for the timeout.
    let began = std::time::Instant::now();
    assert_eq!(
        clean(&["--sleep", "0.5", "--timeout", "100"]),
        "expired_requests: removed 2 of 2 (processed)"
    );
    assert!(began.elapsed() >= std::time::Duration::from_millis(500));
    assert_eq!(clean(&["--leeway", "0"]), "expired_requests: removed 0 of 0 (processed)");
}

#[test]
fn the_sweeps_are_read_strictly() {
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(dir.path().join("cleaner.toml"), text).unwrap();
    let load = || Sweeps::load(dir.path());
    assert_eq!(load().unwrap().setting("expired_requests").unwrap().keep, 3600);
    write("[expired_requests]\nkeep = 60\n[queue]\nenabled = false\nkeep = 1\n");
    let mut sweeps = load().unwrap();
    assert_eq!(sweeps.setting("expired_requests").unwrap().keep, 60);
    assert!(!sweeps.setting("queue").unwrap().enabled);
    write("[expired_requests]\nkeep = 60\nkeeep = 1\n");
    let error = load().unwrap_err().to_string();
    assert!(error.contains("cleaner.toml:3: ") && error.contains("keeep"), "{error}");
    write("[expired_requests]\nkeep = 60\n[session]\nkeep = 1\n");
    let error = load().unwrap_err().to_string();
    let near = "cleaner.toml:3: there is no sweep `session`; did you mean sessions?";
    assert!(error.contains(near), "{error}");
    assert!(sweeps.setting("session").unwrap_err().to_string().contains("sessions"));
    // What the project ships is what it runs with by default.
    let shipped = Sweeps::load(std::path::Path::new("jobs")).unwrap();
    assert_eq!(format!("{shipped:?}"), format!("{:?}", Sweeps::default()));
}
