//! What settings probably do not mean: variables that nobody reads, and values that a process takes
//! and that do not do what they look like.

use std::collections::BTreeMap;

use super::{Config, load::environment, settings::SETTINGS};
use crate::nearest::nearest;

const OURS: &str = "BGFILES_";
/// Read beside the settings.
const OTHERS: [&str; 1] = ["BGFILES_CONFIG"];
/// The tests' own. Whoever runs them has them, and so have the processes that they start.
const OF_TESTS: [&str; 3] = ["BGFILES_TEST_", "BGFILES_PREPARED", "BGFILES_STRANGERS"];
/// What people call settings that have another name.
const ALSO_CALLED: [(&str, &str); 6] = [
    ("SMTP", "BGFILES_MAIL"),
    ("SMTP_URL", "BGFILES_MAIL"),
    ("DB", "DATABASE_URL"),
    ("POSTGRES_URL", "DATABASE_URL"),
    ("URL", "BGFILES_BASE_URL"),
    ("HOST", "BGFILES_BIND"),
];

/// What is to be said of settings that are in force all the same.
#[derive(Debug, Default)]
pub struct Doubts {
    /// Variables that no setting has, a sentence each; for `check` they are faults.
    pub unknown: Vec<String>,
    /// What the filter of the log leaves out.
    pub log: Option<String>,
    /// A store that other processes do not see.
    pub storage: Option<String>,
    /// Mails that nobody sees.
    pub mail: Option<String>,
}

impl Doubts {
    /// Of the environment, and of what is in force.
    pub fn of(config: &Config) -> Doubts {
        let log = of_log(&config.log).map(|why| format!("log (BGFILES_LOG): {why}"));
        let storage = "storage (BGFILES_STORAGE): memory: is each process's own, so `bgfiles web` has no \
            file that `bgfiles worker` made; use file:FOLDER or a bucket";
        let mail =
            "mail (BGFILES_MAIL): memory: keeps mails from everybody; use smtp://… or file:FOLDER";
        Doubts {
            log,
            storage: (config.storage == "memory:").then(|| storage.to_owned()),
            mail: config.mail.expose().starts_with("memory:").then(|| mail.to_owned()),
            ..Doubts::of_environment()
        }
    }

    /// Of the environment alone.
    pub fn of_environment() -> Doubts {
        Doubts { unknown: unknown(&environment()), ..Doubts::default() }
    }

    /// Those of values.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        [&self.log, &self.storage, &self.mail].into_iter().flatten().map(String::as_str)
    }
}

/// Names that are read.
fn known() -> impl Iterator<Item = String> {
    let files = SETTINGS.iter().filter(|setting| setting.may_be_in_a_file());
    let files = files.map(|setting| format!("{}_FILE", setting.env));
    let names = SETTINGS.iter().map(|setting| setting.env).chain(OTHERS).map(str::to_owned);
    names.chain(files)
}

fn unknown(env: &BTreeMap<String, String>) -> Vec<String> {
    let known: Vec<String> = known().collect();
    let is_read = |name: &str| {
        known.iter().any(|known| known == name)
            || name.strip_prefix("BGFILES_SOURCE_").is_some_and(|source| !source.is_empty())
    };
    let strangers = env.iter().filter(|(name, value)| {
        let is_ours = name.starts_with(OURS) && !OF_TESTS.iter().any(|own| name.starts_with(own));
        is_ours && !is_read(name) && !is_of_kubernetes(name, value)
    });
    strangers
        .map(|(name, _)| match meant(name, &known) {
            Some(meant) => format!("{name} is unknown; did you mean {meant}?"),
            None => format!("{name} is unknown; `bgfiles check` lists every setting"),
        })
        .collect()
}

/// The name that somebody may have meant, with or without `BGFILES_`.
fn meant<'k>(name: &str, known: &'k [String]) -> Option<&'k str> {
    let bare = |name: &'k str| name.strip_prefix(OURS).unwrap_or(name);
    let word = name.strip_prefix(OURS).unwrap_or(name);
    let known = || known.iter().map(String::as_str);
    let also = ALSO_CALLED.into_iter().find(|(called, _)| *called == word);
    if let Some((_, meant)) = also {
        return known().find(|known| *known == meant);
    }
    let near = nearest(word, known().map(bare)).or_else(|| {
        // One that goes on (`SECRET` for `SECRET_KEY`).
        let begins = |name: &&str| word.len() > 2 && name.starts_with(&format!("{word}_"));
        known().map(bare).find(begins)
    })?;
    known().find(|known| bare(known) == near)
}

