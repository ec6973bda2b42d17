//! HTTP/1.1 by hand: requests as they are written here, many at once on one connection.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    time::Duration,
};

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

pub fn tcp(address: std::net::SocketAddr) -> Box<dyn Stream> {
    let stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    Box::new(stream)
}

/// One request without its body.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// Lines of the head, each with its end.
    pub lines: String,
}

#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answered {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The next answer, with its body; `None` when the connection ended before it.
    fn read(from: &mut impl BufRead, asked: &Asked<'_>) -> Option<Answered> {
        match from.fill_buf() {
            Ok([_, ..]) => {}
            Ok([]) => return None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{asked:?}: {error}"),
        }
        let mut line = || {
            let mut line = String::new();
            let read = from.read_line(&mut line);
            assert!(line.ends_with("\r\n"), "{asked:?}: {line:?}, {read:?}");
            line.truncate(line.len() - 2);
            line
        };
        let status = line().strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let mut headers = HashMap::new();
        while let Some((name, value)) = line().split_once(": ") {
            let twice = headers.insert(name.to_ascii_lowercase(), value.to_owned());
            assert!(twice.is_none(), "{name} stands there twice");
        }
        let bodiless = asked.method == "HEAD" || status == 304;
        let length = (!bodiless).then(|| headers["content-length"].parse().unwrap());
        let mut body = vec![0; length.unwrap_or(0)];
        from.read_exact(&mut body).unwrap();
        Some(Answered { status, headers, body })
    }
}

/// A kept connection, made anew when the other side ended it.
pub struct Connection<'a> {
    connect: Box<dyn Fn() -> Box<dyn Stream> + 'a>,
    open: Option<BufReader<Box<dyn Stream>>>,
    /// Requests that are sent before an answer is read.
    at_once: usize,
    /// How many it has been.
    pub opened: usize,
}

impl<'a> Connection<'a> {
    pub fn new(at_once: usize, connect: impl Fn() -> Box<dyn Stream> + 'a) -> Self {
        Connection { connect: Box::new(connect), open: None, at_once, opened: 0 }
    }

    /// Asks for all of them. What is not answered when the connection ends is sent again.
    pub fn ask(&mut self, requests: &[Asked<'_>]) -> Vec<Answered> {
        let mut answers = Vec::with_capacity(requests.len());
        while answers.len() < requests.len() {
            let before = answers.len();
            let left = &requests[before..];
            let left = &left[..left.len().min(self.at_once)];
            let text: String = left
                .iter()
                .map(|Asked { method, path, lines }| {
                    format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
                })
                .collect();
            let fresh = self.open.is_none();
            let stream = self.open.get_or_insert_with(|| {
                self.opened += 1;
                BufReader::new((self.connect)())
            });
            // What cannot be sent is not answered.
            let _ = stream.get_mut().write_all(text.as_bytes());
            let found = left.iter().map_while(|asked| Answered::read(stream, asked));
            answers.extend(found);
            assert!(answers.len() > before || !fresh, "no answer to {:?}", left[0]);
            if answers.len() < before + left.len() {
                self.open = None;
            }
        }
        answers
    }
}
