//! The texts of mails and pages: minijinja, built in, each overridable by a file of the same path
//! in the operator's folder.

use std::{path::PathBuf, sync::Arc};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use include_dir::{Dir, include_dir};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::error::{Error, Result};

static BUILT_IN: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates");

/// All templates. HTML templates escape what they are given; text templates do not.
#[derive(Clone, Debug)]
pub struct Templates(Arc<Environment<'static>>);

impl Templates {
    /// The built-in templates, and `folder` over them.
    pub fn new(folder: Option<PathBuf>) -> Self {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|name| match name.ends_with(".html") {
            true => AutoEscape::Html,
            false => AutoEscape::None,
        });
        env.set_loader(move |name| load(folder.as_ref(), name));
        env.add_filter("datetime", datetime);
        env.add_filter("filesize", filesize);
        Templates(Arc::new(env))
    }

    /// Renders the first of `names` that there is. `None` when there is none of them.
    ///
    /// # Errors
    /// [`Error::Template`] naming the template and the line.
    pub fn render(&self, names: &[String], context: &Value) -> Result<Option<String>> {
        for name in names {
            match self.0.get_template(name) {
                Ok(template) => return Ok(Some(template.render(context)?)),
                Err(e) if e.kind() == minijinja::ErrorKind::TemplateNotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(None)
    }

    /// Compiles every template there is, so that a broken one is known at start and not at night.
    ///
    /// # Errors
    /// [`Error::Config`] naming the template and the line.
    pub fn check(&self, folder: Option<&PathBuf>) -> Result<()> {
        let mut names: Vec<String> = files(&BUILT_IN);
        if let Some(folder) = folder {
            own_files(folder, folder, &mut names)?;
        }
        for name in names {
            if let Err(e) = self.0.get_template(&name) {
                return Err(Error::Config(format!("template {name}: {e:#}")));
            }
        }
        Ok(())
    }
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
    Ok(BUILT_IN.get_file(name).and_then(|file| file.contents_utf8()).map(Into::into))
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
            && name.extension().is_some_and(|e| e == "txt" || e == "html")
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// `2026-11-21 17:30 CET` in the given zone.
fn datetime(rfc3339: String, zone: String) -> Result<String, minijinja::Error> {
    let at: DateTime<Utc> = rfc3339.parse().map_err(|e| {
        minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, format!("{rfc3339:?}: {e}"))
    })?;
    let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
    Ok(at.with_timezone(&zone).format("%Y-%m-%d %H:%M %Z").to_string())
}

/// `1.4 MB`, in powers of 1,000 as file managers show it.
fn filesize(bytes: i64) -> String {
    let (mut size, mut unit) = (bytes as f64, "bytes");
    for next in ["kB", "MB", "GB", "TB"] {
        if size < 1000.0 {
            break;
        }
        (size, unit) = (size / 1000.0, next);
    }
    if unit == "bytes" { format!("{bytes} {unit}") } else { format!("{size:.1} {unit}") }
}
