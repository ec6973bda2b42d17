//! Everything of a workbook but the rows, by `rust_xlsxwriter`: styles, theme, relations,
//! properties, and what stands before and after the rows of a sheet.
//!
//! Small files are many, so what was made for columns like these is kept, compressed.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{Cursor, Read, Write},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use flate2::{Compression, Crc, write::DeflateEncoder};
use rust_xlsxwriter::{DocProperties, ExcelDateTime, Format, Workbook, Worksheet, XlsxError};
use zip::ZipArchive;

use crate::{
    error::{Error, Result},
    export::{
        format::{
            Sink,
            archive::{Archive, Deflated},
            io_error,
        },
        value::Column,
    },
};

/// The file that a workbook is.
pub(super) type Zip = Archive<Sink>;

/// A workbook whose sheets have no rows yet.
#[derive(Clone)]
pub(super) struct Package {
    /// What each column's cells look like.
    pub looks: Arc<[Looks]>,
    /// The look of the header.
    pub header: Look,
    /// What opens a sheet: up to where its dimension stands, and from there to its columns.
    before_rows: (Arc<str>, Arc<str>),
    /// What closes a sheet.
    pub after_rows: Arc<str>,
    /// Those of [`FIRST`], then those of [`LAST`].
    parts: Arc<[Deflated]>,
    /// The properties, with [`SOME_TIME`] in them.
    properties: Arc<str>,
    /// The properties as they were last written: small files are made many a second.
    dated: Arc<Mutex<Option<(String, Deflated)>>>,
}

type Parts = ZipArchive<Cursor<Vec<u8>>>;

/// Which of the workbook's styles a cell has (`s`); 0 is the default.
pub(super) type Look = u32;

/// How the cells of a column look.
#[derive(Clone, Copy, Default)]
pub(super) struct Looks {
    pub number: Look,
    pub date: Look,
    pub time: Look,
    pub moment: Look,
    pub duration: Look,
}

/// The formats of columns; nothing else makes a difference.
type Formats = Vec<Option<String>>;

/// Workbooks of one sheet that were made before.
static MADE: LazyLock<Mutex<HashMap<Formats, Package>>> = LazyLock::new(Mutex::default);
/// Most of them; about 10 KB each.
const MOST_MADE: usize = 64;
/// Most columns of a workbook that is kept.
const MOST_COLUMNS: usize = 64;

/// The parts that do not depend on how many sheets there will be. They come first, so that programs
/// that look at a file's first bytes know what it is.
const FIRST: [&str; 4] = ["_rels/.rels", PROPERTIES, "xl/theme/theme1.xml", "xl/styles.xml"];
/// Has the time at which the workbook was made.
const PROPERTIES: &str = "docProps/core.xml";
/// The parts that name the sheets.
const LAST: [&str; 4] =
    ["docProps/app.xml", "xl/workbook.xml", "xl/_rels/workbook.xml.rels", "[Content_Types].xml"];
/// The time in workbooks that are kept.
const SOME_TIME: &str = "2000-01-01T00:00:00Z";

impl Package {
    /// A workbook of one sheet for these columns.
    pub(super) fn of(columns: &[Column]) -> Result<Self> {
        let formats = formats(columns);
        if formats.len() > MOST_COLUMNS {
            return Package::new(&formats, 1);
        }
        if let Some(made) = MADE.lock().unwrap_or_else(PoisonError::into_inner).get(&formats) {
            return Ok(made.clone());
        }
        let package = Package::new(&formats, 1)?;
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= MOST_MADE {
            made.clear();
        }
        made.insert(formats, package.clone());
        Ok(package)
    }

