//! Parts of the reference that are made from the code: what stands between `<!-- generated: NAME -->`
//! and `<!-- end -->`.

use std::{collections::BTreeSet, time::Duration};

use bgfiles::{cleaner::Sweeps, config::SETTINGS, duration::Short};
use serde_json::Value;

use super::page::{Page, book, root};
use crate::{
    cli::run,
    support::{Kind, TestApp, app, child::bgfiles},
};

/// The pages with their parts.
const PAGES: [(&str, &[&str]); 4] = [
    ("docs/src/reference/settings.md", &["settings"]),
    ("docs/src/reference/cli.md", &["cli"]),
    ("docs/src/reference/cleaner.md", &["sweeps"]),
    ("docs/src/reference/http-api.md", &["routes", "parameters", "statuses", "bodies"]),
];

/// Compares a page with what it should be, or writes it.
fn hold(at: usize, made: &[String]) {
    let (path, names) = PAGES[at];
    let mut text = Page::read(path.into()).text;
    let mut stale = Vec::new();
    for (name, made) in names.iter().zip(made) {
        let open = format!("<!-- generated: {name} -->");
        let (before, rest) = text.split_once(&open).unwrap_or_else(|| panic!("{path}: {open}"));
        let (stands, after) = rest.split_once("<!-- end -->").expect(path);
        let made = format!("\n\n{made}\n");
        if stands != made {
            stale.push(*name);
        }
        text = format!("{before}{open}{made}<!-- end -->{after}");
    }
    if std::env::var_os("BGFILES_WRITE_BOOK").is_some() {
        std::fs::write(root().join(path), text).unwrap();
    } else {
        let how = "BGFILES_WRITE_BOOK=1 scripts/test book:: writes it anew";
        assert!(stale.is_empty(), "{path}: {stale:?} is not what the code says; {how}");
    }
}

#[test]
fn every_generated_part_is_held() {
    for page in book() {
        let parts = page.text.split("<!-- generated: ").skip(1);
        let parts: Vec<&str> = parts.filter_map(|rest| rest.split(" -->").next()).collect();
        let held = PAGES
            .iter()
            .find(|(path, _)| page.path.ends_with(path))
            .map_or(&[][..], |(_, parts)| *parts);
        assert_eq!(parts, held, "{}", page.path.display());
    }
}

fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for row in rows {
        let one_line = |cell: String| {
            cell.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
        };
        text.push_str(&format!("| {} |\n", row.map(one_line).join(" | ")));
    }
    text
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

#[test]
fn settings() {
    let rows = SETTINGS
        .iter()
        .map(|one| [code(one.key), code(one.env), code(one.default), one.help.to_owned()]);
    hold(0, &[table(["key", "environment", "default", "meaning"], rows)]);
    let example = std::fs::read_to_string(root().join(".env.example")).unwrap();
    for setting in SETTINGS {
        assert!(example.contains(setting.env), ".env.example: {}", setting.env);
    }
}

/// Of `jobs/cleaner.toml`, which a test beside the list of sweeps holds to its names and their order.
#[test]
fn sweeps() {
    let text = std::fs::read_to_string(root().join("jobs/cleaner.toml")).unwrap();
    let shipped: toml::Table = text.parse().unwrap();
    let mut defaults = Sweeps::default();
    let headed = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once(']'));
    let rows = headed.map(|(name, about)| {
        let keep = defaults.setting(name).unwrap().keep;
        assert_eq!(
            shipped[name]["keep"].as_integer(),
            Some(keep.into()),
            "jobs/cleaner.toml: {name}"
        );
        let about = about.split_once('#').map_or("", |(_, about)| about);
        [code(name), about.to_owned(), code(&Short(Duration::from_secs(keep.into())).to_string())]
    });
    hold(2, &[table(["sweep", "what it removes", "kept"], rows)]);
}

/// `--help` of a command.
fn help(path: &[&str]) -> String {
    let (status, text, error) = run(bgfiles().env("COLUMNS", "100").args(path).arg("--help"));
    assert_eq!(status, 0, "{path:?}: {error}");
    text.trim_end().to_owned()
}

/// The commands that a help lists.
fn below(help: &str) -> Vec<&str> {
    let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let listed = listed.split("\n\n").next().unwrap_or_default().lines();
    let named =
        listed.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    named.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help").collect()
}

/// The long name that a line of a help begins to explain.
fn option(line: &str) -> Option<&str> {
    let text = line.trim_start();
    let begins = text.starts_with('-') && line.len() - text.len() <= 8;
    let mut words = text.split([' ', ',']).filter(|_| begins);
    words.find(|word| word.starts_with("--"))
}

