//! Random conditions and ranges, answered by us and by nginx over the same files.
//!
//! Where the answers differ, a reading ([`READINGS`]) tells which part of the request means nothing, or
//! something simpler, by the RFC. It takes that part away or says it the simpler way, and nginx has
//! to answer that request exactly as we answered the first one.

use crate::support::TestApp;
use std::{
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    bytes, file,
    readings::READINGS,
    requests::{Case, FIELDS, Line, Random, SIZES},
    wire::{self, Answered, Asked, Connection, Stream},
};
use crate::support::{both, child::Process, eventually};

/// With each of the two databases; other ones with the second.
const ROUNDS: usize = 50_000;
/// Connections to each server.
const CONNECTIONS: usize = 4;
/// Requests that we get before an answer is read.
const AT_ONCE: usize = 64;

/// What is compared of an answer: of one with bytes, or that would have them, everything that
/// describes these. Of an error only the status and what `Content-Range` says; the page that nginx
/// sends with it, and the validators that we do, are nobody's business (15.5, 8.8).
#[derive(Debug, PartialEq, Eq)]
struct Compared {
    status: u16,
    content_range: Option<String>,
    length: Option<String>,
    tagged: bool,
    last_modified: Option<String>,
    /// The parts of a 206 by their places; the whole of a 200.
    parts: Vec<(Option<String>, Vec<u8>)>,
}

impl Compared {
    fn new(answer: Answered, own: &str, size: usize) -> Compared {
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let content_range = header("content-range");
        let status = answer.status;
        if status >= 400 {
            let (length, last_modified) = (None, None);
            return Compared {
                status,
                content_range,
                length,
                tagged: false,
                last_modified,
                parts: Vec::new(),
            };
        }
        let boundary = answer.header("content-type").and_then(|value| {
            value.strip_prefix("multipart/byteranges; boundary=").filter(|_| status == 206)
        });
        let parts = match boundary {
            _ if answer.body.is_empty() => Vec::new(),
            Some(boundary) => multipart(&answer.body, boundary),
            None => vec![(content_range.clone(), answer.body.clone())],
        };
        let tagged = answer.header("etag") == Some(own);
        // 304 may tell the length that 200 has, or none (8.6).
        let whole = size.to_string();
        let length = header("content-length").filter(|length| status != 304 || *length != whole);
        let last_modified = header("last-modified");
        Compared { status, content_range, length, tagged, last_modified, parts }
    }

    /// Whether each part is of the file.
    fn is_of(&self, bytes: &[u8]) -> bool {
        self.parts.iter().all(|(place, part)| {
            let Some(place) = place else { return part == bytes };
            let range = place.strip_prefix("bytes ").unwrap();
            let range = range.strip_suffix(&format!("/{}", bytes.len())).unwrap();
            let (first, last) = range.split_once('-').unwrap();
            part == &bytes[first.parse().unwrap()..=last.parse().unwrap()]
        })
    }

    fn short(&self) -> String {
        let parts: Vec<_> =
            self.parts.iter().map(|(at, bytes)| format!("{at:?}, {} bytes", bytes.len())).collect();
        let Compared { status, content_range, length, tagged, last_modified, .. } = self;
        format!(
            "{status}, range {content_range:?}, length {length:?}, tag {tagged}, {last_modified:?}, {parts:?}"
        )
    }
}

/// The parts of a multipart/byteranges body (14.6) by their places.
fn multipart(mut body: &[u8], boundary: &str) -> Vec<(Option<String>, Vec<u8>)> {
    let (delimiter, mut parts) = (format!("\r\n--{boundary}"), Vec::new());
    loop {
        body = body.strip_prefix(delimiter.as_bytes()).unwrap();
        if body == b"--\r\n" {
            return parts;
        }
        let end = body.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = std::str::from_utf8(&body[..end]).unwrap();
        let place = head.lines().find_map(|line| line.strip_prefix("Content-Range: ")).unwrap();
        let (first, last) = place[6..].split_once('/').unwrap().0.split_once('-').unwrap();
        let length = last.parse::<usize>().unwrap() + 1 - first.parse::<usize>().unwrap();
        parts.push((Some(place.to_owned()), body[end..end + length].to_vec()));
        body = &body[end + length..];
    }
}

