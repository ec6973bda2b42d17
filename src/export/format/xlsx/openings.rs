//! What cells begin and end with, made once for each column.

use super::package::{Look, Looks};
use crate::export::value::write_int;

/// What a cell begins with after its reference and style, and what closes it.
const NUMBER: &[u8] = b"><v>";
const BOOLEAN: &[u8] = b" t=\"b\"><v>";
pub(super) const NUMBER_END: &[u8] = b"</v></c>";
pub(super) const STRING: &[u8] = b" t=\"inlineStr\"><is><t>";
const PADDED_STRING: &[u8] = b" t=\"inlineStr\"><is><t xml:space=\"preserve\">";
pub(super) const STRING_END: &[u8] = b"</t></is></c>";

/// What the cells of a column begin with: `<c r="B`, then the row's number, then an [`Opening`].
pub(super) struct Openings {
    pub(super) cell: Piece,
    pub(super) number: Opening,
    pub(super) boolean: Opening,
    pub(super) date: Opening,
    pub(super) time: Opening,
    pub(super) moment: Opening,
    pub(super) duration: Opening,
    pub(super) string: Opening,
    pub(super) padded_string: Opening,
}

/// From the end of a cell's reference to its content: `" s="3"><v>`.
pub(super) struct Opening(pub(super) Piece);

/// A few bytes that are written again and again: as many as there is room for are copied, whose number
/// the compiler knows, and those too many are taken back.
pub(super) struct Piece {
    bytes: [u8; Piece::ROOM],
    length: usize,
}

impl Piece {
    const ROOM: usize = 48;

    /// Of at most [`Piece::ROOM`] bytes, which the longest opening does not reach.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut piece = Piece { bytes: [0; Piece::ROOM], length: 0 };
        piece.set(bytes);
        piece
    }

    pub(super) fn set(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= Piece::ROOM, "{} bytes", bytes.len());
        self.length = bytes.len().min(Piece::ROOM);
        self.bytes[..self.length].copy_from_slice(&bytes[..self.length]);
    }

    #[inline]
    pub(super) fn write(&self, xml: &mut Vec<u8>) {
        let end = xml.len() + self.length;
        xml.extend_from_slice(&self.bytes);
        xml.truncate(end);
    }
}

impl Openings {
    /// Of the column `at`, counted from 0.
    pub(super) fn new(at: usize, looks: &Looks, references: bool) -> Self {
        let cell = if references { format!("<c r=\"{}", column_name(at)) } else { "<c".into() };
        let opening = |look, kind| Opening::new(look, kind, references);
        Openings {
            cell: Piece::new(cell.as_bytes()),
            number: opening(looks.number, NUMBER),
            boolean: opening(0, BOOLEAN),
            date: opening(looks.date, NUMBER),
            time: opening(looks.time, NUMBER),
            moment: opening(looks.moment, NUMBER),
            duration: opening(looks.duration, NUMBER),
            string: opening(0, STRING),
            padded_string: opening(0, PADDED_STRING),
        }
    }
}

impl Opening {
    pub(super) fn new(look: Look, kind: &[u8], references: bool) -> Self {
        let mut xml = Vec::new();
        if references {
            xml.push(b'"');
        }
        if look != 0 {
            xml.extend_from_slice(b" s=\"");
            write_int(look.into(), &mut xml);
            xml.push(b'"');
        }
        xml.extend_from_slice(kind);
        Opening(Piece::new(&xml))
    }
}

/// `A`, `B` … `Z`, `AA` …, of a column counted from 0.
pub(super) fn column_name(at: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = at + 1;
    while rest > 0 {
        letters.push(char::from(b'A' + ((rest - 1) % 26) as u8));
        rest = (rest - 1) / 26;
    }
    letters.into_iter().rev().collect()
}
