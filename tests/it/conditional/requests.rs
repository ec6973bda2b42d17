//! Random requests: every condition and range in every form, and what nginx may take otherwise.

use super::{LARGE, MADE, SMALL};

pub const SIZES: [usize; 3] = [SMALL, LARGE, 0];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    IfMatch,
    IfNoneMatch,
    IfModifiedSince,
    IfUnmodifiedSince,
    IfRange,
    Range,
}
use Field::*;

pub const FIELDS: [(Field, &str); 6] = [
    (IfMatch, "If-Match"),
    (IfNoneMatch, "If-None-Match"),
    (IfModifiedSince, "If-Modified-Since"),
    (IfUnmodifiedSince, "If-Unmodified-Since"),
    (IfRange, "If-Range"),
    (Range, "Range"),
];

/// What nginx may have its own idea of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// Not what the field is made of.
    Malformed,
    /// A year of two digits; the same date in full.
    TwoDigits(&'static str),
    /// A leap second; the second before.
    Leap(&'static str),
    /// More than one range.
    Several,
    /// A list with empty elements; without them.
    Gaps(String),
    /// Numbers that 64 bits do not hold; with such as they do.
    Huge(String),
}
use Kind::*;

/// `OWN` is the server's tag of the file, `BARE` the same without quotes.
pub const TAGS: &[(&str, Kind)] = &[
    ("*", Plain),
    ("OWN", Plain),
    ("OWN", Plain),
    ("W/OWN", Plain),
    ("\"other\"", Plain),
    ("W/\"other\"", Plain),
    ("\"other\", OWN", Plain),
    ("W/OWN,\"other\"", Plain),
    ("\"a,b\",\tOWN , \"c\"", Plain),
    (", , OWN,", Plain),
    ("\"é\", OWN", Plain),
    ("\"a,*,b\"", Plain),
    ("", Plain),
    ("BARE", Malformed),
    ("W/*", Malformed),
    ("\"other\", *", Malformed),
    ("w/OWN", Malformed),
    ("OWNx", Malformed),
    ("OWN \"other\"", Malformed),
    ("\"open, OWN", Malformed),
    ("garbage", Malformed),
];

pub const DATES: &[(&str, Kind)] = &[
    (MADE, Plain),
    (MADE, Plain),
    ("Sun, 01 Mar 2026 11:59:59 GMT", Plain),
    ("Sun, 01 Mar 2026 12:00:01 GMT", Plain),
    ("Sun, 01 Mar 2020 12:00:00 GMT", Plain),
    ("Thu, 01 Mar 2040 12:00:00 GMT", Plain),
    ("Fri, 01 Jan 1960 00:00:00 GMT", Plain),
    ("Sunday, 01-Mar-26 12:00:00 GMT", Plain),
    ("Sunday, 01-Mar-26 11:59:59 GMT", Plain),
    ("Sun Mar  1 12:00:00 2026", Plain),
    ("Sun Mar  1 12:00:01 2026", Plain),
    ("Friday, 01-Mar-75 12:00:00 GMT", TwoDigits("Fri, 01 Mar 2075 12:00:00 GMT")),
    ("Sun, 01 Mar 2026 12:00:60 GMT", Leap("Sun, 01 Mar 2026 12:00:59 GMT")),
    ("", Malformed),
    ("garbage", Malformed),
    ("*", Malformed),
    ("1772366400", Malformed),
    ("2026-03-01T12:00:00Z", Malformed),
    ("Sun, 01 Mar 2026 12:00:00 UTC", Malformed),
    ("Sun, 01 Mar 2026 12:00:00 +0000", Malformed),
    ("Mon, 01 Mar 2026 12:00:00 GMT", Malformed),
    ("Sun, 1 Mar 2026 12:00:00 GMT", Malformed),
    ("Tue, 31 Feb 2026 12:00:00 GMT", Malformed),
    ("sun, 01 mar 2026 12:00:00 gmt", Malformed),
    ("Sun, 01 Mar 2026 12:00:00 GMT, Sun, 01 Mar 2026 12:00:00 GMT", Malformed),
];

pub const NO_RANGES: &[&str] = &[
    "",
    "bytes",
    "bytes=",
    "bytes=-",
    "bytes=,",
    "bytes=5",
    "bytes=a-b",
    "bytes=+0-4",
    "bytes=--4",
    "bytes=0-4-5",
    "bytes=0-4x",
    "bytes=0 - 4",
    "bytes=0- 4",
    "bytes =0-4",
    "bytes=0x0-0x4",
    "bytes=9-5",
    "bytes:0-4",
    "=0-4",
    "lines=0-4",
    "none",
    "none=0-4",
    "0-4",
    "bytes=0-4;1-2",
];

#[derive(Clone, Debug)]
pub struct Line {
    pub field: Field,
    pub text: String,
    pub kind: Kind,
}

impl Line {
    /// No list of tags that is wrong from somewhere on, which would be wrong for all that follows.
    pub fn may_be_joined(&self) -> bool {
        let is_list = self.kind == Plain && self.text != "*";
        is_list || !matches!(self.field, IfMatch | IfNoneMatch)
    }
}

#[derive(Clone, Debug)]
pub struct Case {
    pub head: bool,
    pub file: usize,
    pub lines: Vec<Line>,
}

impl Case {
    pub fn of(&self, field: Field) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.field == field)
    }

    pub fn has(&self, field: Field, is: impl Fn(&Kind) -> bool) -> bool {
        self.of(field).any(|line| is(&line.kind))
    }

    pub fn twice(&self, field: Field) -> bool {
        self.of(field).count() > 1
    }

    /// The range asked for of the empty file, without blanks and in small letters.
    pub fn range_of_nothing(&self) -> Option<String> {
        let line = self.of(Range).next().filter(|_| SIZES[self.file] == 0)?;
        Some(line.text.to_ascii_lowercase().replace(' ', ""))
    }

    /// Without the field; `None` when it is not there.
    pub fn without(&self, field: Field) -> Option<Case> {
        let mut case = self.clone();
        case.lines.retain(|line| line.field != field);
        (case.lines.len() < self.lines.len()).then_some(case)
    }

    /// With other values; `None` when none is.
    pub fn with(&self, other: impl Fn(Field, &Kind) -> Option<String>) -> Option<Case> {
        let mut case = self.clone();
        let mut changed = false;
        for line in &mut case.lines {
            if let Some(text) = other(line.field, &line.kind) {
                (line.text, line.kind, changed) = (text, Plain, true);
            }
        }
        changed.then_some(case)
    }

    /// With one line of the field where there are two.
    pub fn joined(&self, field: Field) -> Option<Case> {
        let texts: Vec<_> = self.of(field).map(|line| line.text.as_str()).collect();
        let line = Line { field, text: texts.join(", "), kind: Plain };
        let mut case = self.without(field).filter(|_| self.twice(field))?;
        case.lines.push(line);
        Some(case)
    }
}

