//! `/api/auth`: logging in and out, and one's tokens; as django-rest-durin has it, with texts and
//! statuses of its own.

mod types;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing,
};
use serde_json::{Map, Value, json};

use crate::{
    auth_token::{Caller, Proof, Token},
    toolbox::{self, Toolbox},
    web::{
        api::drf::{self, Answer, Fields, Known, Refusal},
        openapi::Operation,
        rate,
        routes::Routes,
        session,
        visitor::visitor,
    },
};

use types::{ApiAccess, IssuedApiAccess, LoggedIn, Login, Refreshed, Session, SessionList};

/// The tag of these routes.
pub(in crate::web) const AUTH: &str = "logins";

type Box_ = State<Toolbox>;

/// Each with and without a slash at the end; sessions also with the two slashes of durin's own URL.
pub(in crate::web) fn routes() -> Routes {
    Routes::default()
        .slashed(
            Operation::post("/api/auth/login", "logIn", AUTH, "Logs a user in.")
                .about("Wrong guesses make the next ones wait.")
                .fields::<Login, Login>(true)
                .answers::<LoggedIn>(200, "A secret.")
                .refuses(&[429, 500, 503]),
            login,
        )
        .slashed(
            Operation::post(
                "/api/auth/refresh",
                "refresh",
                AUTH,
                "Makes the caller's secret last again.",
            )
            .answers::<Refreshed>(200, "Its new end.")
            .guarded(),
            refresh,
        )
        .slashed(
            Operation::post(
                "/api/auth/logout",
                "logOut",
                AUTH,
                "Ends the token that the caller uses.",
            )
            .plainly(204, "No process honours it any more.")
            .carrying("Set-Cookie", "Takes the cookie of a session away.")
            .guarded(),
            logout,
        )
        .slashed(
            Operation::post(
                "/api/auth/logoutall",
                "logOutEverywhere",
                AUTH,
                "Ends all tokens and sessions of the caller.",
            )
            .plainly(204, "No process honours any of them any more.")
            .guarded(),
            logoutall,
        )
        .slashed(
            Operation::get(
                "/api/auth/sessions",
                "listSessions",
                AUTH,
                "Lists the caller's tokens.",
            )
            .answers::<SessionList>(200, "The tokens that are good now.")
            .guarded(),
            sessions,
        )
        .slashed(
            Operation::delete(
                "/api/auth/sessions/{id}",
                "endSession",
                AUTH,
                "Ends a token of the caller.",
            )
            .about("Not the one that this very call is made with.")
            .part(
                "id",
                "The token's number.",
                json!({ "type": "string", "format": "uuid" }),
                json!("4f0c1f6e-0a53-4b1d-8f5e-6f7f8c0d9a20"),
            )
            .plainly(204, "No process honours it any more.")
            .guarded(),
            end_session,
        )
        .slashed(
            Operation::get(
                "/api/auth/apiaccess",
                "showApiAccess",
                AUTH,
                "Shows the caller's API token.",
            )
            .answers::<ApiAccess>(200, "The token, without its secret.")
            .guarded()
            .refuses(&[404]),
            api_access,
        )
        .slashed(
            Operation::post(
                "/api/auth/apiaccess",
                "issueApiAccess",
                AUTH,
                "Issues the caller's API token; there can be one.",
            )
            .answers::<IssuedApiAccess>(201, "The token, with its secret.")
            .guarded()
            .refuses(&[400, 404]),
            issue_api_access,
        )
        .slashed(
            Operation::delete(
                "/api/auth/apiaccess",
                "endApiAccess",
                AUTH,
                "Ends the caller's API token.",
            )
            .plainly(204, "No process honours it any more.")
            .guarded()
            .refuses(&[404]),
            revoke_api_access,
        )
        .alias("/api/auth/sessions//{id}", routing::delete(end_session))
        .map(|router| {
            router
                .method_not_allowed_fallback(drf::no_method)
                .layer(axum::middleware::map_response(private))
        })
}

/// Secrets are in no cache.
async fn private(mut response: Response) -> Response {
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
}

