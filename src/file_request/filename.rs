//! File names as headers carry them and as file systems take them.

use std::fmt::Write;

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use super::FileRequest;

/// Longest name, in bytes. File systems allow 255, and some programs that download add to a name.
const LONGEST: usize = 200;
/// Longest extension that is known for one, in bytes.
const LONGEST_EXTENSION: usize = 10;
/// What compresses another format, whose extension stands before.
const PACKED: [&str; 4] = ["gz", "zst", "bz2", "xz"];
/// Stands for a name of which nothing is left for clients that know ASCII only.
const NAMELESS: &str = "download";

/// A `Content-Disposition` (RFC 6266, RFC 8187) that no file name can break.
///
/// As dj-bgfiles: each of `/ \ " ;` becomes a space, ASCII names stand as they are, others get an
/// ASCII form and `filename*`. Unlike it: control characters go, a name without any ASCII gets a
/// stand-in, and one with `%` gets `filename*` as well. The file of a request has a better
/// stand-in, see [`of_request`].
pub fn content_disposition(filename: &str, attachment: bool) -> String {
    disposition(filename, attachment, |stem| match ascii(stem) {
        plain if plain.is_empty() => NAMELESS.to_owned(),
        plain => plain,
    })
}

/// The same for the file of a request: where letters of the name would be lost, the type and the
/// day stand for it, so that clients that know ASCII only do not save one file over the other.
pub fn of_request(request: &FileRequest, filename: &str, attachment: bool) -> String {
    disposition(filename, attachment, |stem| {
        let is_lost = |c: char| !c.is_ascii() && c.is_alphanumeric();
        let plain = ascii(stem);
        if stem.nfkd().any(is_lost) || !plain.contains(|c: char| c.is_ascii_alphanumeric()) {
            // A type that somebody wrote into the row may be anything.
            return ascii(&stand_in(request));
        }
        plain
    })
}

/// `flights-2026-11-28`: what a file is called whose own name says nothing. The day is that of the
/// request, in the requester's zone.
pub fn stand_in(request: &FileRequest) -> String {
    let day = request.requested_at.with_timezone(&request.timezone()).date_naive();
    format!("{}-{day:?}", request.file_type)
}

fn disposition(filename: &str, attachment: bool, fallback: impl FnOnce(&str) -> String) -> String {
    let kind = if attachment { "attachment" } else { "inline" };
    let name = safe(filename);
    if name.is_empty() {
        return kind.to_owned();
    }
    // Some clients read `%41` in `filename` as `A` (RFC 6266, appendix D).
    if name.is_ascii() && !name.contains('%') {
        return format!("{kind}; filename=\"{name}\"");
    }
    let (stem, ending) = parts(&name);
    let plain = fallback(stem);
    format!("{kind}; filename=\"{plain}{ending}\"; filename*=UTF-8''{}", ext_value(&name))
}

/// The name without what could be taken for a path, end a quoted string or break a line; without
/// what hides a file or makes it an option of a command (dots and dashes in front); and cut to what
/// file systems take, with its extension.
pub fn safe(filename: &str) -> String {
    let name: String = filename
        .chars()
        .filter(|c| !c.is_control() && !is_bidi_control(*c))
        .map(|c| if matches!(c, '/' | '\\' | '"' | ';') { ' ' } else { c })
        .collect();
    let hides = |c: char| matches!(c, '.' | '-') || c.is_whitespace();
    let name = name.trim_start_matches(hides).trim_end();
    fit(name, parts(name).1.len())
}

/// The safe name with an extension: added unless the name ends in it, whatever the case, so that
/// the file opens as what it is. Nothing is added to no name, nor without an extension.
pub fn with_extension(filename: &str, extension: &str) -> String {
    let name = safe(filename);
    if name.is_empty() || extension.is_empty() || ends_in(&name, extension) {
        return name;
    }
    // `report.csv` lacks only the `.gz` of `csv.gz`.
    let lacks = match extension.split_once('.') {
        Some((inner, outer)) if ends_in(&name, inner) => outer,
        _ => extension,
    };
    fit(&format!("{}.{lacks}", trim_end(&name)), extension.len() + 1)
}

fn ends_in(name: &str, extension: &str) -> bool {
    let at = name.len().checked_sub(extension.len() + 1);
    at.and_then(|at| name.get(at..))
        .and_then(|ending| ending.strip_prefix('.'))
        .is_some_and(|ending| ending.eq_ignore_ascii_case(extension))
}

/// At most [`LONGEST`] bytes, the last `ending` of which stay.
fn fit(name: &str, ending: usize) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let (stem, ending) =
        name.split_at_checked(name.len().saturating_sub(ending)).unwrap_or((name, ""));
    let stem = cut(stem, LONGEST.saturating_sub(ending.len()));
    format!("{}{ending}", trim_end(stem))
}

