//! Tokens made by Django and PyJWT (`tests/data/token-vectors.json`).

use std::time::Duration;

use bgfiles::{
    Error,
    request_token::jwt::{self, Flaw},
    signer::Signer,
};
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::child::bgfiles;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../data/token-vectors.json")).unwrap()
}

fn at(value: &Value) -> DateTime<Utc> {
    DateTime::from_timestamp(value.as_i64().unwrap(), 0).unwrap()
}

fn signer(vector: &Value) -> Signer {
    let max_age = Duration::from_secs(vector["max_age"].as_u64().unwrap());
    let signer = Signer::new(
        [vector["key"].as_str().unwrap()],
        vector["salt"].as_str().unwrap(),
        Some(max_age),
    )
    .unwrap();
    if vector["compressed"] == true { signer.with_compression() } else { signer }
}

#[test]
fn tokens_made_by_django_verify_and_altered_ones_do_not() {
    let mut checked = 0;
    for vector in vectors()["signing"].as_array().unwrap() {
        let (signer, token) = (signer(vector), vector["token"].as_str().unwrap());
        for check in vector["checks"].as_array().unwrap() {
            let found = signer.verify(token, at(&check["now"]));
            match check["expect"].as_str().unwrap() {
                "ok" => assert_eq!(found.unwrap().data, vector["data"]),
                "expired" => assert!(matches!(found, Err(Error::LinkExpired)), "{check}"),
                other => panic!("{other}"),
            }
            checked += 1;
        }
        for mutation in vector["mutations"].as_array().unwrap() {
            let altered = mutation["token"].as_str().unwrap();
            let found = signer.verify(altered, at(&vector["signed_at"]));
            assert!(matches!(found, Err(Error::BadToken(_))), "{altered}");
            checked += 1;
        }
    }
    assert!(checked > 400, "only {checked}");
}

#[test]
fn our_tokens_are_djangos_to_the_byte() {
    for vector in vectors()["signing"].as_array().unwrap() {
        let ours = signer(vector).sign(&vector["data"], at(&vector["signed_at"]));
        if vector["compressed"] == false {
            assert_eq!(ours, vector["token"].as_str().unwrap());
        } else {
            // Two compressors need not agree on bytes, only on what they mean.
            assert!(ours.starts_with('.'));
            let verified = signer(vector).verify(&ours, at(&vector["signed_at"])).unwrap();
            assert_eq!(verified.data, vector["data"]);
        }
    }
}

#[test]
fn jwts_made_by_pyjwt_are_judged_alike() {
    for vector in vectors()["jwt"].as_array().unwrap() {
        let token = vector["token"].as_str().unwrap();
        let found = jwt::verify(token, &[vector["key"].as_str().unwrap()], at(&vector["now"]));
        let expected = match vector["expect"].as_str().unwrap() {
            "ok" => Ok(vector["claims"].as_object().unwrap().clone()),
            "expired" => Err(Flaw::Expired),
            "not_yet_valid" => Err(Flaw::NotYetValid),
            "bad_signature" => Err(Flaw::BadSignature),
            "wrong_algorithm" => Err(Flaw::WrongAlgorithm),
            "missing_claim" => Err(Flaw::MissingClaim),
            other => panic!("{other}"),
        };
        assert_eq!(found, expected, "{vector}");
    }
}

#[test]
fn the_command_line_explains_tokens() {
    let inspect = |vector: &Value, now: &Value, token: &str| {
        let mut command = bgfiles();
        command.args(["token", "inspect", "--json", "--key", vector["key"].as_str().unwrap()]);
        if let Some(salt) = vector["salt"].as_str() {
            command.args(["--salt", salt, "--max-age", &vector["max_age"].to_string()]);
        }
        let output = command.args(["--at", &now.to_string(), "--", token]).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), json)
    };
    let vectors = vectors();
    for vector in vectors["signing"].as_array().unwrap().iter().take(6) {
        for check in vector["checks"].as_array().unwrap() {
            let (code, json) = inspect(vector, &check["now"], vector["token"].as_str().unwrap());
            assert_eq!(json["reason"], check["expect"]);
            assert_eq!(json["data"], vector["data"]);
            assert_eq!(
                (json["kind"].as_str(), code == 0),
                (Some("download"), json["valid"] == true)
            );
        }
        let altered = vector["mutations"][0]["token"].as_str().unwrap();
        let (code, json) = inspect(vector, &vector["signed_at"], altered);
        assert_eq!((code, &json["reason"]), (1, &json!("bad_signature")));
    }
    for vector in vectors["jwt"].as_array().unwrap() {
        let (code, json) = inspect(vector, &vector["now"], vector["token"].as_str().unwrap());
        assert_eq!(json["reason"], vector["expect"]);
        assert_eq!((json["kind"].as_str(), code == 0), (Some("jwt"), vector["expect"] == "ok"));
    }
}

#[test]
fn a_string_for_a_time_is_no_time() {
    // CVE-2026-25537: a string `exp` was taken for none.
    let key = jsonwebtoken::EncodingKey::from_secret(b"key");
    let claims = json!({"jti": "1", "sub": "s", "mod": "n", "max": 1, "exp": "1"});
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    assert_eq!(jwt::verify(&token, &["key"], at(&json!(1_700_000_000))), Err(Flaw::Malformed));
}

#[test]
fn every_key_verifies_and_the_first_signs() {
    let now = at(&json!(1_700_000_000));
    let old = Signer::new(["old key"], "salt", None).unwrap();
    let both = Signer::new(["new key", "old key"], "salt", None).unwrap();
    let new = Signer::new(["new key"], "salt", None).unwrap();
    let data = json!({"id": "x"});
    assert!(both.verify(&old.sign(&data, now), now).is_ok());
    assert!(new.verify(&both.sign(&data, now), now).is_ok());
    assert!(new.verify(&old.sign(&data, now), now).is_err());
    let other_salt = Signer::new(["new key"], "other", None).unwrap();
    assert!(other_salt.verify(&new.sign(&data, now), now).is_err());
}

proptest! {
    #[test]
    fn whatever_is_signed_verifies(text in ".*", number in any::<i64>(), compress: bool) {
        let now = at(&json!(1_700_000_000));
        let signer = Signer::new(["key"], "salt", Some(Duration::from_secs(1))).unwrap();
        let signer = if compress { signer.with_compression() } else { signer };
        let data = json!({"id": text, "number": number, "nested": {"list": [null, true, text]}});
        prop_assert_eq!(signer.verify(&signer.sign(&data, now), now).unwrap().data, data);
    }

    #[test]
    fn nothing_else_verifies_and_nothing_panics(token in "\\PC*") {
        let signer = Signer::new(["key"], "salt", None).unwrap();
        prop_assert!(signer.verify(&token, at(&json!(0))).is_err());
        prop_assert!(jwt::verify(&token, &["key"], at(&json!(0))).is_err());
    }
}