    fn new(formats: &[Option<String>], sheets: usize) -> Result<Self> {
        let mut book = Workbook::new();
        let some_time = ExcelDateTime::parse_from_str(SOME_TIME).map_err(xlsx_error)?;
        book.set_properties(&DocProperties::new().set_creation_datetime(&some_time));
        for _ in 0..sheets {
            fill(book.add_worksheet(), formats).map_err(xlsx_error)?;
        }
        let bytes = book.save_to_buffer().map_err(xlsx_error)?;
        let mut parts = ZipArchive::new(Cursor::new(bytes)).map_err(strange)?;
        let sheet = text(&mut parts, &sheet_name(1))?;
        let properties = text(&mut parts, PROPERTIES)?.into();
        let (header, looks) = looks(&sheet, formats)?;
        let (before, rest) = sheet.split_once("<sheetData>").ok_or_else(|| strange("no rows"))?;
        let (_, after) =
            rest.split_once("</sheetData>").ok_or_else(|| strange("no end of rows"))?;
        let (start, rest) = before.split_once("<dimension").ok_or_else(|| strange("no cells"))?;
        let (_, views) = rest.split_once("<sheetViews").ok_or_else(|| strange("no views"))?;
        let names = FIRST.iter().chain(&LAST);
        Ok(Package {
            looks: looks.into(),
            header,
            before_rows: (start.into(), format!("<sheetViews{views}").into()),
            after_rows: format!("</sheetData>{after}").into(),
            parts: names.map(|name| deflated(&mut parts, name)).collect::<Result<_>>()?,
            properties,
            dated: Arc::default(),
        })
    }

    /// What stands before the rows of a sheet, counted from 1, with these widths in characters;
    /// `cells` is how far its cells reach (`A1:C7`), where that is known.
    pub(super) fn before_rows(
        &self,
        sheet: usize,
        widths: &[usize],
        cells: Option<&str>,
    ) -> String {
        let (start, views) = &self.before_rows;
        let mut xml = start.to_string();
        if let Some(cells) = cells {
            // Writing to a string cannot fail.
            let _ = write!(xml, "<dimension ref=\"{cells}\"/>");
        }
        match sheet {
            1 => xml.push_str(views),
            // Only the first is in front.
            _ => xml.push_str(&views.replace(" tabSelected=\"1\"", "")),
        }
        xml.push_str("<cols>");
        for (number, chars) in (1..).zip(widths) {
            // Digits of the default font are seven pixels wide, and five are around them
            // (ECMA-376 part 1, 18.3.1.13). At most 60 characters.
            let width = ((chars * 7 + 5) * 256 / 7) as f64 / 256.0;
            // Writing to a string cannot fail.
            let _ = write!(
                xml,
                "<col min=\"{number}\" max=\"{number}\" width=\"{width}\" customWidth=\"1\"/>"
            );
        }
        xml.push_str("</cols><sheetData>");
        xml
    }

    /// Writes what comes before the sheets.
    pub(super) fn begin(&self, zip: &mut Zip, made_at: DateTime<Utc>) -> Result<()> {
        for (name, part) in FIRST.iter().zip(self.parts.iter()) {
            let done = match *name {
                PROPERTIES => zip.add(name, &self.dated(made_at)?),
                _ => zip.add(name, part),
            };
            done.map_err(io_error)?;
        }
        Ok(())
    }

    /// The properties as of that second.
    fn dated(&self, made_at: DateTime<Utc>) -> Result<Deflated> {
        let now = made_at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut dated = self.dated.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((time, part)) = &*dated
            && *time == now
        {
            return Ok(part.clone());
        }
        let properties = self.properties.replace(SOME_TIME, &now);
        let part = deflate(properties.as_bytes())?;
        *dated = Some((now, part.clone()));
        Ok(part)
    }

    /// Writes what comes after so many sheets of these columns.
    pub(super) fn end(mut self, zip: &mut Zip, columns: &[Column], sheets: usize) -> Result<()> {
        if sheets > 1 {
            self = Package::new(&formats(columns), sheets)?;
        }
        for (name, part) in LAST.iter().zip(self.parts.iter().skip(FIRST.len())) {
            zip.add(name, part).map_err(io_error)?;
        }
        Ok(())
    }
}

/// A part as it was compressed.
fn deflated(parts: &mut Parts, name: &str) -> Result<Deflated> {
    let at = parts.index_for_name(name).ok_or_else(|| strange(name))?;
    let mut part = parts.by_index_raw(at).map_err(strange)?;
    let (crc, size) = (part.crc32(), u32::try_from(part.size()).map_err(strange)?);
    let mut bytes = Vec::new();
    part.read_to_end(&mut bytes).map_err(strange)?;
    Ok(Deflated { crc, size, bytes: bytes.into() })
}

