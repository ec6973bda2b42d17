//! Huffman codes, and blocks written with them (RFC 1951, 3.2).

use std::ops::Range;

use super::matches::{Buffer, Sequence};

/// Literals, the end of a block, and lengths (3.2.5).
const LITERALS: usize = 286;
const DISTANCES: usize = 30;
const END_OF_BLOCK: usize = 256;
/// Longest codes: of literals and distances, one less than could be so that four fit into a word,
/// and of the lengths of those (3.2.7).
const LONGEST: usize = 14;
const LONGEST_META: usize = 7;
/// The order in which the lengths of the codes for code lengths are written (3.2.7).
const META_ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// The extra bits of the symbols 16, 17 and 18 among code lengths.
const META_EXTRA: [u32; 3] = [2, 3, 7];
/// Most bytes of a stored block (3.2.4).
const MOST_STORED: usize = 65_535;

/// The symbol of each match length, counted from 3, less 257 (3.2.5).
const LENGTH_SYMBOL: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 255 {
        table[at] = if at < 8 { at as u8 } else { steps(at as u32, 2).0 };
        at += 1;
    }
    // The longest has one of its own.
    table[255] = 28;
    table
};

/// Symbols of lengths and distances: each power of two is divided in `1 << log` equal steps.
/// Returns the symbol and how many bits tell the place within it.
const fn steps(value: u32, log: u32) -> (u8, u32) {
    let extra = value.ilog2() - log;
    (((extra << log) + (value >> extra)) as u8, extra)
}

/// The same for distances, counted from 1.
#[inline]
fn distance_symbol(distance: u16) -> (usize, u32) {
    // Two is the least that has a step of its own; below, the symbol is the distance.
    let (symbol, extra) = steps(u32::from(distance.max(2)), 1);
    if distance < 2 { (distance.into(), 0) } else { (symbol.into(), extra) }
}

fn length_extra(symbol: usize) -> u32 {
    if (8..28).contains(&symbol) { symbol as u32 / 4 - 1 } else { 0 }
}

fn distance_extra(symbol: usize) -> u32 {
    (symbol as u32 / 2).saturating_sub(1)
}

/// Bits that go out together: the first is the lowest.
#[derive(Clone, Copy, Default)]
struct Code {
    bits: u32,
    count: u32,
}

/// Bits that are not written yet; between blocks fewer than 8.
#[derive(Clone, Copy, Default)]
pub(super) struct Bits {
    waiting: u64,
    count: u32,
}

/// Where a known number of bytes goes, and some more that are overwritten.
struct Writer<'a> {
    to: &'a mut [u8],
    at: usize,
    bits: Bits,
}

impl Writer<'_> {
    /// At most 56 bits between two calls of [`flush`](Writer::flush).
    #[inline(always)]
    fn put(&mut self, bits: u64, count: u32) {
        self.bits.waiting |= bits << self.bits.count;
        self.bits.count += count;
    }

    #[inline(always)]
    fn put_code(&mut self, code: Code) {
        self.put(code.bits.into(), code.count);
    }

    /// Writes all whole bytes, without asking how many there are.
    #[inline(always)]
    fn flush(&mut self) {
        if let Some(to) = self.to.get_mut(self.at..self.at + 8) {
            to.copy_from_slice(&self.bits.waiting.to_le_bytes());
        }
        self.at += (self.bits.count / 8) as usize;
        self.bits.waiting >>= self.bits.count & !7;
        self.bits.count &= 7;
    }
}

impl Bits {
    /// Lets `write` write so many bits, at most.
    fn write(&mut self, out: &mut Vec<u8>, count: u32, write: impl FnOnce(&mut Writer<'_>)) {
        let start = out.len();
        out.resize(start + count as usize / 8 + 16, 0);
        let mut writer = Writer { to: &mut out[start..], at: 0, bits: *self };
        write(&mut writer);
        writer.flush();
        let at = writer.at;
        *self = writer.bits;
        out.truncate(start + at);
    }

    /// Fills the last byte.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>) {
        self.count = self.count.next_multiple_of(8);
        self.write(out, 0, |_| ());
    }
}

