//! The templates of mails and pages: minijinja, built in, each overridable by a file of the same
//! path in the operator's folder.
//!
//! Besides the usual filters they have `t(key, n=…, name=…)`, a text of [`crate::messages`];
//! `relative(time)`; `url(path)`; and the filters `datetime(zone)`, `duration`, `filesize` and
//! `number`. They look at the variables `language`, `now` and `base`.

mod survey;

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use include_dir::{Dir, include_dir};
use minijinja::{
    AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior, Value, escape_formatter,
    value::Kwargs,
};

pub(crate) use survey::Survey;

use crate::{
    error::{Error, Result},
    messages::{LANGUAGES, Messages, fill},
};

static BUILT_IN: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates");
/// Its files by their paths: a mail asks for several that are not there.
static TEXTS: LazyLock<HashMap<String, &str>> = LazyLock::new(|| {
    let text = |path: String| Some((BUILT_IN.get_file(&path)?.contents_utf8()?, path));
    files(&BUILT_IN).into_iter().filter_map(text).map(|(text, path)| (path, text)).collect()
});

/// All templates. HTML templates escape what they are given; text templates do not.
#[derive(Clone, Debug)]
pub struct Templates {
    env: Arc<Environment<'static>>,
    messages: Arc<Messages>,
    /// What is wrong with the operator's texts.
    fault: Option<Arc<str>>,
    /// What could not be rendered, a line each, for who tries all of them.
    failures: Option<Arc<Failures>>,
}

/// Templates that could not be rendered, and the folder that wins over the built-in ones.
#[derive(Debug)]
struct Failures {
    folder: Option<PathBuf>,
    said: Mutex<BTreeSet<String>>,
}

impl Templates {
    /// The built-in templates, and `folder` over them.
    pub fn new(folder: Option<PathBuf>) -> Self {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|name| match name.ends_with(".html") {
            true => AutoEscape::Html,
            false => AutoEscape::None,
        });
        env.set_formatter(format);
        let (messages, fault) = messages(folder.as_ref());
        let messages = Arc::new(messages);
        env.set_loader(move |name| load(folder.as_ref(), name));
        env.add_filter("datetime", datetime);
        let say = messages.clone();
        env.add_filter("duration", move |state: &State<'_, '_>, seconds: i64| {
            length(&say, language(state), seconds)
        });
        env.add_filter("filesize", filesize);
        env.add_filter("number", |state: &State<'_, '_>, n: i64| grouped(n, language(state)));
        env.add_function("url", |state: &State<'_, '_>, path: &str| {
            let base = state.lookup("base").map(|base| base.to_string()).unwrap_or_default();
            format!("{base}{path}")
        });
        let say = messages.clone();
        env.add_function("relative", move |state: &State<'_, '_>, at: String| {
            relative(&say, state, &at)
        });
        let say = messages.clone();
        env.add_function("t", move |state: &State<'_, '_>, key: &str, values: Kwargs| {
            text(&say, &language(state), key, &values)
        });
        Templates {
            env: Arc::new(env),
            messages,
            fault: fault.map(|e| e.to_string().into()),
            failures: None,
        }
    }

    /// The texts that `t` knows.
    pub fn messages(&self) -> &Messages {
        &self.messages
    }

    /// Renders the first of `names` that there is. `None` when there is none of them.
    ///
    /// # Errors
    /// [`Error::Template`] naming the template and the line.
    pub fn render(&self, names: &[String], context: &Value) -> Result<Option<String>> {
        for name in names {
            match self.env.get_template(name) {
                Ok(template) => match template.render(context) {
                    Ok(text) => return Ok(Some(text)),
                    Err(error) => {
                        self.failed(&error, context);
                        return Err(error.into());
                    }
                },
                Err(e) if e.kind() == minijinja::ErrorKind::TemplateNotFound => {}
                Err(e) => {
                    self.failed(&e, context);
                    return Err(e.into());
                }
            }
        }
        Ok(None)
    }

    /// The same templates, which keep what could not be rendered.
    pub(crate) fn that_remember(folder: Option<PathBuf>) -> Self {
        let failures = Failures { folder: folder.clone(), said: Mutex::default() };
        Templates { failures: Some(Arc::new(failures)), ..Templates::new(folder) }
    }

    /// What could not be rendered so far, a line each; of those that remember.
    pub(crate) fn failures(&self) -> Vec<String> {
        let Some(failures) = &self.failures else { return Vec::new() };
        failures.said.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn failed(&self, error: &minijinja::Error, context: &Value) {
        let Some(failures) = &self.failures else { return };
        let line = survey::explained(failures.folder.as_deref(), error, context);
        failures.said.lock().unwrap_or_else(PoisonError::into_inner).insert(line);
    }

    /// The first of `names` that there is.
    pub(crate) fn first<'n>(&self, names: &'n [String]) -> Option<&'n String> {
        names.iter().find(|name| self.env.get_template(name).is_ok())
    }

    /// Compiles every template there is, so that a broken one is known at start and not at night.
    ///
    /// # Errors
    /// [`Error::Config`] naming the template and the line.
    pub fn check(&self, folder: Option<&PathBuf>) -> Result<()> {
        if let Some(fault) = &self.fault {
            return Err(Error::Config(fault.to_string()));
        }
        let mut names: Vec<String> = files(&BUILT_IN);
        names.retain(|name| is_template(name));
        if let Some(folder) = folder {
            own_files(folder, folder, &mut names)?;
        }
        for name in names {
            if let Err(e) = self.env.get_template(&name) {
                return Err(Error::Config(format!("template {name}: {e:#}")));
            }
        }
        Ok(())
    }
}

