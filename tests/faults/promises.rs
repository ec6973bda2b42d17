//! What docs/src/explanation/promises.md promises, each on its own and with real processes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bgfiles::Db;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    checker,
    cluster::Ground,
    evidence::all,
    folder_of,
    plan::{Database, Plan, Store, Who},
    run::{self, House, Pace},
    workload::{Asked, expected_sha256, hex},
};

/// What a promise came to: what was seen, or what was wrong.
type Verdict = Result<String, String>;

pub async fn are_kept(ground: &Arc<Ground>, full: bool) -> bool {
    let (kills, outage) = if full { (25, 600) } else { (2, 20) };
    let (one, two, three) = (ground.clone(), ground.clone(), ground.clone());
    // Timed ones together, as they wait most of the time; those that use the machine follow.
    let timed = tokio::join!(
        tokio::spawn(async move { resumed(&one, Database::Postgres, kills).await }),
        tokio::spawn(async move { resumed(&two, Database::Sqlite, kills).await }),
        tokio::spawn(async move { outage_of(&three, Duration::from_secs(outage)).await }),
    );
    let mut verdicts = vec![
        ("resumed after a crash, PostgreSQL", timed.0.map_err(|e| e.to_string())),
        ("resumed after a crash, SQLite", timed.1.map_err(|e| e.to_string())),
        ("a database outage", timed.2.map_err(|e| e.to_string())),
    ];
    macro_rules! tell {
        ($name:expr, $promise:ident $(, $with:expr)*) => {{
            let ground = ground.clone();
            let told = tokio::spawn(async move { $promise(&ground $(, $with)*).await }).await;
            verdicts.push(($name, told.map_err(|e| e.to_string())));
        }};
    }
    tell!("downloads, cut off by a killed web process", broken_off);
    tell!("downloads beside the cleaner, folder", cleaned, Store::Folder);
    tell!("downloads beside the cleaner, S3", cleaned, Store::S3);
    tell!("an upgrade, PostgreSQL", upgraded, Database::Postgres);
    tell!("an upgrade, SQLite", upgraded, Database::Sqlite);
    tell!("SIGTERM", terminated);
    let mut kept = true;
    for (name, verdict) in verdicts {
        match verdict.and_then(|verdict| verdict) {
            Ok(seen) => println!("promise: {name}: {seen}: ok"),
            Err(wrong) => {
                kept = false;
                println!("promise: {name}: {wrong}: FAILED");
            }
        }
    }
    kept
}

async fn house(ground: &Ground, name: &str, plan: Plan, pace: Pace) -> House {
    let cluster = Arc::new(ground.cluster.copy(&ground.folder.join(name)));
    let starting = cluster.clone();
    tokio::task::spawn_blocking(move || starting.start()).await.unwrap();
    House::build(plan, ground, cluster, &folder_of(name), pace).await
}

fn asked(file_type: &'static str, rows: u64, tag: impl std::fmt::Display) -> Asked {
    Asked { file_type, rows, tag: tag.to_string() }
}