/// Writes a block: `bytes` as the `sequences` tell, or as they are if that is shorter.
pub(super) fn write_block(
    buffer: &Buffer,
    range: Range<usize>,
    sequences: &[Sequence],
    last: bool,
    bits: &mut Bits,
    out: &mut Vec<u8>,
) {
    let from = range.start;
    let bytes = &buffer.0[range];
    let (literals, distances) = count(buffer, from, sequences);
    let mut lengths = [0; LITERALS + DISTANCES];
    let (of_literals, of_distances) = lengths.split_at_mut(LITERALS);
    code_lengths(&literals, LONGEST, of_literals);
    code_lengths(&distances, LONGEST, of_distances);
    let extra: u32 = (0..29).map(|s| literals[257 + s] * length_extra(s)).sum::<u32>()
        + (0..DISTANCES).map(|s| distances[s] * distance_extra(s)).sum::<u32>();
    let coded = extra + size(&literals, of_literals) + size(&distances, of_distances);
    let (literals, distances) = (codes(of_literals), codes(of_distances));
    let header = Header::of(&lengths);
    let bit_count = 3 + header.size + coded;
    if (bytes.len() + 5 * bytes.len().div_ceil(MOST_STORED).max(1)) * 8 <= bit_count as usize {
        return store(bytes, last, bits, out);
    }
    bits.write(out, bit_count, |writer| {
        // 3.2.3
        writer.put(u64::from(last) | 2 << 1, 3);
        header.write(writer);
        write_sequences(buffer, from, sequences, &literals, &distances, writer);
    });
}

/// How often each symbol occurs.
fn count(
    buffer: &Buffer,
    from: usize,
    sequences: &[Sequence],
) -> ([u32; LITERALS], [u32; DISTANCES]) {
    let (mut literals, mut distances) = ([0; LITERALS], [0; 32]);
    let mut at = from;
    for sequence in sequences {
        let run = usize::from(sequence.literals);
        let mut done = 0;
        while done < run {
            // As in `write_sequences`.
            let four = buffer.word(at + done);
            for k in 0..4 {
                literals[(four >> (8 * k)) as usize & 0xFF] += u32::from(done + k < run);
            }
            done += 4;
        }
        at += run;
        if let Some(length) = sequence.length() {
            literals[257 + usize::from(LENGTH_SYMBOL[usize::from(length)])] += 1;
            distances[distance_symbol(sequence.distance).0 & 31] += 1;
            at += usize::from(length) + 3;
        }
    }
    literals[END_OF_BLOCK] = 1;
    (literals, std::array::from_fn(|symbol| distances[symbol]))
}

/// Bits of all symbols, without their extra bits.
fn size(counts: &[u32], lengths: &[u8]) -> u32 {
    counts.iter().zip(lengths).map(|(n, length)| n * u32::from(*length)).sum()
}

/// 3.2.4
fn store(bytes: &[u8], last: bool, bits: &mut Bits, out: &mut Vec<u8>) {
    let mut rest = bytes;
    loop {
        let (block, after) = rest.split_at(rest.len().min(MOST_STORED));
        rest = after;
        let last = last && rest.is_empty();
        bits.write(out, 3, |writer| writer.put(last.into(), 3));
        bits.fill(out);
        let length = block.len() as u16;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
        if rest.is_empty() {
            return;
        }
    }
}

