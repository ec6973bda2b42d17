//! What is wrong with an operator's templates and texts, as far as it can be seen without rendering:
//! each fault with its file and line, and with what was probably meant.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    path::{Path, PathBuf},
};

use minijinja::{ErrorKind, Value};
use toml::de::{DeTable, DeValue};

use super::{BUILT_IN, TEXTS, Templates, files, is_template, load};
use crate::{
    messages::{LANGUAGES, Messages, fill},
    nearest::did_you_mean,
};

/// Kinds of mails, as in template names.
const KINDS: [&str; 2] = ["ready", "failed"];
/// Folders whose files are ours.
const OURS: [&str; 3] = ["mail/", "page/", "messages/"];

/// Looks through a folder of templates.
pub(crate) struct Survey<'a> {
    /// The folder; without one there are only the built-in templates.
    pub folder: Option<&'a Path>,
    /// Folders below `mail/` that file types name.
    pub mails: BTreeSet<String>,
    /// A template that a setting names.
    pub named: &'a str,
}

impl Survey<'_> {
    /// Every fault, a line each.
    pub(crate) fn faults(&self, templates: &Templates) -> Vec<String> {
        let mut faults = Vec::new();
        let own = match self.own() {
            Ok(own) => own,
            Err(error) => {
                let folder = self.folder.unwrap_or(Path::new("")).display();
                return vec![format!("templates_dir (BGFILES_TEMPLATES_DIR): {folder}: {error}")];
            }
        };
        let built_in: Vec<String> =
            files(&BUILT_IN).into_iter().filter(|n| is_template(n)).collect();
        let names: BTreeSet<&String> =
            built_in.iter().chain(own.iter().filter(|name| is_template(name))).collect();
        let mut texts = BTreeMap::new();
        for name in names {
            if let Err(error) = templates.env.get_template(name) {
                faults.push(explained(self.folder, &error, &Value::UNDEFINED));
            }
            let folder = self.folder.map(Path::to_owned);
            if let Ok(Some(text)) = load(folder.as_ref(), name) {
                texts.insert(name.clone(), text.into_owned());
            }
        }
        for (name, text) in &texts {
            for (line, key) in keys(text).into_iter().filter(|(_, key)| !is_key(templates, key)) {
                let known = bare_keys(&templates.messages);
                let near = did_you_mean(&key, known.iter().map(String::as_str));
                let place = place(self.folder, name, Some(line));
                faults.push(format!("{place}: there is no text {key:?}{near}"));
            }
        }
        for name in &own {
            faults.extend(self.misnamed(name, &texts));
        }
        for (language, _) in LANGUAGES {
            faults.extend(self.messages(language, &texts));
        }
        faults
    }

    /// The languages of pages, and those of which there are mails.
    pub(crate) fn languages(&self) -> BTreeSet<String> {
        let tag = |name: &String| {
            let stem = name.strip_suffix(".txt").or(name.strip_suffix(".html"))?;
            let (_, tag) = stem.rsplit('/').next()?.split_once('.')?;
            self.is_mail(name).then(|| tag.to_owned())
        };
        let own = self.own().unwrap_or_default();
        let ours = LANGUAGES.iter().map(|(tag, _)| (*tag).to_owned());
        own.iter().filter_map(tag).chain(ours).collect()
    }

    /// What to say of a mail that begins with something else.
    pub(crate) fn without_subject(&self, name: &str) -> String {
        let place = place(self.folder, name, Some(1));
        format!("{place}: a mail begins with a line `Subject: …`, and an empty one")
    }

    /// The folder's files, without those that editors leave.
    fn own(&self) -> std::io::Result<Vec<String>> {
        fn walk(root: &Path, folder: &Path, names: &mut Vec<String>) -> std::io::Result<()> {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                let last = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if last.starts_with('.') || last.ends_with('~') {
                    continue;
                }
                if path.is_dir() {
                    walk(root, &path, names)?;
                } else if let Ok(name) = path.strip_prefix(root) {
                    names.push(name.to_string_lossy().into_owned());
                }
            }
            Ok(())
        }
        let mut names = Vec::new();
        if let Some(folder) = self.folder {
            walk(folder, folder, &mut names)?;
        }
        names.sort();
        Ok(names)
    }

    /// A file that nothing reads.
    fn misnamed(&self, name: &str, texts: &BTreeMap<String, String>) -> Option<String> {
        let is_ours = OURS.iter().any(|folder| name.starts_with(folder))
            || (!name.contains('/') && (is_template(name) || name.ends_with(".toml")));
        let quoted = [format!("\"{name}\""), format!("'{name}'")];
        let is_included = || texts.values().any(|text| quoted.iter().any(|q| text.contains(q)));
        if !is_ours || name == self.named || self.is_known(name) || is_included() {
            return None;
        }
        let built_in = files(&BUILT_IN).into_iter();
        let mails = self.mails.iter().flat_map(|folder| {
            let of = move |kind| {
                [format!("mail/{folder}/{kind}.txt"), format!("mail/{folder}/{kind}.html")]
            };
            KINDS.into_iter().flat_map(of)
        });
        let known: Vec<String> = built_in.chain(mails).collect();
        let near = did_you_mean(name, known.iter().map(String::as_str));
        let near = match near.is_empty() {
            true => "; remove it, or give it the name of what it is to replace".into(),
            false => near,
        };
        Some(format!(
            "{}: nothing reads a template of this name{near}",
            place(self.folder, name, None)
        ))
    }

    fn is_known(&self, name: &str) -> bool {
        TEXTS.contains_key(name) || self.is_mail(name)
    }

    /// `mail/[FOLDER/]KIND[.LANGUAGE].txt` or `.html`.
    fn is_mail(&self, name: &str) -> bool {
        let parse = || {
            let rest = name.strip_prefix("mail/")?;
            let (folder, file) = rest.rsplit_once('/').map_or((None, rest), |(f, n)| (Some(f), n));
            let stem = file.strip_suffix(".txt").or(file.strip_suffix(".html"))?;
            let (kind, language) = stem.split_once('.').map_or((stem, None), |(k, l)| (k, Some(l)));
            let is_tag = |tag: &str| tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            Some(
                folder.is_none_or(|folder| self.mails.contains(folder))
                    && KINDS.contains(&kind)
                    && language.is_none_or(is_tag),
            )
        };
        parse().unwrap_or_default()
    }

    /// The faults of `messages/LANGUAGE.toml`.
    fn messages(&self, language: &str, texts: &BTreeMap<String, String>) -> Vec<String> {
        let name = format!("messages/{language}.toml");
        let path = self.folder.map(|folder| folder.join(&name));
        let Some(text) = path.and_then(|path| std::fs::read_to_string(path).ok()) else {
            return Vec::new();
        };
        let at = |offset: usize| {
            place(
                self.folder,
                &name,
                Some(1 + text[..offset.min(text.len())].matches('\n').count()),
            )
        };
        let table = match DeTable::parse(&text) {
            Ok(table) => table,
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                return vec![format!("{}: {}", at(offset), error.message())];
            }
        };
        let mut built_in = Messages::default();
        for language in ["en", language] {
            let name = format!("messages/{language}.toml");
            if let Some(text) = TEXTS.get(&name) {
                // They are ours, and whole.
                let _ = built_in.add(language, &name, text);
            }
        }
        let mut found = Vec::new();
        leaves("", table.get_ref(), &mut found);
        let known: Vec<String> = built_in.all("en").map(|(key, _)| key.to_owned()).collect();
        let mut faults = Vec::new();
        for Leaf { key, offset, text: own } in found {
            let Some(own) = own else {
                faults.push(format!("{}: {key}: must be text", at(offset)));
                continue;
            };
            match built_in.get("en", &key) {
                Some(usual) => {
                    let usual = places(usual);
                    for place in places(&own).into_iter().filter(|place| !usual.contains(place)) {
                        let there_is = match usual.is_empty() {
                            true => "it has none".to_owned(),
                            false => format!("it has {{{}}}", usual.join("}, {")),
                        };
                        faults.push(format!(
                            "{}: {key}: there is no {{{place}}} for this text; {there_is}",
                            at(offset)
                        ));
                    }
                }
                None if self.is_used(&key, texts) => {}
                None => {
                    let near = did_you_mean(&key, known.iter().map(String::as_str));
                    let near = if near.is_empty() { "; nothing shows it".into() } else { near };
                    faults.push(format!("{}: {key} is not the key of a text{near}", at(offset)));
                }
            }
        }
        faults
    }

    /// Whether a template shows a text of one's own, or pages do: those of a host's own errors.
    fn is_used(&self, key: &str, texts: &BTreeMap<String, String>) -> bool {
        let parts: Vec<&str> = key.split('.').collect();
        if let ["problem", _, what] = parts.as_slice() {
            return ["title", "detail", "advice"].contains(what);
        }
        let bare = key.strip_suffix(".one").or(key.strip_suffix(".other")).unwrap_or(key);
        texts.values().any(|text| keys_of_all(text).any(|used| used == key || used == bare))
    }
}

