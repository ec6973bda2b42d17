//! One function for each parser of what strangers write. Each takes any bytes and panics when a
//! promise is broken: what is accepted stays itself when it is written and read again, and nothing
//! is accepted that the rules refuse.

use std::{cell::OnceCell, fs, sync::LazyLock, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use bgfiles::{
    Criteria, Error, NewFileRequest, RequestId,
    duration::parse_duration,
    export::{
        Definition,
        criteria::{Criterion, Declared, Type},
        sql::Statement,
    },
    file_request::model::is_language_tag,
    limits::{Rate, TokenTtl},
    request_token::jwt::{self, Keys},
    signer::{Claims, Signer},
    web::parsers::{self, Answer, Representation},
};
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

const SECRET: &str = "fuzz-fuzz-fuzz-fuzz-fuzz-fuzz-fuzz-fuzz";
const OTHER: &str = "another-another-another-another-another";
const SALT: &str = "bgfiles";

/// A name, which is also that of the folder with its corpus, and what to call.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 10] = [
    ("accept", accept),
    ("criteria", criteria),
    ("cursor", cursor),
    ("definition", definition),
    ("if_range", if_range),
    ("jwt", jwt),
    ("limits", limits),
    ("range", range),
    ("sql", sql),
    ("token", token),
];

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).expect("a time")
}

fn hmac(key: &[u8], text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(text.as_bytes());
    BASE64.encode(mac.finalize().into_bytes())
}

/// A download token. The first line is taken for a token as it is, and, with a signature added, for
/// what a holder of the key could have signed; with a second line, that is packed or plain JSON and
/// the first one its time.
pub fn token(input: &[u8]) {
    static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
        Signer::new([OTHER, SECRET], SALT, Some(Duration::from_secs(86_400))).expect("keys")
    });
    let signed = |text: &str| {
        let key = Sha256::new().chain_update(SALT).chain_update("signer").chain_update(SECRET);
        format!("{text}:{}", hmac(&key.finalize(), text))
    };
    let line_end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (first, rest) = (&input[..line_end], input.get(line_end + 1..));
    let Ok(first) = std::str::from_utf8(first) else { return };
    assert!(SIGNER.verify(first, now()).is_err(), "a forged token is accepted");
    let token = match rest {
        None => signed(first),
        Some([b'.', packed @ ..]) => signed(&format!(".{}:{first}", BASE64.encode(packed))),
        Some(json) => signed(&format!("{}:{first}", BASE64.encode(json))),
    };
    let Ok(verified) = SIGNER.verify_signature(&token) else { return };
    let again = SIGNER.sign(&verified.data, verified.signed_at);
    let packed = SIGNER.clone().with_compression().sign(&verified.data, verified.signed_at);
    for token in [again, packed] {
        let again = SIGNER.verify_signature(&token).expect("our own token is accepted");
        assert_eq!(again.signed_at, verified.signed_at);
        assert!(same(&again.data, &verified.data), "{} became {}", verified.data, again.data);
    }
    let age = now() - verified.signed_at;
    assert_eq!(SIGNER.verify(&token, now()).is_ok(), age.num_seconds() <= 86_400);
    if let Ok(claims) = Claims::try_from(verified.data.clone()) {
        assert_eq!(Claims::try_from(Value::Object(claims.data.clone())).ok(), Some(claims));
    }
}

/// Equal, but for the last digits of a number with decimals: `serde_json` reads those fast, not
/// exactly, and no claim is one.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let alike = |(name, one)| other.get(name).is_some_and(|other| same(one, other));
            one.len() == other.len() && one.iter().all(alike)
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (one, other) = (one.as_f64().unwrap_or(0.0), other.as_f64().unwrap_or(1.0));
            one == other || (one / other - 1.0).abs() < 1e-12
        }
        (one, other) => one == other,
    }
}