fn write_sequences(
    buffer: &Buffer,
    from: usize,
    sequences: &[Sequence],
    literals: &[Code; LITERALS],
    distances: &[Code; LITERALS],
    writer: &mut Writer<'_>,
) {
    // The code of each length, with its extra bits behind.
    let mut lengths = [Code::default(); 256];
    for (length, to) in lengths.iter_mut().enumerate() {
        let symbol = usize::from(LENGTH_SYMBOL[length]);
        let (code, extra) = (literals[257 + symbol], length_extra(symbol));
        let place = length as u32 & ((1 << extra) - 1);
        *to = Code { bits: code.bits | place << code.count, count: code.count + extra };
    }
    // Bits and count in one word.
    let packed: [u32; 256] =
        std::array::from_fn(|byte| literals[byte].bits << 4 | literals[byte].count);
    let mut at = from;
    for sequence in sequences {
        let run = usize::from(sequence.literals);
        let mut done = 0;
        while done < run {
            // Always four, of which those count that are wanted: how many cannot be foreseen.
            let four = buffer.word(at + done);
            let (mut bits, mut count) = (0, 0);
            let mut counts = [0; 8];
            for k in 0..4 {
                let packed = packed[(four >> (8 * k)) as usize & 0xFF];
                bits |= u64::from(packed >> 4) << count;
                count += packed & 15;
                counts[k + 1] = count;
            }
            let count = counts[(run - done).min(4)];
            writer.put(bits & ((1 << count) - 1), count);
            done += 4;
            writer.flush();
        }
        at += run;
        if let Some(length) = sequence.length() {
            writer.put_code(lengths[usize::from(length)]);
            let (symbol, extra) = distance_symbol(sequence.distance);
            writer.put_code(distances[symbol]);
            let place = u64::from(sequence.distance) & ((1 << extra) - 1);
            writer.put(place, extra);
            writer.flush();
            at += usize::from(length) + 3;
        }
    }
    writer.put_code(literals[END_OF_BLOCK]);
    writer.flush();
}

/// The code lengths of a block, as symbols of the code for them (3.2.7).
struct Header {
    /// How many lengths there are of literals and of distances.
    literals: usize,
    distances: usize,
    /// Symbols, with the value of their extra bits.
    symbols: Vec<(u8, u8)>,
    lengths: [u8; 19],
    /// How many of the lengths are written.
    written: usize,
    size: u32,
}

impl Header {
    fn of(lengths: &[u8; LITERALS + DISTANCES]) -> Self {
        let used =
            |lengths: &[u8]| lengths.iter().rposition(|length| *length > 0).map_or(0, |at| at + 1);
        let literals = used(&lengths[..LITERALS]).max(257);
        let distances = used(&lengths[LITERALS..]).max(1);
        let mut all = [0; LITERALS + DISTANCES];
        all[..literals].copy_from_slice(&lengths[..literals]);
        all[literals..][..distances].copy_from_slice(&lengths[LITERALS..][..distances]);

        let mut symbols = Vec::with_capacity(literals + distances);
        for run in all[..literals + distances].chunk_by(|a, b| a == b) {
            let mut left = run.len();
            if run[0] > 0 {
                symbols.push((run[0], 0));
                left -= 1;
            }
            while left > 0 {
                let (symbol, taken, least) = match (run[0], left) {
                    (0, 11..) => (18, left.min(138), 11),
                    (0, 3..) => (17, left, 3),
                    (1.., 3..) => (16, left.min(6), 3),
                    (length, _) => (length, 1, 1),
                };
                symbols.push((symbol, (taken - least) as u8));
                left -= taken;
            }
        }
        let mut counts = [0; 19];
        symbols.iter().for_each(|(symbol, _)| counts[usize::from(*symbol)] += 1);
        let mut lengths = [0; 19];
        code_lengths(&counts, LONGEST_META, &mut lengths);
        let written = META_ORDER.iter().rposition(|symbol| lengths[usize::from(*symbol)] > 0);
        let written = written.map_or(4, |at| at + 1).max(4);
        let extra: u32 = counts[16..].iter().zip(META_EXTRA).map(|(n, extra)| n * extra).sum();
        let size = 14 + 3 * written as u32 + size(&counts, &lengths) + extra;
        Header { literals, distances, symbols, lengths, written, size }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let counts = (self.literals - 257) | (self.distances - 1) << 5 | (self.written - 4) << 10;
        writer.put(counts as u64, 14);
        writer.flush();
        for symbol in &META_ORDER[..self.written] {
            writer.put(self.lengths[usize::from(*symbol)].into(), 3);
            writer.flush();
        }
        let codes = codes(&self.lengths);
        for (symbol, place) in &self.symbols {
            writer.put_code(codes[usize::from(*symbol)]);
            if let Some(extra) = usize::from(*symbol).checked_sub(16) {
                writer.put(u64::from(*place), META_EXTRA[extra]);
            }
            writer.flush();
        }
    }
}

