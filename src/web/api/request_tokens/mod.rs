//! `/api/request-tokens`: issue, list, show, edit, expire, log; and redeeming for applications
//! that are not written in Rust.

mod types;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    auth_token::Caller,
    error::{Error, Result},
    request_token::{Issued, Shown, ShownUse},
    toolbox::{Presented, RequestTokenFilter, Toolbox},
    visitor::Visitor,
    web::{
        Problem,
        api::{
            json::JsonBody,
            paging::{self, Page, page},
        },
        openapi::{self, NEXT, Operation, text},
        routes::Routes,
    },
};
use types::{Admission, Conclusion, NewRequestToken, Redeem, RequestTokenEdit};

/// The tag of these routes.
pub(in crate::web) const REQUEST_TOKENS: &str = "request tokens";

/// Request tokens.
pub(in crate::web) fn routes() -> Routes {
    Routes::default()
        .route(
            Operation::post(
                "/api/request-tokens",
                "createRequestToken",
                REQUEST_TOKENS,
                "Issues a request token.",
            )
            .json::<NewRequestToken>(true)
            .answers::<Issued>(201, "The token, with its JWT.")
            .carrying("Location", "The token's address.")
            .guarded(),
            create,
        )
        .route(
            Operation::get(
                "/api/request-tokens",
                "listRequestTokens",
                REQUEST_TOKENS,
                "Lists request tokens, the newest first.",
            )
            .query("scope", "Only of this scope.", text())
            .query("user", "Only for this user.", text())
            .query("jwt", "Only the token of this JWT; nothing else counts then.", text())
            .paged()
            .answers::<openapi::Page<Shown>>(200, "A page of tokens.")
            .carrying("Link", NEXT)
            .guarded(),
            list,
        )
        .route(
            Operation::post(
                "/api/request-tokens/redeem",
                "redeemRequestToken",
                REQUEST_TOKENS,
                "Counts one use of a request token, for an application's own visitor.",
            )
            .json::<Redeem>(true)
            .answers::<Admission>(200, "It admits; one use is counted.")
            .guarded(),
            redeem,
        )
        .route(
            Operation::post(
                "/api/request-tokens/uses/{use}/conclude",
                "concludeRequestTokenUse",
                REQUEST_TOKENS,
                "Says how an application answered its visitor.",
            )
            .about(
                "Once, within a minute, by who redeemed the token, or staff. The log then has the \
                 status; 5xx gives the use back.",
            )
            .part(
                "use",
                "The use's number, as redeeming answered it.",
                json!({ "type": "integer", "format": "int64", "minimum": 1 }),
                json!(81),
            )
            .json::<Conclusion>(true)
            .answers::<ShownUse>(200, "The line of the log.")
            .guarded()
            .refuses(&[409]),
            conclude,
        )
        .route(
            Operation::get(
                "/api/request-tokens/{id}",
                "showRequestToken",
                REQUEST_TOKENS,
                "Shows a request token.",
            )
            .request_token()
            .answers::<Shown>(200, "The token.")
            .guarded(),
            show,
        )
        .route(
            Operation::patch(
                "/api/request-tokens/{id}",
                "editRequestToken",
                REQUEST_TOKENS,
                "Edits a request token.",
            )
            .about("JWTs that are about follow at once.")
            .request_token()
            .json::<RequestTokenEdit>(false)
            .answers::<Shown>(200, "The token as it is now.")
            .guarded(),
            update,
        )
        .route(
            Operation::post(
                "/api/request-tokens/{id}/expire",
                "expireRequestToken",
                REQUEST_TOKENS,
                "Ends a request token and its JWTs.",
            )
            .request_token()
            .answers::<Shown>(200, "The token as it is now.")
            .guarded(),
            expire,
        )
        .route(
            Operation::get(
                "/api/request-tokens/{id}/log",
                "listRequestTokenUses",
                REQUEST_TOKENS,
                "Lists the uses and denials of a request token, the newest first.",
            )
            .request_token()
            .paged()
            .answers::<openapi::Page<ShownUse>>(200, "A page of the log.")
            .carrying("Link", NEXT)
            .guarded(),
            log,
        )
}

impl Operation {
    fn request_token(self) -> Self {
        let schema = json!({ "type": "integer", "format": "int64", "minimum": 1 });
        self.part("id", "The token's number.", schema, json!(17))
    }
}

