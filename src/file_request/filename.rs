//! File names as headers carry them.

use std::fmt::Write;

use unicode_normalization::UnicodeNormalization;

/// Shown when nothing of a name is left for clients that know ASCII only.
const NAMELESS: &str = "download";

/// A `Content-Disposition` (RFC 6266, RFC 8187) that no file name can break.
///
/// As dj-bgfiles: each of `/ \ " ;` becomes a space, ASCII names stand as they are, others get an
/// ASCII form and `filename*`. Unlike it: control characters go, and a name without any ASCII
/// gets a stand-in.
pub fn content_disposition(filename: &str, attachment: bool) -> String {
    let kind = if attachment { "attachment" } else { "inline" };
    let name = safe(filename);
    if name.is_empty() {
        return kind.to_owned();
    }
    if name.is_ascii() {
        return format!("{kind}; filename=\"{name}\"");
    }
    format!("{kind}; filename=\"{}\"; filename*=UTF-8''{}", ascii(&name), ext_value(&name))
}

/// The name without what could be taken for a path, end a quoted string or break a line.
pub fn safe(filename: &str) -> String {
    let name: String = filename
        .chars()
        .filter(|c| !c.is_control() && !is_bidi_control(*c))
        .map(|c| if matches!(c, '/' | '\\' | '"' | ';') { ' ' } else { c })
        .collect();
    name.trim().to_owned()
}

/// Characters that make `gpj.exe` read as `exe.jpg`.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// NFKD without what is not ASCII, as Django's fallback; `東京.pdf` would become `.pdf`.
fn ascii(name: &str) -> String {
    let plain: String = name.nfkd().filter(|c| c.is_ascii() && !c.is_ascii_control()).collect();
    // A compatibility form can bring a separator back (U+FF0F becomes '/').
    let plain = safe(&plain);
    match plain.as_str() {
        "" => NAMELESS.to_owned(),
        rest if rest.starts_with('.') => format!("{NAMELESS}{rest}"),
        _ => plain,
    }
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
