//! What people see and do, in a real browser: the demo, whole, with real data.

use std::{path::PathBuf, process::Stdio, time::Duration};

use calamine::{Reader, open_workbook_auto};
use fantoccini::Locator;
use serde_json::{Value, json};

use crate::support::{
    child::{self, Process},
    chrome::{Browser, Chrome},
};

/// The demo in a process of its own.
struct Demo {
    base: String,
    amy: String,
    olga: String,
    chrome: Chrome,
    dir: tempfile::TempDir,
    _process: Process,
}

impl Demo {
    async fn start() -> Demo {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let file = std::fs::File::create(&log).unwrap();
        let child = child::bgfiles()
            .env_remove("BGFILES_SECRET_KEY")
            // A pause every 256 rows: all flights take long enough to be watched.
            .env("FAILPOINTS", "generating=sleep(5)")
            .args(["demo", "--port", "18000", "--dir"])
            .arg(dir.path().join("demo"))
            .stdout(Stdio::from(file.try_clone().unwrap()))
            .stderr(Stdio::from(file))
            .spawn()
            .unwrap();
        let mut process = Process(child);
        let text = loop {
            let text = std::fs::read_to_string(&log).unwrap();
            if text.contains("Running until Ctrl-C") {
                break text;
            }
            assert!(process.running(), "{text}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let after = |mark: &str| {
            let (_, rest) = text.split_once(mark).unwrap_or_else(|| panic!("{mark}: {text}"));
            rest.split_whitespace().next().unwrap().to_owned()
        };
        Demo {
            base: after("Open ").trim_end_matches('/').to_owned(),
            amy: after("amy (user), password "),
            olga: after("olga (staff), password "),
            chrome: Chrome::start(),
            dir,
            _process: process,
        }
    }

    async fn browser(&self) -> Person<'_> {
        let downloads = tempfile::tempdir_in(self.dir.path()).unwrap();
        let browser = self.chrome.open().await;
        browser.downloads_to(downloads.path()).await;
        Person { demo: self, browser, downloads }
    }

    async fn person(&self, name: &str) -> Person<'_> {
        let person = self.browser().await;
        person.log_in(name).await;
        person
    }
}

struct Person<'a> {
    demo: &'a Demo,
    browser: Browser,
    downloads: tempfile::TempDir,
}

