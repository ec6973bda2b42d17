//! What a page cites exists: files, Rust names, settings, metrics, codes and constants.
//!
//! A span in backticks is a citation. Words of other programs are told from ours by the page itself (it
//! shows them in a fence of code) or by [`FOREIGN`].

use std::collections::{BTreeMap, BTreeSet};

use bgfiles::config::SETTINGS;

use super::{
    page::{Page, book, documents},
    repository::{FOLDERS, Repository, is_word, said, said_before, value, words},
};

/// Names of other programs that no code of ours has.
const FOREIGN: [&str; 11] = [
    "BGFILES_DEFAULT_KEY",
    "BGFILES_DEFAULT_SALT",
    "ST_AsText",
    "bgfiles_filerequest",
    "cl_waiting",
    "get_items",
    "max_slot_wal_keep_size",
    "pg_dump",
    "pg_upgrade",
    "stream_reader",
    "url_rewrite_program",
];
/// Variables that are no settings.
const VARIABLES: [&str; 2] = ["BGFILES_CONFIG", "BGFILES_WRITE_BOOK"];

/// Methods of other crates.
const FOREIGN_METHODS: [&str; 2] = ["catch_panic", "timeout"];

/// A span's name: `max_age`, `max_age = 0`, `json_each(…)`, `.json(…)`.
fn name(span: &str) -> Option<&str> {
    let span = span.strip_prefix('.').unwrap_or(span);
    let name = span.split(|c| !is_word(c)).next().filter(|name| !name.is_empty())?;
    let rest = &span[name.len()..];
    (rest.is_empty() || rest.starts_with('(') || rest.starts_with(" =")).then_some(name)
}

/// The name of `.json(…)`.
fn method(span: &str) -> Option<&str> {
    let name = name(span.strip_prefix('.')?)?;
    span[1 + name.len()..].starts_with('(').then_some(name)
}