fn deflate(text: &[u8]) -> Result<Deflated> {
    let mut crc = Crc::new();
    crc.update(text);
    let mut to = DeflateEncoder::new(Vec::new(), Compression::default());
    to.write_all(text).map_err(io_error)?;
    let size = u32::try_from(text.len()).map_err(strange)?;
    Ok(Deflated { crc: crc.sum(), size, bytes: to.finish().map_err(io_error)?.into() })
}

fn formats(columns: &[Column]) -> Formats {
    let format = |column: &Column| column.format.clone().filter(|format| !format.is_empty());
    columns.iter().map(format).collect()
}

fn text(parts: &mut Parts, name: &str) -> Result<String> {
    let mut text = String::new();
    let mut part = parts.by_name(name).map_err(strange)?;
    part.read_to_string(&mut text).map_err(strange)?;
    Ok(text)
}

/// How dates, times, moments and durations look where the definition does not say.
const DEFAULTS: [&str; 4] = ["yyyy-mm-dd", "hh:mm:ss", "yyyy-mm-dd hh:mm:ss", "[h]:mm:ss"];

/// One cell for each look: the header's, then row by row those of each column.
fn fill(sheet: &mut Worksheet, formats: &[Option<String>]) -> std::result::Result<(), XlsxError> {
    sheet.write_blank(0, 0, &Format::new().set_bold())?;
    for (row, format) in (1..).zip(formats) {
        let look = |default| Format::new().set_num_format(format.as_deref().unwrap_or(default));
        if format.is_some() {
            sheet.write_blank(row, 0, &look(""))?;
        }
        for (at, default) in (1..).zip(DEFAULTS) {
            sheet.write_blank(row, at, &look(default))?;
        }
    }
    sheet.set_freeze_panes(1, 0)?;
    Ok(())
}

/// The styles of the cells of [`fill`], in its order.
fn looks(sheet: &str, formats: &[Option<String>]) -> Result<(Look, Vec<Looks>)> {
    let mut found = sheet.split("<c ").skip(1).map(|cell| {
        let (_, style) = cell.split_once(" s=\"")?;
        style.split_once('"')?.0.parse::<Look>().ok()
    });
    let mut next = || found.next().flatten().ok_or_else(|| strange("a cell without a style"));
    let header = next()?;
    let mut looks = Vec::with_capacity(formats.len());
    for format in formats {
        looks.push(Looks {
            number: if format.is_some() { next()? } else { 0 },
            date: next()?,
            time: next()?,
            moment: next()?,
            duration: next()?,
        });
    }
    Ok((header, looks))
}

/// Sheets count from 1.
pub(super) fn sheet_name(number: usize) -> String {
    format!("xl/worksheets/sheet{number}.xml")
}

/// `rust_xlsxwriter` has changed what it writes.
fn strange(what: impl std::fmt::Display) -> Error {
    Error::Internal(format!("an empty workbook is not as it was: {what}"))
}

fn xlsx_error(error: XlsxError) -> Error {
    Error::permanent("xlsx", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_rust_xlsxwriter_makes_them() {
        let widths: Vec<usize> = (1..=60).collect();
        let mut book = Workbook::new();
        let sheet = book.add_worksheet();
        for (at, width) in (0..).zip(&widths) {
            sheet.set_column_width(at, *width as f64).unwrap();
        }
        let bytes = book.save_to_buffer().unwrap();
        let mut parts = ZipArchive::new(Cursor::new(bytes)).unwrap();
        let sheet = text(&mut parts, &sheet_name(1)).unwrap();
        let (_, columns) = sheet.split_once("<cols>").unwrap();
        let (columns, _) = columns.split_once("</cols>").unwrap();
        let ours = Package::of(&[Column::new("x")]).unwrap().before_rows(1, &widths, None);
        assert!(ours.contains(columns), "{ours}\n{columns}");
    }
}
