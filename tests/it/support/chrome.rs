//! A real Chromium without a window, by chromedriver.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use fantoccini::{Client, ClientBuilder, wd::WebDriverCompatibleCommand};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use url::{ParseError, Url};

use super::{child::Process, patience};

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
        let arguments = [
            "--headless=new",
            "--hide-scrollbars",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ];
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "pageLoadStrategy": "normal",
            "timeouts": { "script": patience(Duration::from_secs(60)).as_millis() as u64 },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!() };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        Browser(builder.connect(&self.url).await.expect("a browser"))
    }
}

/// A command of the browser itself (Chrome DevTools Protocol).
#[derive(Debug)]
struct Devtools(&'static str, Value);

impl WebDriverCompatibleCommand for Devtools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body = json!({ "cmd": self.0, "params": self.1 });
        (Method::POST, Some(body.to_string()))
    }
}

impl Browser {
    async fn devtools(&self, command: &'static str, parameters: Value) -> Value {
        self.0.issue_cmd(Devtools(command, parameters)).await.unwrap()
    }

    /// Where downloads go.
    pub async fn downloads_to(&self, folder: &Path) {
        let parameters = json!({ "behavior": "allow", "downloadPath": folder });
        self.devtools("Browser.setDownloadBehavior", parameters).await;
    }

    /// From the next page on, nothing of it runs.
    pub async fn without_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    }

    /// How wide the window is, and whether its user likes it dark.
    pub async fn looks(&self, width: u32, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// The whole page as a PNG.
    pub async fn picture(&self) -> Vec<u8> {
        let parameters = json!({ "captureBeyondViewport": true });
        let taken = self.devtools("Page.captureScreenshot", parameters).await;
        STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }

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
