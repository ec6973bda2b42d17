//! PostgreSQL's `numeric` on the wire, digit by digit: no number type of ours holds all of them.

use std::fmt::Write;

use crate::export::value::Value;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// Reads `numeric_send`'s form: four 16-bit fields (how many digits, weight of the first, sign,
/// decimals shown), then digits to base 10,000. `None` when it is not that.
pub(super) fn read(bytes: &[u8]) -> Option<Value> {
    let mut fields = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let count = usize::from(fields.next()?);
    let weight = i32::from(fields.next()?.cast_signed());
    let sign = fields.next()?;
    let decimals = usize::from(fields.next()?);
    let digits: Vec<u16> = fields.collect();
    match sign {
        NAN => Some(Value::Float(f64::NAN)),
        INFINITY => Some(Value::Float(f64::INFINITY)),
        MINUS_INFINITY => Some(Value::Float(f64::NEG_INFINITY)),
        _ if digits.len() != count || digits.iter().any(|digit| *digit > 9_999) => None,
        _ => {
            let sign = if sign == NEGATIVE { "-" } else { "" };
            Some(Value::Decimal(format!("{sign}{}", text(&digits, weight, decimals))))
        }
    }
}

/// Digits to base 10,000 as digits to base 10, with that many decimals.
fn text(digits: &[u16], weight: i32, decimals: usize) -> String {
    // What is not sent is zero.
    let digit = |wanted: i32| {
        let index = usize::try_from(weight - wanted).ok();
        index.and_then(|i| digits.get(i)).copied().unwrap_or(0)
    };
    let mut text = digit(weight.max(0)).to_string();
    for at in (0..weight).rev() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{:04}", digit(at));
    }
    if decimals > 0 {
        text.push('.');
        let end = text.len() + decimals;
        let mut at = -1;
        while text.len() < end {
            let _ = write!(text, "{:04}", digit(at));
            at -= 1;
        }
        text.truncate(end);
    }
    text
}
