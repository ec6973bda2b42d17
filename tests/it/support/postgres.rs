//! A database of its own for each test, on the server that `TEST_DATABASE_URL` names.

use std::{str::FromStr, sync::OnceLock};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};

use super::template;

/// `scripts/test` sets it; a PostgreSQL on this machine is the usual case.
pub fn server() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var("TEST_DATABASE_URL")
            .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into())
    })
}

async fn admin() -> PgConnection {
    PgConnection::connect(server()).await.unwrap_or_else(|e| {
        panic!("no PostgreSQL at TEST_DATABASE_URL ({e}): run the tests by scripts/test")
    })
}

pub fn url_of(database: &str) -> String {
    let mut url = url::Url::parse(server()).unwrap();
    url.set_path(database);
    url.to_string()
}

/// A migrated database; the name of it and its URL.
pub async fn create() -> (String, String) {
    let name = format!("bgfiles_test_{}", uuid::Uuid::new_v4().simple());
    template::copy_postgres(&mut admin().await, &name).await;
    let url = url_of(&name);
    (name, url)
}

/// An empty database, without our schema.
pub async fn create_empty() -> (String, String) {
    let name = format!("bgfiles_test_{}", uuid::Uuid::new_v4().simple());
    run(&mut admin().await, &format!("CREATE DATABASE {name}")).await;
    let url = url_of(&name);
    (name, url)
}

/// An empty database of that encoding, with no locale that would not go with it.
pub async fn create_encoded(encoding: &str) -> (String, String) {
    let name = format!("bgfiles_test_{}", uuid::Uuid::new_v4().simple());
    let sql = format!(
        "CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    );
    run(&mut admin().await, &sql).await;
    let url = url_of(&name);
    (name, url)
}

/// Removes it, whoever is still connected.
pub fn drop_database(name: String) {
    let remove = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = PgConnectOptions::from_str(server()).unwrap();
            if let Ok(mut admin) = PgConnection::connect_with(&options).await {
                let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                let _ = admin.execute(AssertSqlSafe(sql)).await;
            }
        });
    });
    let _ = remove.join();
}

pub async fn run(connection: &mut PgConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}
