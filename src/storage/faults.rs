//! What the errors of a store mean.

use crate::error::Error;

pub(super) fn missing(error: object_store::Error) -> Error {
    if is_missing(&error) { Error::NotFound("file") } else { error.into() }
}

/// Whether an object is not there. A bucket that is not there says nothing of its objects.
pub(super) fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && !lacks_bucket(error)
}

/// Whether the bucket or container is not there: S3, Azure and GCS say that in the text only.
pub(super) fn lacks_bucket(error: &object_store::Error) -> bool {
    let text = error.to_string();
    ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"].iter().any(|w| text.contains(w))
}

pub(super) fn wrong_size() -> Error {
    Error::FileLost("it is not of the size that was written down when it was made")
}

pub(super) fn unwell(text: String) -> Error {
    object_store::Error::Generic { store: "store", source: text.into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_bucket_is_not_gone() {
        let error = |text: &str| object_store::Error::NotFound {
            path: "requests".into(),
            source: format!("404 Not Found: <Error><Code>{text}</Code></Error>").into(),
        };
        assert!(is_missing(&error("NoSuchKey")) && is_missing(&error("BlobNotFound")));
        for text in ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist."] {
            assert!(!is_missing(&error(text)), "{text}");
        }
    }
}
