//! Wycheproof's vectors: of HMAC for both libraries that compute ours, and of JWS at the door where
//! our JWTs are verified.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use bgfiles::request_token::jwt::{self, Flaw};
use hmac::{EagerHash, Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use wycheproof::{
    TestResult,
    mac::{TestName, TestSet},
};

use crate::support::app::start;

/// Whether one tag is the one of key and message; a part of it is not.
type Verify = fn(key: &[u8], message: &[u8], tag: &[u8]) -> bool;

/// As the signer of download tokens does it.
fn by_hmac<D: EagerHash>(key: &[u8], message: &[u8], tag: &[u8]) -> bool
where
    Hmac<D>: KeyInit + Mac,
{
    let mut mac = <Hmac<D> as KeyInit>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.verify_slice(tag).is_ok()
}

/// As JWTs are verified.
fn by_jsonwebtoken(algorithm: Algorithm, key: &[u8], message: &[u8], tag: &[u8]) -> bool {
    let key = jsonwebtoken::DecodingKey::from_secret(key);
    jsonwebtoken::crypto::verify(&BASE64.encode(tag), message, &key, algorithm).unwrap()
}

#[test]
fn hmac_vectors() {
    let sets: [(TestName, usize, Verify, Verify); 3] = [
        (TestName::HmacSha256, 32, by_hmac::<sha2::Sha256>, |key, message, tag| {
            by_jsonwebtoken(Algorithm::HS256, key, message, tag)
        }),
        (TestName::HmacSha384, 48, by_hmac::<sha2::Sha384>, |key, message, tag| {
            by_jsonwebtoken(Algorithm::HS384, key, message, tag)
        }),
        (TestName::HmacSha512, 64, by_hmac::<sha2::Sha512>, |key, message, tag| {
            by_jsonwebtoken(Algorithm::HS512, key, message, tag)
        }),
    ];
    for (name, whole, hmac, jsonwebtoken) in sets {
        let set = TestSet::load(name).unwrap();
        let (mut good, mut bad) = (0, 0);
        for group in &set.test_groups {
            for test in &group.tests {
                // Tags that were cut off are good vectors, and no tags of ours.
                let expected = test.result == TestResult::Valid && test.tag.len() == whole;
                for verify in [hmac, jsonwebtoken] {
                    let found = verify(&test.key, &test.msg, &test.tag);
                    assert_eq!(found, expected, "{name:?} {}: {}", test.tc_id, test.comment);
                }
                if expected { good += 1 } else { bad += 1 }
            }
        }
        assert!(good > 30 && bad > 100, "{name:?}: {good} good, {bad} bad");
    }
}

/// What a vector's key may be taken for by somebody who mixes up keys: the secret itself; the bytes
/// of a public key, or its JSON.
fn keys(group: &Value) -> Vec<Vec<u8>> {
    let bytes = |key: &Value, name: &str| Some(BASE64.decode(key[name].as_str()?).unwrap());
    let mut keys = Vec::new();
    for key in [&group["private"], &group["public"]] {
        let (x, y) = (bytes(key, "x").unwrap_or_default(), bytes(key, "y").unwrap_or_default());
        keys.extend(["k", "n", "x", "y", "d"].into_iter().filter_map(|name| bytes(key, name)));
        keys.extend([[x.clone(), y.clone()].concat(), [vec![4], x, y].concat()]);
        keys.push(key.to_string().into_bytes());
    }
    keys
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../data/wycheproof-jws.json")).unwrap()
}

fn accepted(token: &str, keys: &[Vec<u8>]) -> bool {
    jwt::verify(token, keys, start()).is_ok()
}

#[test]
fn no_jws_vector_is_a_token_of_ours() {
    let vectors = vectors();
    let mut seen = 0;
    for group in vectors["testGroups"].as_array().unwrap() {
        let keys = keys(group);
        for test in group["tests"].as_array().unwrap() {
            let token = test["jws"].as_str().map_or(test["jws"].to_string(), str::to_owned);
            let flaw = jwt::verify(&token, &keys, start()).unwrap_err();
            // Whatever is not HS256 is refused for that, however well it is signed.
            let foreign = group["private"]["kty"] != "oct" && test["result"] == "valid";
            assert!(!foreign || flaw == Flaw::WrongAlgorithm, "{}: {flaw:?}", test["tcId"]);
            seen += 1;
        }
    }
    assert_eq!(seen, vectors["numberOfTests"]);
}

/// Vectors that do not apply, and why.
const OTHERWISE: &[(u64, &str)] = &[
    (367, "the padding it is about is not in it: it is vector 357, which is valid, to the letter"),
    (370, "likewise"),
    (372, "called valid with a `?` in its header; RFC 7515 knows no such characters"),
    (373, "likewise in its payload"),
];

/// The payloads of the vectors are no claims, so each is refused before or after its signature. Here
/// they have claims, and the same flaws as before: good ones are signed anew, bad ones stay bad.
#[test]
fn jws_vectors_about_claims_of_ours() {
    let claims = BASE64.encode(json!({"jti": "1", "sub": "foo", "mod": "n", "max": 1}).to_string());
    let (mut good, mut bad) = (0, 0);
    for group in vectors()["testGroups"].as_array().unwrap() {
        let Some(secret) = group["private"]["k"].as_str() else { continue };
        let key = BASE64.decode(secret).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let Some(token) = with_claims(test["jws"].as_str().unwrap(), &claims, &key) else {
                assert_eq!(test["result"], "invalid", "{id}");
                continue;
            };
            let same = !OTHERWISE.iter().any(|(other, _)| *other == id);
            let expected = (test["result"] == "valid") == same;
            let found = accepted(&token, std::slice::from_ref(&key));
            assert_eq!(found, expected, "{id}: {} {token}", test["comment"]);
            if expected { good += 1 } else { bad += 1 }
        }
    }
    assert!(good >= 8 && bad >= 15, "{good} good, {bad} bad");
}

fn is_letter(c: &char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// The vector with another payload. What stands in it besides base64 stays where it is; a signature
/// that was good is made anew. `None` when there are not three parts.
fn with_claims(vector: &str, claims: &str, key: &[u8]) -> Option<String> {
    let parts: Vec<&str> = vector.split('.').collect();
    let [head, payload, signature] = parts[..] else { return None };
    let letters = |text: &str| text.chars().filter(is_letter).collect::<String>();
    let put = |into: &str, new: &str| match letters(into).as_str() {
        "" => into.to_owned(),
        old if into.contains(old) => into.replacen(old, new, 1),
        // A foreign character within: after the first letter as well.
        _ => {
            let foreign = into.chars().find(|c| !is_letter(c)).unwrap();
            format!("{}{foreign}{}", &new[..1], &new[1..])
        }
    };
    let mut payload_of_ours = put(payload, claims);
    if payload == "AB" {
        // Bits that base64 does not use: the last letter's neighbour says the same.
        let last = payload_of_ours.pop()?;
        payload_of_ours.push(char::from_u32(u32::from(last) + 1)?);
    }
    let sign = |head: &str, payload: &str| {
        let message = format!("{head}.{payload}");
        let key = EncodingKey::from_secret(key);
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap()
    };
    let was_good = sign(head, payload) == letters(signature);
    let signature = match was_good {
        true => put(signature, &sign(head, &payload_of_ours)),
        false => signature.to_owned(),
    };
    Some(format!("{head}.{payload_of_ours}.{signature}"))
}