/// A help from its usage on, without the options that every command has.
fn usage(help: &str, common: &[&str]) -> String {
    let (mut kept, mut skips) = (String::new(), false);
    for line in help[help.find("Usage:").unwrap()..].lines() {
        if let Some(name) = option(line) {
            skips = common.contains(&name);
        } else if !line.starts_with("         ") {
            skips = false;
        }
        if !skips {
            kept.push_str(line.trim_end());
            kept.push('\n');
        }
    }
    let kept = kept.replace("\nOptions:\n\n", "\n");
    kept.trim_end().trim_end_matches("\nOptions:").trim_end().to_owned()
}

/// The commands below one, each with its help.
fn walk(path: &[&str], found: &mut Vec<(String, String)>) {
    let help = help(path);
    let names = below(&help);
    for name in &names {
        walk(&[path, &[*name]].concat(), found);
    }
    if names.is_empty() {
        found.push((path.join(" "), help));
    }
}

#[test]
fn cli() {
    let top = help(&[]);
    let options = top.split_once("\nOptions:\n").unwrap().1.split("\n\n").next().unwrap();
    let common: Vec<&str> = options.lines().filter_map(option).collect();
    let mut commands = Vec::new();
    walk(&[], &mut commands);
    let about = |help: &str| {
        let about = help.split("Usage:").next().unwrap_or_default();
        about.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let rows = commands.iter().map(|(name, help)| {
        [format!("[`{name}`](#bgfiles-{})", name.replace(' ', "-")), about(help)]
    });
    let mut text = table(["command", "what it does"], rows);
    let options: Vec<&str> = options.lines().map(str::trim_end).collect();
    text.push_str("\nEvery command takes these options:\n\n```text\n");
    text.push_str(&options.join("\n"));
    text.push_str("\n```\n");
    for (name, help) in &commands {
        let (about, usage) = (about(help), usage(help, &common));
        text.push_str(&format!("\n### bgfiles {name}\n\n{about}.\n\n```text\n{usage}\n```\n"));
    }
    hold(1, &[text]);
}

/// The OpenAPI document.
struct Document(Value);

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The schema that one refers to, as a link.
fn reference(schema: &Value) -> Option<String> {
    let name = schema["$ref"].as_str()?.rsplit('/').next()?;
    Some(format!("[{name}](#{})", name.to_lowercase()))
}

/// What a schema lets be, in words.
fn kind(schema: &Value) -> String {
    if let Some(link) = reference(schema) {
        return link;
    }
    for (key, word) in [("anyOf", " or "), ("oneOf", " or "), ("allOf", " and ")] {
        if let Some(parts) = schema[key].as_array() {
            let mut kinds: Vec<String> = Vec::new();
            for kind in parts.iter().map(kind) {
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            return kinds.join(word);
        }
    }
    let values = items(&schema["enum"]);
    if (1..=12).contains(&values.len()) {
        let shown = values.iter().map(|value| match value {
            Value::Null => "null".to_owned(),
            Value::String(text) if text.is_empty() => "empty".to_owned(),
            Value::String(text) => code(text),
            other => code(&other.to_string()),
        });
        return shown.collect::<Vec<_>>().join(", ");
    }
    let types = match &schema["type"] {
        Value::String(_) => std::slice::from_ref(&schema["type"]),
        list => items(list),
    };
    let named = types.iter().filter_map(Value::as_str).map(|name| match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "string" if schema["format"].is_string() => text(schema, "format").to_owned(),
        name => name.to_owned(),
    });
    let mut kind = named.collect::<Vec<_>>().join(" or ");
    if kind.is_empty() {
        kind.push_str("any JSON");
    }
    match (&schema["minimum"], &schema["maximum"]) {
        (Value::Number(least), Value::Number(most)) => {
            kind.push_str(&format!(", {least} to {most}"))
        }
        (Value::Number(least), _) if least.as_f64() != Some(0.0) => {
            kind.push_str(&format!(", {least} or more"))
        }
        _ => {}
    }
    if let Value::Number(most) = &schema["maxLength"] {
        kind.push_str(&format!(", up to {most} characters"));
    }
    kind
}

/// What a body is, of whichever media type; pages for people apart.
fn body(content: &Value) -> String {
    let mut kinds: Vec<String> = Vec::new();
    for (media, one) in members(content).filter(|(media, _)| *media != "text/html") {
        let kind = match &one["schema"] {
            _ if media == "*/*" => "the file".to_owned(),
            Value::Null => code(media),
            schema => kind(schema),
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.join(", ")
}

impl Document {
    /// Method, path and operation, as listed.
    fn operations(&self) -> impl Iterator<Item = (String, &String, &Value)> {
        members(&self.0["paths"]).flat_map(|(path, item)| {
            let methods = ["get", "post", "put", "patch", "delete"].into_iter();
            methods.filter_map(move |method| Some((method.to_uppercase(), path, item.get(method)?)))
        })
    }

    fn routes(&self) -> String {
        let mut text = String::new();
        for tag in items(&self.0["tags"]) {
            let of_tag = self
                .operations()
                .filter(|(.., operation)| items(&operation["tags"]).contains(&tag["name"]));
            let rows = of_tag.map(|(method, path, operation)| route(&method, path, operation));
            let table = table(["route", "parameters", "body", "returns"], rows);
            let (name, about) = (self::text(tag, "name"), self::text(tag, "description"));
            text.push_str(&format!("### Routes: {name}\n\n{about}\n\n{table}\n"));
        }
        text.trim_end().to_owned() + "\n"
    }

    fn parameters(&self) -> String {
        let all = self.operations().flat_map(|(.., operation)| items(&operation["parameters"]));
        let places = ["path", "query", "header", "cookie"];
        let rows: BTreeSet<_> = all
            .map(|one| {
                let place = places.iter().position(|place| *place == text(one, "in"));
                let name = text(one, "name");
                (place, name.to_lowercase(), text(one, "description"), kind(&one["schema"]), name)
            })
            .collect();
        let rows = rows.into_iter().map(|(place, _, about, kind, name)| {
            [code(name), places[place.unwrap()].to_owned(), kind, about.to_owned()]
        });
        table(["parameter", "in", "type", "meaning"], rows)
    }

    /// Refusals that operations share.
    fn statuses(&self) -> String {
        let shared = members(&self.0["components"]["responses"]);
        let rows: BTreeSet<[String; 2]> = shared
            .map(|(name, response)| {
                let status = name.chars().filter(char::is_ascii_digit).collect();
                [status, text(response, "description").to_owned()]
            })
            .collect();
        table(["status", "meaning"], rows)
    }

    fn bodies(&self) -> String {
        let mut schemas: Vec<_> = members(&self.0["components"]["schemas"]).collect();
        schemas.sort_by_key(|(name, _)| name.to_lowercase());
        let mut text = String::new();
        for (name, schema) in schemas {
            let about =
                self::text(schema, "description").split_whitespace().collect::<Vec<_>>().join(" ");
            text.push_str(&format!("### {name}\n\n"));
            if !about.is_empty() {
                text.push_str(&format!("{about}\n\n"));
            }
            text.push_str(&fields(schema));
            text.push('\n');
        }
        text.trim_end().to_owned() + "\n"
    }
}

/// A line of the table of routes.
fn route(method: &str, path: &str, operation: &Value) -> [String; 4] {
    let about = format!("{} {}", text(operation, "summary"), text(operation, "description"));
    let given = items(&operation["parameters"]).iter().filter(|one| text(one, "in") != "path");
    let given: Vec<String> = given.map(|one| code(text(one, "name"))).collect();
    let (mut returns, mut refuses) = (Vec::new(), Vec::new());
    for (status, response) in members(&operation["responses"]) {
        if status.as_str() >= "400" {
            refuses.push(status.as_str());
        } else {
            returns.push(format!("{status} {}", body(&response["content"])).trim_end().to_owned());
        }
    }
    let mut returns = returns.join(", ");
    if !refuses.is_empty() {
        returns.push_str(&format!("; {}", refuses.join(" ")));
    }
    let route = format!("`{method} {path}`<br>{about}");
    [route, given.join(", "), body(&operation["requestBody"]["content"]), returns]
}

/// The fields of a schema, those that are always there first.
fn fields(schema: &Value) -> String {
    let parts = match &schema["allOf"] {
        Value::Array(parts) if schema.get("properties").is_none() => parts.as_slice(),
        _ => std::slice::from_ref(schema),
    };
    let others: Vec<String> = parts.iter().filter_map(reference).collect();
    let mut rows = Vec::new();
    for part in parts {
        let required: Vec<&str> =
            items(&part["required"]).iter().filter_map(Value::as_str).collect();
        let rank = |name: &str| required.iter().position(|one| *one == name).unwrap_or(usize::MAX);
        let mut properties: Vec<_> = members(&part["properties"]).collect();
        properties.sort_by_key(|(name, _)| rank(name));
        rows.extend(properties.into_iter().map(|(name, one)| {
            let is_required = if required.contains(&name.as_str()) { "yes" } else { "" };
            [code(name), kind(one), is_required.to_owned(), text(one, "description").to_owned()]
        }));
    }
    if rows.is_empty() && others.is_empty() {
        return format!("Type: {}.\n", kind(schema));
    }
    let mut text = String::new();
    if !others.is_empty() {
        let and = if rows.is_empty() { "." } else { ", and:" };
        text.push_str(&format!("It has the fields of {}{and}\n\n", others.join(" and ")));
    }
    if !rows.is_empty() {
        text.push_str(&table(["field", "type", "required", "meaning"], rows));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_api() {
    let app = TestApp::new(Kind::Sqlite).await;
    let url = format!("http://{}/openapi.json", app.serve().await);
    let (status, document) = app::json(app.http.get(url).send().await.unwrap()).await;
    assert_eq!(status, 200, "{document}");
    let document = Document(document);
    hold(3, &[document.routes(), document.parameters(), document.statuses(), document.bodies()]);
}