fn is_constant(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Constants that stand in brackets after what they are, "10,000 entries (`NAME`)" and "20 seconds
/// (`NAME` in …)": each with its line and the number.
fn numbered(prose: &str) -> Vec<(usize, &str, [f64; 2])> {
    let opened = prose.match_indices("(`").filter_map(|(at, open)| {
        let (name, after) = prose[at + open.len()..].split_once('`')?;
        let ends = after.starts_with(')') || after.trim_start().starts_with("in ");
        let said = said_before(&prose[..at]).filter(|_| ends && is_constant(name))?;
        Some((1 + prose[..at].matches('\n').count(), name, said))
    });
    opened.collect()
}

/// What is wrong with a number that a page says of a constant or a setting.
fn wrong_number(here: &Repository, name: &str, said: [f64; 2]) -> Option<String> {
    let values = here.constants(name);
    let is_said = |value: f64| said.iter().any(|said| (value - said).abs() < 1e-6);
    if values.is_empty() {
        // `POST` (202) is no constant.
        return name.contains('_').then(|| format!("there is no constant or setting {name}"));
    }
    let fits = values.iter().flatten().any(|value| is_said(*value));
    (!fits).then(|| format!("{name} is not {}, but {values:?}", said[0]))
}

/// A file that a word of a span names, without the line in it.
fn cited_file(word: &str) -> Option<&str> {
    let word = word.trim_matches([',', ';', '(', ')']);
    let path = word.split(':').next().unwrap_or_default();
    let is_path = path.chars().all(|c| is_word(c) || "./-".contains(c));
    let is_below =
        FOLDERS.iter().any(|folder| path.len() > folder.len() && path.starts_with(folder));
    let file = path.rsplit('/').next().unwrap_or_default();
    let stem = file.split('.').next().unwrap_or_default();
    let is_rust = file.ends_with(".rs");
    // `src/export/format/NEW.rs` stands for any.
    let stands_for_any =
        !file.ends_with(".md") && stem.len() > 1 && stem.chars().all(|c| c.is_ascii_uppercase());
    (is_path && (is_below || is_rust) && !stands_for_any).then_some(path)
}

/// Paths of Rust in a span.
fn cited_names(span: &str) -> impl Iterator<Item = &str> {
    let paths = span.split(|c: char| !is_word(c) && c != ':').map(|path| path.trim_matches(':'));
    paths.filter(|path| path.contains("::") && !path.starts_with(|c: char| c.is_ascii_digit()))
}

fn wrong_span(
    here: &Repository,
    page: &Page,
    code: &BTreeSet<&str>,
    span: &str,
    after: &str,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let missing =
        span.split_whitespace().filter_map(cited_file).filter(|path| !here.has_file(path));
    wrong.extend(missing.map(|path| format!("there is no file {path}")));
    wrong.extend(cited_names(span).filter_map(|path| here.wrong_name(path)));
    let Some(name) = name(span) else { return wrong };
    if is_constant(name) {
        wrong.extend(said(after).and_then(|said| wrong_number(here, name, said)));
    }
    let method = method(span).filter(|name| !FOREIGN_METHODS.contains(name));
    wrong.extend(
        method
            .filter(|name| !here.has_function(name))
            .map(|name| format!("there is no method {name}")),
    );
    // Pages on the Django packages name what is theirs; variables are looked at as words.
    let is_theirs = page.path.starts_with("docs/src/django") || name.starts_with("BGFILES_");
    let is_known = here.words.contains(name) || code.contains(name) || FOREIGN.contains(&name);
    if name.trim_matches('_').contains('_') && !is_theirs && !is_known {
        wrong.push(format!("`{name}` is in no code of ours"));
    }
    wrong
}

/// Whether there is a variable, or what its name begins with.
fn is_variable(here: &Repository, name: &str) -> bool {
    let of_setting = |name: &str| SETTINGS.iter().any(|setting| setting.env == name);
    name.ends_with('_')
        || of_setting(name)
        || name.strip_suffix("_FILE").is_some_and(of_setting)
        || name.starts_with("BGFILES_SOURCE_")
        || name.starts_with("BGFILES_TEST_")
        || VARIABLES.contains(&name)
        || here.tools.contains(name)
}

/// What is wrong with a word wherever it stands, fences included: a setting's variable, a metric, a
/// table.
fn wrong_word(here: &Repository, word: &str) -> Option<String> {
    if FOREIGN.contains(&word) {
        return None;
    }
    if word.starts_with("BGFILES_") {
        return (!is_variable(here, word)).then(|| format!("there is no setting {word}"));
    }
    let is_ours = word.starts_with("bgfiles_") && !word.ends_with('_');
    let series = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
    let is_there =
        here.words.contains(word) || series.is_some_and(|name| here.words.contains(name));
    (is_ours && !is_there).then(|| format!("there is no metric or table {word}"))
}

/// Keys of a `bgfiles.toml` that a page shows.
fn wrong_keys(page: &Page) -> Vec<String> {
    let code = page.code();
    let files = code.split("```toml\n# bgfiles.toml\n").skip(1);
    let keys = files.flat_map(|file| {
        let file = file.split("```").next().unwrap_or_default();
        let table: toml::Table =
            file.parse().unwrap_or_else(|e| panic!("{}: {e}", page.path.display()));
        table.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    });
    let is_key = |key: &str| key == "sources" || SETTINGS.iter().any(|setting| setting.key == key);
    keys.filter(|key| !is_key(key)).map(|key| format!("bgfiles.toml has no key {key}")).collect()
}

#[test]
fn what_pages_cite_is_there() {
    let here = Repository::read();
    let mut faults = Vec::new();
    // What has changed since is told in the words of its time.
    for page in documents().iter().filter(|page| !page.path.ends_with("CHANGELOG.md")) {
        let code = page.code();
        let code: BTreeSet<&str> = words(&code).collect();
        for (line, span, after) in page.spans() {
            let wrong = wrong_span(&here, page, &code, &span, &after);
            faults.extend(wrong.into_iter().map(|why| page.fault(line, why)));
        }
        for (line, name, said) in numbered(&page.prose()) {
            faults.extend(wrong_number(&here, name, said).map(|why| page.fault(line, why)));
        }
        for (at, line) in page.text.lines().enumerate() {
            let wrong = words(line).filter_map(|word| wrong_word(&here, word));
            faults.extend(wrong.map(|why| page.fault(at + 1, why)));
        }
        faults.extend(wrong_keys(page).into_iter().map(|why| page.fault(1, why)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Codes in the first column of tables that are headed so, each with its page and line.
fn listed_codes() -> BTreeMap<String, String> {
    let mut listed = BTreeMap::new();
    for page in book() {
        let mut is_table = false;
        for (at, line) in page.prose().lines().enumerate() {
            is_table = line.starts_with("| code |") || (is_table && line.starts_with('|'));
            let first = line.split('|').nth(1).filter(|_| is_table).unwrap_or_default();
            for code in first.split('`').skip(1).step_by(2) {
                listed.insert(code.to_owned(), page.fault(at + 1, code));
            }
        }
    }
    listed
}

/// The text between two others, as often as it is there.
fn between<'t>(text: &'t str, open: &'t str, close: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split(close).next())
}

/// Codes of errors as the code says them, where it does so in a way that can be read off.
fn codes_in(path: &str, text: &str) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    let mut quoted = |text: &str| {
        let code = text.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
        codes.extend(
            code.filter(|code| code.chars().all(|c| c == '_' || c.is_ascii_lowercase()))
                .map(str::to_owned),
        );
    };
    if path.ends_with("error/mod.rs") || path.ends_with("denial.rs") {
        for function in between(text, "pub fn code(", "\n    }\n") {
            between(function, "=> ", "\n").for_each(&mut quoted);
        }
    }
    for open in ["Error::permanent(", "Error::temporary(", " code: "] {
        text.split(open).skip(1).for_each(&mut quoted);
    }
    // After the status.
    for call in between(text, "Problem::new(", ")") {
        call.split_once(',').into_iter().for_each(|(_, rest)| quoted(rest));
    }
    codes
}

#[test]
fn every_code_is_listed_and_none_that_is_not() {
    let here = Repository::read();
    let listed = listed_codes();
    let code = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let is_said =
        |code: &str| here.sources.iter().any(|source| source.text.contains(&format!("\"{code}\"")));
    let unknown: Vec<_> =
        listed.iter().filter(|(code, _)| !is_said(code)).map(|(_, at)| at).collect();
    assert!(unknown.is_empty(), "no such code: {unknown:#?}");
    let product = here.sources.iter().filter(|source| !source.path.starts_with("src/cli/"));
    let said: BTreeSet<String> =
        product.flat_map(|source| codes_in(&source.path, &code(&source.text))).collect();
    assert!(said.len() > 50, "{said:?}");
    let missing: Vec<_> = said.iter().filter(|code| !listed.contains_key(*code)).collect();
    assert!(missing.is_empty(), "not in docs/src/reference/states-and-errors.md: {missing:?}");
}

#[test]
fn citations_are_told_from_other_words() {
    assert_eq!(cited_file("src/db/watch.rs:39"), Some("src/db/watch.rs"));
    assert_eq!(cited_file("watch.rs"), Some("watch.rs"));
    assert_eq!(cited_file("src/export/format/NEW.rs"), None);
    assert_eq!(cited_file("jobs/flights.toml"), None);
    assert_eq!(
        [name("max_age = 0"), name("json_each(x)"), name("a_b c")],
        [Some("max_age"), Some("json_each"), None]
    );
    assert_eq!(
        cited_names("toolbox.memory(), Toolbox::lock(x)").collect::<Vec<_>>(),
        ["Toolbox::lock"]
    );
    assert_eq!(
        [value("64 * 1024"), value("Duration::from_secs(10)"), value("1 << 3")],
        [Some(65536.0), Some(1e4), None]
    );
    assert_eq!(
        [said(" (64 KiB)"), said(" (10 s), then"), said(" (see below)")],
        [Some([64.0, 65536.0]), Some([10.0, 1e4]), None]
    );
    let giga = 1024.0 * 1024.0 * 1024.0;
    assert_eq!(
        [
            said_before("More. Above 10,000\nentries "),
            said_before("2 rows (`A`) and 3.75 GiB of XML "),
            said_before("for a day "),
            said_before("7 days. A row "),
        ],
        [Some([10_000.0; 2]), Some([3.75, 3.75 * giga]), Some([1.0, 8.64e7]), None]
    );
    assert_eq!(
        numbered("At\nmost 100 (`SECRETS`), 16 places (`A` and `B`), 2 (`lower`).\n"),
        [(2, "SECRETS", [100.0; 2])]
    );
    assert_eq!(
        [method(".json(…)"), method(".env.example"), method(".eml"), method("json(x)")],
        [Some("json"), None, None, None]
    );
    let here = Repository::read();
    assert!(here.has_function("when_configured") && !here.has_function("as_configured"));
    // What MOST_CONNECTIONS is made of.
    assert!(here.constants("CONNECTIONS").contains(&Some(8.0)));
    assert_eq!(wrong_number(&here, "MOST_LINES", [10_000.0; 2]), None);
    assert_eq!(wrong_number(&here, "GET", [200.0; 2]), None);
    for wrong in ["MOST_LINES", "PASSING_STATES", "NO_SUCH_NUMBER"] {
        assert!(wrong_number(&here, wrong, [10_001.0; 2]).is_some(), "{wrong}");
    }
    for right in
        ["Toolbox::add_request", "bgfiles::web::router", "Error::Query", "x::int", "tokio::spawn"]
    {
        assert_eq!(here.wrong_name(right), None, "{right}");
    }
    for wrong in ["Toolbox::add_requests", "bgfiles::webs::router", "Tolbox::add_request"] {
        assert!(here.wrong_name(wrong).is_some(), "{wrong}");
    }
    assert!(here.has_file("error/mod.rs") && !here.has_file("src/nothing.rs"));
    assert!(
        wrong_word(&here, "BGFILES_WORKER").is_some()
            && wrong_word(&here, "BGFILES_WORKERS").is_none()
    );
    assert!(wrong_word(&here, "bgfiles_dispatch_seconds_bucket").is_none());
    assert!(wrong_word(&here, "bgfiles_dispatches_total").is_some());
}