/// A JWT: the first line as it is; then its header, and the second line as its claims, signed.
pub fn jwt(input: &[u8]) {
    static KEYS: LazyLock<[Keys; 2]> = LazyLock::new(|| {
        [Keys::new([SECRET]), Keys::new([OTHER, SECRET])].map(|k| k.expect("keys"))
    });
    let [one, two] = &*KEYS;
    let (head, claims) = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &b"{}"[..]),
    };
    if let Ok(text) = std::str::from_utf8(head) {
        jwt::is_jwt(text);
        assert!(one.signed(text).is_err() && two.signed(text).is_err(), "a forged JWT is accepted");
    }
    let signed = format!("{}.{}", BASE64.encode(head), BASE64.encode(claims));
    let token = format!("{signed}.{}", hmac(SECRET.as_bytes(), &signed));
    let verified = one.verify(&token, now());
    assert_eq!(verified, two.verify(&token, now()), "another key makes a difference");
    assert_eq!(verified, jwt::verify(&token, &[SECRET], now()), "naming keys makes a difference");
    let Ok(claims) = verified else { return };
    let head: Map<String, Value> = serde_json::from_slice(head).expect("a header is an object");
    assert_eq!(head.get("alg"), Some(&Value::from("HS256")));
    assert!(jwt::is_jwt(&token));
    assert!(
        ["jti", "sub", "mod"].iter().all(|name| claims.get(*name).is_some_and(|v| !v.is_null()))
    );
    let time = |name: &str| claims.get(name).and_then(Value::as_f64);
    assert!(time("exp").is_none_or(|exp| exp > now().timestamp() as f64));
    assert!(time("nbf").is_none_or(|nbf| nbf <= now().timestamp() as f64));
    let again = one.sign(&claims).expect("claims can be signed");
    let again = one.signed(&again).expect("our own JWT is accepted");
    assert!(same(&Value::Object(again), &Value::Object(claims)));
}

/// Criteria: as urlencoded text, and as JSON, against a file type that has one of every type.
pub fn criteria(input: &[u8]) {
    static DECLARED: LazyLock<Declared> = LazyLock::new(|| {
        let one = |(name, kind): (&str, Type)| Criterion {
            name: name.to_owned(),
            kind,
            list: matches!(kind, Type::Decimal | Type::Text),
            required: false,
            label: None,
            choices: match kind {
                Type::Choice => vec!["EWR".into(), "JFK".into()],
                _ => Vec::new(),
            },
            default: match kind {
                Type::Date => vec!["2013-12-31".into()],
                _ => Vec::new(),
            },
            min: match kind {
                Type::Integer => kind.parse("-5", Tz::UTC).ok(),
                Type::Decimal => kind.parse("-0.50", Tz::UTC).ok(),
                _ => None,
            },
            max: None,
        };
        Declared(Type::ALL.map(one).into())
    });
    let Ok(text) = std::str::from_utf8(input) else { return };
    let from_text = Criteria::from_query(text);
    let from_json = serde_json::from_str(text).ok().map(|json: Value| Criteria::from_json(&json));
    for read in [Some(from_text), from_json].into_iter().flatten() {
        let criteria = match read {
            Ok(criteria) => criteria,
            Err(error) => return names_fields(&error),
        };
        let again = Criteria::from_query(&criteria.encode()).expect("what was accepted is again");
        assert_eq!(again, criteria);
        match DECLARED.normalise(&criteria) {
            Ok(normal) => {
                let again = DECLARED.normalise(&normal).expect("the canonical text is accepted");
                assert_eq!(again, normal);
                let zone = Tz::Europe__Amsterdam;
                let here = DECLARED.parse(&criteria, zone).expect("a zone makes no criteria wrong");
                let again = DECLARED.parse(&normal, zone).expect("nor their canonical text");
                assert_eq!(here, again, "the canonical text stands for the same values");
            }
            Err(error) => names_fields(&error),
        }
    }
}

fn names_fields(error: &Error) {
    let Error::Invalid(fields) = error else { panic!("{error} is not the caller's fault") };
    assert!(!fields.is_empty());
    for one in fields {
        assert!(one.field == "criteria" || one.field.starts_with("criteria."), "{}", one.field);
    }
}

