//! A real Chromium without a window, by chromedriver.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use super::child::Process;

/// The driver; each [`Chrome::open`] is a browser of its own, with cookies of its own.
pub struct Chrome {
    url: String,
    _process: Process,
}

/// A browser.
pub struct Browser(pub Client);

impl Chrome {
    pub fn start() -> Chrome {
        let mut child = Command::new("chromedriver")
            .args(["--port=0", "--allowed-ips=127.0.0.1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is missing: run the tests by scripts/test");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("chromedriver says its port").unwrap();
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // Whoever does not read, makes it wait.
        std::thread::spawn(move || lines.for_each(drop));
        Chrome { url: format!("http://127.0.0.1:{port}"), _process: Process(child) }
    }

    pub async fn open(&self) -> Browser {
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "pageLoadStrategy": "normal",
            "timeouts": { "script": 20_000 },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!() };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        Browser(builder.connect(&self.url).await.expect("a browser"))
    }
}

impl Browser {
    pub async fn goto(&self, url: &str) {
        self.0.goto(url).await.unwrap();
    }

    /// Runs the body of an async function; what it returns.
    pub async fn run(&self, body: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; \
             (async () => {{ {body} }})().then(done, (error) => done('error: ' + error))"
        );
        self.0.execute_async(&script, vec![]).await.unwrap()
    }
}
