//! The SQL of a declared file type: where its `:name` parameters are.
//!
//! Not a parser of SQL. It only knows what may hide a colon: text in quotes, comments, PostgreSQL's
//! dollar quotes, casts (`::`) and array slices (`a[1:2]`; write `a[ :lower : :upper ]` for
//! parameters). Quoting differs little between the databases; where it does, PostgreSQL's rules
//! are taken (comments nest, `E'…'` has backslashes).

use std::borrow::Cow;

/// One statement, taken apart at its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    parts: Vec<Part>,
    /// The first `?`, `@name` or `$name`: operators on PostgreSQL, parameters on SQLite.
    sqlite_parameter: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Parameter { name: String, offset: usize },
}

/// What is wrong with a statement, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Bytes from the beginning of the text.
    pub offset: usize,
    /// What, and what to do.
    pub message: String,
}

impl Statement {
    /// Takes a statement apart.
    ///
    /// # Errors
    /// A [`Fault`] when something is not closed, when it is more than one statement, when it does
    /// not begin as a query does, or when it has numbered parameters.
    pub fn parse(sql: &str) -> Result<Self, Fault> {
        let mut scanner = Scanner { sql, at: 0, text_from: 0, parts: Vec::new(), sqlite: None };
        scanner.check_first_word()?;
        scanner.run()?;
        Ok(Statement { parts: scanner.parts, sqlite_parameter: scanner.sqlite })
    }

    /// Names of the parameters with their offsets in the text, in order; a name may come several
    /// times.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, usize)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Parameter { name, offset } => Some((name.as_str(), *offset)),
            Part::Text(_) => None,
        })
    }

    /// What SQLite would take for a parameter of its own, if there is such a thing.
    pub fn sqlite_parameter(&self) -> Option<&str> {
        self.sqlite_parameter.as_deref()
    }

    /// The names in the order of their first use, and the statement with `placeholder(name, n)`
    /// in the place of each, where `n` is the same for the same name and counts from 1.
    pub fn rewrite(&self, placeholder: impl Fn(&str, usize) -> String) -> (String, Vec<&str>) {
        let (mut sql, mut names) = (String::new(), Vec::new());
        for part in &self.parts {
            sql.push_str(&part.rewrite(&mut names, &placeholder));
        }
        (sql, names)
    }

    /// Where that which stands at a byte of the rewritten statement stands in the text that was
    /// parsed. What a parameter was rewritten to stands where the parameter does.
    pub fn origin(&self, placeholder: impl Fn(&str, usize) -> String, rewritten: usize) -> usize {
        let (mut names, mut left, mut at) = (Vec::new(), rewritten, 0);
        for part in &self.parts {
            let length = part.rewrite(&mut names, &placeholder).len();
            at = match part {
                Part::Text(_) if left < length => return at + left,
                Part::Parameter { offset, .. } if left < length => return *offset,
                Part::Text(text) => at + text.len(),
                Part::Parameter { name, offset } => offset + 1 + name.len(),
            };
            left -= length;
        }
        at
    }
}

impl Part {
    /// What it becomes; `names` are those of the parameters so far.
    fn rewrite<'p>(
        &'p self,
        names: &mut Vec<&'p str>,
        placeholder: impl Fn(&str, usize) -> String,
    ) -> Cow<'p, str> {
        let name = match self {
            Part::Text(text) => return text.into(),
            Part::Parameter { name, .. } => name.as_str(),
        };
        let known = names.iter().position(|known| *known == name);
        let index = known.unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
        placeholder(name, index + 1).into()
    }
}

