//! Tokens: algorithms, names of keys, times, purposes, spellings, comparisons.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use bgfiles::{
    auth_token::{Role, TokenPolicy},
    limits::TokenTtl,
    lock_token::{Ask, Resource},
    request_token::{NewRequestToken, Settings},
    toolbox::LinkOptions,
};
use hmac::{EagerHash, Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};

use super::{answers, say};
use crate::support::{
    Caller, Kind, TestApp,
    app::{self, Parts, SECRET},
    both,
};

fn mac<D: EagerHash>(key: &[u8], text: &str) -> Vec<u8>
where
    Hmac<D>: KeyInit + Mac,
{
    let mut mac = <Hmac<D> as KeyInit>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// A JWT of any text, signed somehow.
fn jwt(head: &str, claims: &str, sign: impl Fn(&str) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", BASE64.encode(head), BASE64.encode(claims));
    let signature = BASE64.encode(sign(&signed));
    format!("{signed}.{signature}")
}

fn ours(text: &str) -> Vec<u8> {
    mac::<Sha256>(SECRET.as_bytes(), text)
}

/// An application that redeems JWTs, and the claims of one that admits.
struct Door {
    shop: Caller,
    claims: String,
}

impl Door {
    async fn new(app: &TestApp) -> Door {
        let base = format!("http://{}", app.serve().await);
        let shop = Caller::new(app, &base, "shop", Role::Service).await;
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let new = NewRequestToken { max_uses: Some(10_000), ..NewRequestToken::new("foo") };
        let token = app.toolbox.create_request_token(&mut tx, new).await.unwrap();
        tx.commit().await.unwrap();
        Door { shop, claims: json!(token.claims()).to_string() }
    }

    /// Whether a JWT admits; anything but a plain yes or no fails.
    async fn admits(&self, jwt: &str) -> bool {
        let body = json!({"token": jwt, "scope": "foo"});
        let (status, body) = self.shop.post("/api/request-tokens/redeem", body).await;
        assert!(status == 200 || status == 403, "{status} {body}: {jwt:.200}");
        status == 200
    }
}

/// With one key, which is tried without a look at the header, and with several.
async fn with_keys(kind: Kind, keys: &[&str]) -> TestApp {
    let request_tokens = Settings::new(keys.iter().copied()).unwrap();
    TestApp::with(kind, Parts { request_tokens, ..Parts::default() }).await
}

const OTHER: &str = "another-secret-0123456789-0123456789";

both!(algorithms_are_not_the_callers_to_choose);
async fn algorithms_are_not_the_callers_to_choose(app: TestApp) {
    for keys in [vec![SECRET], vec![OTHER, SECRET]] {
        let app = with_keys(app.kind, &keys).await;
        let door = Door::new(&app).await;
        let key = SECRET.as_bytes();
        let head = |alg: &str| format!("{{\"typ\":\"JWT\",\"alg\":{alg}}}");
        assert!(door.admits(&jwt(&head("\"HS256\""), &door.claims, ours)).await);
        for alg in [
            "\"none\"",
            "\"None\"",
            "\"NONE\"",
            "\"nOnE\"",
            "\"\"",
            "null",
            "0",
            "[]",
            "{}",
            "true",
            "\"hs256\"",
            "\"HS256 \"",
            "\" HS256\"",
            "\"HS256\\u0000\"",
            "[\"HS256\"]",
            "\"HS384\"",
            "\"HS512\"",
            "\"RS256\"",
            "\"RS384\"",
            "\"RS512\"",
            "\"PS256\"",
            "\"ES256\"",
            "\"ES384\"",
            "\"ES256K\"",
            "\"EdDSA\"",
            "\"A128KW\"",
            "\"none\",\"alg\":\"HS256\"",
            "\"HS256\",\"alg\":\"none\"",
        ] {
            // Unsigned, signed as ours are, and signed as the name says.
            let signatures: [fn(&str) -> Vec<u8>; 4] = [
                |_| Vec::new(),
                ours,
                |text| mac::<Sha384>(SECRET.as_bytes(), text),
                |text| mac::<Sha512>(SECRET.as_bytes(), text),
            ];
            for sign in signatures {
                assert!(!door.admits(&jwt(&head(alg), &door.claims, sign)).await, "{alg}");
            }
        }
        let plain = jwt(&head("\"HS256\""), &door.claims, ours);
        let (signed, signature) = plain.rsplit_once('.').unwrap();
        for cut in [0, 10, 22, 42] {
            assert!(!door.admits(&format!("{signed}.{}", &signature[..cut])).await, "{cut}");
        }
        for other in [
            signed.to_owned(),
            format!("{plain}."),
            format!("{plain}.x"),
            format!("{plain}="),
            format!(" {plain}x"),
        ] {
            assert!(!door.admits(&other).await, "{other}");
        }
        // Part of the signature's own key, and keys of other purposes.
        let signer: Vec<u8> = {
            use sha2::Digest;
            Sha256::digest(format!("bgfilessigner{SECRET}")).to_vec()
        };
        let others: [&[u8]; 4] = [&key[..16], &[], b"\0", signer.as_slice()];
        for key in others {
            let forged = jwt(&head("\"HS256\""), &door.claims, |text| mac::<Sha256>(key, text));
            assert!(!door.admits(&forged).await);
        }
    }
}

both!(names_of_keys_are_hints_and_headers_bring_none);
async fn names_of_keys_are_hints_and_headers_bring_none(app: TestApp) {
    for keys in [vec![SECRET], vec![OTHER, SECRET]] {
        let app = with_keys(app.kind, &keys).await;
        let door = Door::new(&app).await;
        let genuine = app
            .toolbox
            .request_token_settings()
            .keys
            .sign(&serde_json::from_str(&door.claims).unwrap())
            .unwrap();
        let head: Value =
            serde_json::from_slice(&BASE64.decode(genuine.split('.').next().unwrap()).unwrap())
                .unwrap();
        let kid = head["kid"].as_str().unwrap().to_owned();
        let long = "x".repeat(100_000);
        let kids = [
            json!(kid),
            json!(""),
            json!(null),
            json!([]),
            json!({}),
            json!(0),
            json!([kid]),
            json!("../../../../../../dev/null"),
            json!("/proc/sys/kernel/randomize_va_space"),
            json!("' UNION SELECT 'attacker' --"),
            json!("| cat /etc/passwd"),
            json!("http://attacker.example/key"),
            json!("\u{0}"),
            json!(long),
        ];
        for kid in &kids {
            // With keys that such a name may be hoped to lead to.
            for key in ["", "\0", "attacker", "2\n", "null", kid.as_str().unwrap_or("0")] {
                let head = json!({"typ": "JWT", "alg": "HS256", "kid": kid}).to_string();
                let forged = jwt(&head, &door.claims, |text| mac::<Sha256>(key.as_bytes(), text));
                assert!(!door.admits(&forged).await, "{kid:.100}");
            }
        }
        // A wrong name does not keep a good signature out, as keys may have been named anew.
        let head = json!({"typ": "JWT", "alg": "HS256", "kid": "elsewhere"}).to_string();
        assert!(door.admits(&jwt(&head, &door.claims, ours)).await);
        // Keys that the token brings along, or points to.
        let key = json!({"kty": "oct", "alg": "HS256", "kid": kid, "k": BASE64.encode("attacker")});
        for (name, value) in [
            ("jwk", key.clone()),
            ("jku", json!("http://127.0.0.1:9/keys.json")),
            ("x5u", json!("http://127.0.0.1:9/key.pem")),
            ("x5c", json!(["TUlJQw=="])),
            ("x5t", json!("YXR0YWNrZXI")),
        ] {
            let head = json!({"typ": "JWT", "alg": "HS256", name: value}).to_string();
            let forged = jwt(&head, &door.claims, |text| mac::<Sha256>(b"attacker", text));
            assert!(!door.admits(&forged).await, "{name}");
        }
        // What a header calls critical has to be understood (RFC 7515, 4.1.11).
        for crit in [
            json!(["exp"]),
            json!(["b64"]),
            json!(["http://example.com/UNDEFINED"]),
            json!([""]),
            json!("exp"),
            json!([7]),
        ] {
            let head = json!({"alg": "HS256", "crit": crit, "exp": 1, "b64": false, "http://example.com/UNDEFINED": true});
            assert!(!door.admits(&jwt(&head.to_string(), &door.claims, ours)).await, "{crit}");
        }
    }
}

both!(times_are_numbers_or_the_token_is_none);
async fn times_are_numbers_or_the_token_is_none(app: TestApp) {
    let door = Door::new(&app).await;
    let now = app::start().timestamp();
    let with = |name: &str, value: &str| {
        let claims = format!("{},\"{name}\":{value}}}", door.claims.strip_suffix('}').unwrap());
        jwt("{\"alg\":\"HS256\"}", &claims, ours)
    };
    for name in ["exp", "nbf"] {
        for value in [
            "\"9999999999\"",
            "\"1\"",
            "\"\"",
            "\"never\"",
            "[]",
            "[9999999999]",
            "{}",
            "true",
            "false",
            "null",
            "1e400",
            "-1e400",
            "NaN",
            "Infinity",
        ] {
            assert!(!door.admits(&with(name, value)).await, "{name} {value}");
        }
    }
    // Numbers of every size are what they are.
    for (name, value, admits) in [
        ("exp", format!("{}", now + 1), true),
        ("exp", format!("{now}"), false),
        ("exp", format!("{now}.5"), true),
        ("exp", "0".into(), false),
        ("exp", "-1".into(), false),
        ("exp", "-1e308".into(), false),
        ("exp", "1e308".into(), true),
        ("exp", i64::MAX.to_string(), true),
        ("exp", u64::MAX.to_string(), true),
        ("exp", i64::MIN.to_string(), false),
        ("exp", "-0.0".into(), false),
        ("nbf", format!("{now}"), true),
        ("nbf", format!("{}", now + 1), false),
        ("nbf", "1e308".into(), false),
        ("nbf", i64::MIN.to_string(), true),
    ] {
        assert_eq!(door.admits(&with(name, &value)).await, admits, "{name} {value}");
    }
    // Twice the same claim: one of them counts, and none in the past is passed over.
    assert!(!door.admits(&with("exp", &format!("{},\"exp\":1", now + 60))).await);
}

both!(a_token_of_one_purpose_opens_no_other_door);
async fn a_token_of_one_purpose_opens_no_other_door(app: TestApp) {
    const PASSWORD: &str = "seven green teapots";
    app.add_user("amy", Role::Staff, Some(PASSWORD)).await;
    app.client("web", TokenTtl::DAY, "", TokenPolicy::Several).await;
    let base = format!("http://{}", app.serve().await);
    let (toolbox, row) = (&app.toolbox, app.finished("hello", "").await);
    let waiting = app.finished("once", "").await;
    let at = |url: String| url.replace("http://files.example.com", &base);
    let last = |url: &str| url.rsplit('/').next().unwrap().to_owned();
    let mut tx = toolbox.db().begin().await.unwrap();
    let (_, link) = toolbox.create_link(&mut tx, &row, LinkOptions::default()).await.unwrap();
    let token = NewRequestToken { max_uses: Some(100), ..NewRequestToken::new("foo") };
    let token = toolbox.create_request_token(&mut tx, token).await.unwrap();
    tx.commit().await.unwrap();
    let redeemed = app.http.post(at(toolbox.download_url(&waiting))).send().await.unwrap();
    let grant =
        redeemed.headers()["location"].to_str().unwrap().split('/').nth(2).unwrap().to_owned();
    let resource = Resource::request(app.request("hello", "").await.id);
    let ask = Ask { owner: Some("amy".into()), ..Ask::default() };
    let lock = toolbox.lock(&resource, ask).await.unwrap().held().unwrap();
    let secrets = [
        ("download", last(&toolbox.download_url(&row))),
        ("link", last(&link)),
        ("jwt", toolbox.jwt(&token).unwrap()),
        ("api", app.token("amy", "web").await),
        ("session", toolbox.begin_session("amy", None).await.unwrap().expose().to_owned()),
        ("grant", grant),
        ("lock", lock.token),
        ("password", PASSWORD.to_owned()),
        ("key", SECRET.to_owned()),
        ("name", "amy".to_owned()),
    ];
    let api = format!("{base}/api/requests");
    let authorized = |scheme: &'static str| {
        let (http, api) = (&app.http, &api);
        move |text: &str| http.get(api).header("authorization", format!("{scheme} {text}"))
    };
    let cookie = |name: &'static str| {
        let (http, api) = (&app.http, &api);
        move |text: &str| http.get(api).header("cookie", format!("{name}={text}"))
    };
    let get = |path: fn(&str) -> String| {
        let (http, base) = (&app.http, &base);
        move |text: &str| http.get(format!("{base}{}", path(text)))
    };
    let of_lock = format!("{base}/lock_tokens/{}/{}", resource.kind(), resource.id());
    let service = app.user("shop", Role::Service).await;
    type Knock<'a> = (&'a str, &'a [&'a str], Box<dyn Fn(&str) -> reqwest::RequestBuilder + 'a>);
    let doors: [Knock<'_>; 12] = [
        ("Authorization: Token", &["api"], Box::new(authorized("Token"))),
        ("Authorization: Bearer", &["api"], Box::new(authorized("Bearer"))),
        ("Authorization: Basic", &[], Box::new(authorized("Basic"))),
        ("the cookie of a session", &["session"], Box::new(cookie("bgfiles_session"))),
        ("the cookie of a download", &[], Box::new(cookie("bgfiles_grant"))),
        ("the cookie of a form", &[], Box::new(cookie("bgfiles_form"))),
        (
            "a token in the query",
            &[],
            Box::new(get(|text| format!("/api/requests?token={text}&rt={text}"))),
        ),
        ("/d/", &["download", "link"], Box::new(get(|text| format!("/d/{text}")))),
        ("/g/", &["grant"], Box::new(get(|text| format!("/g/{text}/once.txt")))),
        (
            "redeeming a JWT",
            &["jwt"],
            Box::new(|text| {
                let request = app.http.post(format!("{base}/api/request-tokens/redeem"));
                request
                    .header("authorization", format!("Token {service}"))
                    .json(&json!({"token": text, "scope": "foo"}))
            }),
        ),
        (
            "a lock",
            &["lock"],
            Box::new(|text| {
                app.http
                    .get(format!("{of_lock}/{text}/"))
                    .header("authorization", format!("Token {service}"))
            }),
        ),
        (
            "logging in",
            &["password"],
            Box::new(|text| {
                app.http
                    .post(format!("{base}/api/auth/login"))
                    .json(&json!({"username": "amy", "password": text, "client": "web"}))
            }),
        ),
    ];
    for (door, opened_by, knock) in &doors {
        for (name, secret) in &secrets {
            // How guessing is slowed down is not what this is about.
            if *door == "logging in" {
                app.advance(60);
            }
            let status = knock(secret).send().await.unwrap().status();
            assert_eq!(status.is_success(), opened_by.contains(name), "{name} at {door}: {status}");
            assert!(!status.is_server_error(), "{name} at {door}: {status}");
        }
    }
}

