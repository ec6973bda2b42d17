//! An application with handlers and routes of its own: one transaction inserts its row and the
//! file request, so that neither is ever without the other.
//!
//! ```console
//! $ cargo run --example embedded
//! $ curl -X POST http://127.0.0.1:3000/invoices -d 'customer=Amy&amount=120'
//! ```
//!
//! The answer holds a link that works as soon as the worker has made the file.

use async_trait::async_trait;
use axum::{
    Form, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use bgfiles::{
    Criteria, Db, Error, Handler, Job, NewFileRequest, Output, Registry, Result, Toolbox,
    mail::Mailer,
    storage::Storage,
    toolbox::Tools,
    web::{self, WebState},
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

#[derive(Deserialize)]
struct NewInvoice {
    customer: String,
    amount: i64,
}

/// The application's route: its own row and the file request stand or fall together.
async fn create(State(app): State<App>, Form(invoice): Form<NewInvoice>) -> Response {
    match record(&app, invoice).await {
        Ok(link) => (StatusCode::ACCEPTED, format!("{link}\n")).into_response(),
        Err(error) => web::Problem::from(error).into_response(),
    }
}

async fn record(app: &App, invoice: NewInvoice) -> Result<String> {
    let mut tx = app.pool.begin_with("BEGIN IMMEDIATE").await?;
    let number: i64 = sqlx::query_scalar(
        "INSERT INTO invoices (customer, amount) VALUES ($1, $2) RETURNING number",
    )
    .bind(invoice.customer)
    .bind(invoice.amount)
    .fetch_one(&mut *tx)
    .await?;
    let request = NewFileRequest {
        criteria: Criteria::from_pairs([("number".into(), number.to_string())])?,
        ..NewFileRequest::new("invoice".parse()?)
    };
    let row = app.toolbox.add_request(&mut tx, request).await?;
    tx.commit().await?;
    Ok(app.toolbox.download_url(&row))
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join("bgfiles-embedded");
    std::fs::create_dir_all(&dir)?;
    let url = format!("sqlite:{}", dir.join("app.db").display());
    let db = Db::open(&url)?;
    Toolbox::migrate(&db).await?;
    let Db::Sqlite(pool) = db.clone() else { unreachable!("the URL says sqlite") };
    sqlx::query("CREATE TABLE IF NOT EXISTS invoices (number integer PRIMARY KEY, customer text NOT NULL, amount integer NOT NULL)")
        .execute(&pool)
        .await?;

    let mut registry = Registry::new();
    registry.register(Invoices { pool: pool.clone() })?;
    let toolbox = Toolbox::new(Tools::new(
        db,
        Storage::open(&format!("file://{}", dir.join("files").display()), &[])?,
        Mailer::open("memory:", "invoices@example.com")?,
        registry,
        ["change me: at least 32 characters"],
        "http://127.0.0.1:3000/files".parse()?,
    )?);

    // A worker may as well be a process of its own.
    let options = WorkerOptions { slots: 2, drain: std::time::Duration::from_secs(10) };
    tokio::spawn(worker::run(toolbox.clone(), options, CancellationToken::new()));

    let app = Router::new()
        .route("/invoices", post(create))
        .with_state(App { pool, toolbox: toolbox.clone() })
        .nest("/files", web::router(WebState::new(toolbox)));
    let listener = web::server::listen("127.0.0.1:3000".parse()?).await?;
    web::server::serve(listener, app, Default::default(), CancellationToken::new()).await;
    Ok(())
}