/// A server with the files, and what it calls them.
struct Server<'a> {
    connection: Connection<'a>,
    paths: &'a [String],
    tags: Vec<String>,
}

impl<'a> Server<'a> {
    fn new(mut connection: Connection<'a>, paths: &'a [String]) -> Self {
        let heads: Vec<_> =
            paths.iter().map(|path| Asked { method: "HEAD", path, lines: String::new() }).collect();
        let tags =
            connection.ask(&heads).into_iter().map(|head| head.header("etag").unwrap().to_owned());
        Server { tags: tags.collect(), connection, paths }
    }

    fn ask(&mut self, cases: &[Case]) -> Vec<Compared> {
        let asked: Vec<_> = cases
            .iter()
            .map(|case| {
                let method = if case.head { "HEAD" } else { "GET" };
                let lines = case.lines.iter().map(|line| self.line(line, case.file)).collect();
                Asked { method, path: &self.paths[case.file], lines }
            })
            .collect();
        let answers = self.connection.ask(&asked);
        let compared = |(answer, case): (_, &Case)| {
            Compared::new(answer, &self.tags[case.file], SIZES[case.file])
        };
        answers.into_iter().zip(cases).map(compared).collect()
    }

    fn line(&self, line: &Line, file: usize) -> String {
        let own = &self.tags[file];
        let name = FIELDS.iter().find(|(field, _)| *field == line.field).unwrap().1;
        let text = line.text.replace("OWN", own).replace("BARE", own.trim_matches('"'));
        format!("{name}: {text}\r\n")
    }
}

/// How often answers were alike, and how often each reading alone explained why not; the last
/// number is of those that took several.
type Tally = (usize, [usize; READINGS.len()], usize);

fn compare(
    ours: &mut Server<'_>,
    nginx: &mut Server<'_>,
    cases: &[Case],
    files: &[Vec<u8>],
) -> Tally {
    let mut tally = (0, [0; READINGS.len()], 0);
    for cases in cases.chunks(AT_ONCE) {
        let (found, theirs) = (ours.ask(cases), nginx.ask(cases));
        for ((case, found), theirs) in cases.iter().zip(found).zip(theirs) {
            if found == theirs {
                tally.0 += 1;
                continue;
            }
            let bytes = &files[case.file];
            let mut both = case.clone();
            let (mut readings, mut reworded) = (Vec::new(), Vec::new());
            for (number, reading) in READINGS.iter().enumerate() {
                reworded.extend((reading.reworded)(case).inspect(|_| readings.push(number)));
                both = (reading.reworded)(&both).unwrap_or(both);
            }
            reworded.push(both);
            let again = nginx.ask(&reworded);
            let explained = again.iter().position(|theirs| *theirs == found);
            let of_the_file = found.is_of(bytes) && theirs.is_of(bytes);
            match explained.filter(|_| of_the_file).map(|at| readings.get(at)) {
                Some(Some(reading)) => tally.1[*reading] += 1,
                Some(None) => tally.2 += 1,
                None => {
                    let why: Vec<_> = readings.iter().map(|at| READINGS[*at].why).collect();
                    let last = again.last().map(Compared::short);
                    let (found, theirs) = (found.short(), theirs.short());
                    panic!(
                        "not explained: {case:#?}\nours:  {found}\nnginx: {theirs}\nreadings: {why:#?}\nnginx, asked {:#?}: {last:?}",
                        reworded.last()
                    );
                }
            }
        }
    }
    // nginx ends it after 400 and 412.
    assert_eq!(ours.connection.opened, 1, "ours is kept");
    tally
}