/// `NAME.toml`; after a line `%%`, `NAME.sql`.
pub fn definition(input: &[u8]) {
    thread_local! {
        static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (toml, sql) = match text.split_once("\n%%\n") {
        Some((toml, sql)) => (toml, Some(sql)),
        None => (text, None),
    };
    let loaded = FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().expect("a folder"));
        let path = folder.path().join("t.toml");
        fs::write(&path, toml).expect("a file");
        match sql {
            Some(sql) => fs::write(path.with_extension("sql"), sql).expect("a file"),
            None => drop(fs::remove_file(path.with_extension("sql"))),
        }
        Definition::load(&path).map_err(|error| (folder.path().display().to_string(), error))
    });
    let definition = match loaded {
        Ok(definition) => definition,
        Err((folder, error)) => {
            let Error::Config(faults) = error else { panic!("{error}") };
            for fault in faults.split('\n') {
                let place = fault.strip_prefix(&format!("{folder}/t.")).and_then(|rest| {
                    let (file, rest) = rest.split_once(':')?;
                    let (line, what) = rest.split_once(": ")?;
                    Some((file, line.parse::<usize>().ok()?, what))
                });
                let Some((file, line, what)) = place else { panic!("{fault:?} names no place") };
                let lines = match file {
                    "toml" => toml.matches('\n').count(),
                    "sql" => sql.unwrap_or_default().matches('\n').count(),
                    other => panic!("{fault:?} names {other:?}"),
                };
                assert!((1..=lines + 1).contains(&line), "{fault:?} is beyond the end");
                assert!(!what.trim().is_empty(), "{fault:?} says nothing");
            }
            return;
        }
    };
    assert!(!definition.formats.is_empty() && definition.max_attempts >= 1);
    let mut given = Vec::new();
    for one in &definition.criteria.0 {
        for text in one.default.iter().chain(&one.choices) {
            let value = one.parse(text, Tz::UTC);
            assert_eq!(value.expect("what is declared is allowed").canonical(), *text);
        }
        let pairs = one.default.iter().map(|text| (one.name.clone(), text.clone()));
        let criteria = Criteria::from_pairs(pairs).expect("defaults are criteria");
        let declared = Declared(vec![Criterion { required: false, ..one.clone() }]);
        given.extend(declared.parse(&criteria, Tz::UTC).expect("defaults are allowed"));
    }
    let day = NaiveDate::from_ymd_opt(2013, 12, 31).expect("a day");
    let name = definition.filename.render(&given, "csv", day);
    assert!(name.len() <= 200, "{name:?} is too long");
    assert!(!name.contains(|c: char| c.is_control() || "/\\\";".contains(c)), "{name:?}");
}

/// The SQL of a definition.
pub fn sql(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Statement::parse(text) {
        Ok(statement) => {
            for (name, offset) in statement.parameters() {
                assert!(text[offset..].starts_with(&format!(":{name}")));
            }
            let (same, names) = statement.rewrite(|name, _| format!(":{name}"));
            assert!(text.starts_with(&same), "{same:?} is not the beginning of {text:?}");
            let again = Statement::parse(&same).expect("the same statement");
            assert_eq!(again.parameters().count(), statement.parameters().count());
            let (numbered, _) = statement.rewrite(|_, n| format!("?{n}"));
            assert_eq!(numbered.is_empty(), same.is_empty());
            assert!(names.len() <= statement.parameters().count());
        }
        Err(fault) => {
            assert!(fault.offset <= text.len() && text.is_char_boundary(fault.offset));
            assert!(!fault.message.is_empty());
        }
    }
}

const ETAG: &str = "\"0123456789abcdef\"";

/// GET, a day after the file was made.
fn answer_to(headers: &HeaderMap, file: &Representation<'_>) -> Answer {
    parsers::answer(&Method::GET, headers, file, now() + TimeDelta::days(1))
}

fn file(size: u64) -> Representation<'static> {
    Representation { etag: ETAG, last_modified: now(), size }
}

/// `SIZE LF RANGE`.
pub fn range(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some((size, range)) = text.split_once('\n') else { return };
    let (Ok(size), Ok(value)) = (size.parse::<u64>(), HeaderValue::from_str(range)) else { return };
    let answer = answer_to(&HeaderMap::from_iter([(header::RANGE, value)]), &file(size));
    match answer {
        Answer::Whole => {}
        Answer::Part(from, to) => {
            assert!(from < to && to <= size, "{from}..{to} of {size}");
            // The same part, asked for by its numbers.
            let plain = format!("bytes={from}-{}", to - 1);
            let plain = HeaderValue::from_str(&plain).expect("ASCII");
            let headers = HeaderMap::from_iter([(header::RANGE, plain)]);
            assert_eq!(answer_to(&headers, &file(size)), answer);
        }
        Answer::NotSatisfiable => {
            // Of a file that has no end, everything but the last 0 bytes is a part.
            let headers = HeaderMap::from_iter([(
                header::RANGE,
                HeaderValue::from_str(range).expect("as before"),
            )]);
            let endless = answer_to(&headers, &file(u64::MAX));
            let beyond = range.bytes().filter(u8::is_ascii_digit).count() >= 20;
            let nothing = !range.bytes().any(|b| (b'1'..=b'9').contains(&b));
            assert!(matches!(endless, Answer::Part(..)) || beyond || nothing, "{range}");
        }
        Answer::NotModified | Answer::Failed => panic!("there is no condition"),
    }
}