/// Other ways to write a token, and whether each may still be it.
fn spellings(token: &str) -> Vec<String> {
    let encode = |c: char| format!("%{:02X}", c as u32);
    let (signed, signature) = token.rsplit_once(':').unwrap();
    let (payload, time) = signed.split_once(':').unwrap();
    let mut all: Vec<String> = vec![
        token.chars().map(encode).collect(),
        token.replace(':', "%3A"),
        token.replace(':', "%3a"),
        token.replace(':', "%253A"),
        token.replacen(':', "%EF%BC%9A", 1),
        token.replacen(&token[..1], &encode(token.chars().next().unwrap()), 1),
        token.to_uppercase(),
        token.to_lowercase(),
        token.replace('-', "+").replace('_', "%2F") + "%3D",
        format!("{token}="),
        format!("{token}%3D"),
        format!("{payload}=:{time}:{signature}"),
        format!("{payload}:0{time}:{signature}"),
        format!("{payload}:{time}:{signature}:{signature}"),
        format!(":{token}"),
        format!(".{token}"),
        format!("{token}."),
        format!("{token}:"),
        format!("{token}%00"),
        format!("%20{token}"),
        format!("{token}%20"),
        format!("{token}%0A"),
        format!("{token}%2F"),
        format!("{token}/"),
        format!("{token}//"),
        format!("{token}/.."),
        format!("{token}/x"),
        format!("./{token}"),
        format!("x/../{token}"),
        format!("/{token}"),
        format!("{token};x=y"),
        format!("{token}?"),
        format!("{token}?x=y&token=z"),
        format!("{token}%3Fx"),
        format!("{token}%23x"),
        format!("{token}\\"),
        format!("%u003a{token}"),
        format!("{token}%"),
        format!("{token}%zz"),
        format!("{token}%C0%AF"),
        format!("{token}%FF"),
    ];
    // The last letter of a signature has two bits that say nothing.
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = signature.chars().last().unwrap();
    let others = LETTERS.chars().filter(|c| *c != last);
    all.extend(others.map(|c| format!("{signed}:{}{c}", &signature[..signature.len() - 1])));
    all.retain(|other| other != token);
    all
}

