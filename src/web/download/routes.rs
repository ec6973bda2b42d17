//! The routes of downloads, and what the document says of them.

use serde_json::json;
use utoipa::ToSchema;

use super::{download, redeem};
use crate::web::{
    openapi::{DIGEST, Operation, text},
    routes::Routes,
};

/// The tag of these routes.
pub(in crate::web) const DOWNLOADS: &str = "downloads";

/// A link's token, and what redeeming it gives.
const LINK: &str = "eyJpZCI6IjliMmYzYTUyIn0:1vMOX2:3q2-7wB1nPzT";
const GRANT: &str = "mV3kQ9xZb7Tn5YwR2mVc8LpD4sHf6JgK1aXe0uIoNqA";

/// What the button of the page sends.
#[derive(ToSchema)]
#[schema(examples(json!({ "nonce": "q83vASNFZ4mrze8BI0VniQ" })))]
#[allow(dead_code, reason = "read as a form, whatever else it has")]
struct RedeemForm {
    /// The page's own: a second click is not a second use.
    #[schema(required = false)]
    nonce: String,
}

/// Links. HEAD comes with GET.
pub(in crate::web) fn link_routes() -> Routes {
    let get = Operation::get("/d/{token}", "download", DOWNLOADS, "Downloads a file.")
        .about(
            "A limited or scanner-safe link is not used up by this: browsers get a page with a \
             button, programs 405.",
        )
        .part("token", "The signed token of the link.", text(), json!(LINK))
        .ranged("The file; or the page of a link that waits for a confirmation.")
        .refuses(&[405]);
    let post = Operation::post("/d/{token}", "redeemLink", DOWNLOADS, "Redeems a link.")
        .about(
            "One use of a limited link. A second click on the same page, a browser that comes back \
             and a repeated `Idempotency-Key` are not a second use.",
        )
        .part("token", "The signed token of the link.", text(), json!(LINK))
        .keyed("Makes a repeat harmless.")
        .form::<RedeemForm>()
        .plainly(303, "Where the download is.")
        .carrying("Idempotency-Replayed", "`true` when the key was used before.")
        .carrying("Location", "The download's own address: `/g/{grant}/{name}`.")
        .carrying("Set-Cookie", "By which a browser finds its download again.")
        .for_whom_it_may_concern();
    Routes::default().route(get, download).route(post, redeem::redeem)
}

/// Downloads that a redeemed link has begun.
pub(in crate::web) fn grant_routes() -> Routes {
    let under_grant = |operation: Operation| {
        operation
            .part("grant", "What redeeming the link gave.", text(), json!(GRANT))
            .part("name", "The file's name; anything will do.", text(), json!("flights.xlsx"))
            .ranged("The file.")
    };
    let get = Operation::get(
        "/g/{grant}/{name}",
        "resumeDownload",
        DOWNLOADS,
        "Downloads a redeemed file.",
    )
    .about("In one piece or in many, as long as the grant lasts.");
    let post = Operation::post(
        "/g/{grant}/{name}",
        "resumeDownloadByPost",
        DOWNLOADS,
        "Downloads a redeemed file, as GET does.",
    )
    .about("For programs that repeat their POST at the address that redeeming gave.");
    Routes::default()
        .route(under_grant(get), redeem::granted)
        .route(under_grant(post), redeem::granted)
}

impl Operation {
    /// Validators and ranges of RFC 9110, and the answers to them.
    fn ranged(self, about: &'static str) -> Self {
        self.header("Range", "One range of bytes; anything else is ignored.", text())
            .header("If-Range", "The range only if the file still has this tag or date.", text())
            .header("If-Match", "Entity tags: 412 when the file has none of them.", text())
            .header("If-None-Match", "Entity tags: 304 when the file has one of them.", text())
            .header("If-Modified-Since", "A date: 304 when the file is no newer.", text())
            .header("If-Unmodified-Since", "A date: 412 when the file is newer.", text())
            .plainly(206, "The part that `Range` names.")
            .file()
            .carrying("Content-Range", "Which part, of how many bytes.")
            .carrying("ETag", "The SHA-256 of the file, in quotes.")
            .carrying("Repr-Digest", DIGEST)
            .plainly(302, "Where the object store has the file, in presigned mode.")
            .carrying("Location", "An address that works for five minutes.")
            .plainly(304, "The file is the one that the caller has.")
            .carrying("ETag", "The SHA-256 of the file, in quotes.")
            .plainly(412, "The file is not the one that the caller expects.")
            .plainly(416, "The file has no such part.")
            .carrying("Content-Range", "How many bytes the file has.")
            .plainly(200, about)
            .file()
            .carrying("Content-Disposition", "The file's name.")
            .carrying("ETag", "The SHA-256 of the file, in quotes.")
            .carrying("Repr-Digest", DIGEST)
            .for_whom_it_may_concern()
    }
}