/// xorshift64*: the same requests each time.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    pub fn case(&mut self) -> Case {
        let file = *self.of(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        let mut lines = Vec::new();
        for (field, _) in FIELDS {
            let often = if field == Range { 60 } else { 22 };
            let many = usize::from(self.below(100) < often);
            // Now and then a second line.
            let twice = many == 1 && self.below(100) < 2;
            for _ in 0..many + usize::from(twice) {
                let mut line = self.line(field, SIZES[file]);
                while twice && !line.may_be_joined() {
                    line = self.line(field, SIZES[file]);
                }
                lines.insert(self.below(lines.len() + 1), line);
            }
        }
        Case { head: self.below(8) == 0, file, lines }
    }

    pub fn line(&mut self, field: Field, size: usize) -> Line {
        let plain = |text: String| Line { field, text, kind: Plain };
        let (text, kind) = match field {
            IfMatch | IfNoneMatch => self.of(TAGS),
            IfModifiedSince | IfUnmodifiedSince => self.of(DATES),
            IfRange if self.below(2) == 0 => self.of(DATES),
            // No list is a validator, and everybody knows.
            IfRange => return plain(self.of(TAGS).0.to_owned()),
            Range => return self.range(size),
        };
        Line { field, text: (*text).into(), kind: kind.clone() }
    }

    pub fn range(&mut self, size: usize) -> Line {
        let one = |random: &mut Random| {
            let around =
                [0, 1, size / 3, size / 2, size.saturating_sub(1), size, size + 1, size * 2];
            let mut near = || *random.of(&around) + random.below(3);
            let (first, last) = (near(), near());
            match random.below(4) {
                0 => format!("-{first}"),
                1 => format!("{first}-"),
                2 => format!("0-{first}"),
                _ => format!("{}-{}", first.min(last), first.max(last)),
            }
        };
        let (text, kind) = match self.below(20) {
            0..10 => (format!("bytes={}", one(self)), Plain),
            10 => (format!("ByTeS={}", one(self)), Plain),
            11 => (format!("bytes= {} ", one(self)), Plain),
            12 => {
                let range = one(self);
                (format!("bytes=,{range} ,"), Gaps(format!("bytes={range}")))
            }
            13 => {
                let far = "99999999999999999999999";
                let near = size * 2 + 2;
                let form = *self.of(&["bytes=0-X", "bytes=5-X", "bytes=X-", "bytes=-X"]);
                (form.replace('X', far), Huge(form.replace('X', &near.to_string())))
            }
            14..17 => {
                let separator = *self.of(&[",", ", ", " ,\t"]);
                let many = 2 + self.below(3);
                let mut ranges: Vec<_> = (0..many).map(|_| one(self)).collect();
                if self.below(10) == 0 {
                    ranges.push("x".into());
                }
                (format!("bytes={}", ranges.join(separator)), Several)
            }
            _ => ((*self.of(NO_RANGES)).into(), Malformed),
        };
        Line { field: Range, text, kind }
    }
}