impl Person<'_> {
    async fn go(&self, path: &str) {
        self.browser.goto(&format!("{}{path}", self.demo.base)).await;
    }

    async fn log_in(&self, name: &str) {
        let password = if name == "amy" { &self.demo.amy } else { &self.demo.olga };
        self.go("/login").await;
        self.fill("#username", name).await;
        self.fill("#password", password).await;
        self.click("main form button").await;
        self.see("h1", "My files").await;
    }

    async fn fill(&self, css: &str, text: &str) {
        let field = self.browser.0.wait().for_element(Locator::Css(css)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    async fn click(&self, css: &str) {
        let button = self.browser.0.wait().for_element(Locator::Css(css)).await;
        button.unwrap_or_else(|e| panic!("{css}: {e}")).click().await.unwrap();
    }

    /// Presses the button that says so.
    async fn press(&self, text: &str) {
        let path =
            format!("//main//*[self::button or self::a][starts-with(normalize-space(), {text:?})]");
        // What is looked at may be replaced before it is pressed, as for people.
        for _ in 0..50 {
            let button = self.browser.0.wait().for_element(Locator::XPath(&path)).await;
            let button = button.unwrap_or_else(|e| panic!("{text}: {e}"));
            match button.click().await {
                Ok(()) => return,
                Err(e) if e.is_stale_element_reference() => {}
                Err(e) => panic!("{text}: {e}"),
            }
        }
        panic!("{text:?} does not keep still");
    }

    async fn text(&self, css: &str) -> String {
        let script = format!("return document.querySelector({css:?})?.innerText ?? '';");
        let text = self.browser.0.execute(&script, vec![]).await;
        text.ok().and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Waits until a part of the page says so.
    async fn see(&self, css: &str, wanted: &str) {
        let mut text = String::new();
        for _ in 0..600 {
            text = self.text(css).await;
            if text.contains(wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{css} does not say {wanted:?}: {text}");
    }

    async fn path(&self) -> String {
        self.browser.0.current_url().await.unwrap().path().to_owned()
    }

    /// The file that was downloaded. While it is, there is an empty one of its name beside the
    /// other's `.crdownload`.
    async fn downloaded(&self, ending: &str) -> PathBuf {
        for _ in 0..600 {
            let entries = std::fs::read_dir(self.downloads.path()).unwrap().flatten();
            let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            let ends =
                |path: &&PathBuf, ending: &str| path.extension().is_some_and(|e| e == ending);
            let whole = |path: &&PathBuf| path.metadata().is_ok_and(|file| file.len() > 0);
            let busy = paths.iter().any(|path| ends(&path, "crdownload"));
            let found = paths.iter().filter(|path| ends(path, ending)).find(whole);
            if let Some(path) = found.filter(|_| !busy) {
                return path.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no .{ending} was downloaded");
    }
}

/// Log in, ask for all flights as XLSX, see the bar move, download, open the file; cancel one;
/// share, redeem, revoke; two operators and one lock; and all of it without scripts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_with_the_demo() {
    let demo = Demo::start().await;
    asking_and_watching(&demo).await;
    sharing_and_revoking(&demo).await;
    two_operators_and_one_lock(&demo).await;
    without_scripts(&demo).await;
    every_page_looks_right(&demo).await;
}

/// What operators do to several, and how much they see of thousands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_with_many_requests() {
    let demo = Demo::start().await;
    several_requests_at_once(&demo).await;
    three_thousand_requests(&demo).await;
}

async fn asking_and_watching(demo: &Demo) {
    let amy = demo.person("amy").await;
    amy.click("a[href$='/new']").await;
    amy.click("a[href$='/new/flights']").await;
    amy.see("main form", "From airport").await;
    amy.click("input[name=format][value=xlsx]").await;
    amy.press("Ask for it").await;
    amy.see("h1", "Flights from New York").await;
    amy.see("main", "A link will be mailed to amy@example.com").await;
    // The bar moves, on the same page, without a reload.
    amy.browser
        .0
        .execute(
            "window.here = true; window.seen = new Set(); \
        window.timer = setInterval(() => { const bar = document.querySelector('progress'); \
        if (bar) window.seen.add(document.querySelector('.progress span').innerText); }, 50);",
            vec![],
        )
        .await
        .unwrap();
    let mut seen = Vec::new();
    for _ in 0..1200 {
        let state =
            amy.browser.0.execute("return window.here ? [...window.seen] : null;", vec![]).await;
        match state {
            Ok(Value::Array(texts)) => seen = texts,
            // Its end showed the page anew.
            _ => break,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seen: Vec<&str> =
        seen.iter().filter_map(Value::as_str).filter(|t| t.contains("row")).collect();
    assert!(seen.len() >= 2, "{seen:?}");
    assert!(seen.iter().any(|text| text.contains("of about 336,776 rows")), "{seen:?}");
    amy.see(".status", "Ready").await;
    amy.see("main", "336,776 rows").await;
    amy.see("main", "expires in 24 hours").await;
    amy.press("Download").await;
    let path = amy.downloaded("xlsx").await;
    let mut workbook = open_workbook_auto(&path).unwrap();
    let sheet = workbook.worksheet_range_at(0).unwrap().unwrap();
    assert_eq!(sheet.height(), 336_777);
    amy.see_after_reload("main", "downloaded 1 time").await;
    // One that is not wanted any more.
    amy.go("/new/flights").await;
    amy.press("Ask for it").await;
    amy.see("main", "Cancel").await;
    amy.press("Cancel").await;
    amy.see(".status", "Cancelled").await;
    amy.press("Try again").await;
    amy.see("[role=status]", "It is tried again").await;
    amy.press("Cancel").await;
    amy.see(".status", "Cancelled").await;
}

impl Person<'_> {
    /// Waits until the page's source has that: without scripts nothing else can be asked.
    async fn says(&self, wanted: &str) {
        for _ in 0..600 {
            if self.browser.0.source().await.unwrap_or_default().contains(wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{wanted:?}: {}", self.browser.0.source().await.unwrap());
    }

    async fn see_after_reload(&self, css: &str, wanted: &str) {
        for _ in 0..100 {
            self.browser.0.refresh().await.unwrap();
            if self.text(css).await.contains(wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{css} does not say {wanted:?}: {}", self.text(css).await);
    }
}

async fn sharing_and_revoking(demo: &Demo) {
    let amy = demo.person("amy").await;
    amy.press("United from JFK").await;
    amy.fill("#max_uses", "2").await;
    amy.press("Make a link").await;
    amy.see("[role=status]", "The link is below").await;
    let url = amy
        .browser
        .0
        .find(Locator::Css("input.url"))
        .await
        .unwrap()
        .prop("value")
        .await
        .unwrap()
        .unwrap();
    // Somebody else, who is not logged in.
    let bob = demo.browser().await;
    bob.browser.goto(&url).await;
    bob.see("h1", "flights").await;
    bob.see("main", "0 of 2").await;
    bob.press("Download").await;
    let csv = std::fs::read_to_string(bob.downloaded("csv").await).unwrap();
    assert_eq!(csv.lines().count(), 4535);
    // Revoked in one tab, refused in the other.
    amy.see_after_reload("main", "used 1 of 2 times").await;
    amy.press("Revoke").await;
    amy.see("[role=status]", "no longer works").await;
    let carol = demo.browser().await;
    carol.browser.goto(&url).await;
    carol.see("h1", "This link no longer works").await;
    carol.see("main", "Ask them for a new one").await;
}

async fn two_operators_and_one_lock(demo: &Demo) {
    let olga = demo.person("olga").await;
    olga.go("/operate/accounts").await;
    olga.click("td a[href*='/operate/users/']").await;
    olga.see("main", "Role").await;
    let path = olga.path().await;
    let other = demo.person("olga").await;
    other.go(&path).await;
    other.see("[role=alert]", "olga is editing this").await;
    assert!(
        !other.browser.0.find(Locator::Css("#email")).await.unwrap().is_enabled().await.unwrap()
    );
    // The lock is released, and whoever had it is told.
    other.press("Release the lock").await;
    other.see("main", "Role").await;
    assert!(
        other.browser.0.find(Locator::Css("#email")).await.unwrap().is_enabled().await.unwrap()
    );
    olga.browser.0.execute("dispatchEvent(new Event('focus'));", vec![]).await.unwrap();
    olga.see("#lost", "Somebody else took over").await;
    other.fill("#email", "amy@example.org").await;
    other.press("Save").await;
    other.see("[role=status]", "Saved").await;
    // Leaving lets go.
    olga.go("/operate/locks").await;
    olga.see_after_reload("main", "Nothing is locked").await;
    olga.go("/operate/audit").await;
    olga.see("table", "user.update").await;
    olga.see("table", "lock.break").await;
    // Back to what she had.
    olga.go(&path).await;
    olga.fill("#email", "amy@example.com").await;
    olga.press("Save").await;
    olga.see("[role=status]", "Saved").await;
}

async fn without_scripts(demo: &Demo) {
    let amy = demo.browser().await;
    amy.browser.without_scripts().await;
    // `execute` needs scripts: what the page says is read from its source.
    amy.go("/login").await;
    amy.fill("#username", "amy").await;
    amy.fill("#password", &demo.amy).await;
    amy.click("main form button").await;
    amy.says("My files</h1>").await;
    amy.go("/new/flights?origin=LGA&carrier=AA").await;
    amy.click("input[name=format][value=csv]").await;
    amy.press("Ask for it").await;
    // The page reloads by itself until the file is there.
    amy.says(">Ready<").await;
    amy.press("Download").await;
    let csv = std::fs::read_to_string(amy.downloaded("csv").await).unwrap();
    assert!(csv.lines().count() > 15_000, "{}", csv.lines().count());
    amy.press("Make a link").await;
    amy.says("The link is below").await;
    amy.press("Revoke").await;
    amy.says("The link no longer works").await;
    amy.press("Edit").await;
    amy.fill("#description", "American from LaGuardia").await;
    amy.press("Save").await;
    amy.says("American from LaGuardia</h1>").await;
    amy.click("details.confirm summary").await;
    amy.press("Delete for good").await;
    amy.says("Deleted.").await;
}

/// The buttons say how many are ticked; what cannot be undone asks, with scripts and without.
async fn several_requests_at_once(demo: &Demo) {
    let olga = demo.person("olga").await;
    olga.go("/operate/requests?status=finished").await;
    olga.see(".bulk", "Tick the requests that you mean").await;
    let retry = olga.browser.0.find(Locator::Css("button[value=retry]")).await.unwrap();
    assert!(!retry.is_enabled().await.unwrap(), "nothing is ticked");
    olga.click("tbody tr:nth-child(1) input").await;
    olga.click("tbody tr:nth-child(2) input").await;
    olga.see("button[value=retry]", "Try again (2)").await;
    olga.see("button[value=expire]", "Expire now … (2)").await;
    assert!(!olga.text(".bulk").await.contains("Tick the requests"));
    olga.click("button[value=expire]").await;
    olga.see("h1", "Let 2 files expire now?").await;
    olga.press("Back").await;
    olga.see("h1", "Requests").await;
    let plain = demo.browser().await;
    plain.browser.without_scripts().await;
    plain.go("/login").await;
    plain.fill("#username", "olga").await;
    plain.fill("#password", &demo.olga).await;
    plain.click("main form button").await;
    plain.go("/operate/requests?status=finished").await;
    plain.press("Mail again").await;
    plain.says("Nothing is ticked").await;
    plain.click("tbody tr:nth-child(1) input").await;
    plain.press("Expire now").await;
    plain.says("Let 1 file expire now?").await;
    plain.press("Expire 1 file").await;
    plain.says("Done for all of them").await;
}

/// However much waits and runs, the overview is a page.
async fn three_thousand_requests(demo: &Demo) {
    let path = demo.dir.path().join("demo/bgfiles.db");
    let db = bgfiles::Db::open(&format!("sqlite:{}", path.display())).unwrap();
    let bgfiles::Db::Sqlite(pool) = &db else { unreachable!() };
    let (now, later) = (chrono::Utc::now(), chrono::Utc::now() + chrono::TimeDelta::hours(1));
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)";
    let requests = format!(
        "INSERT INTO bgfiles_file_requests (file_type, description, status, run_at, lease_until, leased_by) \
         {numbers} SELECT 'flights', 'A long name of a request, as people write them, number ' || i, \
         CASE i % 2 WHEN 0 THEN 'pending' ELSE 'running' END, $2, $2, 'worker-' || (i % 60) FROM n"
    );
    let workers = "INSERT INTO bgfiles_workers (name, host, slots, started_at, seen_at, file_types) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) \
         SELECT 'worker-' || i, 'host', 8, $1, $2, 'flights' FROM n";
    let insert = sqlx::query(sqlx::AssertSqlSafe(requests)).bind(now).bind(later);
    insert.execute(pool).await.unwrap();
    sqlx::query(workers).bind(now).bind(later).execute(pool).await.unwrap();
    let olga = demo.person("olga").await;
    for (width, most) in [(1440, 3_000.0), (390, 6_000.0)] {
        olga.browser.looks(width, false).await;
        olga.go("/operate").await;
        olga.see("main", "8 of 8 slots").await;
        olga.see("main", "and 51 more").await;
        let script = "return document.documentElement.scrollHeight;";
        let height = olga.browser.0.execute(script, vec![]).await.unwrap().as_f64().unwrap();
        assert!(height < most, "{height} px at {width}");
        let picture = olga.browser.picture().await;
        let screens = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/screens");
        std::fs::create_dir_all(&screens).unwrap();
        std::fs::write(screens.join(format!("operate-busy-{width}.png")), picture).unwrap();
        olga.go("/operate/requests").await;
        let picture = olga.browser.picture().await;
        std::fs::write(screens.join(format!("operate-requests-busy-{width}.png")), picture)
            .unwrap();
    }
    db.close().await;
}

/// Every page at both widths, light and dark: nothing overflows, axe finds nothing serious, no
/// script complains. The pictures are in `target/screens`.
async fn every_page_looks_right(demo: &Demo) {
    let screens = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/screens");
    std::fs::create_dir_all(&screens).unwrap();
    let axe = axe();
    let olga = demo.person("olga").await;
    olga.go("/operate/accounts").await;
    let user = olga.href("td a[href*='/operate/users/']").await;
    let client = olga.href("td a[href*='/operate/clients/']").await;
    let amy = demo.person("amy").await;
    let file = amy.href("article.is-finished h2 a").await;
    let failed = amy.href("article.is-failed h2 a").await;
    amy.go("/dev/mail").await;
    let mail = amy.href("main li a").await;
    amy.go(&file).await;
    amy.press("Make a link").await;
    amy.see("[role=status]", "The link is below").await;
    let link = amy.browser.0.find(Locator::Css("input.url")).await.unwrap();
    let link = link.prop("value").await.unwrap().unwrap();
    let link = link.strip_prefix(&demo.base).unwrap().to_owned();
    let edit = format!("{file}/edit");
    let nobody = demo.browser().await;
    let pages: Vec<(&Person<'_>, &str, String)> = vec![
        (&nobody, "login", "/login".into()),
        (&nobody, "link", link),
        (&nobody, "link-broken", "/d/nonsense".into()),
        (&nobody, "not-found", "/nothing".into()),
        (&amy, "files", "/files".into()),
        (&amy, "file", file),
        (&amy, "file-failed", failed),
        (&amy, "file-edit", edit),
        (&amy, "new", "/new".into()),
        (&amy, "new-file", "/new/flights".into()),
        (&amy, "account", "/account".into()),
        (&amy, "mailbox", "/dev/mail".into()),
        (&amy, "mail", mail.clone()),
        (&amy, "mail-html", format!("{mail}/html")),
        (&amy, "docs", "/docs".into()),
        (&olga, "operate", "/operate".into()),
        (&olga, "operate-requests", "/operate/requests".into()),
        (&olga, "operate-file-types", "/operate/file-types".into()),
        (&olga, "operate-accounts", "/operate/accounts".into()),
        (&olga, "operate-user", user),
        (&olga, "operate-client", client),
        (&olga, "operate-request-tokens", "/operate/request-tokens".into()),
        (&olga, "operate-locks", "/operate/locks".into()),
        (&olga, "operate-audit", "/operate/audit".into()),
    ];
    let mut wrong = Vec::new();
    for (person, name, path) in &pages {
        for (width, dark) in [(360, false), (360, true), (1600, false), (1600, true)] {
            person.browser.looks(width, dark).await;
            person.go(path).await;
            let shade = if dark { "dark" } else { "light" };
            let picture = person.browser.picture().await;
            std::fs::write(screens.join(format!("{name}-{width}-{shade}.png")), picture).unwrap();
            let wide = person
                .browser
                .0
                .execute("return document.documentElement.scrollWidth - innerWidth;", vec![]);
            if wide.await.unwrap().as_f64().unwrap() > 0.0 {
                wrong.push(format!("{name} at {width}: overflows"));
            }
            // Once in each shade. The mail's own frame runs no scripts, not even this one.
            if (width == 360) == dark || *name == "mail-html" {
                continue;
            }
            person.browser.0.execute(&axe, vec![]).await.unwrap();
            let found = person
                .browser
                .run(
                    "const found = await axe.run(); \
                return found.violations.filter((v) => ['serious', 'critical'].includes(v.impact)) \
                  .map((v) => v.id + ': ' + v.nodes.map((n) => n.html).join(' | '));",
                )
                .await;
            if found != json!([]) {
                wrong.push(format!("{name} at {width}, {shade}: {found}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

impl Person<'_> {
    /// Where a link leads, below the base.
    async fn href(&self, css: &str) -> String {
        let link = self.browser.0.wait().for_element(Locator::Css(css)).await;
        let link = link.unwrap_or_else(|e| panic!("{css}: {e}"));
        link.attr("href").await.unwrap().unwrap()
    }
}

/// axe-core, which checks what screen readers need.
fn axe() -> String {
    let python = std::env::var("BGFILES_TEST_PYTHON").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-venv/bin/python").into()
    });
    let find = "import axe_playwright_python as axe, pathlib; \
        print(pathlib.Path(axe.__file__).parent / 'axe.min.js')";
    let output = std::process::Command::new(python).args(["-c", find]).output().unwrap();
    let path = String::from_utf8(output.stdout).unwrap();
    std::fs::read_to_string(path.trim())
        .expect("axe-core is missing: run the tests by scripts/test")
}
