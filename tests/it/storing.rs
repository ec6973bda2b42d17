//! Storage: a folder, memory, and a real S3 wire.

use bgfiles::{
    Error, Status,
    storage::{Headers, Storage, StorageKey},
    toolbox::Dispatched,
};
use bytes::Bytes;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::support::{Kind, TestApp, app::Parts, both, s3};

fn headers() -> Headers {
    Headers { content_type: "text/x-test".into(), disposition: "attachment; filename=\"x\"".into() }
}

fn key(generation: i64) -> StorageKey {
    StorageKey { request: "6f8ac0ea-2a0c-4d6c-9d0c-6b1d2f6a5d10".parse().unwrap(), generation }
}

/// Stores `size` bytes; what they should read as.
async fn store(
    storage: &Storage,
    key: StorageKey,
    size: usize,
    end: Result<(), Error>,
) -> (Vec<u8>, Result<String, Error>) {
    let bytes: Vec<u8> = (0..size).map(|i| (i % 253) as u8).collect();
    let (to, from) = mpsc::channel(2);
    let chunks: Vec<Bytes> = bytes.chunks(1_000_003).map(Bytes::copy_from_slice).collect();
    tokio::spawn(async move {
        for chunk in chunks {
            if to.send(chunk).await.is_err() {
                break;
            }
        }
    });
    let stored = storage.upload(key, &headers(), from, async { end }).await;
    (bytes, stored.map(|stored| stored.sha256))
}

async fn read(storage: &Storage, key: StorageKey, from: u64, to: u64) -> Result<Vec<u8>, Error> {
    let chunks: Vec<Bytes> = storage.read(key, from, to).await?.try_collect().await?;
    Ok(chunks.concat())
}

/// What every storage must do.
async fn conforms(storage: &Storage) {
    storage.ping().await.unwrap();
    for (generation, size) in [(1, 0), (2, 10), (3, 9 << 20), (4, 20 << 20)] {
        let (bytes, sha256) = store(storage, key(generation), size, Ok(())).await;
        assert_eq!(sha256.unwrap(), bgfiles::ids::hex(&Sha256::digest(&bytes)));
        assert!(read(storage, key(generation), 0, size as u64).await.unwrap() == bytes);
        if size > 100 {
            assert_eq!(read(storage, key(generation), 7, 77).await.unwrap(), bytes[7..77]);
        }
    }
    for size in [5, 20 << 20] {
        let (_, failed) = store(storage, key(5), size, Err(Error::Cancelled)).await;
        assert!(matches!(failed, Err(Error::Cancelled)));
        assert!(
            matches!(read(storage, key(5), 0, 1).await, Err(Error::NotFound(_))),
            "not half of it"
        );
    }
    let mut listed: Vec<_> =
        storage.list().map_ok(|o| o.key.generation).try_collect().await.unwrap();
    listed.sort();
    assert_eq!(listed, [1, 2, 3, 4]);
    storage.delete(key(3)).await.unwrap();
    storage.delete(key(3)).await.unwrap();
    assert!(matches!(read(storage, key(3), 0, 1).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_folder_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let url = url::Url::from_file_path(dir.path()).unwrap();
    let storage = Storage::open(url.as_str(), &[]).unwrap();
    conforms(&storage).await;
    let leftovers = walk(dir.path()).into_iter().filter(|name| name.contains('#')).count();
    assert_eq!(leftovers, 0, "files appear by rename, and drafts are removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_stored_at_the_same_time_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let url = url::Url::from_file_path(dir.path()).unwrap();
    let storage = Storage::open(url.as_str(), &[]).unwrap();
    let uploads = (0..200_usize).map(|size| {
        let (storage, key) = (
            storage.clone(),
            StorageKey {
                request: uuid::Uuid::new_v4().to_string().parse().unwrap(),
                generation: 1,
            },
        );
        tokio::spawn(async move {
            let (bytes, stored) = store(&storage, key, size, Ok(())).await;
            stored.unwrap();
            // At once: whoever waited for the disk for others must not have been too early for itself.
            assert!(read(&storage, key, 0, size as u64).await.unwrap() == bytes);
        })
    });
    for upload in uploads.collect::<Vec<_>>() {
        upload.await.unwrap();
    }
    assert_eq!(storage.list().try_collect::<Vec<_>>().await.unwrap().len(), 200);
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path().is_dir() {
            true => names.extend(walk(&entry.path())),
            false => names.push(entry.file_name().to_string_lossy().into_owned()),
        }
    }
    names
}

#[tokio::test]
async fn memory_conforms() {
    conforms(&Storage::open("memory:", &[]).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_s3_wire_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = s3::serve(dir.path()).await;
    conforms(&s3::storage(&endpoint, s3::SECRET)).await;
    assert!(dir.path().join("bucket/some/prefix/requests").is_dir());
    let error = s3::storage(&endpoint, "wrong").ping().await.unwrap_err().to_string();
    assert!(!error.contains("wrong\""), "no secret in errors: {error}");
}

both!(a_request_through_s3_with_presigned_downloads);
async fn a_request_through_s3_with_presigned_downloads(app: TestApp) {
    let endpoint = s3::serve(&app.dir.path().join("s3")).await;
    let storage = Some(s3::storage(&endpoint, s3::SECRET));
    let app = TestApp::with(app.kind, Parts { storage, ..Parts::default() }).await;
    let row = app.finished("big", "mib=18").await;
    assert_eq!(row.size, Some(18 << 20));
    let link = app.link(&row);
    let streamed = format!("http://{}{link}", app.serve().await);
    let body = app.http.get(streamed).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(Some(bgfiles::ids::hex(&Sha256::digest(&body))), row.sha256);
    let presigned = app.serve_as(bgfiles::config::Serve::Presigned).await;
    let redirect = app.http.get(format!("http://{presigned}{link}")).send().await.unwrap();
    assert_eq!(redirect.status(), 302);
    let location = redirect.headers()["location"].to_str().unwrap();
    let direct = app.http.get(location).header("range", "bytes=5-9").send().await.unwrap();
    assert_eq!(direct.status(), 206);
    assert_eq!(direct.bytes().await.unwrap(), body[5..10]);
    app.toolbox.delete(row.id).await.unwrap();
    assert_eq!(app.http.get(location).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_answer_is_tried_again() {
    let storage = Some(s3::storage("http://127.0.0.1:9", "x"));
    let app = TestApp::with(Kind::Sqlite, Parts { storage, ..Parts::default() }).await;
    let row = app.request("hello", "").await;
    assert_eq!(app.dispatch(row.id).await, Dispatched::Retrying);
    let row = app.row(row.id).await;
    assert_eq!((row.status, row.error_code.as_deref()), (Status::Pending, Some("storage")));
    let told = row.error_message.unwrap();
    assert!(!told.contains("127.0.0.1"), "addresses are not the requester's business: {told}");
}

#[test]
fn storage_settings_are_checked() {
    for url in ["nonsense", "ftp://x/y", "file:relative", "http://plain"] {
        let error = Storage::open(url, &[]).unwrap_err().to_string();
        assert!(error.starts_with("BGFILES_STORAGE:"), "{url}: {error}");
    }
    let option = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    let google = [option("GOOGLE_SKIP_SIGNATURE", "true")];
    assert!(Storage::open("gs://bucket/prefix", &google).is_ok());
    let azure =
        [option("AZURE_STORAGE_ACCOUNT_NAME", "account"), option("AZURE_SKIP_SIGNATURE", "true")];
    assert!(Storage::open("az://container/prefix", &azure).is_ok());
}
