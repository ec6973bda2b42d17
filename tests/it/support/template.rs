//! Migrated databases to copy: made once for each state of the migrations, by whichever test comes
//! first, in whichever process.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use bgfiles::{Db, Toolbox};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::postgres::{run, url_of};

/// So that two processes do not make the same one.
const MAKING: &str = "SELECT pg_advisory_lock(7263)";
const MADE: &str = "SELECT pg_advisory_unlock(7263)";

/// Of all that migrating does: our migrations, and the versions of the crates with theirs.
fn state() -> &'static str {
    static STATE: OnceLock<String> = OnceLock::new();
    STATE.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = vec![
            root.join("Cargo.lock"),
            root.join("src/db/migrations.rs"),
            root.join("src/queue/tables.rs"),
        ];
        for kind in ["postgres", "sqlite"] {
            let folder = std::fs::read_dir(root.join("migrations").join(kind)).unwrap();
            files.extend(folder.map(|entry| entry.unwrap().path()));
        }
        files.sort();
        let mut all = Sha256::new();
        for file in files {
            all.update(std::fs::read(file).unwrap());
        }
        all.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    })
}

/// Makes a new database of this name as a copy of the migrated one.
pub async fn copy_postgres(admin: &mut PgConnection, name: &str) {
    let template = format!("bgfiles_template_{}", state());
    // Two copies at the same time would each find the template in use.
    run(admin, MAKING).await;
    let known = "SELECT count(*) FROM pg_database WHERE datname = $1";
    let known: i64 =
        sqlx::query_scalar(known).bind(&template).fetch_one(&mut *admin).await.unwrap();
    if known == 0 {
        let draft = format!("{template}_{}", std::process::id());
        run(admin, &format!("DROP DATABASE IF EXISTS {draft}")).await;
        run(admin, &format!("CREATE DATABASE {draft}")).await;
        let db = Db::open(&url_of(&draft)).unwrap();
        Toolbox::migrate(&db).await.unwrap();
        db.close().await;
        // Only a whole one has the name that others look for.
        run(admin, &format!("ALTER DATABASE {draft} RENAME TO {template}")).await;
    }
    run(admin, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    run(admin, MADE).await;
}

/// Copies the migrated one to this path.
pub async fn copy_sqlite(path: &Path) {
    let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("template-{}.db", state()));
    if !template.exists() {
        let draft = draft(&template);
        let db = Db::open(&format!("sqlite:{}", draft.display())).unwrap();
        Toolbox::migrate(&db).await.unwrap();
        db.close().await;
        // Whoever is first; others made the same.
        std::fs::rename(draft, &template).unwrap();
    }
    std::fs::copy(template, path).unwrap();
}

fn draft(template: &Path) -> PathBuf {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    template.with_extension(format!("{}-{number}", std::process::id()))
}