async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    look: impl Fn() -> F,
) -> Result<T, String> {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if began.elapsed() > limit {
            return Err(format!("not within {limit:?}: {what}"));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

type Leased = (Uuid, i64, Option<String>);

async fn running(db: &Db) -> Vec<Leased> {
    let sql =
        "SELECT id, generation, leased_by FROM bgfiles_file_requests WHERE status = 'running'";
    let rows: Result<Vec<Leased>, sqlx::Error> = all!(db, sql);
    rows.unwrap_or_default()
}

/// How many have not come to an end; `None` when the database did not say.
async fn waiting(db: &Db) -> Option<i64> {
    let sql = "SELECT count(*) FROM bgfiles_file_requests WHERE status IN ('pending', 'running')";
    let counts: Result<Vec<(i64,)>, sqlx::Error> = all!(db, sql);
    counts.ok().map(|counts| counts[0].0)
}

/// From `kill -9` of a worker to the claim of what it was at by another: with the lease that the
/// product comes with, 15 s for 99 of 100.
async fn resumed(ground: &Ground, database: Database, kills: usize) -> Verdict {
    let pace = Pace { lease: "10", failpoints: "generating=sleep(250)" };
    let name = format!("promise-resumed-{database:?}");
    let house = house(ground, &name, Plan::calm(database, Store::Folder), pace).await;
    house.start().await;
    let db = Db::open(&house.direct).unwrap();
    let mut took = Vec::new();
    for round in 0..kills {
        // Half of the slots: the other worker has to have room.
        for number in 0..4 {
            let asked = asked("numbers", 60_000, format!("resumed{round}n{number}"));
            house.clients.request(&asked, None).await.ok_or("a request was not taken")?;
        }
        let all_run = || async { (running(&db).await.len() == 4).then_some(()) };
        eventually("four requests run", Duration::from_secs(20), all_run).await?;
        let rows = running(&db).await;
        let holder = |who| {
            let pid = house.process(who).pid().unwrap_or_default();
            let mine = format!("bgfiles-{pid}-");
            rows.iter()
                .filter(|row| row.2.as_deref().is_some_and(|by| by.starts_with(&mine)))
                .count()
        };
        let (one, two) = (holder(Who::WorkerOne), holder(Who::WorkerTwo));
        let victim = if one >= two { Who::WorkerOne } else { Who::WorkerTwo };
        let mine = format!("bgfiles-{}-", house.process(victim).pid().unwrap_or_default());
        let mut orphaned: Vec<_> = rows
            .into_iter()
            .filter(|row| row.2.as_deref().is_some_and(|by| by.starts_with(&mine)))
            .collect();
        house.process(victim).signal("KILL");
        let killed = Instant::now();
        while !orphaned.is_empty() {
            let now = running(&db).await;
            orphaned.retain(|(id, generation, _)| {
                let is_taken = now.iter().any(|row| row.0 == *id && row.1 > *generation);
                if is_taken {
                    took.push(killed.elapsed());
                }
                !is_taken
            });
            if killed.elapsed() > Duration::from_secs(40) {
                return Err(format!("{} requests were not taken over within 40 s", orphaned.len()));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        for (id, ..) in running(&db).await {
            house.clients.cancel(id).await;
        }
        let none = || async { running(&db).await.is_empty().then_some(()) };
        eventually("nothing runs", Duration::from_secs(20), none).await?;
    }
    house.close().await;
    took.sort();
    let p99 = took[(took.len() * 99).div_ceil(100) - 1];
    let told =
        format!("{} taken over, median {:.1?}, p99 {p99:.1?}", took.len(), took[took.len() / 2]);
    if p99 <= Duration::from_secs(15) { Ok(told) } else { Err(told) }
}

/// PostgreSQL is away. Nobody ends, and work goes on within 5 s of its return.
async fn outage_of(ground: &Ground, lasts: Duration) -> Verdict {
    let plan = Plan { requests: 6, ..Plan::calm(Database::Postgres, Store::Folder) };
    let house = Arc::new(house(ground, "promise-outage", plan, Pace::default()).await);
    house.start().await;
    let first = house.clients.request(&asked("numbers", 5, "before"), None).await;
    house.clients.ended(first.ok_or("a request was not taken")?).await;
    for number in 0..4 {
        house.clients.request(&asked("numbers", 9_000, format!("during{number}")), None).await;
    }
    let during = house.clone();
    // Asks until it is answered, as clients do.
    let asking = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        during.clients.request(&asked("numbers", 5, "after"), Some("after")).await
    });
    house.postgres_away(lasts).await;
    let back = Instant::now();
    asking.await.unwrap().ok_or("a request was not taken")?;
    let recorded = back.elapsed();
    let db = Db::open(&house.direct).unwrap();
    let sql =
        "SELECT CAST(count(*) AS bigint) FROM bgfiles_file_requests WHERE status = 'finished'";
    let finished = |least: i64| {
        let db = &db;
        async move {
            let rows: Result<Vec<(i64,)>, sqlx::Error> = all!(db, sql);
            (rows.ok()?.first()?.0 >= least).then_some(())
        }
    };
    let limit = Duration::from_secs(60);
    eventually("one more is finished", limit, || finished(2)).await?;
    let worked = back.elapsed();
    eventually("all are finished", limit, || finished(6)).await?;
    let all_done = back.elapsed();
    let deaths: usize = house.processes.iter().map(|process| process.deaths()).sum();
    house.settle().await;
    house.close().await;
    house.clean().await;
    let found = checker::check(&house.evidence().await);
    let told = format!(
        "away for {lasts:?}; afterwards a request was taken after {recorded:.1?}, a file was there \
         after {worked:.1?}, all six after {all_done:.1?}; {deaths} processes ended"
    );
    match deaths == 0 && worked <= Duration::from_secs(5) && found.is_empty() {
        true => Ok(told),
        false => Err(format!("{told} {found:?}")),
    }
}

/// The address of a finished file.
async fn finished(house: &House, asked: &Asked) -> Result<String, String> {
    let id = house.clients.request(asked, None).await.ok_or("a request was not taken")?;
    let row = house.clients.ended(id).await.ok_or("it never ended")?;
    row["download_url"].as_str().map(str::to_owned).ok_or(format!("there is no file: {row}"))
}

/// A download that its web process does not live to end breaks off, and goes on at the next one.
async fn broken_off(ground: &Ground) -> Verdict {
    let plan = Plan::calm(Database::Sqlite, Store::Folder);
    let house = house(ground, "promise-broken-off", plan, Pace::default()).await;
    house.start().await;
    let asked = asked("wide", 14_000, "broken-off");
    let url = finished(&house, &asked).await?;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = http.get(&url).send().await.map_err(|e| e.to_string())?;
    let etag = response.headers()["etag"].clone();
    let size: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let (mut bytes, mut pieces, mut broke) = (Vec::new(), response.bytes_stream(), false);
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) if bytes.is_empty() => {
                bytes.extend_from_slice(&piece);
                house.process(Who::Web).signal("KILL");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(_) => broke = true,
        }
    }
    if !broke || bytes.len() >= size {
        return Err(format!("{} of {size} bytes came, and the end was clean", bytes.len()));
    }
    let half = bytes.len();
    let rest = eventually("the rest", Duration::from_secs(20), || async {
        let get = http.get(&url).header("range", format!("bytes={half}-"));
        let response = get.header("if-range", etag.clone()).send().await.ok()?;
        (response.status() == 206).then_some(response)?.bytes().await.ok()
    });
    bytes.extend_from_slice(&rest.await?);
    house.close().await;
    let expected = expected_sha256(asked.file_type, asked.rows, &asked.tag);
    match hex(&Sha256::digest(&bytes)) == expected {
        true => Ok(format!("broke after {half} of {size} bytes, went on by range, right SHA-256")),
        false => Err("what was fetched in two pieces is not the file".into()),
    }
}

