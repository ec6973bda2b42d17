//! The repository as pages cite it: its files, its words, its Rust.

use std::collections::BTreeSet;

use bgfiles::config::SETTINGS;

use super::page::{files, root};

/// Folders of the repository whose files are cited by their whole path.
pub const FOLDERS: [&str; 10] = [
    "src/",
    "tests/",
    "scripts/",
    "benches/",
    "fuzz/",
    "packaging/",
    "migrations/",
    "examples/",
    "docs/",
    ".ci/",
];
/// Crates besides those in Cargo.toml.
const CRATES: [&str; 3] = ["std", "core", "alloc"];
/// Types of the standard library and of dependencies that are cited as they stand in code.
const TYPES: [&str; 4] = ["Arc", "Duration", "Router", "Vec"];
/// Constants that [`value`] cannot read: how they are declared, and what that comes to.
const COMPUTED: [(&str, &str, f64); 2] = [
    ("MOST_CONNECTIONS", "CONNECTIONS + 1", 9.0),
    ("MOST_XML", "(4 << 30) - (256 << 20)", 3.75 * 1024.0 * 1024.0 * 1024.0),
];
pub fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// A Rust file.
pub struct Source {
    pub path: String,
    pub text: String,
    words: BTreeSet<String>,
}

impl Source {
    /// Whether it is a module of this name, or in one.
    fn is_below(&self, module: &str) -> bool {
        self.path.split(['/', '.']).any(|part| part == module)
    }
}

/// The repository, as far as pages cite it.
pub struct Repository {
    /// Every file that may be cited.
    paths: BTreeSet<String>,
    /// Rust files of `src`.
    pub sources: Vec<Source>,
    /// Words of everything that runs, is configured or is tested.
    pub words: BTreeSet<String>,
    /// Words of what runs outside the product: scripts, benchmarks, harnesses.
    pub tools: BTreeSet<String>,
    manifest: String,
}

impl Repository {
    pub fn read() -> Repository {
        let text = |path: &str| std::fs::read(root().join(path)).unwrap_or_default();
        let text = |path: &str| String::from_utf8_lossy(&text(path)).into_owned();
        let all_words = |text: &str| words(text).map(str::to_owned).collect::<BTreeSet<_>>();
        let below = FOLDERS
            .iter()
            .chain(&["jobs/", "templates/"])
            .flat_map(|folder| files(folder.trim_end_matches('/')));
        let paths: BTreeSet<String> = below.map(|path| path.display().to_string()).collect();
        let mut here = Repository {
            paths,
            sources: Vec::new(),
            words: BTreeSet::new(),
            tools: BTreeSet::new(),
            manifest: text("Cargo.toml"),
        };
        // Not what this test itself names.
        let is_read = |path: &str| {
            !path.starts_with("docs/")
                && !path.starts_with("tests/it/book")
                && !path.contains("/corpus/")
        };
        for path in here.paths.iter().filter(|path| is_read(path)) {
            let text = text(path);
            let words = all_words(&text);
            here.words.extend(words.iter().cloned());
            if ["scripts/", "benches/", "fuzz/", ".ci/", "tests/faults/"]
                .iter()
                .any(|folder| path.starts_with(folder))
            {
                here.tools.extend(words.iter().cloned());
            }
            if path.starts_with("src/") && path.ends_with(".rs") {
                here.sources.push(Source { path: path.clone(), text, words });
            }
        }
        for path in
            ["Cargo.toml", ".env.example", "compose.yaml", "Containerfile", ".config/nextest.toml"]
        {
            here.words.extend(all_words(&text(path)));
        }
        here
    }

    pub fn has_file(&self, cited: &str) -> bool {
        let cited = cited.trim_end_matches('/');
        let is_whole = FOLDERS.iter().any(|folder| cited.starts_with(folder));
        let ends = format!("/{cited}");
        match is_whole {
            true => root().join(cited).exists(),
            false => self.paths.iter().any(|path| path.ends_with(&ends)),
        }
    }

    /// The files in which a type or a module is declared or has its functions.
    fn homes<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a Source> {
        let is_type = owner.starts_with(|c: char| c.is_ascii_uppercase());
        let declares = move |text: &str| {
            ["struct ", "enum ", "trait ", "type ", "impl ", "for ", "> ", "dyn "].iter().any(
                |before| {
                    let named = format!("{before}{owner}");
                    text.match_indices(&named)
                        .any(|(at, _)| !text[at + named.len()..].starts_with(is_word))
                },
            )
        };
        self.sources.iter().filter(move |source| match is_type {
            true => source.words.contains(owner) && declares(&source.text),
            false => source.is_below(owner),
        })
    }

    fn is_foreign(&self, name: &str) -> bool {
        let dashed = name.replace('_', "-");
        let is_crate = |line: &str| {
            line.starts_with(&format!("{name} =")) || line.starts_with(&format!("{dashed} ="))
        };
        CRATES.contains(&name) || TYPES.contains(&name) || self.manifest.lines().any(is_crate)
    }