/// Writes a value as minijinja does, all but the slash: as `&#x2f;` in `href` it is right, and whatever
/// looks for `https://` in a mail's source does not find the link.
fn format(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    if value.is_safe() || *state.auto_escape() != AutoEscape::Html {
        return escape_formatter(out, state, value);
    }
    let text = value.to_string();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['<', '>', '&', '"', '\'']) {
        let (before, after) = rest.split_at(at);
        out.write_str(before)?;
        out.write_str(match after.as_bytes()[0] {
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'&' => "&amp;",
            b'"' => "&quot;",
            _ => "&#x27;",
        })?;
        rest = &after[1..];
    }
    Ok(out.write_str(rest)?)
}

fn load(
    folder: Option<&PathBuf>,
    name: &str,
) -> Result<Option<std::borrow::Cow<'static, str>>, minijinja::Error> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !name.split('/').all(is_plain) || name.contains(['\\', '\0']) {
        return Ok(None);
    }
    if let Some(folder) = folder {
        match std::fs::read_to_string(folder.join(name)) {
            Ok(text) => return Ok(Some(text.into())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => {
                let kind = minijinja::ErrorKind::InvalidOperation;
                return Err(minijinja::Error::new(kind, format!("{name}: {e}")));
            }
        }
    }
    Ok(TEXTS.get(name).map(|text| (*text).into()))
}

/// The built-in texts and the operator's over them; and what is wrong with those.
fn messages(folder: Option<&PathBuf>) -> (Messages, Option<Error>) {
    let (mut messages, mut fault) = (Messages::default(), None);
    for (language, _) in LANGUAGES {
        let name = format!("messages/{language}.toml");
        let built_in = TEXTS.get(&name).copied();
        let own = folder.and_then(|folder| std::fs::read_to_string(folder.join(&name)).ok());
        for toml in [built_in, own.as_deref()].into_iter().flatten() {
            fault = messages.add(language, &name, toml).err().or(fault);
        }
    }
    (messages, fault)
}

fn is_template(name: &str) -> bool {
    name.ends_with(".txt") || name.ends_with(".html")
}

fn files(dir: &Dir<'_>) -> Vec<String> {
    let own = dir.files().map(|f| f.path().to_string_lossy().into_owned());
    own.chain(dir.dirs().flat_map(files)).collect()
}

fn own_files(root: &PathBuf, folder: &PathBuf, names: &mut Vec<String>) -> Result<()> {
    let context = || format!("templates_dir (BGFILES_TEMPLATES_DIR): {}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(Error::io(context()))? {
        let path = entry.map_err(Error::io(context()))?.path();
        if path.is_dir() {
            own_files(root, &path, names)?;
        } else if let Ok(name) = path.strip_prefix(root)
            && is_template(&name.to_string_lossy())
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// `2026-11-21 17:30 CET` in the given zone.
fn datetime(rfc3339: String, zone: String) -> Result<String, minijinja::Error> {
    let at = parse(&rfc3339)?;
    let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
    Ok(at.with_timezone(&zone).format("%Y-%m-%d %H:%M %Z").to_string())
}

/// The language that a template is rendered in.
fn language(state: &State<'_, '_>) -> String {
    let language = state.lookup("language").filter(|language| !language.is_undefined());
    language.map_or_else(|| "en".into(), |language| language.to_string())
}

/// `t("files.title")`, `t("files.rows", n=5)`. With `otherwise=`, that where there is no such text.
fn text(
    messages: &Messages,
    language: &str,
    key: &str,
    values: &Kwargs,
) -> Result<String, minijinja::Error> {
    let n: Option<i64> = values.get("n").ok();
    let otherwise: Option<String> = values.get("otherwise").unwrap_or_default();
    let found = match n {
        Some(n) => messages.plural(language, key, n),
        None => messages.get(language, key),
    };
    let found = found.map(str::to_owned).or(otherwise);
    let text = found.ok_or_else(|| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("there is no text {key:?}"))
    })?;
    Ok(fill(&text, |name| match (name, n) {
        ("n", Some(n)) => Some(grouped(n, language.to_owned())),
        _ => values.get::<Value>(name).ok().map(|value| value.to_string()),
    }))
}