/// One text of a file.
struct Leaf {
    key: String,
    offset: usize,
    /// `None`: it is something else.
    text: Option<String>,
}

fn leaves(prefix: &str, table: &DeTable<'_>, found: &mut Vec<Leaf>) {
    for (name, value) in table {
        let own = name.get_ref();
        let key = if prefix.is_empty() { own.to_string() } else { format!("{prefix}.{own}") };
        let offset = name.span().start;
        match value.get_ref() {
            DeValue::Table(inner) => leaves(&key, inner, found),
            DeValue::String(text) => found.push(Leaf { key, offset, text: Some(text.to_string()) }),
            _ => found.push(Leaf { key, offset, text: None }),
        }
    }
}

/// The names of values in a text.
fn places(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let _ = fill(text, |name| {
        found.push(name.to_owned());
        Some(String::new())
    });
    found
}

/// Keys without the `.one` and `.other` that a number decides on.
fn bare_keys(messages: &Messages) -> BTreeSet<String> {
    let bare = |key: &str| {
        key.strip_suffix(".one").or(key.strip_suffix(".other")).unwrap_or(key).to_owned()
    };
    messages.all("en").map(|(key, _)| bare(key)).collect()
}

fn is_key(templates: &Templates, key: &str) -> bool {
    let known =
        |key: &str| LANGUAGES.iter().any(|(tag, _)| templates.messages.get(tag, key).is_some());
    known(key) || known(&format!("{key}.other"))
}

