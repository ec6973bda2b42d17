//! Finds what occurred before. Nearly all of a sheet is the markup of cells, which stands in the
//! row before, at the cell of the same column; the number of the row stands in the cell before.

use std::{hint::select_unpredictable, ops::Range};

/// How far back matches may begin, and how long they may be (RFC 1951, 2 and 3.2.5).
const WINDOW: usize = 32 * 1024;
const LONGEST: usize = 258;
/// Bytes of the buffer: a power of two, so that positions need no check.
pub(super) const SIZE: usize = 256 * 1024;
/// Bytes that are read at once, and therefore stand behind the buffer.
const CHUNK: usize = 32;
/// Bytes before the end in which nothing is looked for.
pub(super) const TAIL: usize = 80;
/// Most literals in a row.
const MOST_LITERALS: usize = 60_000;
const HASH_BITS: u32 = 13;

/// What is compressed, and what came before it.
pub(super) struct Buffer(pub(super) [u8; SIZE + CHUNK]);

impl Buffer {
    pub(super) const EMPTY: Self = Buffer([0; SIZE + CHUNK]);

    #[inline(always)]
    fn chunk(&self, at: usize) -> &[u8; CHUNK] {
        // There always is one, and the compiler knows.
        self.0[at % SIZE..].first_chunk().unwrap_or(&[0; CHUNK])
    }

    /// Eight bytes; the first is the lowest.
    #[inline(always)]
    pub(super) fn word(&self, at: usize) -> u64 {
        word(self.chunk(at), 0)
    }

    /// The next `byte`, if it is among the next 32.
    #[inline(always)]
    fn position(&self, byte: u8, at: usize) -> Option<usize> {
        let chunk = self.chunk(at);
        let (found, passed) = first([0, 8, 16, 24].map(|k| {
            // The lowest byte of 0 becomes the lowest that has its highest bit.
            let x = word(chunk, k) ^ (u64::from(byte) * LOW);
            x.wrapping_sub(LOW) & !x & HIGH
        }));
        (found != 0).then_some(at + passed + (found.trailing_zeros() / 8) as usize)
    }

    /// How many bytes are the same at both places.
    #[inline(always)]
    fn common(&self, earlier: usize, later: usize) -> usize {
        let mut length = 0;
        while length < LONGEST {
            let (a, b) = (self.chunk(earlier + length), self.chunk(later + length));
            let (x, y) = (word(a, 0) ^ word(b, 0), word(a, 8) ^ word(b, 8));
            if x | y != 0 {
                let (x, passed) = if x != 0 { (x, 0) } else { (y, 8) };
                return LONGEST.min(length + passed + (x.trailing_zeros() / 8) as usize);
            }
            length += 16;
        }
        LONGEST
    }

    /// How many bytes are the same before both places, as far as 32 tell.
    #[inline(always)]
    fn common_before(&self, earlier: usize, later: usize) -> usize {
        let (a, b) = (self.chunk(earlier - CHUNK), self.chunk(later - CHUNK));
        let (x, passed) = first([24, 16, 8, 0].map(|k| word(a, k) ^ word(b, k)));
        passed + (x.leading_zeros() / 8) as usize
    }

