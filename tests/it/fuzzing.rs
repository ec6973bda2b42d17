//! A million mutated tokens: none is accepted, none panics.

use std::time::Duration;

use bgfiles::{
    request_token::jwt::{self, Keys},
    signer::Signer,
};
use serde_json::json;

use crate::support::app::{SECRET, start};

const ROUNDS: u64 = 1_000_000;

/// xorshift64*: the same mutations each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

const LETTERS: &[char] = &[
    'A', 'B', 'Q', 'a', 'z', '0', '9', '-', '_', '.', ':', '=', '%', ' ', '\0', 'é', '🦀', '+', '/',
];

fn mutate(token: &str, others: &[String], random: &mut Random) -> String {
    let mut chars: Vec<char> = token.chars().collect();
    for _ in 0..=random.below(3) {
        let at = random.below(chars.len());
        let letter = LETTERS[random.below(LETTERS.len())];
        match random.below(7) {
            0 if !chars.is_empty() => chars[at] = letter,
            1 if !chars.is_empty() => drop(chars.remove(at)),
            2 => chars.insert(at, letter),
            3 => chars.truncate(at),
            4 if !chars.is_empty() => chars.swap(at, 0),
            // The head of one token on the tail of another.
            5 => {
                let other: Vec<char> = others[random.below(others.len())].chars().collect();
                let from = random.below(other.len());
                chars.truncate(at);
                chars.extend(&other[from..]);
            }
            _ => {
                let (a, b) = (random.below(chars.len()), random.below(chars.len()));
                chars[a.min(b)..a.max(b)].reverse();
            }
        }
    }
    chars.into_iter().collect()
}

#[test]
fn mutated_tokens_are_not_accepted() {
    let keys = Keys::new([SECRET, "an-older-secret-0123456789-0123456789"]).unwrap();
    let signer = Signer::new([SECRET], "bgfiles", Some(Duration::from_secs(86_400))).unwrap();
    let packed = signer.clone().with_compression();
    let jwts: Vec<String> = (0..8)
        .map(|n| json!({"max": n, "sub": "report", "mod": "n", "jti": n.to_string(), "exp": start().timestamp() + 60}))
        .map(|claims| keys.sign(claims.as_object().unwrap()).unwrap())
        .collect();
    let links: Vec<String> = (0..8)
        .map(|n| json!({"id": format!("{n:032}"), "requester": "amy", "x": "y".repeat(n * 20)}))
        .map(|data| {
            if data["x"] == "" { signer.sign(&data, start()) } else { packed.sign(&data, start()) }
        })
        .collect();
    assert!(jwts.iter().all(|token| keys.verify(token, start()).is_ok()));
    assert!(links.iter().all(|token| signer.verify(token, start()).is_ok()));
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut altered = 0;
    for round in 0..ROUNDS {
        let (all, is_jwt) = if round % 2 == 0 { (&jwts, true) } else { (&links, false) };
        let token = mutate(&all[random.below(all.len())], all, &mut random);
        if all.contains(&token) {
            continue;
        }
        altered += 1;
        let accepted = match is_jwt {
            true => keys.verify(&token, start()).is_ok(),
            false => signer.verify(&token, start()).is_ok(),
        };
        assert!(!accepted, "{token:?}");
        jwt::is_jwt(&token);
    }
    assert!(altered > ROUNDS * 9 / 10, "only {altered}");
}
