//! The directions in which the house's rooms may look.

mod files;

use std::{collections::BTreeSet, path::Path};

/// The rooms from the roof to the ground. A room sees only what stands below its own floor.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["web", "worker", "cleaner"],
    &["toolbox"],
    &["export"],
    &["registry"],
    &["file_request", "request_token", "auth_token", "lock_token", "operations"],
    &["storage", "mail", "queue", "signer", "templates"],
    &["messages"],
    &["db"],
    &["config"],
    &["error"],
    &["clock", "failpoint", "idle", "ids", "limits", "tls", "visitor"],
    &["duration", "nearest"],
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Every source file with its room and its text without comments.
pub fn sources() -> Vec<(String, String, String)> {
    fn walk(folder: &Path, found: &mut Vec<(String, String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix("src").unwrap().display().to_string();
                let room = name.split(['/', '.']).next().unwrap().to_owned();
                let text = std::fs::read_to_string(&path).unwrap();
                let code: Vec<&str> =
                    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
                found.push((name, room, code.join("\n")));
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("src"), &mut found);
    found
}

/// The rooms that a text names by `crate::room` or inside `use crate::{…}`.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    let mut rest = code;
    while let Some(at) = rest.find("crate::") {
        rest = &rest[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut item) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        named.insert(std::mem::take(&mut item));
                        continue;
                    }
                    _ => {}
                }
                item.push(c);
            }
            named.insert(item);
        } else {
            named.insert(rest.to_owned());
        }
    }
    let first = |item: String| {
        let item = item.trim_start().to_owned();
        item.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned()
    };
    named.into_iter().map(first).filter(|room| !room.is_empty()).collect()
}

#[test]
fn imports_go_one_way() {
    let mut wrong = Vec::new();
    for (name, room, code) in sources() {
        if room == "lib" || room == "main" {
            continue;
        }
        let here = floor(&room).unwrap_or_else(|| panic!("{name}: on which floor is {room}?"));
        for seen in rooms_named(&code) {
            let Some(there) = floor(&seen) else { continue };
            let allowed = there > here || seen == room;
            if !allowed {
                wrong.push(format!("{name} looks at {seen}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_thing_has_one_home() {
    let homes: [(&str, &[&str]); 6] = [
        (
            "sqlx::query",
            &["store.rs", "store/", "queue/", "export/query", "db/", "cli/demo/flights.rs"],
        ),
        ("StatusCode", &["web/"]),
        ("apalis", &["queue/", "worker.rs"]),
        ("AssertSqlSafe", &["export/query"]),
        ("std::env::vars", &["config/"]),
        ("Utc::now", &["clock.rs"]),
    ];
    for (name, _, code) in sources() {
        for (word, allowed) in homes {
            if code.contains(word) {
                assert!(allowed.iter().any(|home| name.contains(home)), "{name} names {word}");
            }
        }
    }
}

/// The stores that a text names by a path: `store::list`, `token_store::{…}`.
fn stores_named(code: &str) -> Vec<&str> {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    let ends = code.match_indices("store::").map(|(at, _)| at + "store".len());
    let names = ends.map(|end| {
        let begin = code[..end].rfind(|c| !in_name(c)).map_or(0, |at| at + 1);
        &code[begin..end]
    });
    // The crate of the object stores is none of ours.
    names.filter(|name| *name != "object_store").collect()
}

#[test]
fn http_opens_no_transaction_and_names_no_store() {
    let mut wrong = Vec::new();
    for (name, room, code) in sources() {
        if room != "web" {
            continue;
        }
        let dense: String = code.split_whitespace().collect();
        for opening in [".begin(", ".acquire(", "db().", ".db."] {
            if dense.contains(opening) {
                wrong.push(format!("{name} calls {opening}…)"));
            }
        }
        wrong.extend(stores_named(&code).iter().map(|store| format!("{name} names {store}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_readers_of_a_text_find_themselves() {
    let named = rooms_named("use crate::{db::Db, error::{Error, Result}}; crate::queue::push(x)");
    let named: Vec<_> = named.iter().map(String::as_str).collect();
    assert_eq!(named, ["db", "error", "queue"]);
    let named = stores_named("a::store::list(x); token_store::{b}; object_store::Error; restore()");
    assert_eq!(named, ["store", "token_store"]);
}
