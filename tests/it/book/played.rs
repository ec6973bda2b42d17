//! What a reader types is typed here, from the pages themselves: `tests/how_to/play.py` says how a page
//! marks it. Pages that need root, or packages of others, are for `scripts/how-to`.

use std::process::Command;

use serde_json::Value;

use super::page::root;
use crate::{cli::run, support::postgres};

fn play(arguments: &[&str]) {
    let mut play = Command::new("python3");
    play.arg("tests/how_to/play.py").args(["--bgfiles", env!("CARGO_BIN_EXE_bgfiles")]);
    let (code, out, err) = run(play.args(arguments).current_dir(root()));
    assert_eq!(code, 0, "{out}{err}");
}

macro_rules! played {
    ($($name:ident: $page:literal,)*) => {
        $(
            #[test]
            fn $name() {
                play(&[$page]);
            }
        )*
    };
}

played! {
    first_export: "tutorial/first-export.md",
    declare_a_file_type: "how-to/declare-a-file-type.md",
    record_from_sql: "how-to/record-from-sql.md",
    limit_a_link: "how-to/limit-a-link.md",
    protect_a_route: "how-to/protect-a-route.md",
    lock_while_editing: "how-to/lock-while-editing.md",
    brand_mails_and_pages: "how-to/brand-mails-and-pages.md",
    log_in_with_a_front_server: "how-to/log-in-with-a-front-server.md",
    rotate_keys: "how-to/rotate-keys.md",
    back_up: "how-to/back-up.md",
    upgrade: "how-to/upgrade.md",
    runbook: "how-to/runbook.md",
}

#[tokio::test]
async fn runbook_on_postgresql() {
    let (name, url) = postgres::create_empty().await;
    tokio::task::spawn_blocking(move || play(&["how-to/runbook.md", "--database", &url]))
        .await
        .unwrap();
    postgres::drop_database(name);
}

#[test]
fn quick_start_of_server_and_application() {
    play(&["README.md", "As a server", "From an application"]);
}

#[test]
fn quick_start_in_rust() {
    let example = example("quick_start");
    play(&["README.md", "In a Rust program", "--example", &example]);
}

#[test]
fn embed_in_axum() {
    let example = example("embedded");
    play(&["tutorial/embed-in-axum.md", "--example", &example]);
}

#[test]
fn a_play_notices_what_differs() {
    let (code, out, err) = run(Command::new("python3")
        .arg("tests/how_to/play.py")
        .arg("--self-test")
        .current_dir(root()));
    assert_eq!(code, 0, "{out}{err}");
}

/// `NAME=PATH` of an example, which cargo builds as it has built these tests.
fn example(name: &str) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--message-format=json", "--example", name]);
    if cfg!(feature = "failpoints") {
        cargo.args(["--features", "failpoints"]);
    }
    let (code, out, err) = run(cargo.current_dir(root()));
    assert_eq!(code, 0, "{err}");
    let told = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut built = told.filter(|told| told["target"]["name"] == name);
    let path = built.find_map(|told| told["executable"].as_str().map(str::to_owned));
    format!("{name}={}", path.expect("cargo says where it is"))
}

#[test]
fn the_readme_says_which_version_it_is_about() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(readme.contains(&format!("**Version {version}**")), "README.md: not of {version}");
}