both!(however_a_link_is_spelled_it_is_that_link_or_none);
async fn however_a_link_is_spelled_it_is_that_link_or_none(app: TestApp) {
    let address = app.serve().await;
    let row = app.finished("hello", "name=Amy").await;
    let other = app.finished("hello", "name=Bob").await;
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let (link, url) = app.toolbox.create_link(&mut tx, &row, LinkOptions::default()).await.unwrap();
    tx.commit().await.unwrap();
    let token = url.rsplit('/').next().unwrap().to_owned();
    let get = async |path: &str| {
        let heard = say(
            address,
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        let found = answers(&heard);
        assert_eq!(found.len(), 1, "{path}: {heard}");
        (found[0], heard)
    };
    let paths = |token: &str| {
        let mut paths: Vec<String> =
            spellings(token).iter().map(|token| format!("/d/{token}")).collect();
        paths.extend([
            format!("//d/{token}"),
            format!("/D/{token}"),
            format!("/d//{token}"),
            format!("/%64/{token}"),
            format!("/x/../d/{token}"),
            format!("/d%2F{token}"),
            format!("http://elsewhere.example/d/{token}"),
        ]);
        paths
    };
    let mut same = 0;
    // The second time around the link is in memory.
    for _ in 0..2 {
        assert_eq!(get(&format!("/d/{token}")).await.0, 200);
        for path in paths(&token) {
            let (status, heard) = get(&path).await;
            if status == 200 {
                assert!(heard.ends_with("hello Amy in en UTC\n"), "{path}: {heard}");
                same += 1;
            } else {
                assert!((400..500).contains(&status), "{path}: {status}");
            }
        }
    }
    assert!(
        (10..20).contains(&same),
        "{same} spellings of the same: escapes and queries, nothing else"
    );
    // Taken back, it is taken back however it is spelled; another one is not.
    let mut tx = app.toolbox.db().begin().await.unwrap();
    app.toolbox.revoke_link(&mut tx, &row, link.jti).await.unwrap();
    tx.commit().await.unwrap();
    for path in paths(&token).into_iter().chain([format!("/d/{token}")]) {
        assert!(get(&path).await.0 >= 400, "{path}");
    }
    assert_eq!(get(&app.link(&other)).await.0, 200);
}

/// Words that name what outsiders must not guess byte by byte.
const SECRETS: &[&str] = &[
    "secret",
    "secrets",
    "token",
    "tokens",
    "signature",
    "mac",
    "csrf",
    "password",
    "hash",
    "digest",
    "expose",
    "proof",
];
/// Comparisons of such names that no outsider can measure, and why.
const HARMLESS: &[(&str, &str, &str)] = &[
    (
        "lock_token/store.rs",
        "first == ",
        "what the database returned of the hash that this call made itself",
    ),
    (".rs", "proof == Proof::", "how somebody proved who they are, not the proof"),
    ("toolbox/auth/logins.rs", "client.tokens == TokenPolicy::", "how many tokens, not which"),
];

/// The name right before and right after each `==` and `!=` of a line.
fn compared(line: &str) -> Vec<(String, String)> {
    let part = |c: char| c.is_alphanumeric() || "_.()&*".contains(c);
    let mut found = Vec::new();
    for operator in [" == ", " != "] {
        for (at, _) in line.match_indices(operator) {
            let (before, after) = (&line[..at], &line[at + operator.len()..]);
            let before: String = before.chars().rev().take_while(|c| part(*c)).collect();
            let after: String = after.chars().take_while(|c| part(*c)).collect();
            found.push((before.chars().rev().collect(), after));
        }
    }
    found
}

fn is_secret(name: &str) -> bool {
    // `token.id` compares an id; `row.token` a token.
    let last = name.trim_end_matches("()").rsplit(['.', '&', '*', '(']).find(|word| {
        !["as_bytes", "as_str", "as_ref", "as_deref", "clone"]
            .contains(&word.trim_end_matches(['(', ')']))
            && !word.is_empty()
    });
    last.is_some_and(|word| SECRETS.contains(&word.trim_end_matches(['(', ')'])))
}

#[test]
fn secrets_are_not_compared_byte_by_byte() {
    let mut wrong = Vec::new();
    for (name, _, code) in crate::architecture::sources() {
        for line in code.lines() {
            let harmless =
                HARMLESS.iter().any(|(file, text, _)| name.ends_with(file) && line.contains(text));
            let secret = compared(line).iter().any(|(a, b)| is_secret(a) || is_secret(b));
            if secret && !harmless {
                wrong.push(format!("{name}: {}", line.trim()));
            }
        }
        // Types of secrets cannot be compared at all.
        let mut derives = "";
        for line in code.lines().map(str::trim) {
            if line.starts_with("#[derive(") {
                derives = line;
            } else if let Some(rest) =
                line.strip_prefix("pub struct ").or(line.strip_prefix("struct "))
            {
                let kind: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                if kind.ends_with("Secret") && derives.contains("PartialEq") {
                    wrong.push(format!("{name}: {kind} is PartialEq"));
                }
            } else if !line.starts_with("#[") {
                derives = "";
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What is compared is compared like this.
    let source = |name: &str| std::fs::read_to_string(format!("src/{name}")).unwrap();
    assert!(source("signer.rs").contains(".verify_slice(&signature)"));
    assert!(source("web/view.rs").contains(".ct_eq(token.as_bytes())"));
}

#[test]
fn the_reader_of_comparisons_sees_them() {
    let secret = |line: &str| compared(line).iter().any(|(a, b)| is_secret(a) || is_secret(b));
    for line in [
        "if mac == given {",
        "a != self.csrf.as_str()",
        "x.expose() == y",
        "*hash == other",
        "row.token != token",
    ] {
        assert!(secret(line), "{line}");
    }
    for line in ["token.id == other", "tokens.len() == 3", "status == Status::Ready", "a == b"] {
        assert!(!secret(line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_name_is_hashed_like_a_known_one() {
    // No clock: what takes the time is counted. An unknown name, and a user without a password, are
    // verified against the hash of a password that nobody has, which nothing else reads.
    let code = std::fs::read_to_string("src/auth_token/password.rs").unwrap();
    let verify = code.split("pub async fn verify_password").nth(1).unwrap();
    let verify = verify.split("\n}\n").next().unwrap();
    assert!(verify.contains("unwrap_or_else(|| NOBODY.clone())"));
    assert_eq!(verify.matches("return").count(), 0, "no way around the hash");
    let same = bgfiles::auth_token::verify_password;
    assert!(!same(None, "", true).await.unwrap() && !same(None, "x", false).await.unwrap());
}