/// `12,345`, grouped as the language does.
fn grouped(n: i64, language: String) -> String {
    let separator = match language.get(..2) {
        Some("nl" | "de") => '.',
        Some("fr") => '\u{202f}',
        _ => ',',
    };
    let digits = n.unsigned_abs().to_string();
    let mut grouped = if n < 0 { "-".to_owned() } else { String::new() };
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(separator);
        }
        grouped.push(digit);
    }
    grouped
}

/// `5 hours`, in the largest unit that fits at least one and a half times; `less than a minute`.
fn length(messages: &Messages, language: String, seconds: i64) -> String {
    let (unit, count) = match seconds.unsigned_abs() {
        s @ ..90 => ("second", s),
        s @ 90..5_400 => ("minute", (s + 30) / 60),
        s @ 5_400..129_600 => ("hour", (s + 1_800) / 3_600),
        s => ("day", (s + 43_200) / 86_400),
    };
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let text = messages.plural(&language, &format!("time.{unit}"), count).unwrap_or("{n}");
    fill(text, |name| (name == "n").then(|| grouped(count, language.clone())))
}

/// `in 5 hours`, `3 minutes ago`.
fn relative(
    messages: &Messages,
    state: &State<'_, '_>,
    rfc3339: &str,
) -> Result<String, minijinja::Error> {
    let at = parse(rfc3339)?;
    let now = state.lookup("now").map(|now| now.to_string()).unwrap_or_default();
    let now = parse(&now)?;
    let seconds = (at - now).num_seconds();
    let language = language(state);
    let key = match seconds {
        -4..=4 => return Ok(messages.get(&language, "time.now").unwrap_or_default().to_owned()),
        5.. => "time.in",
        _ => "time.ago",
    };
    // German has another case after "in" and "vor".
    let length = length(messages, language.clone(), seconds);
    let length = match language.as_str() {
        "de" => length.replace("Tage", "Tagen").replace("Monate", "Monaten"),
        _ => length,
    };
    let text = messages.get(&language, key).unwrap_or("{length}");
    Ok(fill(text, |name| (name == "length").then(|| length.clone())))
}

fn parse(rfc3339: &str) -> Result<DateTime<Utc>, minijinja::Error> {
    rfc3339.parse().map_err(|e| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("{rfc3339:?}: {e}"))
    })
}

/// `1.4 MB`, in powers of 1,000 as file managers show it.
fn filesize(state: &State<'_, '_>, bytes: i64) -> String {
    let (mut size, mut unit) = (bytes as f64, "bytes");
    for next in ["kB", "MB", "GB", "TB"] {
        if size < 1000.0 {
            break;
        }
        (size, unit) = (size / 1000.0, next);
    }
    let language = language(state);
    match (unit, language.get(..2)) {
        ("bytes", Some("fr")) => format!("{bytes} octets"),
        ("bytes", Some("de")) => format!("{bytes} Byte"),
        ("bytes", _) => format!("{bytes} bytes"),
        (unit, Some("nl" | "fr" | "de")) => format!("{size:.1} {unit}").replacen('.', ",", 1),
        (unit, _) => format!("{size:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_every_text() {
        let templates = Templates::new(None);
        let messages = templates.messages();
        let places = |text: &str| {
            let mut found = Vec::new();
            let _ = fill(text, |name| {
                found.push(name.to_owned());
                Some(String::new())
            });
            found.sort();
            found
        };
        let english: Vec<_> = messages.all("en").collect();
        assert!(english.len() > 100, "{}", english.len());
        for (language, _) in LANGUAGES {
            let theirs: Vec<_> = messages.all(language).collect();
            let names =
                |keys: &[(&str, &str)]| keys.iter().map(|k| k.0.to_owned()).collect::<Vec<_>>();
            assert_eq!(names(&theirs), names(&english), "{language}");
            for ((key, text), (_, english)) in theirs.iter().zip(&english) {
                assert_eq!(places(text), places(english), "{language}: {key}");
            }
        }
    }
}