async fn login(State(toolbox): Box_, parts: Parts, Fields(fields): Fields) -> Answer {
    let visitor = visitor(&parts.headers, &parts.extensions, toolbox.trusted_proxies());
    rate::count(&toolbox, &parts, None).await?;
    let (username, password) =
        match (drf::text(&fields, "username", true), drf::text(&fields, "password", false)) {
            (Ok(username), Ok(password)) => (username, password),
            (username, password) => {
                let wrong = [("username", username.err()), ("password", password.err())];
                let errors = wrong.into_iter().filter_map(|(name, error)| Some((name, error?)));
                let body = errors.map(|(name, error)| (name.to_owned(), json!([error])));
                return Err(Refusal::bad(Value::Object(body.collect())));
            }
        };
    let person = toolbox.check_credentials(&username, &password, &visitor).await?;
    let Some(person) = person else {
        let text = "Unable to log in with provided credentials.";
        return Err(Refusal::bad(json!({ "non_field_errors": [text] })));
    };
    let client = match named_client(&fields) {
        None => return Err(Refusal::detail("No client specified.")),
        Some(name) if name.contains('\0') => None,
        Some(name) => toolbox.client(&name).await?,
    };
    let client = client.ok_or_else(|| Refusal::detail("No client with that name."))?;
    let login = toolbox.log_in(&person, &client).await?;
    let profile = toolbox.users().profile(&person);
    let body = LoggedIn {
        expiry: toolbox.auth_settings().format_expiry(login.expiry),
        token: login.secret.expose().to_owned(),
        user: profile.filter(|_| toolbox.auth_settings().login_includes_user),
    };
    Ok(Json(body).into_response())
}

/// The `client` of a login, when one is named.
fn named_client(fields: &Map<String, Value>) -> Option<String> {
    match fields.get("client")? {
        Value::String(name) if !name.is_empty() => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

async fn refresh(State(toolbox): Box_, Known(caller): Known) -> Answer<Json<Refreshed>> {
    let expiry = toolbox.refresh(&caller).await?;
    Ok(Json(Refreshed { expiry: toolbox.auth_settings().format_expiry(expiry) }))
}

async fn logout(State(toolbox): Box_, Known(caller): Known, headers: HeaderMap) -> Answer {
    toolbox.log_out(&caller).await?;
    if caller.proof == Proof::Session
        && let Some(secret) = session::of(toolbox.base_url(), &headers)
    {
        toolbox.end_session(&secret).await?;
        return Ok((StatusCode::NO_CONTENT, [session::end(&toolbox)?]).into_response());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn logoutall(State(toolbox): Box_, Known(caller): Known) -> Answer {
    toolbox.log_out_all(&caller).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn is_current(caller: &Caller, token: &Token) -> bool {
    caller.token().is_some_and(|used| used.id == token.id)
}

async fn sessions(State(toolbox): Box_, Known(caller): Known) -> Answer<Json<SessionList>> {
    let tokens = toolbox.tokens_of(&caller.username).await?;
    let now = toolbox.clock().now();
    let session = |token| Session::of(token, is_current(&caller, token), now);
    Ok(Json(SessionList(tokens.iter().map(session).collect())))
}

async fn end_session(State(toolbox): Box_, Known(caller): Known, Path(id): Path<String>) -> Answer {
    let token = toolbox.own_token(&caller, &id).await?;
    if is_current(&caller, &token) {
        let logout = toolbox.base_url().path("/api/auth/logout/");
        let text =
            format!("Can't delete token if the request is authed with it. Use {logout} instead.");
        return Err(Refusal::bad(json!([text])));
    }
    toolbox.revoke_token(token.id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn api_access(State(toolbox): Box_, Known(caller): Known) -> Answer<Json<ApiAccess>> {
    let token = toolbox.api_access(&caller).await?;
    Ok(Json(ApiAccess::of(&token, toolbox.clock().now())))
}

async fn issue_api_access(State(toolbox): Box_, Known(caller): Known) -> Answer {
    match toolbox.issue_api_access(&caller).await? {
        toolbox::ApiAccess::Already => {
            Err(Refusal::bad(json!(["An API token was already issued to you."])))
        }
        toolbox::ApiAccess::Issued(token, secret) => {
            let body = IssuedApiAccess::of(&token, &secret, toolbox.clock().now());
            Ok((StatusCode::CREATED, Json(body)).into_response())
        }
    }
}

async fn revoke_api_access(State(toolbox): Box_, Known(caller): Known) -> Answer {
    toolbox.revoke_api_access(&caller).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
