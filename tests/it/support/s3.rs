//! A real S3 server in this process (s3s over a folder): signatures, multipart uploads, ranges.

use bgfiles::storage::Storage;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};

pub const KEY: &str = "test-access-key";
pub const SECRET: &str = "test-secret-key";

/// A server with one bucket; its endpoint. The folder is where objects are.
pub async fn serve(folder: &std::path::Path) -> String {
    std::fs::create_dir_all(folder.join("bucket")).unwrap();
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
    builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let http = Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    endpoint
}

/// Our storage on it.
pub fn storage(endpoint: &str, secret: &str) -> Storage {
    let options = [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_ENDPOINT", endpoint),
        ("AWS_REGION", "us-east-1"),
    ];
    let options: Vec<_> = options.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    Storage::open("s3://bucket/some/prefix", &options).unwrap()
}
