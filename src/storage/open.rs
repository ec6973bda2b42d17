//! The stores behind a URL: a folder, memory, or one over the network with its credentials.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use object_store::{
    ObjectStore, RetryConfig, client::HttpConnector, list::PaginatedListStore,
    local::LocalFileSystem, memory::InMemory, multipart::MultipartStore, path::Path,
    signer::Signer,
};
use url::Url;

use super::{Storage, put, silence, unfinished::Uploads};
use crate::error::{Error, Result};

/// How long a store over the network may be silent within a call. Calls that fail are not begun
/// again after that time, either.
const SILENCE: Duration = Duration::from_secs(30);

impl Storage {
    /// Opens `file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://…` or `memory:`. `options`
    /// are the providers' own settings by their usual names (`AWS_ACCESS_KEY_ID`,
    /// `AWS_ENDPOINT` …).
    ///
    /// # Errors
    /// [`Error::Config`] when the URL or an option is not understood or the folder cannot be made.
    pub fn open(url: &str, options: &[(String, String)]) -> Result<Storage> {
        Storage::open_with_patience(url, options, SILENCE)
    }

    /// As [`Storage::open`], with a store over the network that may be silent for so long within a
    /// call; 30 seconds otherwise.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_with_patience(
        url: &str,
        options: &[(String, String)],
        silence: Duration,
    ) -> Result<Storage> {
        let wrong = |e: &dyn fmt::Display| Error::Config(format!("BGFILES_STORAGE: {e}"));
        let open = |store, remote, prefix, folder| Storage {
            store,
            remote,
            prefix,
            folder,
            url: url.to_owned(),
            small: Arc::default(),
            names: Arc::default(),
        };
        if matches!(url, "memory:" | "memory:///" | "memory://") {
            return Ok(open(Arc::new(InMemory::new()), None, Path::default(), None));
        }
        let parsed = Url::parse(url).map_err(|e| {
            wrong(&format!(
                "{e}: use file:///folder, s3://bucket/prefix, gs://…, az://… or memory:"
            ))
        })?;
        if parsed.scheme() == "file" {
            // `file:folder` would be the folder at the root.
            let folder = parsed.to_file_path().ok().filter(|_| url.starts_with("file:///"));
            let folder = folder.ok_or_else(|| wrong(&"file: needs an absolute path, file:///…"))?;
            put::create_folder(&folder)
                .map_err(|e| wrong(&format!("{}: {e}", folder.display())))?;
            // The names on the way to it outlast a power cut; another process may have made them a
            // moment ago. Whose folders we may not open are older than we are.
            for above in folder.ancestors().skip(1) {
                let _ = std::fs::File::open(above).and_then(|above| above.sync_all());
            }
            let store = LocalFileSystem::new_with_prefix(&folder)
                .map_err(|e| wrong(&e))?
                .with_fsync(true)
                .with_automatic_cleanup(true);
            return Ok(open(Arc::new(store), None, Path::default(), Some(folder)));
        }
        let (scheme, prefix) =
            object_store::ObjectStoreScheme::parse(&parsed).map_err(|e| wrong(&e))?;
        let (store, uploads) = remote(&scheme, url, options, silence).map_err(|e| wrong(&e))?;
        Ok(open(store, Some(Arc::new(uploads)), prefix, None))
    }
}

type Remote = (Arc<dyn ObjectStore>, Uploads);

fn remote(
    scheme: &object_store::ObjectStoreScheme,
    url: &str,
    options: &[(String, String)],
    patience: Duration,
) -> object_store::Result<Remote> {
    use object_store::{ObjectStoreScheme as Scheme, aws, azure, gcp};
    let connector = silence::Limited(patience);
    let retry = RetryConfig { retry_timeout: patience, ..Default::default() };
    // The timeout spans a whole body; a slow reader of a large file is no fault of the store's.
    let client = object_store::ClientOptions::new()
        .with_timeout(Duration::from_secs(24 * 60 * 60))
        .with_connect_timeout(Duration::from_secs(10))
        .with_allow_http(true);
    macro_rules! build {
        ($builder:expr, $key:ty) => {{
            let http = connector.connect(&client)?;
            let builder = $builder
                .with_url(url)
                .with_client_options(client)
                .with_http_connector(connector)
                .with_retry(retry);
            let known = |(name, value): &(String, String)| {
                Some((<$key>::from_str(&name.to_ascii_lowercase()).ok()?, value.clone()))
            };
            let builder = options
                .iter()
                .filter_map(known)
                .fold(builder, |builder, (key, value)| builder.with_config(key, value));
            let store = Arc::new(builder.build()?);
            let (signer, parts): (Arc<dyn Signer>, Arc<dyn MultipartStore>) =
                (store.clone(), store.clone());
            let lists: Arc<dyn PaginatedListStore> = store.clone();
            Ok((store, Uploads { signer, parts, lists, http }))
        }};
    }
    match scheme {
        Scheme::AmazonS3 => build!(aws::AmazonS3Builder::new(), aws::AmazonS3ConfigKey),
        Scheme::GoogleCloudStorage => {
            build!(gcp::GoogleCloudStorageBuilder::new(), gcp::GoogleConfigKey)
        }
        Scheme::MicrosoftAzure => {
            build!(azure::MicrosoftAzureBuilder::new(), azure::AzureConfigKey)
        }
        _ => Err(object_store::Error::NotSupported {
            source: "use file:///folder, s3://bucket/prefix, gs://…, az://… or memory:".into(),
        }),
    }
}