/// nginx over a folder, behind a socket in it.
async fn nginx(folder: &Path) -> Process {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {name};\n"))
        .concat();
    // `before` is what the RFC wants of If-Modified-Since; `exact` is the default.
    let settings = format!(
        "daemon off; master_process off; pid pid; error_log stderr crit;
        events {{ worker_connections 64; }}
        http {{
            {temporary}
            access_log off;
            if_modified_since before;
            keepalive_requests 1000000; keepalive_timeout 1h;
            server {{ listen unix:{0}/socket; root {0}/files; }}
        }}",
        folder.display()
    );
    std::fs::write(folder.join("nginx.conf"), settings).unwrap();
    // Debian has it where only root looks.
    let path = std::env::var("PATH").unwrap() + ":/usr/sbin";
    let child = Command::new("nginx")
        .env("PATH", path)
        .arg("-p")
        .arg(folder)
        .args(["-c", "nginx.conf", "-e", "stderr"])
        .stdin(Stdio::null())
        .spawn()
        .expect("nginx is there (scripts/test brings it)");
    let process = Process(child);
    let socket = folder.join("socket");
    eventually("nginx listens", 10, async || UnixStream::connect(&socket).ok()).await;
    process
}

both!(random_conditions_are_answered_as_nginx_does_or_it_is_known_why_not);
async fn random_conditions_are_answered_as_nginx_does_or_it_is_known_why_not(app: TestApp) {
    let files = SIZES.map(bytes);
    let folder = app.dir.path().join("nginx");
    std::fs::create_dir_all(folder.join("files")).unwrap();
    let (mut links, mut paths) = (Vec::new(), Vec::new());
    for (number, bytes) in files.iter().enumerate() {
        links.push(app.link(&file(&app, bytes).await));
        paths.push(format!("/{number}"));
        let path = folder.join("files").join(number.to_string());
        std::fs::write(&path, bytes).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(app.toolbox.clock().now().into()).unwrap();
    }
    app.advance(60);
    let _nginx = nginx(&folder).await;
    let long = Duration::from_secs(60);
    let limits = bgfiles::web::server::Limits { header: long, write: long, drain: long };
    let state = bgfiles::web::WebState::new(app.toolbox.clone());
    let address = app.serve_with(state, limits).await;
    let socket = folder.join("socket");
    let seed = 0x9E37_79B9_7F4A_7C15 ^ app.kind as u64;
    let tallies = tokio::task::spawn_blocking(move || {
        let mut random = Random(seed);
        let cases: Vec<_> = (0..ROUNDS).map(|_| random.case()).collect();
        std::thread::scope(|scope| {
            let each = cases.chunks(ROUNDS.div_ceil(CONNECTIONS)).map(|cases| {
                let (links, paths, files, socket) = (&links, &paths, &files, &socket);
                scope.spawn(move || {
                    let ours = Connection::new(AT_ONCE, || wire::tcp(address));
                    let mut ours = Server::new(ours, links);
                    let connect =
                        || Box::new(UnixStream::connect(socket).unwrap()) as Box<dyn Stream>;
                    // Once a socket is full, it sends the file after 412.
                    let mut nginx = Server::new(Connection::new(1, connect), paths);
                    compare(&mut ours, &mut nginx, cases, files)
                })
            });
            let each: Vec<_> = each.collect();
            each.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<Tally>>()
        })
    });
    let tallies = tallies.await.unwrap();
    let alike: usize = tallies.iter().map(|tally| tally.0).sum();
    let several: usize = tallies.iter().map(|tally| tally.2).sum();
    let mut total = alike + several;
    for (number, reading) in READINGS.iter().enumerate() {
        let seen: usize = tallies.iter().map(|tally| tally.1[number]).sum();
        assert!(seen > 0, "nginx agrees: {}", reading.why);
        total += seen;
    }
    assert_eq!(total, ROUNDS);
    assert!(alike > ROUNDS / 2, "{alike}");
}
