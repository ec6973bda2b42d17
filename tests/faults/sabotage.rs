//! Shows that the checker can fail: each of its rules is broken on purpose, and has to be found.

use std::{sync::Arc, time::Duration};

use bgfiles::Db;
use uuid::Uuid;

use crate::{
    chance::Chance,
    checker,
    cluster::Ground,
    evidence::{Evidence, Row},
    folder_of,
    plan::{Database, Plan, Store},
    run::{House, Pace},
    workload::Asked,
};

type Breach = (&'static str, fn(&mut Evidence));

fn finished(evidence: &mut Evidence) -> &mut Row {
    let is_it = |row: &&mut Row| row.status == "finished" && row.file_type == "numbers";
    evidence.rows.iter_mut().find(is_it).unwrap()
}

/// What the finding says, and what is done to the evidence.
const BREACHES: &[Breach] = &[
    ("was acknowledged and is not there", |e| {
        e.told.acknowledged.push(("nobody".into(), Uuid::new_v4()));
    }),
    ("was acknowledged for", |e| {
        let id = finished(e).id;
        e.told.acknowledged.push(("somebody-else".into(), id));
    }),
    ("was cancelled and is finished", |e| {
        let id = finished(e).id;
        e.told.cancelled.push(id);
    }),
    ("was deleted and is still there", |e| {
        let id = finished(e).id;
        e.told.deleted.push(id);
    }),
    ("recorded 2 times", |e| {
        let twin = Row { id: Uuid::new_v4(), ..finished(e).clone() };
        e.rows.push(twin);
    }),
    ("is running for ever", |e| finished(e).status = "running".into()),
    ("in spite of its limit", |e| finished(e).file_type = "bounded".into()),
    ("failed: storage", |e| {
        let row = finished(e);
        (row.status, row.error_code) = ("failed".into(), Some("storage".into()));
    }),
    ("failed: worker_died", |e| {
        let row = finished(e);
        (row.status, row.error_code) = ("failed".into(), Some("worker_died".into()));
    }),
    ("notices wait for ever", |e| e.notices_waiting = 1),
    ("transactions are left open", |e| e.left_open = 1),
    ("its log says no line", |e| e.attempts.clear()),
    ("counts 0 crashes", |e| finished(e).generation += 1),
    ("is charged 9 attempts", |e| finished(e).attempts = 9),
    ("was finished 2 times", |e| {
        let id = finished(e).id;
        let mut line = e.attempts.iter().find(|line| line.request_id == id).unwrap().clone();
        line.generation += 1;
        e.attempts.push(line);
    }),
    ("is finished without a file", |e| finished(e).storage_key = None),
    ("somebody else's file", |e| {
        let key = finished(e).storage_key.clone();
        let other = e.rows.iter_mut().rfind(|row| row.status == "finished").unwrap();
        other.storage_key = key;
    }),
    ("is not that of its rows", |e| finished(e).sha256 = Some("0".into())),
    ("its file requests", |e| e.objects.clear()),
    ("has the wrong bytes", |e| {
        let key = finished(e).storage_key.clone().unwrap();
        e.objects.get_mut(&key).unwrap().1 = "0".into();
    }),
    ("is nobody's after a pass", |e| {
        e.objects.insert("requests/x/1".into(), (0, String::new()));
    }),
    ("is left of an upload", |e| e.unfinished.push("requests/x/1#1".into())),
    ("nobody was told", |e| e.mails.clear()),
    ("although nobody wanted to be told", |e| {
        let address = e.mails[0].to.clone();
        e.rows.iter_mut().find(|row| row.requester_email == address).unwrap().notify = false;
    }),
    ("different Message-IDs", |e| {
        let mut copy = e.mails[0].clone();
        copy.message_id.push('x');
        e.mails.push(copy);
    }),
    ("copies of a mail with 0 reasons", |e| {
        let copy = e.mails[0].clone();
        e.mails.push(copy);
    }),
    ("times of", |e| e.links[0].uses = 99),
    ("lines in its log", |e| e.links[0].redeemed -= 1),
    ("let 99 in", |e| e.told.links[0].2 = 99),
    ("request token", |e| e.tokens[0].used = 99),
    ("lines in its log", |e| e.tokens[0].logged -= 1),
    ("let 99 in", |e| e.told.tokens[0].2 = 99),
    ("ended by itself", |e| {
        let mut ended = e.ended[0].clone();
        ended.asked = None;
        e.ended.push(ended);
    }),
    ("to end after SIGTERM", |e| e.ended[0].took = Duration::from_secs(60)),
    ("a stranger read", |e| e.told.wrong.push("a stranger read it".into())),
];

/// The same in the database and in the store, to be found by looking there.
const STATEMENTS: &[&str] = &[
    "UPDATE bgfiles_file_requests SET status = 'pending' WHERE status = 'cancelled'",
    "UPDATE bgfiles_links SET uses = 99",
    "DELETE FROM bgfiles_request_token_uses",
    "DELETE FROM bgfiles_attempts",
];
const SEEN_THERE: &[&str] = &[
    "is pending for ever",
    "was used 99 times",
    "0 lines in its log",
    "its log says no line",
    "is not there",
    "is nobody's",
    "is left of an upload",
];

pub async fn every_rule_finds_its_breach(ground: &Arc<Ground>) -> bool {
    let folder = folder_of("checker");
    let cluster = Arc::new(ground.cluster.copy(&ground.folder.join("checker")));
    let plan = Plan::calm(Database::Sqlite, Store::Folder);
    let house = House::build(plan, ground, cluster, &folder, Pace::default()).await;
    let house = Arc::new(house);
    house.start().await;
    house.play().await;
    // Whatever chance leaves out.
    let asked =
        |number: u32| Asked { file_type: "numbers", rows: 5, tag: format!("extra{number}") };
    let clients = &house.clients;
    let id = clients.request(&asked(1), None).await.unwrap();
    clients.ended(id).await;
    let mut chance = Chance::new(1);
    clients.limited_link(id, &mut chance).await;
    clients.request_token(&mut chance).await;
    let slow = Asked { rows: 20_000, ..asked(2) };
    let id = clients.request(&slow, None).await.unwrap();
    clients.cancel(id).await;
    house.settle().await;
    house.close().await;
    house.clean().await;

    let evidence = house.evidence().await;
    let mut wrong = checker::check(&evidence);
    for (says, breach) in BREACHES {
        let mut broken = evidence.clone();
        breach(&mut broken);
        let found = checker::check(&broken);
        if !found.iter().any(|line| line.contains(says)) {
            wrong.push(format!("a breach was not found: {says:?}, but {found:?}"));
        }
    }
    wrong.extend(really(&house, &evidence).await);
    for line in &wrong {
        println!("    {line}");
    }
    wrong.is_empty()
}

async fn really(house: &House, evidence: &Evidence) -> Vec<String> {
    let db = Db::open(&house.direct).unwrap();
    let Db::Sqlite(pool) = &db else { unreachable!() };
    for sql in STATEMENTS {
        sqlx::query(*sql).execute(pool).await.unwrap();
    }
    db.close().await;
    let files = house.folder.join("disk/files");
    let key = evidence.objects.keys().next().unwrap();
    let moved = files.join(format!("requests/{}/1", Uuid::new_v4()));
    std::fs::create_dir_all(moved.parent().unwrap()).unwrap();
    std::fs::rename(files.join(key), &moved).unwrap();
    std::fs::write(moved.with_file_name("2#1"), "half").unwrap();
    let found = checker::check(&house.evidence().await);
    let missed = SEEN_THERE.iter().filter(|says| !found.iter().any(|line| line.contains(*says)));
    missed.map(|says| format!("a breach was not found: {says:?} in {found:?}")).collect()
}
