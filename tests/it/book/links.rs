//! Links lead somewhere, and every page is reached.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use super::page::{BOOK, Page, book, documents, root};

/// A path without `.` and `..`; `None` outside the repository.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => plain.pop().then_some(())?,
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    Some(plain)
}

/// What is wrong with where a link leads.
fn fault(page: &Page, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = match path {
        "" => page.path.clone(),
        path => match plain(&page.path.parent()?.join(path)) {
            Some(path) => path,
            None => return Some(format!("{target} leads out of the repository")),
        },
    };
    if !root().join(&path).exists() {
        return Some(format!("{target}: there is no {}", path.display()));
    }
    if page.path.starts_with(BOOK) && !path.starts_with(BOOK) {
        return Some(format!("{target} is not in the book: name the file in backticks instead"));
    }
    let is_page = path.extension().is_some_and(|e| e == "md");
    let is_there = anchor.is_empty() || !is_page || Page::read(path).anchors().contains(anchor);
    (!is_there).then(|| format!("{target}: there is no such heading"))
}

#[test]
fn every_link_leads_somewhere() {
    let mut faults = Vec::new();
    for page in documents() {
        for (line, target) in page.links() {
            let is_elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !is_elsewhere && let Some(why) = fault(&page, &target) {
                faults.push(page.fault(line, why));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_page_is_in_the_summary_once() {
    let summary = Page::read(Path::new(BOOK).join("SUMMARY.md"));
    let mut listed = BTreeSet::new();
    for (line, target) in summary.links().into_iter().filter(|(_, target)| !target.is_empty()) {
        let path = Path::new(BOOK).join(&target);
        assert!(listed.insert(path), "{}", summary.fault(line, format!("{target} a second time")));
    }
    let pages = book().into_iter().map(|page| page.path).filter(|path| *path != summary.path);
    let pages: BTreeSet<PathBuf> = pages.collect();
    let missing: Vec<_> = pages.difference(&listed).collect();
    let strange: Vec<_> = listed.difference(&pages).collect();
    assert!(missing.is_empty(), "not in SUMMARY.md: {missing:?}");
    assert!(strange.is_empty(), "in SUMMARY.md and not there: {strange:?}");
}

#[test]
fn the_readme_is_short() {
    let readme = Page::read("README.md".into());
    assert!(readme.text.len() <= 8 * 1024, "README.md has {} bytes", readme.text.len());
}