/// The lengths of a Huffman code for symbols that occur so often.
fn code_lengths(counts: &[u32], longest: usize, lengths: &mut [u8]) {
    // The symbols by how often they occur, in the upper bits.
    let mut leaves = [0u64; LITERALS];
    let mut used = 0;
    for (symbol, count) in counts.iter().enumerate() {
        if *count > 0 {
            leaves[used] = u64::from(*count) << 16 | symbol as u64;
            used += 1;
        }
    }
    if used < 2 {
        // Decoders are not sure of codes with fewer than two symbols.
        let only = leaves[0] as usize & 0xFFFF;
        lengths[only] = 1;
        lengths[usize::from(only == 0)] = 1;
        return;
    }
    let leaves = &mut leaves[..used];
    leaves.sort_unstable();

    // The tree: the two rarest nodes are joined until one is left. Leaves and joined nodes are each
    // in order, so the rarest is the next of one or the other.
    let mut joined = [0u64; LITERALS];
    let mut parents = [0u16; 2 * LITERALS];
    let (mut leaf, mut inner) = (0, 0);
    for node in 0..used - 1 {
        for _ in 0..2 {
            let is_leaf = leaf < used && (inner == node || leaves[leaf] >> 16 <= joined[inner]);
            let (child, count) = if is_leaf {
                leaf += 1;
                (leaf - 1, leaves[leaf - 1] >> 16)
            } else {
                inner += 1;
                (used + inner - 1, joined[inner - 1])
            };
            joined[node] += count;
            parents[child] = (used + node) as u16;
        }
    }
    // How many leaves there are at each depth, the deeper ones raised to the deepest allowed.
    let mut depths = [0u8; 2 * LITERALS];
    let mut at_depth = [0u32; LONGEST + 1];
    for node in (0..2 * used - 2).rev() {
        depths[node] = depths[usize::from(parents[node])].saturating_add(1);
        if node < used {
            at_depth[longest.min(depths[node].into())] += 1;
        }
    }
    // Those that were raised take too much: a shorter code is made longer and one of them put beside
    // it, until all fit.
    let mut taken: u32 = (1..=longest).map(|depth| at_depth[depth] << (longest - depth)).sum();
    while taken > 1 << longest {
        let Some(depth) = (1..longest).rev().find(|depth| at_depth[*depth] > 0) else { return };
        at_depth[depth] -= 1;
        at_depth[depth + 1] += 2;
        at_depth[longest] -= 1;
        taken -= 1;
    }
    // The rarest get the longest.
    let mut symbols = leaves.iter();
    for depth in (1..=longest).rev() {
        for leaf in symbols.by_ref().take(at_depth[depth] as usize) {
            lengths[*leaf as usize & 0xFFFF] = depth as u8;
        }
    }
}

/// The codes that have these lengths (3.2.2).
fn codes(lengths: &[u8]) -> [Code; LITERALS] {
    let mut next = [0u32; LONGEST + 2];
    for length in lengths {
        next[usize::from(*length) + 1] += u32::from(*length > 0);
    }
    for length in 1..next.len() {
        next[length] = (next[length] + next[length - 1]) << 1;
    }
    let mut codes = [Code::default(); LITERALS];
    for (code, &length) in codes.iter_mut().zip(lengths) {
        if length > 0 {
            let next = &mut next[usize::from(length)];
            // Codes begin with their highest bit (3.1.1).
            *code = Code { bits: next.reverse_bits() >> (32 - length), count: length.into() };
            *next += 1;
        }
    }
    codes
}