    /// What is wrong with a path of Rust: `Toolbox::cancel`, `bgfiles::web::router`.
    pub fn wrong_name(&self, cited: &str) -> Option<String> {
        let mut parts: Vec<&str> = cited.split("::").filter(|part| !part.is_empty()).collect();
        let is_ours = matches!(parts.first(), Some(&("bgfiles" | "crate")));
        if is_ours {
            parts.remove(0);
        }
        let first = *parts.first()?;
        let is_type = first.starts_with(|c: char| c.is_ascii_uppercase());
        let is_known = self.homes(first).next().is_some();
        if !is_known && (self.is_foreign(first) || (!is_ours && !is_type)) {
            // Another crate's, or a cast of SQL.
            return None;
        }
        let is_exported = || self.homes("lib").any(|lib| lib.words.contains(first));
        if !is_known && (!is_ours || !is_exported()) {
            return Some(format!("`{cited}`: there is no {first}"));
        }
        let missing = parts.windows(2).find(|pair| {
            let has = |home: &Source| home.words.contains(pair[1]) || home.is_below(pair[1]);
            !self.homes(pair[0]).any(has)
        })?;
        Some(format!("`{cited}`: {} has no {}", missing[0], missing[1]))
    }

    /// Whether there is a function or a method of a name.
    pub fn has_function(&self, name: &str) -> bool {
        let named = format!("fn {name}");
        let is_one =
            |(at, _): (usize, &str), text: &str| !text[at + named.len()..].starts_with(is_word);
        self.sources
            .iter()
            .any(|Source { text, .. }| text.match_indices(&named).any(|found| is_one(found, text)))
    }

    /// The values of constants of a name, or of a setting's default: a number, in milliseconds where
    /// it is a time; `None` for what cannot be read.
    pub fn constants(&self, name: &str) -> Vec<Option<f64>> {
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.env == name) {
            let units = [("d", " days"), ("h", " h"), ("m", " min"), ("s", " s"), ("", "")];
            let spaced = units.iter().find_map(|(short, long)| {
                Some(setting.default.strip_suffix(short)?.to_owned() + long)
            });
            return vec![said(&format!(" ({})", spaced.unwrap_or_default())).map(|said| said[1])];
        }
        let named = format!("const {name}: ");
        let declared = self.sources.iter().flat_map(|source| source.text.split(&named).skip(1));
        let read = |rest: &str| {
            let expression = rest.split_once('=')?.1.split(';').next()?.trim();
            let is_it =
                |(of, as_written, _): &&(&str, &str, f64)| (*of, *as_written) == (name, expression);
            value(expression).or_else(|| COMPUTED.iter().find(is_it).map(|(.., value)| *value))
        };
        declared.map(read).collect()
    }
}

/// `64 * 1024`, `Duration::from_secs(10)`, `1_048_576`; `None` for what is more than that.
pub fn value(expression: &str) -> Option<f64> {
    let units = [
        ("from_millis", 1.0),
        ("milliseconds", 1.0),
        ("from_secs", 1e3),
        ("seconds", 1e3),
        ("minutes", 6e4),
        ("hours", 3.6e6),
        ("days", 8.64e7),
    ];
    let unit = units.into_iter().find(|(name, _)| expression.contains(&format!("::{name}(")));
    let numbers = match expression.split_once('(').filter(|_| unit.is_some()) {
        Some((_, inside)) => inside.trim_end_matches(')'),
        None => expression,
    };
    let mut product = 1.0;
    for factor in numbers.split('*') {
        product *= factor.trim().replace('_', "").parse::<f64>().ok()?;
    }
    Some(product * unit.map_or(1.0, |(_, unit)| unit))
}

/// What a unit counts, in milliseconds or bytes.
fn unit(name: &str) -> Option<f64> {
    Some(match name.trim_end_matches([',', '.', ':']) {
        "ms" => 1.0,
        "s" | "second" | "seconds" => 1e3,
        "min" | "minute" | "minutes" => 6e4,
        "h" | "hour" | "hours" => 3.6e6,
        "day" | "days" => 8.64e7,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    })
}

/// A number with what may be its unit: as it stands, and as [`value`] counts.
fn measured(number: &str, of: &str) -> Option<[f64; 2]> {
    let unit = unit(of);
    let spelled = [("a", 1.0), ("an", 1.0), ("one", 1.0), ("two", 2.0), ("ten", 10.0)];
    // `a day` says how long, `a row` says nothing.
    let spelled = spelled.iter().find(|(word, _)| *word == number && unit.is_some());
    let written = || {
        let is_number = number.starts_with(|c: char| c.is_ascii_digit());
        number.replace([',', '_'], "").parse().ok().filter(|_| is_number)
    };
    let number: f64 = spelled.map(|(_, number)| *number).or_else(written)?;
    Some([number, number * unit.unwrap_or(1.0)])
}

/// What ` (10 s)` says of the constant before it.
pub fn said(after: &str) -> Option<[f64; 2]> {
    let inside = after.strip_prefix(" (")?.split([')', ';', ':']).next()?;
    let mut words = inside.split_whitespace();
    measured(words.next()?, words.next().unwrap_or_default())
}

/// What `at most 10,000 entries ` says of the constant in brackets that follows: the last number in
/// the same clause.
pub fn said_before(before: &str) -> Option<[f64; 2]> {
    let item = before.rsplit("\n\n").next()?.rsplit("\n- ").next()?.replace('\n', " ");
    let clause = item.rsplit([';', '|', '(', ')']).next()?.rsplit(". ").next()?;
    let words: Vec<&str> = clause.split_whitespace().collect();
    let measured = |at: usize| measured(words[at], words.get(at + 1).copied().unwrap_or_default());
    (0..words.len()).rev().find_map(measured)
}
