//! `/api/requests/{id}/links`: links with a row, which rules them; and what happened to them.

mod types;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    auth_token::Caller,
    error::{Error, Result},
    file_request::links::{self, Made, Shown},
    toolbox::{LinksOf, Toolbox},
    web::{
        Problem,
        api::{
            json::JsonBody,
            paging::{self, Page, page},
            requests::{editor, request_id},
        },
        openapi::{self, NEXT, Operation, text},
        routes::Routes,
    },
};
use types::{Hit, LinkEdit, NewLink, SentLink};

/// The tag of these routes.
pub(in crate::web) const LINKS: &str = "links";

/// Links of a request, and what happened to them.
pub(in crate::web) fn routes() -> Routes {
    Routes::default()
        .route(
            Operation::post(
                "/api/requests/{id}/links",
                "createLink",
                LINKS,
                "Makes a link to a file.",
            )
            .about(
                "It ends with the file at the latest. What is left out is as the file type says; \
                 links of a `user` are never wider than that (403, `link_policy`). A request has \
                 at most 100 that are not over (409). Its URL is shown this once.",
            )
            .request()
            .json::<NewLink>(false)
            .answers::<Made>(201, "The link.")
            .guarded()
            .refuses(&[409, 410]),
            create,
        )
        .route(
            Operation::get(
                "/api/requests/{id}/links",
                "listLinks",
                LINKS,
                "Lists the links of a request, the newest first.",
            )
            .request()
            .limit()
            .query("cursor", "What `next` of the page before said.", text())
            .answers::<openapi::Page<Shown>>(200, "A page of links.")
            .carrying("Link", NEXT)
            .guarded(),
            list,
        )
        .route(
            Operation::patch("/api/requests/{id}/links/{jti}", "editLink", LINKS, "Edits a link.")
                .about(
                    "Links of a `user` are never wider than the file type says (403, \
                     `link_policy`).",
                )
                .link()
                .editing()
                .json::<LinkEdit>(false)
                .answers::<Shown>(200, "The link as it is now.")
                .guarded()
                .refuses(&[409]),
            extend,
        )
        .route(
            Operation::delete(
                "/api/requests/{id}/links/{jti}",
                "revokeLink",
                LINKS,
                "Revokes a link.",
            )
            .about("Whatever it was redeemed for ends, too.")
            .link()
            .plainly(204, "It no longer works.")
            .guarded(),
            revoke,
        )
        .route(
            Operation::post(
                "/api/requests/{id}/links/{jti}/send",
                "sendLink",
                LINKS,
                "Mails a link.",
            )
            .about("To whoever is told about the request.")
            .link()
            .answers::<SentLink>(202, "The mail is on its way.")
            .guarded()
            .refuses(&[409, 410]),
            send,
        )
        .route(
            Operation::get(
                "/api/requests/{id}/links/{jti}/log",
                "listLinkHits",
                LINKS,
                "Lists what happened to a link, the newest first.",
            )
            .link()
            .paged()
            .answers::<openapi::Page<Hit>>(200, "A page of the log.")
            .carrying("Link", NEXT)
            .guarded(),
            link_log,
        )
        .route(
            Operation::get(
                "/api/requests/{id}/log",
                "listRequestHits",
                LINKS,
                "Lists what happened to all links of a request, the newest first.",
            )
            .request()
            .paged()
            .answers::<openapi::Page<Hit>>(200, "A page of the log.")
            .carrying("Link", NEXT)
            .guarded(),
            request_log,
        )
}

impl Operation {
    fn link(self) -> Self {
        let schema = json!({ "type": "string", "format": "uuid" });
        let example = json!("4f0c1f6e-0a53-4b1d-8f5e-6f7f8c0d9a20");
        self.request().part("jti", "The link's number.", schema, example)
    }
}

/// The links of the request that a path names, for who may see it.
async fn links_of<'a>(toolbox: &'a Toolbox, caller: &'a Caller, id: &str) -> Result<LinksOf<'a>> {
    toolbox.links().by(caller).of(request_id(id)?).await
}

/// A link as it counts.
fn shown(toolbox: &Toolbox, links: &LinksOf<'_>, link: &links::Link) -> Shown {
    Shown::of(link, toolbox.is_bound(links.request(), Some(link)))
}

fn jti(text: &str) -> Result<Uuid> {
    text.parse().map_err(|_| Error::NotFound("link"))
}

async fn create(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody<NewLink>,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let links = links_of(&toolbox, &caller, &id).await?;
    let (link, url) = links.create(body.value.into_options()?).await?;
    let made = Made { link: shown(&toolbox, &links, &link), url };
    Ok((StatusCode::CREATED, Json(made)))
}

async fn list(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Page>,
    uri: Uri,
) -> Result<Response, Problem> {
    let of = links_of(&toolbox, &caller, &id).await?;
    let (limit, before) = (query.limit()?, query.place()?);
    let rows = of.list(before, limit + 1).await?;
    let cursor = |link: &links::Link| paging::cursor(link.created_at, link.jti);
    Ok(page(&toolbox, &uri, rows, limit, cursor, |link| shown(&toolbox, &of, link)))
}

async fn extend(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((id, link)): Path<(String, String)>,
    headers: HeaderMap,
    body: JsonBody<LinkEdit>,
) -> Result<Json<Shown>, Problem> {
    let links = links_of(&toolbox, &caller, &id).await?;
    let edit = body.value.into_edit()?;
    let editor = editor(&toolbox, &caller, &headers)?;
    let link = links.extend(jti(&link)?, edit, editor).await?;
    Ok(Json(shown(&toolbox, &links, &link)))
}

async fn revoke(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((id, link)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    links_of(&toolbox, &caller, &id).await?.revoke(jti(&link)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn send(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((id, link)): Path<(String, String)>,
) -> Result<(StatusCode, Json<SentLink>), Problem> {
    let notice = links_of(&toolbox, &caller, &id).await?.send(jti(&link)?).await?;
    Ok((StatusCode::ACCEPTED, Json(SentLink { message_id: notice.message_id })))
}

/// `GET /api/requests/{id}/log`, and `…/links/{jti}/log` of one link.
async fn request_log(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Page>,
    uri: Uri,
) -> Result<Response, Problem> {
    log(&toolbox, &caller, &id, None, &query, &uri).await
}

async fn link_log(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((id, link)): Path<(String, String)>,
    Query(query): Query<Page>,
    uri: Uri,
) -> Result<Response, Problem> {
    log(&toolbox, &caller, &id, Some(jti(&link)?), &query, &uri).await
}

async fn log(
    toolbox: &Toolbox,
    caller: &Caller,
    id: &str,
    link: Option<Uuid>,
    query: &Page,
    uri: &Uri,
) -> Result<Response, Problem> {
    let links = links_of(toolbox, caller, id).await?;
    let (limit, before) = (query.limit()?, query.before()?);
    let hits = links.log(link, before, limit + 1).await?;
    Ok(page(toolbox, uri, hits, limit, |hit| hit.id.to_string(), Hit::of))
}