async fn create(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    body: JsonBody<NewRequestToken>,
) -> Result<Response, Problem> {
    let tokens = toolbox.request_tokens().by(&caller)?;
    let (mut ask, now) = (body.value, toolbox.clock().now());
    let url = ask.url.take();
    let token = tokens.create(ask.into_new(now)?).await?;
    let jwt = toolbox.jwt(&token)?;
    let url = url.map(|url| toolbox.tokenise(&token, &url)).transpose()?;
    let location = toolbox.base_url().join(&format!("/api/request-tokens/{}", token.id));
    let issued = Issued::of(&token, jwt, url, now);
    Ok((StatusCode::CREATED, [("location", location)], Json(issued)).into_response())
}

/// The query of `GET /api/request-tokens`.
#[derive(Deserialize)]
struct Which {
    scope: Option<String>,
    user: Option<String>,
    /// A pasted JWT: the one token that it is of.
    jwt: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

async fn list(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Query(query): Query<Which>,
    uri: Uri,
) -> Result<Response, Problem> {
    let tokens = toolbox.request_tokens().by(&caller)?;
    let now = toolbox.clock().now();
    let limit = paging::limit(query.limit.as_deref())?;
    let before = paging::before(query.cursor.as_deref())?;
    if let Some(jwt) = &query.jwt {
        let found = tokens.find_by_jwt(jwt.trim()).await?;
        let items = found.iter().map(|token| Shown::of(token, now)).collect();
        return Ok(paging::listed(&toolbox, &uri, items, None));
    }
    let filter = RequestTokenFilter { scope: query.scope, user_id: query.user, before };
    let rows = tokens.list(&filter, limit + 1).await?;
    Ok(page(
        &toolbox,
        &uri,
        rows,
        limit,
        |token| token.id.to_string(),
        |token| Shown::of(token, now),
    ))
}

/// The number that a path names; what is none names no token.
pub(in crate::web) fn number(text: &str) -> Result<i64> {
    text.parse().map_err(|_| Error::NotFound("request token"))
}

async fn show(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    let token = toolbox.request_tokens().by(&caller)?.find(number(&id)?).await?;
    Ok(Json(Shown::of(&token, toolbox.clock().now())))
}

async fn update(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody<RequestTokenEdit>,
) -> Result<Json<Shown>, Problem> {
    let tokens = toolbox.request_tokens().by(&caller)?;
    let token = tokens.update(number(&id)?, &body.value.into_changes()).await?;
    Ok(Json(Shown::of(&token, toolbox.clock().now())))
}

async fn expire(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    let token = toolbox.request_tokens().by(&caller)?.expire(number(&id)?).await?;
    Ok(Json(Shown::of(&token, toolbox.clock().now())))
}

async fn log(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Page>,
    uri: Uri,
) -> Result<Response, Problem> {
    let tokens = toolbox.request_tokens().by(&caller)?;
    let token = tokens.find(number(&id)?).await?;
    let (limit, before) = (query.limit()?, query.before()?);
    let uses = tokens.uses(&token, before, limit + 1).await?;
    Ok(page(&toolbox, &uri, uses, limit, |used| used.id.to_string(), ShownUse::of))
}

/// Counts one use of a token on behalf of an application: 200 with the token and who acts, or 403
/// with the reason.
async fn redeem(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    body: JsonBody<Redeem>,
) -> Result<Json<Admission>, Problem> {
    let tokens = toolbox.request_tokens().by(&caller)?;
    let ask = body.value;
    let visitor = Visitor::new(ask.client_ip, &ask.user_agent);
    let presented = Presented {
        jwt: &ask.token,
        scope: &ask.scope,
        user: ask.user.as_deref(),
        visitor: &visitor,
        log: ask.log.unwrap_or(true),
    };
    let (admission, number) = tokens.redeem(&presented).await?;
    Ok(Json(Admission::of(admission, number, toolbox.clock().now())))
}

/// Writes how an application answered the visitor for whom it redeemed a token.
async fn conclude(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody<Conclusion>,
) -> Result<Json<ShownUse>, Problem> {
    let tokens = toolbox.request_tokens().by(&caller)?;
    let status = body.value.status()?;
    let id = id.parse().map_err(|_| Error::NotFound("use"))?;
    Ok(Json(ShownUse::of(&tokens.conclude(id, status).await?)))
}
