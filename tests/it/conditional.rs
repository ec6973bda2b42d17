//! Conditions (RFC 9110, section 13) and ranges (section 14) of downloads: the cases of the RFC one
//! by one, and random ones beside nginx.

mod nginx;
mod readings;
mod requests;
mod wire;

use bgfiles::{FileRequest, Toolbox, storage::Storage, toolbox::FileOverrides};
use wire::{Answered, Asked, Connection};

use crate::support::{TestApp, app::Parts, both, eventually, s3};

/// When the file was made; a Sunday.
const MADE: &str = "Sun, 01 Mar 2026 12:00:00 GMT";

/// A file with no two stretches alike.
fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 7 + i / 251) as u8).collect()
}

async fn file(app: &TestApp, bytes: &[u8]) -> FileRequest {
    let row = app.request("hello", "").await;
    let named = FileOverrides { filename: "a.txt".into(), ..FileOverrides::default() };
    app.toolbox.attach_file(row.id, bytes, named).await.unwrap()
}

fn own(row: &FileRequest) -> String {
    format!("\"{}\"", row.sha256.as_deref().unwrap())
}

/// Section and case; the lines of the request, of GET unless HEAD stands before them; the answer:
/// `200`, `206 FIRST-LAST`, `304`, `412` or `416`.
///
/// `OWN` is the tag of the file, `SIZE` its size, `LAST` its last position, `TENTH` the tenth before
/// the end. It was made on Sunday, 1 March 2026, 12:00:00, and that is a minute ago.
const CASES: &[(&str, &str, &str)] = &[
    ("no condition", "", "200"),
    ("13.1.1 any file will do", "If-Match: *", "200"),
    ("13.1.1 the tag", "If-Match: OWN", "200"),
    ("13.1.1 one of a list", "If-Match: \"x\", OWN, \"y\"", "200"),
    ("13.1.1 another tag", "If-Match: \"x\"", "412"),
    ("13.1.1 strong comparison", "If-Match: W/OWN", "412"),
    ("13.1.1 strong comparison in a list", "If-Match: W/OWN, OWN", "200"),
    ("13.1.1 an empty list", "If-Match:", "412"),
    ("13.1.1 and a range", "If-Match: OWN\nRange: bytes=0-4", "206 0-4"),
    ("13.1.1 fails before the range", "If-Match: \"x\"\nRange: bytes=0-4", "412"),
    ("13.1.1 HEAD", "HEAD\nIf-Match: \"x\"", "412"),
    ("13.1.2 any file", "If-None-Match: *", "304"),
    ("13.1.2 the tag", "If-None-Match: OWN", "304"),
    ("13.1.2 weak comparison", "If-None-Match: W/OWN", "304"),
    ("13.1.2 one of a list", "If-None-Match: \"x\", W/\"y\", OWN", "304"),
    ("13.1.2 another tag", "If-None-Match: \"x\"", "200"),
    ("13.1.2 an empty list", "If-None-Match:", "200"),
    ("13.1.2 HEAD", "HEAD\nIf-None-Match: OWN", "304"),
    ("13.1.2 before the range", "If-None-Match: OWN\nRange: bytes=0-4", "304"),
    ("13.1.2 before a range beyond the end", "If-None-Match: OWN\nRange: bytes=SIZE-", "304"),
    ("13.1.2 and a range", "If-None-Match: \"x\"\nRange: bytes=0-4", "206 0-4"),
    ("5.3 a list on two lines", "If-None-Match: \"x\"\nIf-None-Match: OWN", "304"),
    ("5.3 a list on two lines", "If-Match: \"x\"\nIf-Match: OWN", "200"),
    ("5.6.1 empty elements", "If-None-Match: ,\t, OWN ,", "304"),
    ("8.8.3 a comma within a tag", "If-None-Match: \"a,b\", OWN", "304"),
    ("8.8.3 a star within a tag", "If-None-Match: \"a,*,b\"", "200"),
    ("8.8.3 a star within a tag", "If-Match: \"a,*,b\"", "412"),
    ("8.8.3 not only ASCII", "If-Match: \"é\"", "412"),
    ("8.8.3 not only ASCII", "If-None-Match: \"é\", OWN", "304"),
    ("8.8.3 a star is no tag", "If-None-Match: W/*", "200"),
    ("8.8.3 a star is no tag", "If-Match: \"x\", *", "412"),
    ("8.8.3 a tag has quotes", "If-Match: BARE", "412"),
    ("8.8.3 a tag has an end", "If-Match: \"x,OWN", "412"),
    ("8.8.3 a tag has an end", "If-Match: OWNx", "412"),
    ("8.8.3 weakness is upper case", "If-None-Match: w/OWN", "200"),
    ("13.1.3 made then", "If-Modified-Since: Sun, 01 Mar 2026 12:00:00 GMT", "304"),
    ("13.1.3 made earlier", "If-Modified-Since: Sun, 01 Mar 2026 12:00:01 GMT", "304"),
    ("13.1.3 made later", "If-Modified-Since: Sun, 01 Mar 2026 11:59:59 GMT", "200"),
    ("13.1.3 a date to come", "If-Modified-Since: Thu, 01 Mar 2040 12:00:00 GMT", "304"),
    ("13.1.3 HEAD", "HEAD\nIf-Modified-Since: Sun, 01 Mar 2026 12:00:00 GMT", "304"),
    ("13.1.3 no date", "If-Modified-Since: today", "200"),
    ("13.1.3 nothing", "If-Modified-Since:", "200"),
    (
        "13.1.3 two dates",
        "If-Modified-Since: Sun, 01 Mar 2026 12:00:00 GMT\nIf-Modified-Since: Sun, 01 Mar 2026 12:00:00 GMT",
        "200",
    ),
    (
        "13.1.3 two dates in a line",
        "If-Modified-Since: Sun, 01 Mar 2026 12:00:00 GMT, Sun, 01 Mar 2026 12:00:00 GMT",
        "200",
    ),
    (
        "13.1.3 beside a tag that matches",
        "If-None-Match: OWN\nIf-Modified-Since: Sun, 01 Mar 2020 12:00:00 GMT",
        "304",
    ),
    (
        "13.1.3 beside a tag that does not",
        "If-None-Match: \"x\"\nIf-Modified-Since: Sun, 01 Mar 2026 12:00:00 GMT",
        "200",
    ),
    (
        "13.1.3 beside a tag not only of ASCII",
        "If-None-Match: \"é\"\nIf-Modified-Since: Sun, 01 Mar 2026 12:00:00 GMT",
        "200",
    ),
    ("5.6.7 of RFC 850", "If-Modified-Since: Sunday, 01-Mar-26 12:00:00 GMT", "304"),
    ("5.6.7 of RFC 850, earlier", "If-Modified-Since: Sunday, 01-Mar-26 11:59:59 GMT", "200"),
    ("5.6.7 of asctime", "If-Modified-Since: Sun Mar  1 12:00:00 2026", "304"),
    ("5.6.7 of asctime, two digits", "If-Modified-Since: Sun Mar 01 12:00:00 2026", "304"),
    ("5.6.7 of asctime, earlier", "If-Modified-Since: Sun Mar  1 11:59:59 2026", "200"),
    ("5.6.7 44 years ahead", "If-Modified-Since: Saturday, 01-Mar-70 12:00:00 GMT", "304"),
    (
        "5.6.7 56 years ago, says the weekday",
        "If-Modified-Since: Thursday, 01-Jan-70 00:00:00 GMT",
        "200",
    ),
    (
        "5.6.7 no more than 50 years ahead",
        "If-Unmodified-Since: Tuesday, 01-Mar-77 12:00:00 GMT",
        "412",
    ),
    ("5.6.7 not 51 years ahead", "If-Modified-Since: Monday, 01-Mar-77 12:00:00 GMT", "200"),
    ("5.6.7 a leap second", "If-Modified-Since: Sun, 01 Mar 2026 12:00:60 GMT", "304"),
    ("5.6.7 before 1970", "If-Unmodified-Since: Fri, 01 Jan 1960 00:00:00 GMT", "412"),
    ("5.6.7 another zone", "If-Modified-Since: Sun, 01 Mar 2026 12:00:00 UTC", "200"),
    ("5.6.7 an offset", "If-Modified-Since: Sun, 01 Mar 2026 12:00:00 +0000", "200"),
    ("5.6.7 one digit", "If-Modified-Since: Sun, 1 Mar 2026 12:00:00 GMT", "200"),
    ("5.6.7 case", "If-Modified-Since: sun, 01 mar 2026 12:00:00 gmt", "200"),
    ("5.6.7 another weekday", "If-Modified-Since: Mon, 01 Mar 2026 12:00:00 GMT", "200"),
    ("5.6.7 no such day", "If-Modified-Since: Tue, 31 Feb 2026 12:00:00 GMT", "200"),
    ("5.6.7 ISO 8601", "If-Modified-Since: 2026-03-01T12:00:00Z", "200"),
    ("13.1.4 made then", "If-Unmodified-Since: Sun, 01 Mar 2026 12:00:00 GMT", "200"),
    ("13.1.4 made earlier", "If-Unmodified-Since: Sun, 01 Mar 2026 12:00:01 GMT", "200"),
    ("13.1.4 made later", "If-Unmodified-Since: Sun, 01 Mar 2026 11:59:59 GMT", "412"),
    ("13.1.4 no date", "If-Unmodified-Since: today", "200"),
    (
        "13.1.4 two dates",
        "If-Unmodified-Since: Sun, 01 Mar 2020 12:00:00 GMT\nIf-Unmodified-Since: Sun, 01 Mar 2020 12:00:00 GMT",
        "200",
    ),
    (
        "13.1.4 beside a tag that matches",
        "If-Match: OWN\nIf-Unmodified-Since: Sun, 01 Mar 2020 12:00:00 GMT",
        "200",
    ),
    (
        "13.1.4 beside a tag that does not",
        "If-Match: \"x\"\nIf-Unmodified-Since: Sun, 01 Mar 2026 12:00:00 GMT",
        "412",
    ),
    ("13.2.2 If-Match first", "If-None-Match: OWN\nIf-Match: \"x\"", "412"),
    (
        "13.2.2 If-Unmodified-Since first",
        "If-None-Match: OWN\nIf-Unmodified-Since: Sun, 01 Mar 2020 12:00:00 GMT",
        "412",
    ),
    ("13.2.2 then If-None-Match", "If-Match: OWN\nIf-None-Match: OWN", "304"),
    (
        "13.2.2 all hold",
        "If-Match: OWN\nIf-None-Match: \"x\"\nIf-Range: OWN\nRange: bytes=0-4",
        "206 0-4",
    ),
    ("13.2.2 If-Range last", "If-None-Match: OWN\nIf-Range: \"x\"\nRange: bytes=0-4", "304"),
    ("13.1.5 the tag", "If-Range: OWN\nRange: bytes=0-4", "206 0-4"),
    ("13.1.5 a weak tag", "If-Range: W/OWN\nRange: bytes=0-4", "200"),
    ("13.1.5 another tag", "If-Range: \"x\"\nRange: bytes=0-4", "200"),
    ("13.1.5 no list", "If-Range: \"x\", OWN\nRange: bytes=0-4", "200"),
    ("13.1.5 no star", "If-Range: *\nRange: bytes=0-4", "200"),
    ("13.1.5 nothing", "If-Range:\nRange: bytes=0-4", "200"),
    ("13.1.5 the date", "If-Range: Sun, 01 Mar 2026 12:00:00 GMT\nRange: bytes=0-4", "206 0-4"),
    ("13.1.5 the date of old", "If-Range: Sun Mar  1 12:00:00 2026\nRange: bytes=0-4", "206 0-4"),
    ("13.1.5 a later date", "If-Range: Sun, 01 Mar 2026 12:00:01 GMT\nRange: bytes=0-4", "200"),
    ("13.1.5 an earlier date", "If-Range: Sun, 01 Mar 2026 11:59:59 GMT\nRange: bytes=0-4", "200"),
    ("13.1.5 neither", "If-Range: x\nRange: bytes=0-4", "200"),
    ("13.1.5 two lines", "If-Range: OWN\nIf-Range: OWN\nRange: bytes=0-4", "200"),
    ("13.1.5 no range", "If-Range: \"x\"", "200"),
    ("13.1.5 before the end is looked at", "If-Range: \"x\"\nRange: bytes=SIZE-", "200"),
    ("13.1.5 and a range beyond the end", "If-Range: OWN\nRange: bytes=SIZE-", "416"),
    ("14.1 case of the unit", "Range: BYTES=0-4", "206 0-4"),
    ("14.1.2 the first byte", "Range: bytes=0-0", "206 0-0"),
    ("14.1.2 in the middle", "Range: bytes=300-699", "206 300-699"),
    ("14.1.2 leading zeros", "Range: bytes=0005-009", "206 5-9"),
    ("14.1.2 the last byte", "Range: bytes=LAST-LAST", "206 LAST-LAST"),
    ("14.1.2 an open end", "Range: bytes=5-", "206 5-LAST"),
    ("14.1.2 all", "Range: bytes=0-", "206 0-LAST"),
    ("14.1.2 all and no more", "Range: bytes=0-LAST", "206 0-LAST"),
    ("14.1.2 beyond the end", "Range: bytes=5-SIZE", "206 5-LAST"),
    ("14.1.2 far beyond the end", "Range: bytes=5-99999999999999999999999", "206 5-LAST"),
    ("14.1.2 a suffix", "Range: bytes=-10", "206 TENTH-LAST"),
    ("14.1.2 a suffix of all", "Range: bytes=-SIZE", "206 0-LAST"),
    ("14.1.2 a longer suffix", "Range: bytes=-99999999999999999999999", "206 0-LAST"),
    ("14.1.2 an empty suffix", "Range: bytes=-0", "416"),
    ("14.1.2 from the end", "Range: bytes=SIZE-", "416"),
    ("14.1.2 from the end to beyond", "Range: bytes=SIZE-99999999", "416"),
    ("14.1.2 from far beyond", "Range: bytes=99999999999999999999999-", "416"),
    ("14.1.1 empty elements", "Range: bytes=, 0-4 ,", "206 0-4"),
    ("14.1.1 nothing but commas", "Range: bytes=,,", "200"),
    ("14.1.1 last before first", "Range: bytes=9-5", "200"),
    ("14.1.1 no numbers", "Range: bytes=a-b", "200"),
    ("14.1.1 hexadecimal", "Range: bytes=0x0-0x4", "200"),
    ("14.1.1 a sign", "Range: bytes=+0-4", "200"),
    ("14.1.1 two signs", "Range: bytes=--4", "200"),
    ("14.1.1 a third number", "Range: bytes=0-4-5", "200"),
    ("14.1.1 no hyphen", "Range: bytes=5", "200"),
    ("14.1.1 a hyphen alone", "Range: bytes=-", "200"),
    ("14.1.1 blanks within", "Range: bytes=0 - 4", "200"),
    ("14.1.1 blanks before the sign", "Range: bytes =0-4", "200"),
    ("14.1.1 no ranges", "Range: bytes=", "200"),
    ("14.1.1 no sign", "Range: bytes", "200"),
    ("14.1.1 no unit", "Range: =0-4", "200"),
    ("14.1.1 nothing", "Range:", "200"),
    ("14.2 a unit of others", "Range: lines=0-4", "200"),
    ("14.2 no unit", "Range: none=0-4", "200"),
    ("14.2 two lines", "Range: bytes=0-4\nRange: bytes=0-4", "200"),
    ("14.2 HEAD", "HEAD\nRange: bytes=0-4", "200"),
    ("14.2 HEAD beyond the end", "HEAD\nRange: bytes=SIZE-", "200"),
    ("14.2 HEAD with a condition", "HEAD\nRange: bytes=0-4\nIf-Range: OWN", "200"),
    // Nobody resumes with several; they may be ignored, and a multipart answer is never made.
    ("14.2 several", "Range: bytes=0-4,10-14", "200"),
    ("14.2 several that overlap", "Range: bytes=0-4,0-4,2-9", "200"),
    ("14.2 several beyond the end", "Range: bytes=SIZE-,SIZE-", "200"),
    ("14.2 one of several beyond the end", "Range: bytes=0-4,SIZE-", "200"),
    ("14.2 one of several is none", "Range: bytes=0-4,x", "200"),
];

