//! `/api/auth`: logging in and out, and one's tokens; as django-rest-durin has it, with texts and
//! statuses of its own.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{self, MethodRouter},
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

use super::{
    WebState,
    drf::{self, Answer, Fields, Known, Refusal},
    rate,
    routes::Routes,
    session,
    visitor::visitor,
};
use crate::{
    auth_token::{Caller, Proof, Token},
    file_request::model::rfc3339,
    toolbox::{ApiAccess, Toolbox},
};

type Box_ = State<Toolbox>;

/// With and without a slash at the end; sessions also with the two slashes of durin's own URL.
pub(super) fn routes() -> Routes {
    let alias = |routes: Routes, path: &str, route: fn() -> MethodRouter<Arc<WebState>>| {
        routes.alias(&format!("{path}/"), route())
    };
    let mut all = Routes::default()
        .post("/login", login)
        .post("/refresh", refresh)
        .post("/logout", logout)
        .post("/logoutall", logoutall)
        .get("/sessions", sessions)
        .delete("/sessions/{id}", end_session)
        .get("/apiaccess", api_access)
        .post("/apiaccess", issue_api_access)
        .delete("/apiaccess", revoke_api_access);
    all = alias(all, "/login", || routing::post(login));
    all = alias(all, "/refresh", || routing::post(refresh));
    all = alias(all, "/logout", || routing::post(logout));
    all = alias(all, "/logoutall", || routing::post(logoutall));
    all = alias(all, "/sessions", || routing::get(sessions));
    all = alias(all, "/sessions/{id}", || routing::delete(end_session));
    all = all.alias("/sessions//{id}", routing::delete(end_session));
    all = alias(all, "/apiaccess", || {
        routing::get(api_access).post(issue_api_access).delete(revoke_api_access)
    });
    all.map(|router| {
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
    let visitor = visitor(&parts.headers, &parts.extensions, &toolbox.trusted_proxies);
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
    let mut body = json!({
        "expiry": toolbox.auth.format_expiry(login.expiry),
        "token": login.secret.expose(),
    });
    let profile = toolbox.users.profile(&person);
    if let Some(user) = profile.filter(|_| toolbox.auth.login_includes_user) {
        body["user"] = user;
    }
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

async fn refresh(State(toolbox): Box_, Known(caller): Known) -> Answer {
    let expiry = toolbox.refresh(&caller).await?;
    Ok(Json(json!({ "expiry": toolbox.auth.format_expiry(expiry) })).into_response())
}

async fn logout(State(toolbox): Box_, Known(caller): Known, headers: HeaderMap) -> Answer {
    toolbox.log_out(&caller).await?;
    if caller.proof == Proof::Session
        && let Some(secret) = session::of(&toolbox.base_url, &headers)
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

fn common(toolbox: &Toolbox, token: &Token) -> Value {
    let mut json = json!({
        "client": token.client,
        "created": rfc3339(Some(token.created_at)),
        "expiry": rfc3339(token.expires_at),
        "has_expired": token.has_expired(toolbox.clock.now()),
        "expires_in_str": token.expires_in(),
        "prefix": token.prefix,
        "last_used": rfc3339(token.last_used_at),
        "last_ip": token.last_ip,
        "last_user_agent": token.last_user_agent,
    });
    if !token.made_by.is_empty() {
        json["made_by"] = token.made_by.as_str().into();
    }
    json
}

async fn sessions(State(toolbox): Box_, Known(caller): Known) -> Answer {
    let tokens = toolbox.tokens_of(&caller.username).await?;
    let items: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut item = json!({ "id": token.id, "is_current": is_current(&caller, token) });
            if let (Some(item), Value::Object(rest)) =
                (item.as_object_mut(), common(&toolbox, token))
            {
                item.extend(rest);
            }
            item
        })
        .collect();
    Ok(Json(items).into_response())
}

async fn end_session(State(toolbox): Box_, Known(caller): Known, Path(id): Path<String>) -> Answer {
    let token = toolbox.own_token(&caller, &id).await?;
    if is_current(&caller, &token) {
        let logout = toolbox.base_url.path("/api/auth/logout/");
        let text =
            format!("Can't delete token if the request is authed with it. Use {logout} instead.");
        return Err(Refusal::bad(json!([text])));
    }
    toolbox.revoke_token(token.id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn api_access(State(toolbox): Box_, Known(caller): Known) -> Answer {
    let token = toolbox.api_access(&caller).await?;
    Ok(Json(common(&toolbox, &token)).into_response())
}

async fn issue_api_access(State(toolbox): Box_, Known(caller): Known) -> Answer {
    match toolbox.issue_api_access(&caller).await? {
        ApiAccess::Already => Err(Refusal::bad(json!(["An API token was already issued to you."]))),
        ApiAccess::Issued(token, secret) => {
            let mut body = common(&toolbox, &token);
            body["token"] = secret.expose().into();
            Ok((StatusCode::CREATED, Json(body)).into_response())
        }
    }
}

async fn revoke_api_access(State(toolbox): Box_, Known(caller): Known) -> Answer {
    toolbox.revoke_api_access(&caller).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