/// The cleaner removes a file while somebody reads it slowly: they get all of it.
async fn cleaned(ground: &Ground, store: Store) -> Verdict {
    let plan = Plan::calm(Database::Sqlite, store);
    let name = format!("promise-cleaned-{store:?}");
    let house = house(ground, &name, plan, Pace::default()).await;
    house.start().await;
    let asked = asked("wide", 30_000, "cleaned");
    let url = finished(&house, &asked).await?;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = http.get(&url).send().await.map_err(|e| e.to_string())?;
    let mut pieces = response.bytes_stream();
    let first = pieces.next().await.ok_or("no byte came")?.map_err(|e| e.to_string())?;
    let mut bytes = first.to_vec();
    let db = Db::open(&house.direct).unwrap();
    let Db::Sqlite(pool) = &db else { unreachable!() };
    // As if its day had passed.
    let sql = "UPDATE bgfiles_file_requests SET expires_at = '2020-01-01T00:00:00+00:00'";
    sqlx::query(sql).execute(pool).await.map_err(|e| e.to_string())?;
    let gone = || async {
        let rows: Result<Vec<(i64,)>, sqlx::Error> =
            all!(&db, "SELECT count(*) FROM bgfiles_file_requests");
        (rows.ok()?.first()?.0 == 0).then_some(())
    };
    eventually("the cleaner removes the row", Duration::from_secs(20), gone).await?;
    let objects = house.evidence().await.objects.len();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.map_err(|e| format!("it broke off: {e}"))?);
    }
    house.close().await;
    let expected = expected_sha256(asked.file_type, asked.rows, &asked.tag);
    match objects == 0 && hex(&Sha256::digest(&bytes)) == expected {
        true => Ok(format!("{} bytes read, most of them after the file was removed", bytes.len())),
        false => Err(format!("{} bytes came, and {objects} objects are left", bytes.len())),
    }
}

