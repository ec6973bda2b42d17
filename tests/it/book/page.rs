//! A document as text: what stands in prose, in code and in headings.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The book, relative to the repository.
pub const BOOK: &str = "docs/src";

/// A document of the repository.
pub struct Page {
    /// Relative to the repository.
    pub path: PathBuf,
    pub text: String,
}

/// Files below a folder of the repository, relative to the repository.
pub fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).into_iter().flatten().flatten() {
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of the book.
pub fn book() -> Vec<Page> {
    let pages = files(BOOK).into_iter();
    pages.filter(|path| path.extension().is_some_and(|e| e == "md")).map(Page::read).collect()
}

/// The book and the documents at the root.
pub fn documents() -> Vec<Page> {
    let at_root = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
    at_root.map(|name| Page::read(name.into())).into_iter().chain(book()).collect()
}

impl Page {
    pub fn read(path: PathBuf) -> Page {
        let text = std::fs::read_to_string(root().join(&path));
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Page { path, text }
    }

    /// The lines, each with whether it is in a fence of code.
    fn lines(&self) -> Vec<(&str, bool)> {
        let mut fence: Option<&str> = None;
        let mut lines = Vec::new();
        for line in self.text.lines() {
            let trimmed = line.trim();
            let run = &trimmed[..trimmed.len() - trimmed.trim_start_matches('`').len()];
            let is_code = match fence {
                Some(open) => {
                    let closes = run.len() >= open.len() && run == trimmed;
                    fence = fence.filter(|_| !closes);
                    true
                }
                None => {
                    fence = Some(run).filter(|run| run.len() >= 3);
                    fence.is_some()
                }
            };
            lines.push((line, is_code));
        }
        lines
    }

    fn only(&self, code: bool) -> String {
        let mut only = String::new();
        for (line, is_code) in self.lines() {
            only.push_str(if is_code == code { line } else { "" });
            only.push('\n');
        }
        only
    }

    /// The text without fences, line by line.
    pub fn prose(&self) -> String {
        self.only(false)
    }

    /// The fences, line by line.
    pub fn code(&self) -> String {
        self.only(true)
    }

    /// Code spans of the prose, each with its line and what follows it.
    pub fn spans(&self) -> Vec<(usize, String, String)> {
        let prose = self.prose();
        let mut spans = Vec::new();
        cut(&prose, |at, inside, after| {
            let inside = inside.split_whitespace().collect::<Vec<_>>().join(" ");
            let after = after.chars().take(24).collect();
            spans.push((line_of(&prose, at), inside, after));
        });
        spans
    }

    /// Where links and pictures lead, each with its line.
    pub fn links(&self) -> Vec<(usize, String)> {
        let prose = cut(&self.prose(), |_, _, _| {});
        let mut links = Vec::new();
        for open in ["](", "src=\"", "href=\""] {
            let close = if open == "](" { ')' } else { '"' };
            for (at, _) in prose.match_indices(open) {
                let target = prose[at + open.len()..].split(close).next().unwrap_or_default();
                let target = target.split_whitespace().next().unwrap_or_default();
                links.push((line_of(&prose, at), target.trim_matches(['<', '>']).to_owned()));
            }
        }
        links
    }

    /// What `#…` may name, as mdBook and code hosts make it of headings.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        for line in self.prose().lines() {
            let named = line.split("id=\"").skip(1).filter_map(|rest| rest.split('"').next());
            anchors.extend(named.map(str::to_owned));
            let text = line.trim_start_matches('#');
            if text.len() == line.len() || !text.starts_with(' ') {
                continue;
            }
            let id = slug(text.trim());
            let numbered = (1..).map(|n| format!("{id}-{n}"));
            let free = std::iter::once(id.clone()).chain(numbered);
            let id = free.into_iter().find(|id| !anchors.contains(id));
            anchors.extend(id);
        }
        anchors
    }

    /// `PAGE:LINE: WHAT`.
    pub fn fault(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

/// A heading's anchor: of a link in it the text counts.
fn slug(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    let kept = text.chars().filter_map(|c| match c {
        c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
        c if c.is_whitespace() => Some('-'),
        _ => None,
    });
    kept.collect()
}

/// The text with blanks in place of its code spans, each of which is told: where it begins, what is in
/// it, and what follows. A span ends with its paragraph at the latest.
fn cut(text: &str, mut told: impl FnMut(usize, &str, &str)) -> String {
    let mut left = String::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('`').map(|found| at + found) {
        left.push_str(&text[at..open]);
        let run = text[open..].len() - text[open..].trim_start_matches('`').len();
        let begin = open + run;
        let paragraph = text[begin..].find("\n\n").map_or(text.len(), |end| begin + end);
        let mut close = begin;
        let mut end = None;
        while let Some(found) = text[close..paragraph].find('`').map(|found| close + found) {
            let length = text[found..].len() - text[found..].trim_start_matches('`').len();
            close = found + length;
            if length == run {
                end = Some(found);
                break;
            }
        }
        at = match end {
            Some(end) => {
                told(open, &text[begin..end], &text[close..]);
                close
            }
            None => begin,
        };
        let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
        left.extend(text[open..at].chars().map(blank));
    }
    left.push_str(&text[at..]);
    left
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn a_page_is_read_as_it_is_shown() {
        let text = "# A `b` [c](d.md)\n\n```sh\n# no heading `x`\n```\nSee `one\ntwo` (64), [a\nb](e.md#f) \
            and ``a`b``.\n\n# A b c\n";
        let page = Page { path: "a.md".into(), text: text.into() };
        let spans: Vec<_> = page.spans().into_iter().map(|(line, text, _)| (line, text)).collect();
        let expected =
            [(1, "b"), (6, "one two"), (8, "a`b")].map(|(line, text)| (line, text.to_owned()));
        assert_eq!(spans, expected);
        assert!(page.spans()[1].2.starts_with(" (64), "));
        assert_eq!(page.links(), [(1, "d.md".to_owned()), (8, "e.md#f".to_owned())]);
        assert_eq!(page.anchors().into_iter().collect::<Vec<_>>(), ["a-b-c", "a-b-c-1"]);
    }
}