/// The same of a file without bytes.
const OF_NOTHING: &[(&str, &str, &str)] = &[
    ("no condition", "", "200"),
    ("14.1.2 all", "Range: bytes=0-", "416"),
    ("14.1.2 a byte", "Range: bytes=0-0", "416"),
    ("14.1.2 a suffix, of which nothing can be told", "Range: bytes=-5", "200"),
    ("14.1.2 an empty suffix", "Range: bytes=-0", "416"),
    ("13.1.2 the tag", "If-None-Match: OWN\nRange: bytes=0-", "304"),
    ("13.1.5 another tag", "If-Range: \"x\"\nRange: bytes=0-", "200"),
    ("14.2 HEAD", "HEAD\nRange: bytes=0-", "200"),
];

struct Table<'a> {
    row: &'a FileRequest,
    bytes: &'a [u8],
    connection: Connection<'a>,
    path: String,
    /// Lines that each request has besides.
    lines: &'a str,
}

impl Table<'_> {
    fn check(&mut self, cases: &[(&str, &str, &str)]) {
        let (size, own) = (self.bytes.len(), own(self.row));
        let fill = |text: &str| {
            text.replace("OWN", &own)
                .replace("BARE", own.trim_matches('"'))
                .replace("SIZE", &size.to_string())
                .replace("LAST", &size.wrapping_sub(1).to_string())
                .replace("TENTH", &size.wrapping_sub(10).to_string())
        };
        let asked: Vec<_> = cases
            .iter()
            .map(|(_, lines, _)| {
                let (head, lines) =
                    lines.strip_prefix("HEAD\n").map_or((false, *lines), |rest| (true, rest));
                let lines: String =
                    lines.lines().map(|line| format!("{}\r\n", fill(line))).collect();
                let method = if head { "HEAD" } else { "GET" };
                Asked { method, path: &self.path, lines: self.lines.to_owned() + &lines }
            })
            .collect();
        let answers = self.connection.ask(&asked);
        for (((name, lines, expected), asked), answer) in cases.iter().zip(&asked).zip(&answers) {
            let found = self.summary(answer, asked.method);
            assert_eq!(found, fill(expected), "{size} bytes, {name}: {lines}");
        }
    }

    /// The answer in short, once everything about it is as it should be.
    fn summary(&self, answer: &Answered, method: &str) -> String {
        let size = self.bytes.len();
        let header = |name: &str| answer.header(name);
        for (name, value) in [
            ("etag", own(self.row).as_str()),
            ("last-modified", MADE),
            ("cache-control", "private, no-store, no-transform"),
            ("vary", "Accept"),
        ] {
            assert_eq!(header(name), Some(value), "{answer:?}");
        }
        assert!(header("date").is_some());
        let about = ["content-type", "content-disposition"].map(|name| header(name).is_some());
        assert_eq!(about, [answer.status != 304; 2], "section 15.4.5");
        let length = header("content-length").map(|length| length.parse::<usize>().unwrap());
        let ranges = header("accept-ranges");
        match (answer.status, header("content-range")) {
            (200, None) => {
                assert_eq!((length, ranges), (Some(size), Some("bytes")));
                let sent = if method == "HEAD" { &self.bytes[..0] } else { self.bytes };
                assert!(answer.body == sent);
                "200".into()
            }
            (206, Some(range)) => {
                let range = range.strip_prefix("bytes ").unwrap();
                let range = range.strip_suffix(&format!("/{size}")).unwrap();
                let (first, last) = range.split_once('-').unwrap();
                let [first, last] = [first, last].map(|text| text.parse::<usize>().unwrap());
                assert_eq!((length, ranges), (Some(last + 1 - first), Some("bytes")));
                assert!(answer.body == self.bytes[first..=last]);
                format!("206 {first}-{last}")
            }
            (304, None) => {
                assert!([None, Some(size)].contains(&length), "section 8.6: {length:?}");
                "304".into()
            }
            (412, None) => "412".into(),
            (416, Some(range)) => {
                assert_eq!(range, format!("bytes */{size}"), "section 14.4");
                "416".into()
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Checks all cases against a file of so many bytes.
async fn conforms(app: &TestApp, size: usize, lines: &'static str) -> FileRequest {
    let bytes = bytes(size);
    let row = file(app, &bytes).await;
    app.advance(60);
    again(app, row.clone(), bytes, lines).await;
    // The next file is made at the same time of the day.
    app.advance(-60);
    row
}

async fn again(app: &TestApp, row: FileRequest, bytes: Vec<u8>, lines: &'static str) {
    let (address, path) = (app.serve().await, app.link(&row));
    let cases = if bytes.is_empty() { OF_NOTHING } else { CASES };
    let checked = tokio::task::spawn_blocking(move || {
        let connection = Connection::new(16, || wire::tcp(address));
        Table { row: &row, bytes: &bytes, connection, path, lines }.check(cases);
    });
    checked.await.unwrap();
}

/// Kept in memory, as is the link.
async fn is_kept(toolbox: &Toolbox, path: &str) -> bool {
    let token = path.rsplit('/').next().unwrap();
    let link = toolbox.recall_link(token, None).await;
    link.is_some_and(|link| link.file.remembered().is_some())
}

const SMALL: usize = 1_000;
/// More than is kept in memory.
const LARGE: usize = 100_000;

both!(files_of_a_folder_are_answered_as_the_rfc_says);
async fn files_of_a_folder_are_answered_as_the_rfc_says(app: TestApp) {
    for size in [0, SMALL, LARGE] {
        conforms(&app, size, "").await;
    }
}

both!(small_files_in_memory_are_answered_as_the_rfc_says);
async fn small_files_in_memory_are_answered_as_the_rfc_says(app: TestApp) {
    // A header that nobody understands sends it the long way.
    let row = conforms(&app, SMALL, "Authorization: Basic eDp5\r\n").await;
    app.advance(60);
    let path = app.link(&row);
    let url = format!("http://{}{path}", app.serve().await);
    eventually("it is kept", 5, async || {
        app.http.get(&url).send().await.unwrap();
        is_kept(&app.toolbox, &path).await.then_some(())
    })
    .await;
    again(&app, row, bytes(SMALL), "").await;
    assert!(is_kept(&app.toolbox, &path).await);
}

both!(files_of_other_stores_are_answered_as_the_rfc_says);
async fn files_of_other_stores_are_answered_as_the_rfc_says(app: TestApp) {
    let endpoint = s3::serve(&app.dir.path().join("s3")).await;
    for storage in [Storage::open("memory:", &[]).unwrap(), s3::storage(&endpoint, s3::SECRET)] {
        let parts = Parts { storage: Some(storage), ..Parts::default() };
        let app = TestApp::with(app.kind, parts).await;
        for size in [0, SMALL, LARGE] {
            conforms(&app, size, "").await;
        }
    }
}

both!(a_date_lets_a_download_go_on_once_its_second_is_over);
// Section 8.8.2.2: within its second, the date may become that of another file.
async fn a_date_lets_a_download_go_on_once_its_second_is_over(app: TestApp) {
    let row = file(&app, &bytes(SMALL)).await;
    let url = format!("http://{}{}", app.serve().await, app.link(&row));
    for (after, status) in [(0, 200), (1, 206)] {
        app.advance(after);
        let ask = app.http.get(&url).header("range", "bytes=0-4").header("if-range", MADE);
        assert_eq!(ask.send().await.unwrap().status(), status, "{after} s");
    }
}

both!(what_is_refused_is_refused_whatever_the_conditions);
// Section 13.2.1: conditions are about answers that would be good without them.
async fn what_is_refused_is_refused_whatever_the_conditions(app: TestApp) {
    let row = file(&app, &bytes(SMALL)).await;
    let base = format!("http://{}", app.serve().await);
    let pending = app.request("hello", "").await;
    for (path, status) in [("/d/x".to_owned(), 400), (app.link(&pending), 404)] {
        for (name, value) in [
            ("if-none-match", "*"),
            ("if-match", "\"x\""),
            ("range", "bytes=9999-"),
            ("if-unmodified-since", "Sun, 01 Mar 2020 12:00:00 GMT"),
        ] {
            let ask = app.http.get(format!("{base}{path}")).header(name, value);
            assert_eq!(ask.send().await.unwrap().status(), status, "{path} {name}");
        }
    }
    let link = app.link(&row);
    app.toolbox.delete(row.id).await.unwrap();
    let ask = app.http.get(format!("{base}{link}")).header("if-none-match", own(&row));
    assert_eq!(ask.send().await.unwrap().status(), 404);
}

both!(no_file_is_younger_than_the_answer);
// Section 8.8.2.1: a worker whose clock is ahead makes files that are not made yet.
async fn no_file_is_younger_than_the_answer(app: TestApp) {
    let row = file(&app, &bytes(SMALL)).await;
    app.advance(-5);
    let url = format!("http://{}{}", app.serve().await, app.link(&row));
    let answer = app.http.get(&url).send().await.unwrap();
    assert_eq!(answer.headers()["last-modified"], "Sun, 01 Mar 2026 11:59:55 GMT");
}
