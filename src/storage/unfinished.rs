//! Uploads that were begun and neither completed nor given up: those under way, and those of
//! processes that were killed. Stores over the network keep (and charge for) their parts for ever.
//!
//! `object_store` cannot list them, but signs the request that does: [`ListMultipartUploads`].
//!
//! [`ListMultipartUploads`]: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use http::{Method, Request};
use object_store::{
    MultipartId,
    client::{HttpClient, HttpRequestBody},
    list::PaginatedListStore,
    multipart::MultipartStore,
    path::Path,
    signer::{SignedUrlOptions, Signer},
};
use serde::Deserialize;

use super::key::StorageKey;
use crate::error::{Error, Result};

/// How long the signature of a look is valid.
const VALID: Duration = Duration::from_secs(60);

/// An upload that was begun and did not become an object so far.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// What it would become.
    pub key: StorageKey,
    /// When it was begun (in a folder: last written to), by the store's clock.
    pub begun: DateTime<Utc>,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    File(PathBuf),
    Upload(MultipartId),
}

/// A bucket's uploads, and what else the traits of stores do not give.
pub(super) struct Uploads {
    pub(super) signer: Arc<dyn Signer>,
    pub(super) parts: Arc<dyn MultipartStore>,
    pub(super) lists: Arc<dyn PaginatedListStore>,
    pub(super) http: HttpClient,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Page {
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
    upload: Vec<Upload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
    initiated: DateTime<Utc>,
}

impl Uploads {
    /// Those below `prefix`. Others' beside them are passed over.
    pub(super) async fn list(&self, prefix: &Path) -> Result<Vec<Unfinished>> {
        let above = match prefix.as_ref() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let (mut found, mut markers) = (Vec::new(), None);
        loop {
            let page = self.page(&format!("{above}requests/"), markers.as_ref()).await?;
            found.extend(page.upload.into_iter().filter_map(|upload| {
                let key = upload.key.strip_prefix(&above)?.parse().ok()?;
                let place = Place::Upload(upload.upload_id);
                Some(Unfinished { key, begun: upload.initiated, place })
            }));
            let next = (page.next_key_marker, page.next_upload_id_marker);
            // A store that says the same page twice must not keep us for ever.
            if !page.is_truncated || next.0.is_empty() || markers.as_ref() == Some(&next) {
                return Ok(found);
            }
            markers = Some(next);
        }
    }

    async fn page(&self, prefix: &str, after: Option<&(String, String)>) -> Result<Page> {
        let mut query = vec![("uploads", String::new()), ("prefix", prefix.to_owned())];
        if let Some((key, id)) = after {
            query.push(("key-marker", key.clone()));
            query.push(("upload-id-marker", id.clone()));
        }
        let options = SignedUrlOptions::new().with_query(query);
        let bucket = Path::default();
        let url = match self.signer.signed_url_opts(Method::GET, &bucket, VALID, &options).await {
            // GCS and Azure: the one has a rule for it, the other forgets by itself.
            Err(object_store::Error::NotSupported { .. }) => return Ok(Page::default()),
            url => url?,
        };
        let request = Request::get(url.as_str()).body(HttpRequestBody::empty());
        let request = request.map_err(|e| Error::Internal(e.to_string()))?;
        let answer = self.http.execute(request).await.map_err(failed)?;
        let status = answer.status();
        let body = answer.into_body().bytes().await.map_err(failed)?;
        match status.as_u16() {
            200 => {
                let text = String::from_utf8_lossy(&body);
                quick_xml::de::from_str(&text).map_err(|e| failed(format!("its list: {e}")))
            }
            // Speaks S3, but not this.
            405 | 501 => Ok(Page::default()),
            _ => Err(failed(format!("listing unfinished uploads was answered with {status}"))),
        }
    }
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    object_store::Error::Generic { store: "S3", source: error.into() }.into()
}
