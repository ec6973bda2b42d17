//! Everything of a workbook but the rows, by `rust_xlsxwriter`: styles, theme, relations,
//! properties, and what stands before and after the rows of a sheet.

use std::io::{Cursor, Read};

use rust_xlsxwriter::{Format, Workbook, Worksheet, XlsxError};
use zip::ZipArchive;

use super::xlsx_error;
use crate::{
    error::{Error, Result},
    export::value::Column,
};

/// A workbook whose sheets have no rows yet.
pub(super) struct Package {
    /// What each column's cells look like.
    pub looks: Vec<Looks>,
    /// The look of the header.
    pub header: Look,
    archive: ZipArchive<Cursor<Vec<u8>>>,
    sheets: usize,
}

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

impl Package {
    /// A workbook of so many sheets, with columns of these widths in characters.
    pub(super) fn new(columns: &[Column], widths: &[usize], sheets: usize) -> Result<Self> {
        let mut book = Workbook::new();
        for _ in 0..sheets {
            fill(book.add_worksheet(), columns, widths).map_err(xlsx_error)?;
        }
        let bytes = book.save_to_buffer().map_err(xlsx_error)?;
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(odd)?;
        let none = Looks::default();
        let mut package = Package { looks: vec![none; columns.len()], header: 0, archive, sheets };
        package.read_looks(columns)?;
        Ok(package)
    }

    /// The parts that do not depend on how many sheets there will be. They come first, so that
    /// programs that look at a file's first bytes know what it is.
    pub(super) const FIRST: [&str; 4] =
        ["_rels/.rels", "docProps/core.xml", "xl/theme/theme1.xml", "xl/styles.xml"];

    /// The parts that name the sheets.
    pub(super) const LAST: [&str; 4] = [
        "docProps/app.xml",
        "xl/workbook.xml",
        "xl/_rels/workbook.xml.rels",
        "[Content_Types].xml",
    ];

    pub(super) fn part(&mut self, name: &str) -> Result<String> {
        let mut text = String::new();
        let mut part = self.archive.by_name(name).map_err(odd)?;
        part.read_to_string(&mut text).map_err(|e| odd(e.into()))?;
        Ok(text)
    }

    /// What stands before and after the rows of the last sheet.
    pub(super) fn around_rows(&mut self) -> Result<(String, String)> {
        let sheet = self.part(&sheet_name(self.sheets))?;
        let (before, rest) = sheet.split_once("<sheetData>").ok_or_else(|| strange("no rows"))?;
        let (_, after) =
            rest.split_once("</sheetData>").ok_or_else(|| strange("no end of rows"))?;
        // How far the cells reach, which nobody knows yet and nobody has to say.
        let before = match (before.split_once("<dimension"), before.split_once("<sheetViews")) {
            (Some((start, _)), Some((_, views))) => format!("{start}<sheetViews{views}"),
            _ => return Err(strange("no dimension or no views")),
        };
        Ok((format!("{before}<sheetData>"), format!("</sheetData>{after}")))
    }

    /// The styles of the cells of [`fill`], in its order.
    fn read_looks(&mut self, columns: &[Column]) -> Result<()> {
        let sheet = self.part(&sheet_name(1))?;
        let mut looks = sheet.split("<c ").skip(1).map(|cell| {
            let (_, style) = cell.split_once(" s=\"")?;
            style.split_once('"')?.0.parse::<Look>().ok()
        });
        let mut next = || looks.next().flatten().ok_or_else(|| strange("a cell without a style"));
        self.header = next()?;
        for (column, looks) in columns.iter().zip(&mut self.looks) {
            looks.number = if column.format.is_some() { next()? } else { 0 };
            (looks.date, looks.time, looks.moment) = (next()?, next()?, next()?);
        }
        Ok(())
    }
}

/// One cell for each look: the header's, then row by row those of each column.
fn fill(
    sheet: &mut Worksheet,
    columns: &[Column],
    widths: &[usize],
) -> std::result::Result<(), XlsxError> {
    sheet.write_blank(0, 0, &Format::new().set_bold())?;
    for (row, column) in (1..).zip(columns) {
        let format = column.format.as_deref();
        let look = |default| Format::new().set_num_format(format.unwrap_or(default));
        if format.is_some() {
            sheet.write_blank(row, 0, &look(""))?;
        }
        for (at, default) in (1..).zip(["yyyy-mm-dd", "hh:mm:ss", "yyyy-mm-dd hh:mm:ss"]) {
            sheet.write_blank(row, at, &look(default))?;
        }
    }
    for (at, width) in (0..).zip(widths) {
        // At most 60.
        sheet.set_column_width(at, *width as f64)?;
    }
    sheet.set_freeze_panes(1, 0)?;
    Ok(())
}

/// Sheets count from 1.
pub(super) fn sheet_name(number: usize) -> String {
    format!("xl/worksheets/sheet{number}.xml")
}

fn odd(error: zip::result::ZipError) -> Error {
    strange(error)
}

/// `rust_xlsxwriter` has changed what it writes.
fn strange(what: impl std::fmt::Display) -> Error {
    Error::Internal(format!("an empty workbook is not as it was: {what}"))
}