/// Lines `NAME: VALUE` of the conditional headers.
pub fn if_range(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value))
        else {
            continue;
        };
        headers.insert(name, value);
    }
    let get = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let date = |text: &str| {
        let at = httpdate::parse_http_date(text).ok()?;
        Some(DateTime::<Utc>::from(at).timestamp())
    };
    let at = now().timestamp();
    let answer = answer_to(&headers, &file(100));
    match answer {
        Answer::Failed => {
            let ours = |tags: &str| tags.split(',').any(|tag| [ETAG, "*"].contains(&tag.trim()));
            // What is no list of tags has none of ours, whatever it looks like between commas.
            let is_tag = |tag: &str| {
                let tag = tag.trim().trim_start_matches("W/");
                tag.len() > 1
                    && tag.starts_with('"')
                    && tag.ends_with('"')
                    && tag.matches('"').count() == 2
            };
            let is_list = |tags: &str| tags.trim() == "*" || tags.split(',').all(is_tag);
            let time = get(header::IF_UNMODIFIED_SINCE).and_then(date).is_some_and(|t| t < at);
            assert!(get(header::IF_MATCH).map_or(time, |tags| !(is_list(tags) && ours(tags))));
        }
        Answer::NotModified => {
            let tags = get(header::IF_NONE_MATCH);
            let time = get(header::IF_MODIFIED_SINCE).and_then(date).is_some_and(|t| t >= at);
            assert!(tags.map_or(time, |tags| tags.contains(ETAG) || tags.contains('*')));
        }
        Answer::Part(..) | Answer::NotSatisfiable => {
            // Only the very file goes on.
            let validator = get(header::IF_RANGE);
            assert!(validator.is_none_or(|text| text == ETAG || date(text) == Some(at)));
            assert!(headers.contains_key(header::RANGE));
        }
        Answer::Whole => {}
    }
    // Without conditions the range alone decides; with `If-Range`, it or everything.
    let only = |names: &[HeaderName]| {
        let kept = names.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
        answer_to(&HeaderMap::from_iter(kept), &file(100))
    };
    let plain = only(&[header::RANGE]);
    let validated = only(&[header::RANGE, header::IF_RANGE]);
    assert!(validated == plain || validated == Answer::Whole);
    if !matches!(answer, Answer::Failed | Answer::NotModified) {
        assert_eq!(answer, validated);
    }
}

/// `Accept` in the first line, `Accept-Language` in the second.
pub fn accept(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (types, languages) = text.split_once('\n').unwrap_or((text, ""));
    // A header that is not ASCII counts as none.
    let html = |value: &str| {
        let value = HeaderValue::from_str(value).ok().filter(|value| value.to_str().is_ok())?;
        Some(parsers::wants_html(&HeaderMap::from_iter([(header::ACCEPT, value)])))
    };
    if let Some(wanted) = html(types) {
        assert!(!wanted || types.contains("text/html"));
        assert_eq!(html(&format!("text/html,{types}")), Some(true));
        assert_eq!(html(&format!("application/json,{types}")), Some(false));
    }
    if let Ok(value) = HeaderValue::from_str(languages) {
        let headers = HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, value)]);
        let language = parsers::language(&headers);
        assert!(is_language_tag(language));
        let named = languages.to_ascii_lowercase().contains(language);
        assert!(language == "en" || named, "{language} was not asked for");
    }
}

/// The cursor of the list of requests, and that of lists whose rows have numbers.
pub fn cursor(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(place) = parsers::before(Some(text)) {
        let number = place.expect("a cursor that was given");
        assert_eq!(parsers::before(Some(&number.to_string())).ok(), Some(Some(number)));
    }
    // As it stands, and as what a cursor has within.
    for cursor in [text.to_owned(), BASE64.encode(text)] {
        let Ok((at, id)) = parsers::read_cursor(&cursor) else { continue };
        assert!((1..=9999).contains(&at.year()), "not every database has a time like {at}");
        let mut row = NewFileRequest::new("t".parse().expect("a name")).into_row(at);
        row.id = RequestId(id.0);
        let again = parsers::read_cursor(&parsers::cursor(&row)).expect("our own cursor");
        assert_eq!(again, (at, id));
    }
}

/// Rates, lifetimes and lengths of time.
pub fn limits(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(rate) = text.parse::<Rate>() {
        assert_eq!(rate.to_string().parse(), Ok(rate));
        let now = now().timestamp_micros();
        let full_at = rate.admit(0, now).expect("the first call");
        assert!(full_at > now && full_at <= now + rate.period());
    }
    if let Ok(ttl) = text.parse::<TokenTtl>() {
        assert_eq!(ttl.to_string().parse(), Ok(ttl));
        assert_eq!(TokenTtl::end(ttl.seconds(), now()).is_some(), ttl != TokenTtl::Never);
    }
    if let Ok(length) = parse_duration(text) {
        assert_eq!(parse_duration(&format!("{}s", length.as_secs())), Ok(length));
    }
}