/// A schema of an earlier version with requests that wait, migrated by a process that is cut off
/// and by another; then one process after the other is replaced while clients go on.
async fn upgraded(ground: &Ground, database: Database) -> Verdict {
    let name = format!("promise-upgrade-{database:?}");
    let cluster = Arc::new(ground.cluster.copy(&ground.folder.join(&name)));
    let starting = cluster.clone();
    tokio::task::spawn_blocking(move || starting.start()).await.unwrap();
    let plan = Plan::upgrade(database);
    let (found, evidence) = run::seed(plan, ground, cluster, &folder_of(&name)).await;
    let old = evidence.rows.iter().filter(|row| row.tag().contains("old")).count();
    let told = format!("{} requests, {old} of them older than the schema", evidence.rows.len());
    if found.is_empty() { Ok(told) } else { Err(format!("{told} {found:?}")) }
}

/// A worker that is told to end gives back what does not end within the limit, and another goes on.
async fn terminated(ground: &Ground) -> Verdict {
    // The lease that the product comes with: none is to be lost on a slow machine.
    let pace = Pace { lease: "10", failpoints: "generating=sleep(100)" };
    let plan = Plan::calm(Database::Postgres, Store::S3);
    let house = house(ground, "promise-terminated", plan, pace).await;
    house.start().await;
    let db = Db::open(&house.direct).unwrap();
    for number in 0..8 {
        // Four kilobytes of rows take no time, twenty thousand rows eight seconds.
        let rows = if number % 2 == 0 { 20_000 } else { 5_000 };
        house.clients.request(&asked("numbers", rows, format!("terminated{number}")), None).await;
    }
    let some_run = || async { (running(&db).await.len() >= 6).then_some(()) };
    eventually("six requests run", Duration::from_secs(20), some_run).await?;
    house.process(Who::WorkerOne).signal("TERM");
    let dead = || async { (house.process(Who::WorkerOne).deaths() > 0).then_some(()) };
    eventually("it ends", Duration::from_secs(40), dead).await?;
    let ended = house.process(Who::WorkerOne).ended.lock().unwrap()[0].clone();
    // Before clocks are moved: that would end leases of what is at work.
    let all_done = || async { (waiting(&db).await == Some(0)).then_some(()) };
    eventually("all end", Duration::from_secs(90), all_done).await?;
    house.settle().await;
    house.close().await;
    house.clean().await;
    let evidence = house.evidence().await;
    let found = checker::check(&evidence);
    let given_back = evidence.attempts.iter().filter(|line| line.outcome == "pending").count();
    let attempts: i32 = evidence.rows.iter().map(|row| row.attempts).max().unwrap_or_default();
    let told = format!(
        "{} after {:.1?} with a limit of 2 s, {given_back} given back, {attempts} attempts at most",
        ended.status, ended.took
    );
    // What ends well, and what is given back, takes a moment.
    match ended.took < Duration::from_secs(8) && attempts == 1 && found.is_empty() {
        true => Ok(told),
        false => Err(format!("{told} {found:?}")),
    }
}