    /// Where the value begins that goes on at `at`: behind a `>` among the 8 bytes before.
    #[inline(always)]
    fn value_start(&self, at: usize) -> usize {
        let x = self.word(at - 8) ^ (u64::from(b'>') * LOW);
        // Exact in all bytes, as the highest one is wanted.
        let found = !(((x & !HIGH) + !HIGH) | x | !HIGH);
        if found == 0 { at } else { at - (found.leading_zeros() / 8) as usize }
    }
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = LOW << 7;

#[inline(always)]
fn word(chunk: &[u8; CHUNK], at: usize) -> u64 {
    chunk[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

/// The first of four that is not 0 or the last, and how many bytes come before it.
#[inline(always)]
fn first([a, b, c, d]: [u64; 4]) -> (u64, usize) {
    // Which one it is cannot be foreseen, so nothing should depend on it but data.
    let ab = select_unpredictable(a != 0, (a, 0), (b, 8));
    let cd = select_unpredictable(c != 0, (c, 16), (d, 24));
    select_unpredictable(ab.0 != 0, ab, cd)
}

/// Whether a match at `at` may begin so far before it.
#[inline(always)]
fn is_near(distance: usize, at: usize) -> bool {
    distance.wrapping_sub(1) < WINDOW.min(at)
}

/// Literals, and the match behind them.
#[derive(Clone, Copy)]
pub(super) struct Sequence {
    pub(super) literals: u16,
    /// Of the match, less 2; 0 if there is none.
    length: u16,
    /// Of the match, less 1.
    pub(super) distance: u16,
}

impl Sequence {
    /// Of the match, less 3.
    #[inline(always)]
    pub(super) fn length(&self) -> Option<u8> {
        self.length.checked_sub(1).map(|length| length as u8)
    }
}

/// Where keys were seen last, as the lower halves of positions: what is found may be old or
/// something else, and has to be compared.
struct Heads(Box<[u16; 1 << HASH_BITS]>);

impl Heads {
    /// How far before `at` the key was seen last; remembers that it is here.
    #[inline(always)]
    fn distance(&mut self, key: u64, at: usize) -> usize {
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - HASH_BITS);
        let head = &mut self.0[hash as usize];
        let distance = (at as u16).wrapping_sub(*head);
        *head = at as u16;
        distance.into()
    }
}

/// What is known of the next cell.
#[derive(Default)]
struct Cell {
    /// Its first `=`: `<c r="AB12`.
    equals: usize,
    /// Behind the letters of the column.
    past: usize,
    /// How far before it the cell of the same column is,
    distance: usize,
    /// how many bytes before the `=` are the same there,
    back: usize,
    /// and from there on: 0 if there is no such cell.
    on: usize,
}

/// What [`Matcher::find`] found so far.
struct Found<'a> {
    sequences: &'a mut Vec<Sequence>,
    /// Where the literals begin that have no sequence yet.
    start: usize,
}

impl Found<'_> {
    /// Adds a match of what lies between; returns where it ends.
    #[inline(always)]
    fn add(&mut self, from: usize, to: usize, distance: usize) -> usize {
        self.sequences.push(Sequence {
            literals: (from - self.start) as u16,
            length: (to - from) as u16 - 2,
            distance: (distance - 1) as u16,
        });
        self.start = to;
        to
    }
}

pub(super) struct Matcher {
    /// Keys are some bytes.
    bytes: Heads,
    /// Keys are columns.
    columns: Heads,
}

impl Matcher {
    pub(super) fn new() -> Self {
        let heads = || Heads(Box::new([0; 1 << HASH_BITS]));
        Matcher { bytes: heads(), columns: heads() }
    }

    /// How far back the `N` bytes at `at` were last.
    #[inline(always)]
    fn probe<const N: usize>(&mut self, buffer: &Buffer, at: usize) -> Option<usize> {
        let here = buffer.word(at) << (64 - 8 * N);
        let distance = self.bytes.distance(here, at);
        let there = buffer.word(at.wrapping_sub(distance)) << (64 - 8 * N);
        (here == there && is_near(distance, at)).then_some(distance)
    }

    /// The cell whose first `=` is the next.
    #[inline(always)]
    fn cell(&mut self, buffer: &Buffer, at: usize) -> Cell {
        let Some(equals) = buffer.position(b'=', at) else {
            return Cell { equals: at + CHUNK, ..Cell::default() };
        };
        // `c r="AB1`: without the digits, which have no such bit, it is the key of the column.
        let key = buffer.word(equals - 3);
        let letters = key & 0x4040_4000_0000_0000;
        let key = key & (((letters >> 6) * 0xFF) | 0xFF_FFFF_FFFF);
        let past = equals + 2 + letters.count_ones() as usize;
        let distance = self.columns.distance(key, equals);
        let mut cell = Cell { equals, past, distance, back: 0, on: 0 };
        if is_near(distance, equals - CHUNK) {
            let on = buffer.common(equals - distance, equals);
            if on >= 3 {
                cell.on = on;
                cell.back = buffer.common_before(equals - distance, equals);
            }
        }
        cell
    }

