//! The program of the tutorial "Embed in axum" (docs/src/tutorial), which a test compares and plays.

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use axum::{
    Extension, Form, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use bgfiles::{
    Criteria, Db, Error, Handler, Job, NewFileRequest, Output, Registry, Requester, Result,
    Toolbox,
    cleaner::{self, Limits, Sweeps},
    mail::Mailer,
    storage::Storage,
    toolbox::Tools,
    web::{self, Problem, RequesterId, WebState},
    worker::{self, WorkerOptions},
};
use serde::Deserialize;
use sqlx::SqlitePool;
use tokio_util::sync::CancellationToken;

/// Makes invoices from the application's own table.
struct Invoices {
    pool: SqlitePool,
}

#[async_trait]
impl Handler for Invoices {
    fn file_type(&self) -> &str {
        "invoice"
    }

    fn filename(&self, job: &Job) -> String {
        format!("invoice-{}.txt", job.criteria.get("number").unwrap_or("0"))
    }

    /// Only the customer may download it.
    fn requester_only(&self) -> bool {
        true
    }

    async fn write(&self, job: &Job, mut out: Output) -> Result<()> {
        let number: i64 = job.criteria.get("number").and_then(|n| n.parse().ok()).unwrap_or(0);
        let found: Option<(String, i64)> =
            sqlx::query_as("SELECT customer, amount FROM invoices WHERE number = $1")
                .bind(number)
                .fetch_optional(&self.pool)
                .await?;
        let (customer, amount) =
            found.ok_or_else(|| Error::permanent("no_invoice", "there is no such invoice"))?;
        out.write(format!("Invoice {number}\nTo: {customer}\nAmount: {amount}\n")).await
    }
}

#[derive(Clone)]
struct App {
    pool: SqlitePool,
    toolbox: Toolbox,
}

/// Tells bgfiles who is logged in. A real application asks its session; this one believes a header.
async fn identify(mut request: Request, next: Next) -> Response {
    let user = request.headers().get("x-user").and_then(|name| name.to_str().ok());
    if let Some(user) = user.map(str::to_owned) {
        request.extensions_mut().insert(RequesterId(user));
    }
    next.run(request).await
}

#[derive(Deserialize)]
struct NewInvoice {
    amount: i64,
}

/// The application's own route.
async fn create(
    State(app): State<App>,
    customer: Option<Extension<RequesterId>>,
    Form(invoice): Form<NewInvoice>,
) -> Response {
    let Some(Extension(RequesterId(customer))) = customer else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    match record(&app, customer, invoice.amount).await {
        Ok(link) => (StatusCode::ACCEPTED, format!("{link}\n")).into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// One transaction: the invoice and the request for its file are recorded together, or neither is.
async fn record(app: &App, customer: String, amount: i64) -> Result<String> {
    let mut tx = app.pool.begin_with("BEGIN IMMEDIATE").await?;
    let insert = "INSERT INTO invoices (customer, amount) VALUES ($1, $2) RETURNING number";
    let number: i64 =
        sqlx::query_scalar(insert).bind(&customer).bind(amount).fetch_one(&mut *tx).await?;
    let request = NewFileRequest {
        criteria: Criteria::from_pairs([("number".into(), number.to_string())])?,
        requester: Requester { email: format!("{customer}@example.com"), id: Some(customer) },
        ..NewFileRequest::new("invoice".parse()?)
    };
    let row = app.toolbox.add_request(&mut tx, request).await?;
    tx.commit().await?;
    Ok(app.toolbox.download_url(&row))
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    #[allow(clippy::disallowed_methods, reason = "an example has no settings of its own")]
    let bind = std::env::var("BIND").unwrap_or_else(|_| "127.0.0.1:3000".into());
    let here = std::env::current_dir()?;

    let db = Db::open("sqlite:app.db")?;
    Toolbox::migrate(&db).await?;
    let Db::Sqlite(pool) = db.clone() else { unreachable!("the URL says sqlite") };
    let table = "CREATE TABLE IF NOT EXISTS invoices
        (number integer PRIMARY KEY, customer text NOT NULL, amount integer NOT NULL)";
    sqlx::query(table).execute(&pool).await?;

    let mut registry = Registry::new();
    registry.register(Invoices { pool: pool.clone() })?;
    let toolbox = Toolbox::new(Tools::new(
        db,
        Storage::open(&format!("file://{}/files", here.display()), &[])?,
        Mailer::open(&format!("file://{}/mail", here.display()), "invoices@example.com")?,
        registry,
        ["change me: at least 32 characters"],
        format!("http://{bind}/exports").parse()?,
    )?);

    // The worker and the cleaner may as well be processes of their own.
    let shutdown = CancellationToken::new();
    let options = WorkerOptions { slots: 2, drain: Duration::from_secs(10) };
    let worker = tokio::spawn(worker::run(toolbox.clone(), options, shutdown.clone()));
    tokio::spawn(clean(toolbox.clone()));

    let app = Router::new()
        .route("/invoices", post(create))
        .with_state(App { pool, toolbox: toolbox.clone() })
        .nest("/exports", web::router(WebState::new(toolbox.clone())))
        .layer(middleware::from_fn(identify))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind(&bind).await?;
    axum::serve(listener, app)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;

    // Running work ends within the drain limit; the rest is given back.
    shutdown.cancel();
    worker.await?;
    toolbox.close().await;
    Ok(())
}

async fn clean(toolbox: Toolbox) {
    loop {
        if let Err(error) = cleaner::clean(&toolbox, &Sweeps::default(), Limits::default()).await {
            tracing::warn!(%error, "cleaning failed");
        }
        tokio::time::sleep(Duration::from_secs(300)).await;
    }
}
