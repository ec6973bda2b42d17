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
use rust_xlsxwriter::{DocProperties, ExcelDateTime, Format, Workbook, Worksheet, XlsxError};
use zip::{ZipArchive, ZipWriter};

use super::{Zip, io_error, options, xlsx_error, zip_error};
use crate::{
    error::{Error, Result},
    export::value::Column,
};

/// A workbook whose sheets have no rows yet.
#[derive(Clone)]
pub(super) struct Package {
    /// What each column's cells look like.
    pub looks: Arc<[Looks]>,
    /// The look of the header.
    pub header: Look,
    /// Before the columns of the first sheet, and from there to its rows.
    before_rows: Arc<str>,
    /// What closes a sheet.
    pub after_rows: Arc<str>,
    parts: Parts,
    /// The properties, with [`SOME_TIME`] in them.
    properties: Arc<str>,
    /// The properties as they were last written: small files are made many a second.
    dated: Arc<Mutex<Option<(String, Parts)>>>,
}

type Parts = ZipArchive<Cursor<Arc<[u8]>>>;

/// Which of the workbook's styles a cell has (`s`); 0 is the default.
pub(super) type Look = u32;

/// How the cells of a column look.
#[derive(Clone, Copy, Default)]
pub(super) struct Looks {
    pub number: Look,
    pub date: Look,
    pub time: Look,
    pub moment: Look,
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
        let mut parts = ZipArchive::new(Cursor::new(bytes.into())).map_err(zip_error)?;
        let sheet = text(&mut parts, &sheet_name(1))?;
        let properties = text(&mut parts, PROPERTIES)?.into();
        let (header, looks) = looks(&sheet, formats)?;
        let (before, rest) = sheet.split_once("<sheetData>").ok_or_else(|| strange("no rows"))?;
        let (_, after) =
            rest.split_once("</sheetData>").ok_or_else(|| strange("no end of rows"))?;
        // How far the cells reach, which nobody knows yet and nobody has to say.
        let before = match (before.split_once("<dimension"), before.split_once("<sheetViews")) {
            (Some((start, _)), Some((_, views))) => format!("{start}<sheetViews{views}"),
            _ => return Err(strange("no dimension or no views")),
        };
        Ok(Package {
            looks: looks.into(),
            header,
            before_rows: before.into(),
            after_rows: format!("</sheetData>{after}").into(),
            parts,
            properties,
            dated: Arc::default(),
        })
    }

    /// What stands before the rows of a sheet, counted from 1, with these widths in characters.
    pub(super) fn before_rows(&self, sheet: usize, widths: &[usize]) -> String {
        let mut xml = match sheet {
            1 => self.before_rows.to_string(),
            // Only the first is in front.
            _ => self.before_rows.replace(" tabSelected=\"1\"", ""),
        };
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
    pub(super) fn begin(&mut self, zip: &mut Zip, made_at: DateTime<Utc>) -> Result<()> {
        for name in FIRST {
            match name {
                PROPERTIES => copy(&mut self.dated(made_at)?, name, zip)?,
                _ => copy(&mut self.parts, name, zip)?,
            }
        }
        Ok(())
    }

    /// A zip of the properties alone, as of that second.
    fn dated(&self, made_at: DateTime<Utc>) -> Result<Parts> {
        let now = made_at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut dated = self.dated.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((time, parts)) = &*dated
            && *time == now
        {
            return Ok(parts.clone());
        }
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file(PROPERTIES, options()).map_err(zip_error)?;
        let properties = self.properties.replace(SOME_TIME, &now);
        zip.write_all(properties.as_bytes()).map_err(io_error)?;
        let bytes = zip.finish().map_err(zip_error)?.into_inner();
        let parts = ZipArchive::new(Cursor::new(bytes.into())).map_err(zip_error)?;
        *dated = Some((now, parts.clone()));
        Ok(parts)
    }

    /// Writes what comes after so many sheets of these columns.
    pub(super) fn end(mut self, zip: &mut Zip, columns: &[Column], sheets: usize) -> Result<()> {
        if sheets > 1 {
            let formats = formats(columns);
            self = Package::new(&formats, sheets)?;
        }
        LAST.iter().try_for_each(|name| copy(&mut self.parts, name, zip))
    }
}

/// Writes a part as it was compressed.
fn copy(parts: &mut Parts, name: &str, zip: &mut Zip) -> Result<()> {
    let at = parts.index_for_name(name).ok_or_else(|| strange(name))?;
    let part = parts.by_index_raw(at).map_err(zip_error)?;
    zip.raw_copy_file(part).map_err(zip_error)
}

fn formats(columns: &[Column]) -> Formats {
    let format = |column: &Column| column.format.clone().filter(|format| !format.is_empty());
    columns.iter().map(format).collect()
}

fn text(parts: &mut Parts, name: &str) -> Result<String> {
    let mut text = String::new();
    let mut part = parts.by_name(name).map_err(zip_error)?;
    part.read_to_string(&mut text).map_err(strange)?;
    Ok(text)
}

/// One cell for each look: the header's, then row by row those of each column.
fn fill(sheet: &mut Worksheet, formats: &[Option<String>]) -> std::result::Result<(), XlsxError> {
    sheet.write_blank(0, 0, &Format::new().set_bold())?;
    for (row, format) in (1..).zip(formats) {
        let look = |default| Format::new().set_num_format(format.as_deref().unwrap_or(default));
        if format.is_some() {
            sheet.write_blank(row, 0, &look(""))?;
        }
        for (at, default) in (1..).zip(["yyyy-mm-dd", "hh:mm:ss", "yyyy-mm-dd hh:mm:ss"]) {
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
        let mut parts = ZipArchive::new(Cursor::new(bytes.into())).unwrap();
        let sheet = text(&mut parts, &sheet_name(1)).unwrap();
        let (_, columns) = sheet.split_once("<cols>").unwrap();
        let (columns, _) = columns.split_once("</cols>").unwrap();
        let ours = Package::of(&[Column::new("x")]).unwrap().before_rows(1, &widths);
        assert!(ours.contains(columns), "{ours}\n{columns}");
    }
}