/// Whether Kubernetes made it, of a service that is named `bgfiles` or `bgfiles-web`:
/// `BGFILES_SERVICE_HOST`, `BGFILES_PORT`, `BGFILES_WEB_PORT_8000_TCP_ADDR`.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let rest = name.strip_prefix(OURS).unwrap_or_default();
    if rest.starts_with("SERVICE_") || rest == "PORT" || rest.starts_with("PORT_") {
        return true;
    }
    let is_address = || ["tcp://", "udp://", "sctp://"].iter().any(|way| value.starts_with(way));
    let is_port = |after: &str| {
        let (number, way) = after.split_once('_').unwrap_or((after, ""));
        let is_way = ["TCP", "UDP", "SCTP"].iter().any(|known| way.starts_with(known));
        is_way && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    };
    rest.contains("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || (rest.ends_with("_PORT") && is_address())
        || rest.split_once("_PORT_").is_some_and(|(_, after)| is_port(after))
}

/// The target of our own lines.
const TARGET: &str = "bgfiles";

/// A filter names targets (`sqlx=debug`), and what no part of it speaks of is not logged at all.
fn of_log(filter: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    let is_level = |word: &str| {
        LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
            || (word.len() == 1 && word.bytes().all(|b| (b'0'..=b'5').contains(&b)))
    };
    let parts: Vec<&str> = filter.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    // What begins with `[` is about spans, whatever their target.
    let targets = || parts.iter().filter(|part| !is_level(part));
    let target = |part: &'_ &&str| part.split(['=', '[']).next().unwrap_or_default().to_owned();
    let near = targets()
        .map(|part| target(&part))
        .find(|target| target != TARGET && nearest(target, std::iter::once(TARGET)).is_some());
    if let Some(near) = near {
        return Some(format!("{near:?} is no part of this program; did you mean {TARGET}?"));
    }
    let is_ours = |part: &&str| {
        let target = part.split(['=', '[']).next().unwrap_or_default();
        target.is_empty() || TARGET.starts_with(target) || target.starts_with("bgfiles::")
    };
    let shows = parts.is_empty() || parts.iter().any(|part| is_level(part) || is_ours(part));
    (!shows).then(|| {
        format!("{filter:?} shows nothing of bgfiles; add a level for all (`{filter},info`)")
    })
}

#[cfg(test)]
mod tests {
    use super::{of_log, unknown};

    #[test]
    fn variables_that_nobody_reads_are_named_with_what_they_look_like() {
        for (name, meant) in [
            ("BGFILES_DATABASE_URL", Some("DATABASE_URL")),
            ("BGFILES_DATABASE_URL_FILE", Some("DATABASE_URL_FILE")),
            ("BGFILES_WORKER", Some("BGFILES_WORKERS")),
            ("BGFILES_SMTP", Some("BGFILES_MAIL")),
            ("BGFILES_SECRET", Some("BGFILES_SECRET_KEY")),
            ("BGFILES_SECRET_KEYS", Some("BGFILES_SECRET_KEY")),
            ("BGFILES_SOURCE_", None),
            ("BGFILES_FAVOURITE_COLOUR", None),
        ] {
            let said = unknown(&[(name.to_owned(), "secret-value".to_owned())].into());
            let [said] = said.as_slice() else { panic!("{name}: {said:?}") };
            assert!(said.starts_with(&format!("{name} is unknown")), "{said}");
            assert!(!said.contains("secret-value"), "{said}");
            match meant {
                Some(meant) => {
                    assert!(said.ends_with(&format!("did you mean {meant}?")), "{said}");
                }
                None => assert!(!said.contains("did you mean"), "{said}"),
            }
        }
    }

    #[test]
    fn what_others_set_is_theirs() {
        for (name, value) in [
            ("BGFILES_SERVICE_HOST", "10.0.0.7"),
            ("BGFILES_SERVICE_PORT_HTTP", "8000"),
            ("BGFILES_PORT", "tcp://10.0.0.7:8000"),
            ("BGFILES_PORT_8000_TCP_ADDR", "10.0.0.7"),
            ("BGFILES_WEB_SERVICE_HOST", "10.0.0.7"),
            ("BGFILES_WEB_PORT", "tcp://10.0.0.7:8000"),
            ("BGFILES_WEB_PORT_8000_TCP", "tcp://10.0.0.7:8000"),
            ("BGFILES_SOURCE_SHOP", "postgres://shop"),
            ("BGFILES_SOURCE_SHOP_FILE", "/run/shop"),
            ("BGFILES_SECRET_KEY_FILE", "/run/key"),
            ("BGFILES_CONFIG", "/etc/bgfiles.toml"),
            ("BGFILES_TEST_FACTOR", "5"),
            ("AWS_REGION", "eu-west-1"),
        ] {
            assert_eq!(unknown(&[(name.to_owned(), value.to_owned())].into()), [""; 0], "{name}");
        }
    }

    #[test]
    fn filters_that_leave_us_out_are_noticed() {
        for filter in ["bgfile=debug", "bgfile=debug,info", "bgfiels", "sqlx=debug", "debgu"] {
            assert!(of_log(filter).is_some(), "{filter}");
        }
        for filter in ["info", "DEBUG", "bgfiles=debug", "sqlx=warn,info", "bgfiles::web=debug", ""]
        {
            assert_eq!(of_log(filter), None, "{filter}");
        }
    }
}
