//! A DEFLATE encoder (RFC 1951) made for the XML of sheets: little work for much repetition. Other
//! bytes are encoded correctly, and not badly.
//!
//! References (`r="C123457"`) are a third of a sheet. Level 1 of zlib makes files with them 1.6 times as
//! large as level 6, which takes nearly twice as long. This is within a tenth of level 6
//! (`scripts/bench exports`: `rust_xlsxwriter` at both levels).

mod huffman;
mod matches;
#[cfg(test)]
mod tests;

use self::{
    huffman::{Bits, write_block},
    matches::{Buffer, Matcher, SIZE, Sequence, TAIL},
};

/// Bytes that stay when the buffer is full: a window, and what was not compressed. A multiple of
/// 64 KiB, so that positions keep their lower halves.
const KEPT: usize = 64 * 1024;
/// Sequences of one block: what is learned about it pays for its codes.
const MOST_SEQUENCES: usize = 16 * 1024;

/// Compresses what comes in pieces. Takes about 500 KiB.
pub(super) struct Deflater {
    buffer: Box<Buffer>,
    /// Which bytes of the buffer are yet to be compressed.
    start: usize,
    end: usize,
    matcher: Matcher,
    sequences: Vec<Sequence>,
    bits: Bits,
}

impl Deflater {
    /// At the beginning of a stream.
    pub(super) fn new() -> Self {
        Deflater {
            buffer: Box::new(Buffer::EMPTY),
            start: 0,
            end: 0,
            matcher: Matcher::new(),
            sequences: Vec::new(),
            bits: Bits::default(),
        }
    }

    /// Compresses more; some of it is kept back until there is enough for a block.
    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut input = input;
        while !input.is_empty() {
            let (now, later) = input.split_at(input.len().min(SIZE - self.end));
            self.buffer.0[self.end..][..now.len()].copy_from_slice(now);
            self.end += now.len();
            input = later;
            if self.end == SIZE {
                while self.start + TAIL < self.end {
                    self.block(false, out);
                }
                self.buffer.0.copy_within(SIZE - KEPT..SIZE, 0);
                self.start -= SIZE - KEPT;
                self.end = KEPT;
            }
        }
    }

    /// Compresses what was kept back and ends the stream; another may follow.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        while self.block(true, out) < self.end {}
        self.bits.fill(out);
        (self.start, self.end) = (0, 0);
        self.matcher = Matcher::new();
    }

    /// Writes a block, the last one if it reaches the end; returns where it ends.
    fn block(&mut self, last: bool, out: &mut Vec<u8>) -> usize {
        self.sequences.clear();
        let (from, sequences) = (self.start, &mut self.sequences);
        let range = from..self.end;
        self.start = self.matcher.find(&self.buffer, range, last, sequences, MOST_SEQUENCES);
        let last = last && self.start == self.end;
        write_block(&self.buffer, from..self.start, sequences, last, &mut self.bits, out);
        self.start
    }
}
