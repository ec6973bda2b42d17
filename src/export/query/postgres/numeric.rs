//! PostgreSQL's `numeric` on the wire, digit by digit: no number type of ours holds all of them.

use crate::export::value::Cell;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// Reads `numeric_send`'s form: four 16-bit fields (how many digits, weight of the first, sign,
/// decimals shown), then digits to base 10,000. The digits go to `text`. `None` when it is not
/// that.
pub(super) fn read<'a>(bytes: &[u8], text: &'a mut String) -> Option<Cell<'a>> {
    let (head, digits) = bytes.split_at_checked(8)?;
    let field = |at: usize| u16::from_be_bytes([head[2 * at], head[2 * at + 1]]);
    let (count, weight, sign) = (field(0), i32::from(field(1).cast_signed()), field(2));
    match sign {
        NAN => return Some(Cell::Float(f64::NAN)),
        INFINITY => return Some(Cell::Float(f64::INFINITY)),
        MINUS_INFINITY => return Some(Cell::Float(f64::NEG_INFINITY)),
        _ => {}
    }
    let digits = Digits { bytes: digits, weight };
    if digits.bytes.len() != 2 * usize::from(count) || !digits.are_valid() {
        return None;
    }
    text.clear();
    if sign == NEGATIVE {
        text.push('-');
    }
    digits.write(usize::from(field(3)), text);
    Some(Cell::Decimal(text))
}

/// Digits to base 10,000; the first counts 10,000 to the power of `weight`.
struct Digits<'a> {
    bytes: &'a [u8],
    weight: i32,
}

impl Digits<'_> {
    fn are_valid(&self) -> bool {
        self.bytes.chunks_exact(2).all(|pair| u16::from_be_bytes([pair[0], pair[1]]) <= 9_999)
    }

    /// The digit for that power. What is not sent is zero.
    fn at(&self, power: i32) -> u16 {
        let index = usize::try_from(self.weight - power).ok();
        let pair = index.and_then(|i| self.bytes.get(2 * i..2 * i + 2));
        pair.map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]))
    }

    /// To base 10, with that many decimals.
    fn write(&self, decimals: usize, text: &mut String) {
        text.push_str(itoa::Buffer::new().format(self.at(self.weight.max(0))));
        for power in (0..self.weight).rev() {
            text.push_str(four(self.at(power), &mut [0; 4]));
        }
        if decimals > 0 {
            text.push('.');
            let end = text.len() + decimals;
            let mut power = -1;
            while text.len() < end {
                text.push_str(four(self.at(power), &mut [0; 4]));
                power -= 1;
            }
            text.truncate(end);
        }
    }
}

/// A number below 10,000 in four digits.
fn four(number: u16, digits: &mut [u8; 4]) -> &str {
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // ASCII.
    std::str::from_utf8(digits).unwrap_or_default()
}
