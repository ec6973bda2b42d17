//! Whether the files of `src` look at each other in circles, by the names that they import and the
//! files in which those are defined.

use std::collections::{BTreeMap, BTreeSet};

use super::sources;

type Path = Vec<String>;

/// A file as a module: what it imports, what it passes on, what it defines.
struct Module {
    file: String,
    /// The paths that its code names.
    named: Vec<Path>,
    /// What it passes on under its own name: the name, and where that comes from.
    passed_on: BTreeMap<String, Path>,
}

/// `src/web/api/mod.rs` is `web::api`.
fn module_of(file: &str) -> Path {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" || path == "main" {
        Vec::new()
    } else {
        path.split('/').map(str::to_owned).collect()
    }
}

/// The code without its unit tests, which may look anywhere.
fn without_tests(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod ").map_or(code, |at| &code[..at])
}

/// Every path of `a::{b, c::d}`.
fn expanded(tree: &str) -> Vec<Path> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let name = tree.split(" as ").next().unwrap_or("").trim();
        return vec![name.split("::").map(|part| part.trim().to_owned()).collect()];
    };
    let prefix: Path = tree[..open]
        .trim()
        .trim_end_matches("::")
        .split("::")
        .map(|p| p.trim().to_owned())
        .collect();
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut begin, mut items) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&inner[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    items.push(&inner[begin..]);
    let items = items.into_iter().filter(|item| !item.trim().is_empty());
    items.flat_map(expanded).map(|path| [prefix.clone(), path].concat()).collect()
}

/// Paths that begin with `crate::`, `super::` or `self::` in the middle of code.
fn inline_paths(code: &str) -> Vec<Path> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            let rest = &code[at..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            let text = rest[..end.unwrap_or(rest.len())].trim_end_matches(':');
            // `pub(in crate::web)` says who may look, and looks at nothing.
            let is_visibility = code[..at].ends_with("(in ");
            if !before.is_alphanumeric() && before != '_' && before != ':' && !is_visibility {
                found.push(text.split("::").map(str::to_owned).collect());
            }
        }
    }
    found
}

fn read(file: String, code: &str) -> Module {
    let code = without_tests(code);
    let mut module = Module { file, named: Vec::new(), passed_on: BTreeMap::new() };
    let (mut rest, mut others) = (code, String::new());
    while let Some(at) = rest.find("use ") {
        let line = rest[..at].rfind('\n').map_or(0, |end| end + 1);
        let head = rest[line..at].trim();
        let is_use =
            head.is_empty() || head == "pub" || (head.starts_with("pub(") && head.ends_with(')'));
        let end = rest[at..].find(';').map_or(rest.len(), |end| at + end);
        if !is_use {
            others.push_str(&rest[..at + 4]);
            rest = &rest[at + 4..];
            continue;
        }
        others.push_str(&rest[..line]);
        for path in expanded(&rest[at + 4..end]) {
            if !head.is_empty() {
                module.passed_on.insert(path.last().cloned().unwrap_or_default(), path.clone());
            } else {
                module.named.push(path);
            }
        }
        rest = &rest[(end + 1).min(rest.len())..];
    }
    others.push_str(rest);
    module.named.extend(inline_paths(&others));
    module
}

struct House(BTreeMap<Path, Module>);

impl House {
    /// The path from the root, of one that a module names; none for foreign crates.
    fn absolute(&self, from: &Path, path: &Path) -> Option<Path> {
        let (mut base, mut rest) = (from.clone(), &path[..]);
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child => {
                let below = [base.clone(), vec![child.to_owned()]].concat();
                if !self.0.contains_key(&below) {
                    return None;
                }
            }
        }
        Some([base, rest.to_vec()].concat())
    }

    /// The module in which what a path names is defined.
    fn home(&self, path: &Path, depth: usize) -> Option<Path> {
        let known = (0..=path.len()).rev().find(|&end| self.0.contains_key(&path[..end]))?;
        let module = path[..known].to_vec();
        let Some(name) = path.get(known).filter(|_| depth < 8) else { return Some(module) };
        match self.0[&module].passed_on.get(name) {
            Some(from) => {
                let from = self.absolute(&module, from);
                from.and_then(|from| self.home(&from, depth + 1)).or(Some(module))
            }
            None => Some(module),
        }
    }

    /// The files that each file looks at.
    fn edges(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (path, module) in &self.0 {
            let seen = edges.entry(&module.file).or_default();
            for named in &module.named {
                let home = self.absolute(path, named).and_then(|named| self.home(&named, 0));
                if let Some(home) = home.filter(|home| home != path && !home.is_empty()) {
                    seen.insert(&self.0[&home].file);
                }
            }
        }
        edges
    }
}

/// The files that can be reached from themselves, in groups.
fn circles<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<BTreeSet<&'a str>> {
    let reached = |from: &'a str| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(file) = todo.pop() {
            for next in edges.get(file).into_iter().flatten() {
                if seen.insert(*next) {
                    todo.push(next);
                }
            }
        }
        seen
    };
    let all: BTreeMap<&str, BTreeSet<&str>> =
        edges.keys().map(|file| (*file, reached(file))).collect();
    let mut groups = BTreeSet::new();
    for (file, seen) in &all {
        let group: BTreeSet<&str> = seen
            .iter()
            .copied()
            .filter(|other| all.get(other).is_some_and(|s| s.contains(file)))
            .collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    groups.into_iter().collect()
}

fn house() -> House {
    let modules = sources().into_iter().filter(|(file, ..)| file != "lib.rs" && file != "main.rs");
    House(modules.map(|(file, _, code)| (module_of(&file), read(file, &code))).collect())
}

/// The rooms of `web` from the roof down; the files beside them are its ground.
const WEB: [&str; 6] = ["mod.rs", "server", "pages", "api", "download", "identity"];

#[test]
fn the_rooms_of_web_look_down() {
    let floor = |file: &str| {
        let room = file.strip_prefix("web/")?.split('/').next()?;
        Some(WEB.iter().position(|known| *known == room).unwrap_or(WEB.len()))
    };
    let house = house();
    let mut wrong = Vec::new();
    for (file, seen) in house.edges() {
        let Some(here) = floor(file) else { continue };
        let up = seen.into_iter().filter(|seen| floor(seen).is_some_and(|there| there < here));
        wrong.extend(up.map(|seen| format!("{file} looks at {seen}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let files = house().0.into_values().map(|module| format!("src/{}", module.file));
    let lines = |file: &String| std::fs::read_to_string(file).unwrap().lines().count();
    let long: Vec<String> = files.filter(|file| lines(file) > 500).collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn no_files_look_at_each_other_in_circles() {
    let modules = sources().into_iter().filter(|(file, ..)| file != "lib.rs" && file != "main.rs");
    let house =
        House(modules.map(|(file, _, code)| (module_of(&file), read(file, &code))).collect());
    let edges = house.edges();
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 500, "imports were not read");
    let circles = circles(&edges);
    let seen = |circle: &BTreeSet<&str>, file: &str| -> String {
        let seen: Vec<_> = edges[file].iter().filter(|seen| circle.contains(*seen)).collect();
        format!("{file} looks at {seen:?}")
    };
    let circles: Vec<Vec<String>> = circles
        .iter()
        .map(|circle| circle.iter().map(|file| seen(circle, file)).collect())
        .collect();
    assert!(circles.is_empty(), "{circles:#?}");
}