fn trim_end(name: &str) -> &str {
    name.trim_end_matches(|c: char| c == '.' || c.is_whitespace())
}

/// As much of a text as fits into so many bytes without parting a letter from its marks (grapheme
/// clusters, UAX #29). One letter with more marks than fit loses some.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let ends = text.grapheme_indices(true).map(|(at, cluster)| at + cluster.len());
    let end = ends.take_while(|end| *end <= most).last();
    let end = end.unwrap_or_else(|| text.floor_char_boundary(most));
    text.get(..end).unwrap_or_default()
}

/// The name before its extension, and the extension with its dot: `.pdf`, `.csv.gz`, or nothing.
fn parts(name: &str) -> (&str, &str) {
    let split = |name: &str| {
        let at = name.rfind('.').filter(|at| *at > 0)?;
        let ending = name.get(at + 1..)?;
        let fits = (1..=LONGEST_EXTENSION).contains(&ending.len())
            && ending.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then_some(at)
    };
    let Some(mut at) = split(name) else { return (name, "") };
    let is_packed = |ending: &str| PACKED.iter().any(|known| known.eq_ignore_ascii_case(ending));
    let (stem, ending) = name.split_at(at);
    if is_packed(ending.trim_start_matches('.')) {
        at = split(stem).unwrap_or(at);
    }
    name.split_at(at)
}

/// Characters that make `gpj.exe` read as `exe.jpg`.
pub(crate) fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// NFKD without what is not ASCII, as Django's fallback, and without `%`.
fn ascii(text: &str) -> String {
    let plain: String = text.nfkd().filter(|c| c.is_ascii() && !c.is_ascii_control()).collect();
    // A compatibility form can bring a separator back (U+FF0F becomes '/').
    safe(&plain).replace('%', "_")
}

/// `ext-value` of RFC 8187: everything but `attr-char` percent-encoded.
fn ext_value(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => text.push(char::from(byte)),
            b'!' | b'#' | b'$' | b'&' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                text.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_added_unless_it_is_there() {
        for (name, extension, whole) in [
            ("Q1 results", "csv", "Q1 results.csv"),
            ("report.xlsx", "csv", "report.xlsx.csv"),
            ("report.CSV", "csv", "report.CSV"),
            ("report.", "csv", "report.csv"),
            ("v1.2", "csv", "v1.2.csv"),
            ("report", "csv.gz", "report.csv.gz"),
            ("report.csv", "csv.gz", "report.csv.gz"),
            ("report.Csv.GZ", "csv.gz", "report.Csv.GZ"),
            ("report.gz", "csv.gz", "report.gz.csv.gz"),
            ("日本.pdf", "csv", "日本.pdf.csv"),
            ("", "csv", ""),
            ("...", "csv", ""),
            ("free", "", "free"),
        ] {
            assert_eq!(with_extension(name, extension), whole, "{name:?} {extension}");
        }
    }

    #[test]
    fn nothing_hides_and_nothing_is_an_option() {
        for (name, plain) in [
            (".bashrc", "bashrc"),
            ("..hidden.csv", "hidden.csv"),
            ("-rf.csv", "rf.csv"),
            (" -. x.csv ", "x.csv"),
            ("/etc/passwd", "etc passwd"),
            ("below--5.csv", "below--5.csv"),
            ("---", ""),
        ] {
            assert_eq!(safe(plain), plain);
            assert_eq!(safe(name), plain, "{name:?}");
        }
    }

    #[test]
    fn long_names_are_cut_between_letters_and_keep_their_extension() {
        let cases = [
            (format!("{}.csv", "東".repeat(196)), format!("{}.csv", "東".repeat(65))),
            (format!("{}.csv.gz", "x".repeat(300)), format!("{}.csv.gz", "x".repeat(193))),
            ("x".repeat(300), "x".repeat(200)),
            // 18 bytes for the word: a letter with a mark, and two joined letters with another.
            (format!("{}.csv", "हिन्दी".repeat(20)), format!("{}हि.csv", "हिन्दी".repeat(10))),
            // A family: one picture of 25 bytes.
            (format!("{}.csv", "👨‍👩‍👧‍👦".repeat(9)), format!("{}.csv", "👨‍👩‍👧‍👦".repeat(7))),
            (format!("e{}.csv", "\u{301}".repeat(300)), format!("e{}.csv", "\u{301}".repeat(97))),
        ];
        for (name, short) in cases {
            assert_eq!(safe(&name), short);
            assert!(short.len() <= LONGEST && safe(&short) == short);
        }
        let long = with_extension(&format!("{}.xlsx", "x".repeat(195)), "csv");
        assert_eq!(long, format!("{}.csv", "x".repeat(195)));
    }
}