    /// Divides the bytes from `from` on into sequences, at most `most`; returns where it stopped.
    /// Only if they are the `last` it goes to the end, which cuts off matches.
    pub(super) fn find(
        &mut self,
        buffer: &Buffer,
        Range { start: from, end }: Range<usize>,
        last: bool,
        sequences: &mut Vec<Sequence>,
        most: usize,
    ) -> usize {
        let mut found = Found { sequences, start: from };
        // So that there are some bytes before.
        let mut at = from.max(CHUNK + 8);
        let mut cell = Cell::default();
        while at + TAIL < end
            && found.sequences.len() + 3 < most
            && at - found.start < MOST_LITERALS
        {
            if cell.equals < at {
                cell = self.cell(buffer, at);
            }
            // What the row before offers.
            let is_cell = cell.on > 0;
            let here = cell.equals - cell.back.min(cell.equals - found.start);
            let reach = end.min((cell.equals + cell.on).min(here + LONGEST));
            // A value may have been there before, with what follows it; this is better if that
            // includes the letters of the column, or saves enough literals.
            let mut better = false;
            if here >= at + 2 {
                let is_better = |from: usize, to: usize, least: usize| {
                    !is_cell || to >= cell.past || to.min(here) >= from + least
                };
                let value = buffer.value_start(at);
                if let Some(distance) = self.probe::<6>(buffer, value) {
                    let to = end.min(value + buffer.common(value - distance, value));
                    if to >= at + 4 && is_better(at, to, 7) {
                        at = found.add(at, to, distance);
                        better = true;
                    }
                }
                let mut next = at + 1;
                while !better && next + 5 <= here {
                    // Numbers are seldom worth it.
                    if !matches!(buffer.0[next], b'0'..=b'9' | b'.')
                        && let Some(distance) = self.probe::<5>(buffer, next)
                    {
                        let to = end.min(next + buffer.common(next - distance, next));
                        if is_better(next, to, 5) {
                            at = found.add(next, to, distance);
                            better = true;
                        }
                    }
                    next += 1;
                }
            }
            if !better {
                if !is_cell {
                    at = here.max(at + 1);
                    continue;
                }
                at = found.add(here, reach, cell.distance);
            }
            if at < cell.past || !is_cell || at + TAIL >= end {
                continue;
            }
            // From the first digit on that differs from the row before, all is as in this row's
            // last cell of this kind.
            let digit = at.max(reach);
            let mut to = at;
            let mut distance = 0;
            if let Some(last) = self.probe::<6>(buffer, digit)
                && last <= at
            {
                let end = end.min(at + buffer.common(at - last, at));
                if end >= digit + 6 {
                    (to, distance) = (end, last);
                }
            }
            // Or only one digit differs, and then more is as in the row before.
            let row = cell.distance;
            let is_more = to == at || buffer.word(to - 5) == buffer.word(to - 5 - row);
            if digit == reach && is_more {
                let same = buffer.common(digit + 1 - row, digit + 1);
                let end = end.min(digit + 1 + same);
                if end >= digit + 5 && end >= to + 3 {
                    at = found.add(digit + 1, end, row);
                    continue;
                }
            }
            if to > at {
                at = found.add(at, to, distance);
            }
        }
        if last && at + TAIL >= end {
            at = end;
        }
        let literals = (at - found.start) as u16;
        found.sequences.push(Sequence { literals, length: 0, distance: 0 });
        at
    }
}