struct Scanner<'s> {
    sql: &'s str,
    at: usize,
    /// Where the text after the last parameter begins.
    text_from: usize,
    parts: Vec<Part>,
    sqlite: Option<String>,
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), Fault> {
        while let Some(byte) = self.byte(0) {
            match byte {
                b'\'' => self.quoted(b'\'', self.has_escapes())?,
                b'"' => self.quoted(b'"', false)?,
                b'-' if self.byte(1) == Some(b'-') => self.line_comment(),
                b'/' if self.byte(1) == Some(b'*') => self.block_comment()?,
                b'$' => self.dollar()?,
                b':' => self.colon(),
                b'?' | b'@' => self.foreign(),
                b';' => return self.end(),
                // Whole words, so that no letter of one is taken for a prefix.
                _ if is_word(byte) => self.at += self.word_at(self.at).len(),
                _ => self.at += 1,
            }
        }
        self.text_until(self.at);
        Ok(())
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.sql.as_bytes().get(self.at + ahead).copied()
    }

    fn before(&self) -> Option<u8> {
        self.at.checked_sub(1).and_then(|at| self.sql.as_bytes().get(at).copied())
    }

    /// The letters, digits, `_` and `$` from there on.
    fn word_at(&self, from: usize) -> &str {
        let rest = self.sql.get(from..).unwrap_or_default();
        let end = rest.bytes().position(|b| !is_word(b)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    fn fault<T>(&self, offset: usize, message: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { offset, message: message.into() })
    }

    fn text_until(&mut self, end: usize) {
        if let Some(text) = self.sql.get(self.text_from..end).filter(|text| !text.is_empty()) {
            self.parts.push(Part::Text(text.to_owned()));
        }
    }

    /// Whether the quote here belongs to `E'…'`. The scanner has passed the `E` as a word.
    fn has_escapes(&self) -> bool {
        matches!(self.before(), Some(b'e' | b'E'))
            && !self.at.checked_sub(2).is_some_and(|at| is_word(self.sql.as_bytes()[at]))
    }

    /// A doubled quote needs no care: it ends one text and begins the next.
    fn quoted(&mut self, quote: u8, escapes: bool) -> Result<(), Fault> {
        let from = self.at;
        self.at += 1;
        while let Some(byte) = self.byte(0) {
            self.at += 1;
            if byte == quote {
                // Only the first half of a doubled quote would see the `E` before it.
                if escapes && self.byte(0) == Some(quote) {
                    self.at += 1;
                    continue;
                }
                return Ok(());
            }
            if escapes && byte == b'\\' {
                self.at += 1;
            }
        }
        self.fault(from, format!("this {} is not closed", char::from(quote)))
    }

    fn line_comment(&mut self) {
        let rest = &self.sql.as_bytes()[self.at..];
        self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    }

    fn block_comment(&mut self) -> Result<(), Fault> {
        let from = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.byte(0) {
            match (byte, self.byte(1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => self.at += 1,
            }
        }
        self.fault(from, "this comment is not closed")
    }

    /// `$tag$…$tag$`, or a parameter that is none of ours.
    fn dollar(&mut self) -> Result<(), Fault> {
        let from = self.at;
        let rest = &self.sql[from + 1..];
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            return self.fault(from, "numbered parameters ($1) are not supported; use :name");
        }
        let tag = rest.bytes().position(|b| !is_word(b) || b == b'$').unwrap_or(rest.len());
        if rest.as_bytes().get(tag) != Some(&b'$') {
            self.foreign();
            return Ok(());
        }
        let delimiter = &self.sql[from..from + tag + 2];
        let body = from + delimiter.len();
        match self.sql[body..].find(delimiter) {
            Some(length) => {
                self.at = body + length + delimiter.len();
                Ok(())
            }
            None => self.fault(from, format!("this {delimiter} is not closed")),
        }
    }

    fn colon(&mut self) {
        if matches!(self.byte(1), Some(b':' | b'=')) {
            self.at += 2;
            return;
        }
        let slice = self.before().is_some_and(|b| is_word(b) || matches!(b, b']' | b')'));
        let name = parameter_name(self.word_at(self.at + 1)).to_owned();
        if slice || name.is_empty() {
            self.at += 1;
            return;
        }
        let offset = self.at;
        self.text_until(offset);
        self.at += 1 + name.len();
        self.text_from = self.at;
        self.parts.push(Part::Parameter { name, offset });
    }

    fn foreign(&mut self) {
        let word = self.word_at(self.at + 1);
        let length = 1 + word.len();
        if self.sqlite.is_none() && (self.byte(0) == Some(b'?') || !word.is_empty()) {
            self.sqlite = self.sql.get(self.at..self.at + length).map(str::to_owned);
        }
        self.at += length;
    }

    /// At a semicolon: nothing may follow.
    fn end(&mut self) -> Result<(), Fault> {
        self.text_until(self.at);
        self.skip_blank(true)?;
        if self.byte(0).is_none() {
            return Ok(());
        }
        self.fault(self.at, "only one statement is allowed; this begins another")
    }

    fn skip_blank(&mut self, semicolons: bool) -> Result<(), Fault> {
        while let Some(byte) = self.byte(0) {
            match byte {
                b'-' if self.byte(1) == Some(b'-') => self.line_comment(),
                b'/' if self.byte(1) == Some(b'*') => self.block_comment()?,
                b';' if semicolons => self.at += 1,
                _ if byte.is_ascii_whitespace() => self.at += 1,
                _ => break,
            }
        }
        Ok(())
    }

    /// The database refuses writes anyway; this says it earlier and with a line.
    fn check_first_word(&mut self) -> Result<(), Fault> {
        if let Some(offset) = self.sql.find('\0') {
            return self.fault(offset, "the query has a NUL character");
        }
        self.skip_blank(false)?;
        while self.byte(0) == Some(b'(') {
            self.at += 1;
            self.skip_blank(false)?;
        }
        let (word, offset) = (self.word_at(self.at).to_owned(), self.at);
        self.at = 0;
        match word.to_ascii_lowercase().as_str() {
            "select" | "with" | "values" | "table" => Ok(()),
            "" => self.fault(offset, "there is no query here"),
            _ => self.fault(offset, format!("a query begins with SELECT or WITH, not {word:?}")),
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// As much of it as is a parameter's name: ASCII letters, digits and `_`, no digit first.
fn parameter_name(word: &str) -> &str {
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return "";
    }
    let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(word.len());
    &word[..end]
}

/// Whether a criterion may have this name.
pub(crate) fn is_parameter_name(name: &str) -> bool {
    !name.is_empty() && parameter_name(name) == name
}

#[cfg(test)]
mod tests;
