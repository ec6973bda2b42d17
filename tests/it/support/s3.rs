//! A real S3 server in this process (s3s over a folder): signatures, multipart uploads, ranges.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use bgfiles::storage::Storage;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{
    S3, S3Request, S3Response, S3Result, auth::SimpleAuth, dto::*, service::S3ServiceBuilder,
};
use s3s_fs::FileSystem;

pub const KEY: &str = "test-access-key";
pub const SECRET: &str = "test-secret-key";
/// Below this, nobody may see which uploads are under way.
pub const SECRETIVE: &str = "secretive";

/// A server with one bucket; its endpoint. The folder is where objects are.
pub async fn serve(folder: &std::path::Path) -> String {
    std::fs::create_dir_all(folder.join("bucket")).unwrap();
    let files = FileSystem::new(folder).unwrap().into();
    let server = Server { files, uploads: Arc::default() };
    let mut builder = S3ServiceBuilder::new(server);
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
    open(endpoint, secret, "s3://bucket/some/prefix")
}

/// The storage of somebody beside us.
pub fn storage_at(endpoint: &str, url: &str) -> Storage {
    open(endpoint, SECRET, url)
}

/// Our storage on it, with little patience.
pub fn patient(endpoint: &str, silence: std::time::Duration) -> Storage {
    let options = options(endpoint, SECRET);
    Storage::open_with_patience("s3://bucket/some/prefix", &options, silence).unwrap()
}

fn open(endpoint: &str, secret: &str, url: &str) -> Storage {
    Storage::open(url, &options(endpoint, secret)).unwrap()
}

/// The provider's settings.
pub fn options(endpoint: &str, secret: &str) -> Vec<(String, String)> {
    let options = [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_ENDPOINT", endpoint),
        ("AWS_REGION", "us-east-1"),
    ];
    options.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

/// A folder's server, and the one list that it cannot give.
struct Server {
    files: Arc<FileSystem>,
    /// Key and id of uploads under way, and when they began.
    uploads: Arc<Mutex<BTreeMap<(String, String), SystemTime>>>,
}

/// Whoever asked may have gone meanwhile.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = S3Result<T>> + Send + 'static,
) -> S3Result<T> {
    tokio::spawn(work).await.unwrap()
}

macro_rules! files {
    ($($name:ident: $input:ident -> $output:ident),* $(,)?) => {$(
        #[allow(clippy::type_complexity, reason = "as the trait has it")]
        fn $name<'a: 'b, 'b>(
            &'a self,
            request: S3Request<$input>,
        ) -> futures::future::BoxFuture<'b, S3Result<S3Response<$output>>> {
            self.files.$name(request)
        }
    )*};
}

/// What ends an upload.
macro_rules! ends {
    ($($name:ident: $input:ident -> $output:ident),* $(,)?) => {$(
        #[allow(clippy::type_complexity, reason = "as the trait has it")]
        fn $name<'a: 'b, 'b>(
            &'a self,
            request: S3Request<$input>,
        ) -> futures::future::BoxFuture<'b, S3Result<S3Response<$output>>> {
            let upload = (request.input.key.clone(), request.input.upload_id.clone());
            let (files, uploads) = (self.files.clone(), self.uploads.clone());
            Box::pin(to_the_end(async move {
                let answer = files.$name(request).await?;
                uploads.lock().unwrap().remove(&upload);
                Ok(answer)
            }))
        }
    )*};
}

#[async_trait::async_trait]
impl S3 for Server {
    files! {
        put_object: PutObjectInput -> PutObjectOutput,
        get_object: GetObjectInput -> GetObjectOutput,
        head_object: HeadObjectInput -> HeadObjectOutput,
        delete_object: DeleteObjectInput -> DeleteObjectOutput,
        delete_objects: DeleteObjectsInput -> DeleteObjectsOutput,
        list_objects_v2: ListObjectsV2Input -> ListObjectsV2Output,
        upload_part: UploadPartInput -> UploadPartOutput,
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let (files, uploads, key) =
            (self.files.clone(), self.uploads.clone(), request.input.key.clone());
        to_the_end(async move {
            let answer = files.create_multipart_upload(request).await?;
            let id = answer.output.upload_id.clone().unwrap();
            uploads.lock().unwrap().insert((key, id), SystemTime::now());
            Ok(answer)
        })
        .await
    }

    ends! {
        complete_multipart_upload: CompleteMultipartUploadInput -> CompleteMultipartUploadOutput,
        abort_multipart_upload: AbortMultipartUploadInput -> AbortMultipartUploadOutput,
    }

    /// In pages of two.
    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        if prefix.starts_with(SECRETIVE) {
            return Err(s3s::s3_error!(AccessDenied));
        }
        let after = input.key_marker.map(|key| (key, input.upload_id_marker.unwrap_or_default()));
        let uploads = self.uploads.lock().unwrap();
        let ours = |upload: &&(String, String)| {
            upload.0.starts_with(&prefix) && after.as_ref().is_none_or(|after| *upload > after)
        };
        let found: Vec<_> = uploads.keys().filter(ours).collect();
        let page = &found[..found.len().min(2)];
        let listed = page.iter().map(|upload| MultipartUpload {
            key: Some(upload.0.clone()),
            upload_id: Some(upload.1.clone()),
            initiated: Some(uploads[*upload].into()),
            ..Default::default()
        });
        let is_truncated = page.len() < found.len();
        let last = page.last().filter(|_| is_truncated);
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix,
            uploads: Some(listed.collect()),
            is_truncated: Some(is_truncated),
            next_key_marker: last.map(|upload| upload.0.clone()),
            next_upload_id_marker: last.map(|upload| upload.1.clone()),
            ..Default::default()
        }))
    }
}