/// The calls `t("KEY"…)` of a template with their lines. Keys that are put together (`"a." ~ b`) are
/// found by rendering, and those with another text beside them need not be there.
fn keys(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("t(") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.') || !is_code(text, at)
        {
            continue;
        }
        let rest = text[at + 2..].trim_start();
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else { continue };
        let Some((key, after)) = rest[1..].split_once(quote) else { continue };
        let call = after.split(')').next().unwrap_or_default();
        if after.trim_start().starts_with('~') || call.contains("otherwise") {
            continue;
        }
        found.push((1 + text[..at].matches('\n').count(), key.to_owned()));
    }
    found
}

/// Every text in quotes: what `t` may be given by another way.
fn keys_of_all(text: &str) -> impl Iterator<Item = &str> {
    text.split(['"', '\''])
}

/// Whether a place of a template is in `{{ … }}` or `{% … %}`.
fn is_code(text: &str, at: usize) -> bool {
    let before = &text[..at];
    let open = ["{{", "{%"].into_iter().filter_map(|mark| before.rfind(mark)).max();
    let closed = ["}}", "%}"].into_iter().filter_map(|mark| before.rfind(mark)).max();
    let comment = before.rfind("{#").is_some_and(|from| !before[from..].contains("#}"));
    open.is_some_and(|open| closed.is_none_or(|closed| closed < open)) && !comment
}

/// `templates/mail/ready.txt:3`; of a built-in one, `template mail/ready.txt:3`.
fn place(folder: Option<&Path>, name: &str, line: Option<usize>) -> String {
    let own: Option<PathBuf> = folder.map(|folder| folder.join(name)).filter(|path| path.exists());
    let file = own.map_or_else(|| format!("template {name}"), |path| path.display().to_string());
    match line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    }
}

/// A fault of a template on one line: where, and what.
pub(super) fn explained(
    folder: Option<&Path>,
    error: &minijinja::Error,
    context: &Value,
) -> String {
    // A template that includes another one says only that.
    let mut inner = error;
    let mut next = error.source();
    while let Some(source) = next {
        if let Some(found) = source.downcast_ref::<minijinja::Error>() {
            inner = found;
        }
        next = source.source();
    }
    let name = inner.name().or(error.name()).unwrap_or("?");
    let place = place(folder, name, inner.line());
    let source = load(folder.map(Path::to_owned).as_ref(), name).ok().flatten();
    let shown = source.as_ref().and_then(|text| text.get(inner.range()?)).map(str::trim);
    let shown = shown.filter(|text| !text.is_empty() && text.len() <= 60 && !text.contains('\n'));
    let what = match (inner.kind(), shown, inner.detail()) {
        (ErrorKind::UndefinedError, Some(text), _) => {
            let word: String = text
                .chars()
                .skip_while(|c| !c.is_alphanumeric())
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let known: Vec<String> = context
                .try_iter()
                .into_iter()
                .flatten()
                .filter_map(|key| key.as_str().map(str::to_owned))
                .collect();
            format!(
                "`{text}` is not defined{}",
                did_you_mean(&word, known.iter().map(String::as_str))
            )
        }
        (kind, Some(text), Some(detail)) => format!("{detail} ({kind}, at `{text}`)"),
        (kind, None, Some(detail)) => format!("{detail} ({kind})"),
        (kind, Some(text), None) => format!("{kind}, at `{text}`"),
        (kind, None, None) => kind.to_string(),
    };
    format!("{place}: {}", what.replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    use super::keys;

    #[test]
    fn keys_are_found_where_they_are_asked_for() {
        let text = "t(\"not.code\")\n{{ t(\"a.b\", n=1) }} {% if x %}{{ t('c') }}{% endif %}\n\
            {# t(\"no\") #}{{ t(\"d.\" ~ e) }}{{ t(\"f\", otherwise=title) }}{{ list(\"g\") }}";
        assert_eq!(keys(text), [(2, "a.b".to_owned()), (2, "c".to_owned())]);
    }
}
