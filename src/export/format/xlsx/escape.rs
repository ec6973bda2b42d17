//! Text as it stands in the XML of a sheet.

use std::{borrow::Cow, io::Write};

/// Text whose lines end with a line feed alone.
pub(super) fn mend_lines(text: &str) -> Cow<'_, str> {
    if text.contains("\r\n") { text.replace("\r\n", "\n").into() } else { text.into() }
}

/// Writes text as XML has it, and what XML cannot have as Excel does: `_x0007_` (ECMA-376 part 1,
/// 22.9.2.19). What looks like that but is not gets its `_` escaped.
pub(super) fn escape(text: &str, xml: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    if !may_need_escapes(bytes) {
        return xml.extend_from_slice(bytes);
    }
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if !IS_SPECIAL[usize::from(*byte)] {
            continue;
        }
        let rest = &bytes[at + 1..];
        let (length, instead): (usize, &[u8]) = match byte {
            b'&' => (1, b"&amp;"),
            b'<' => (1, b"&lt;"),
            b'>' => (1, b"&gt;"),
            b'_' if is_escape(rest) => (1, b"_x005F_"),
            0xEF if rest.starts_with(b"\xBF\xBE") => (3, b"_xFFFE_"),
            0xEF if rest.starts_with(b"\xBF\xBF") => (3, b"_xFFFF_"),
            b'_' | 0xEF => continue,
            control => {
                xml.extend_from_slice(&bytes[from..at]);
                // Writing to memory cannot fail.
                let _ = write!(xml, "_x{control:04X}_");
                from = at + 1;
                continue;
            }
        };
        xml.extend_from_slice(&bytes[from..at]);
        xml.extend_from_slice(instead);
        from = at + length;
    }
    xml.extend_from_slice(&bytes[from..]);
}

/// Without branches, so that it looks at many bytes at once. A lone `_` is ordinary (`x86_64`).
fn may_need_escapes(bytes: &[u8]) -> bool {
    let markup = bytes.iter().fold(false, |found, &byte| {
        found | (byte < 0x20) | (byte == b'&') | (byte == b'<') | (byte == b'>') | (byte == 0xEF)
    });
    let pairs = bytes.iter().zip(bytes.get(1..).unwrap_or_default());
    markup | pairs.fold(false, |found, (&a, &b)| found | ((a == b'_') & (b == b'x')))
}

/// Whether an `_` followed by this would be read as an escape.
fn is_escape(rest: &[u8]) -> bool {
    matches!(rest, [b'x', a, b, c, d, b'_', ..] if [a, b, c, d].iter().all(|h| h.is_ascii_hexdigit()))
}

/// Bytes that [`escape`] has to look at.
const IS_SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 0x20 {
        table[at] = at != 0x09 && at != 0x0A;
        at += 1;
    }
    table[b'&' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'_' as usize] = true;
    table[0xEF] = true;
    table
};
