//! Words to people and programs.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where output goes out")]

use std::{
    borrow::Cow,
    fmt::Display,
    io::{IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::file_request::filename::is_bidi_control;

/// What callers wrote may move the cursor of a terminal, or turn its text around: U+009B begins what ESC
/// and `[` do. Written as JSON writes them, in which they stay what they are. Lines of a mail end with
/// two characters, which are one here.
fn harmless(text: &str) -> Cow<'_, str> {
    let text = match text.contains("\r\n") {
        true => Cow::from(text.replace("\r\n", "\n")),
        false => text.into(),
    };
    let is_bad = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || is_bidi_control(c);
    if !text.contains(is_bad) {
        return text;
    }
    let escaped = text.chars().map(|c| match is_bad(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.into(),
    });
    escaped.collect::<String>().into()
}

/// A line of result. A reader that went away (`| head`) is no error.
pub(super) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{}", harmless(&line.to_string()));
}

/// A line to the person at the terminal.
pub(super) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{}", harmless(&line.to_string()));
}

/// Whether the log is JSON: what goes wrong is a line of it, for whoever reads such logs.
static JSON: AtomicBool = AtomicBool::new(false);

/// From now on the log is JSON.
pub(super) fn speak_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// What went wrong.
pub(super) fn complain(error: &dyn Display) {
    match JSON.load(Ordering::Relaxed) && tracing::enabled!(tracing::Level::ERROR) {
        true => tracing::error!(%error, "failed"),
        false => note(format_args!("bgfiles: {error}")),
    }
}

/// A line that the next one replaces; only where a person watches.
pub(super) fn progress(line: impl Display) {
    let mut err = std::io::stderr().lock();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K{line}");
        let _ = err.flush();
    }
}

/// How far a file is, as a line of [`progress`].
pub(super) fn rows(done: u64, total: Option<u64>, is_estimated: bool) -> String {
    match (total, is_estimated) {
        (None, _) => format!("{done} rows"),
        (Some(total), false) => format!("{done} of {total} rows"),
        (Some(total), true) => format!("{done} of about {total} rows"),
    }
}

/// Ends a line of [`progress`].
pub(super) fn progress_done() {
    progress("");
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn lines_end_and_nothing_else_moves_a_cursor() {
        assert_eq!(
            harmless("Hello,\r\n\r\nthe file\n\tis there"),
            "Hello,\n\nthe file\n\tis there"
        );
        assert_eq!(harmless("over\rwritten\r\r\n\u{9b}2J"), "over\\u000dwritten\\u000d\n\\u009b2J");
    }
}
