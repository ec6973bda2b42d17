//! What was compressed comes back.

use std::{fmt::Write, io::Read};

use proptest::{collection::vec, prelude::*};

use super::Deflater;

/// Numbers without an order, the same each time (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// The rows of a sheet, with every third cell text and some blank.
fn sheet(rows: usize, columns: usize) -> Vec<u8> {
    let (mut xml, mut random) = (String::new(), Random(7));
    for row in 1..=rows {
        write!(xml, "<row r=\"{row}\">").unwrap();
        for column in 0..columns {
            let name = format!(
                "{}{}",
                char::from(b'A' + (column / 26) as u8),
                char::from(b'A' + (column % 26) as u8)
            );
            let n = random.below(100_000);
            match column % 3 {
                _ if n % 9 == 0 => {}
                0 => write!(
                    xml,
                    "<c r=\"{name}{row}\" t=\"inlineStr\"><is><t>T{}</t></is></c>",
                    n % 50
                )
                .unwrap(),
                _ => write!(
                    xml,
                    "<c r=\"{name}{row}\" s=\"{}\"><v>{n}.{}</v></c>",
                    column % 5,
                    n % 7
                )
                .unwrap(),
            }
        }
        xml.push_str("</row>");
    }
    xml.into_bytes()
}

fn compress(bytes: &[u8], piece: usize) -> Vec<u8> {
    let (mut deflater, mut out) = (Deflater::new(), Vec::new());
    for chunk in bytes.chunks(piece) {
        deflater.compress(chunk, &mut out);
    }
    deflater.finish(&mut out);
    out
}

fn check(bytes: &[u8], piece: usize) -> usize {
    let packed = compress(bytes, piece);
    let mut back = Vec::new();
    let mut decoder = flate2::bufread::DeflateDecoder::new(&packed[..]);
    decoder.read_to_end(&mut back).unwrap_or_else(|e| panic!("{e} of {} bytes", bytes.len()));
    assert!(back == bytes, "{} bytes in pieces of {piece}", bytes.len());
    assert_eq!(decoder.total_in(), packed.len() as u64, "all of it belongs to the stream");
    assert!(packed.len() <= bytes.len() + bytes.len() / 5000 + 16, "grew to {}", packed.len());
    packed.len()
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = Random(1);
    (0..length).map(|_| random.next() as u8).collect()
}

#[test]
fn lengths_around_the_borders() {
    const K: usize = 1024;
    for border in [0, 3, 8, 258, 32 * K, 64 * K, 96 * K, 128 * K, 160 * K, 288 * K, 3000 * K] {
        for length in border.saturating_sub(9)..border + 9 {
            if border > 300 * K && length % 8 != 0 {
                continue;
            }
            check(&vec![b'0'; length], usize::MAX);
            check(&vec![b'<'; length], 70_001);
            check(&noise(length), usize::MAX);
            let row: Vec<u8> =
                b"<c r=\"A1\"><v>1</v></c>".iter().copied().cycle().take(length).collect();
            check(&row, 4096);
        }
    }
}

#[test]
fn sheets_in_pieces() {
    for sheet in [sheet(3_000, 10), sheet(9_000, 3), sheet(40, 300), sheet(4, 390)] {
        for piece in [1, 7, 1000, 32 * 1024, 65_535, 65_536, 131_072, usize::MAX] {
            check(&sheet, piece);
        }
    }
}

#[test]
fn noise_between_sheets() {
    let mut bytes = sheet(500, 10);
    bytes.extend(noise(200_000));
    bytes.extend(sheet(500, 3));
    bytes.extend(noise(31_000));
    bytes.extend(sheet(10, 300));
    check(&bytes, 32 * 1024);
}

#[test]
fn codes_longer_than_allowed_are_shortened() {
    // Fibonacci numbers make the deepest trees.
    let (mut a, mut b) = (1, 1);
    let mut bytes = Vec::new();
    for symbol in 0..24u8 {
        bytes.extend(std::iter::repeat_n(symbol * 7, a));
        (a, b) = (b, a + b);
    }
    // In an order without repetitions.
    let mut random = Random(3);
    for at in (1..bytes.len()).rev() {
        bytes.swap(at, random.below(at + 1));
    }
    check(&bytes, usize::MAX);
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let row = (any::<u32>(), "[A-Z]{1,3}", "[0-9]{1,9}").prop_map(|(n, c, v)| {
        format!("<c r=\"{c}{}\" s=\"{}\"><v>{v}</v></c></row><row r=\"{n}\">", n % 100_000, n % 5)
    });
    prop_oneof![
        vec(any::<u8>(), 0..300),
        vec(b'0'..b'3', 0..300),
        "[ -~]{0,100}".prop_map(String::into_bytes),
        row.prop_map(String::into_bytes),
        (any::<u8>(), 0..40_000usize).prop_map(|(byte, n)| vec![byte; n]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn anything(parts in vec((piece(), 1..60usize), 0..40), size in 1..200_000usize) {
        let bytes: Vec<u8> = parts
            .iter()
            .flat_map(|(part, times)| part.iter().copied().cycle().take(part.len() * if part.len() > 3000 { 1 } else { *times }))
            .collect();
        check(&bytes, size);
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..5000), size in 1..6000usize) {
        check(&bytes, size);
    }
}
