"""What is asked of each server in front of bgfiles. A check returns what it saw; what differs from bgfiles itself is
collected, and has to be what the page says."""

import json
import os
import re
import signal
import time
import urllib.parse

from machine import HOST, eventually
from service import CLIENT, PASSWORD, Events, Service, ask, sha256

# Of the connection, or of the moment.
OWN = {"date", "connection", "server", "x-request-id", "keep-alive", "transfer-encoding"}
ODD = "Übersicht %41 + 1;2.csv"
ACCEPT = "Accept-Encoding: gzip, deflate, br, zstd"


class Front:
    def __init__(self, part, machine, bgfiles, idle):
        self.part, self.machine, self.bgfiles, self.idle = part, machine, bgfiles, idle
        self.differs = set()

    def run(self):
        """Yields (name of the check, what was seen)."""
        self.service = Service(self.machine, self.bgfiles)
        self.base = self.service.base
        self.path = urllib.parse.urlsplit(self.base).path
        self.service.start()
        eventually(lambda: self.up(), 20, of=f"the front server: {self.logs()}")
        for check in (self.health, self.pages, self.requests, self.bodies, self.locks, self.events, self.downloads,
                      self.ranges, self.addresses, self.revoked, self.names, self.inline, self.rest):
            yield check.__name__, check()
        if gone := self.machine.ended():
            raise RuntimeError("\n".join(gone))

    def up(self):
        try:
            return ask(f"{self.base}/healthz").status == 200
        except RuntimeError:
            return False

    def logs(self):
        return {name: self.machine.log(name)[-500:] for name in self.machine.processes}

    def must(self, true, text):
        if not true:
            raise AssertionError(text)

    # --- checks ------------------------------------------------------------------------------
    def health(self):
        alive, metrics = ask(f"{self.base}/healthz"), ask(f"{self.base}/metrics")
        self.must(alive.status == 200 and metrics.status in (403, 404), f"healthz {alive.status}, metrics {metrics.status}")
        # However it is written.
        for odd in ("%6Detrics", "./metrics", "x/../metrics", "/metrics", "metrics?x", "metrics/"):
            seen = ask(f"{self.base}/{odd}", more=["--path-as-is"])
            self.must(b"bgfiles_requests" not in seen.body, f"/{odd} shows the metrics")
        return f"HTTP/{alive.version}, /metrics is {metrics.status}"

    def pages(self):
        jar = "/tmp/jar"
        to = "/"
        for expected in ("/files", "/login?next=/files"):
            start = ask(f"https://{HOST}{to}" if to != "/" else f"{self.base}/", jar=jar, headers=["Accept: text/html"])
            to = start.header("location") or ""
            self.must(start.status == 303 and urllib.parse.unquote(to) == self.path + expected, f"/: {start.status} {to}")
        form = ask(f"https://{HOST}{to}", jar=jar)
        fields = dict(re.findall(rb'name="(csrf|next)" value="([^"]*)"', form.body))
        self.must(form.status == 200 and f'action="{self.path}/login"' in self.text(form), f"login page: {form.status}")
        style = re.search(r'href="([^"]+\.css[^"]*)"', self.text(form))[1]
        self.must(style.startswith(f"{self.path}/static/"), style)
        self.must(ask(f"https://{HOST}{style}", headers=[ACCEPT]).status == 200, style)
        body = urllib.parse.urlencode({"csrf": fields[b"csrf"].decode(), "next": "/files", "username": "amy", "password": PASSWORD})
        form_type = "Content-Type: application/x-www-form-urlencoded"
        answer = ask(f"{self.base}/login", "POST", [form_type, f"Origin: https://{HOST}"], body, jar)
        cookie, to = answer.header("set-cookie") or "", answer.header("location")
        name = "__Secure-" if self.path else "__Host-"
        self.must(answer.status == 303 and to == f"{self.path}/files", f"login: {answer.status} {to} {answer.body[:300]}")
        self.must(cookie.startswith(name) and "; Secure" in cookie and f"; Path={self.path}/;" in cookie, cookie)
        page = ask(f"https://{HOST}{to}", jar=jar)
        self.must(page.status == 200 and f'href="{self.path}/new"' in self.text(page), f"files: {page.status}")
        self.must(page.header("cache-control") == "no-store", str(page.headers))
        if self.path:
            bare = ask(self.base)
            self.must(bare.status in (301, 302, 307, 308) and (bare.header("location") or "").endswith(f"{self.path}/"), f"{self.base}: {bare.status}")
        return f"login, redirects, {name}… cookie, style sheet"

    def text(self, answer):
        return answer.body.decode().replace("&#x2f;", "/")

    def requests(self):
        answer = self.service.request()
        id = answer.json()["id"]
        self.must(answer.header("location") == f"{self.base}/api/requests/{id}", str(answer.header("location")))
        row = self.service.finished(id)
        self.must(row["download_url"].startswith(f"{self.base}/d/"), row["download_url"])
        unknown = self.service.api("/api/requests/nothing")
        self.must(unknown.status == 404 and unknown.header("content-type") == "application/problem+json", f"{unknown.status} {unknown.headers}")
        return "asked, made, and its address is right"

    def bodies(self):
        text = json.dumps({"file_type": "numbers", "criteria": {"upto": 3}})
        million = self.service.api("/api/requests", "POST", text.ljust(1_000_000).encode())
        self.must(million.status == 202, f"1 MB: {million.status} {million.body[:300]}")
        over = self.service.api("/api/requests", "POST", text.ljust(1_048_577).encode())
        self.must(over.status == 413 and over.json()["code"] == "body_too_large", f"1 MiB and a byte: {over.status} {over.body[:300]}")
        return "1,000,000 bytes are taken; 1 MiB and a byte is our own 413"

    def locks(self):
        path = "/lock_tokens/cms/page/a%2Fb%20c/"
        answer = self.service.api(path, "POST", {"reason": "how-to"})
        seen = answer.json().get("id") if answer.status == 201 else answer.status
        if seen != "a/b c":
            self.differs.add(f"the name of a lock with %2F: {seen}")
        return f"a lock on a/b c: {seen}"

    def watch(self, id, headers=()):
        return Events(f"{self.base}/api/requests/{id}/events", [f"Authorization: Token {self.service.token}", *headers])

    def events(self):
        id = self.service.request(1_500_000).json()["id"]
        watch = self.watch(id)
        self.service.finished(id, self.service.plain, 90)
        watch.join(10)
        named = watch.named()
        self.must(watch.status == 200 and watch.headers.get("content-type") == "text/event-stream", f"{watch.status} {watch.headers}")
        self.must(named, f"no event: {watch.lines[:5]}")
        spread = named[-1][0] - named[0][0]
        plain = Events(f"{self.service.plain}/api/requests/{id}/events", [f"Authorization: Token {self.service.token}"])
        plain.join(10)
        # What is said to nginx stays with nginx.
        for name in plain.headers.keys() - OWN - {"x-accel-buffering"}:
            self.must(watch.headers.get(name) == plain.headers[name], f"events: {name}: {watch.headers.get(name)}")
        kinds = {line for _, line in named}
        self.must("progress" in kinds and "status" in kinds, str(kinds))
        self.must(spread > 1, f"{len(named)} events within {spread:.2f} s: they were held back")
        return f"{len(named)} within {spread:.1f} s, as they happen"

    def compare(self, what, url, headers=(), method="GET"):
        """The same call by the front and beside it."""
        front = ask(url, method, [ACCEPT, *headers])
        plain = ask(self.service.plain + url.removeprefix(self.base), method, [ACCEPT, *headers])
        if front.status != plain.status:
            self.differs.add(f"{what}: {front.status} instead of {plain.status}")
        elif method != "HEAD" and front.body != plain.body and plain.status < 400:
            self.differs.add(f"{what}: other bytes")
        if front.status == plain.status:
            for name in sorted((plain.headers.keys() | front.headers.keys()) - OWN):
                ours, theirs = plain.headers.get(name), front.headers.get(name)
                if ours != theirs:
                    verb = "added" if ours is None else "missing" if theirs is None else "another"
                    self.differs.add(f"`{name.title()}` {verb}")
        return front, plain

    def downloads(self):
        self.row = self.service.file(20_000, filename=ODD)
        self.url = self.row["download_url"]
        front, plain = self.compare("download", self.url)
        self.must(sha256(front.body) == self.row["sha256"], f"{len(front.body)} bytes that are others: {front.status} {front.headers}")
        self.must("content-encoding" not in front.headers, "compressed")
        self.must("private" in front.header("cache-control") and "no-store" in front.header("cache-control"), str(front.headers))
        if "x-request-id" not in front.headers:
            self.differs.add("`X-Request-Id` missing")
        self.etag = front.header("etag")
        self.compare("HEAD", self.url, method="HEAD")
        jar = ask(self.url, headers=["Range: bytes=0-9", "Cookie: a=b"])
        self.must(jar.status == 206, f"with a cookie: {jar.status}")
        return f"{len(front.body)} bytes as they are, ETag {self.etag}"

    def ranges(self):
        tag, modified = self.etag, ask(self.url, "HEAD").header("last-modified")
        size = self.row["size"]
        for what, headers in {
            "Range": ["Range: bytes=100-199"], "Range from": [f"Range: bytes={size - 7}-"], "Range last": ["Range: bytes=-5"],
            "Range past the end": [f"Range: bytes={size}-"], "several ranges": ["Range: bytes=0-9,20-29"],
            "If-Range": ["Range: bytes=5-9", f"If-Range: {tag}"], "If-Range of another": ["Range: bytes=5-9", 'If-Range: "x"'],
            "If-Range by date": ["Range: bytes=5-9", f"If-Range: {modified}"],
            "If-None-Match": [f"If-None-Match: {tag}"], "If-Match": [f"If-Match: {tag}"], "If-Match of another": ['If-Match: "x"'],
            "If-Modified-Since": [f"If-Modified-Since: {modified}"],
        }.items():
            self.compare(what, self.url, headers)
        # A download that breaks off and goes on.
        half = ask(self.url, headers=["Range: bytes=0-49999"])
        rest = ask(self.url, headers=["Range: bytes=50000-", f"If-Range: {tag}"])
        self.must(half.status == rest.status == 206 and sha256(half.body + rest.body) == self.row["sha256"], f"resumed: {half.status}, {rest.status}")
        return "12 conditions and ranges; broken off and resumed: the same bytes"

    def addresses(self):
        id = self.row["id"]
        ask(self.url, headers=["X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9", "X-Real-IP: 203.0.113.9"])
        def seen():
            rows = self.service.api(f"/api/requests/{id}/log", base=self.service.plain).json()["items"]
            found = {row["client_ip"] for row in rows}
            return found if rows and len(found) else None
        time.sleep(0.3)
        found = eventually(seen, 10, of="a receipt")
        # What was asked beside the front comes from the same address.
        self.must(found == {CLIENT}, f"receipts are of {found}")
        return f"receipts are of {CLIENT}, whatever the client says"

    def revoked(self):
        link = self.service.api(f"/api/requests/{self.row['id']}/links", "POST", {}).json()
        first, second = ask(link["url"]), ask(link["url"])
        self.must(first.status == second.status == 200, f"{first.status}, {second.status}")
        once = self.service.api(f"/api/requests/{self.row['id']}/links", "POST", {"max_uses": 1}).json()
        grant = ask(once["url"], "POST", body="")
        to = grant.header("location") or ""
        self.must(grant.status == 303 and to.startswith(f"{self.path}/g/"), f"redeemed: {grant.status} {to}")
        for _ in range(2):
            granted = ask(f"https://{HOST}{to}")
            self.must(granted.status == 200 and sha256(granted.body) == self.row["sha256"], f"granted: {granted.status}")
        for link in (link, once):
            gone = self.service.api(f"/api/requests/{self.row['id']}/links/{link['jti']}", "DELETE", base=self.service.plain)
            self.must(gone.status == 204, f"revoke: {gone.status} {gone.body}")
        seen = [ask(link["url"]).status, ask(f"https://{HOST}{to}").status, ask(f"https://{HOST}{to}", headers=["Range: bytes=0-9"]).status]
        self.must(all(status in (403, 404) for status in seen), f"after revoking: {seen}")
        return f"served twice, revoked, then {seen}"

    def names(self):
        link = self.service.api(f"/api/requests/{self.row['id']}/links", "POST", {"max_uses": 1}).json()
        done = ask(link["url"], "POST", body="")
        file = ask(f"https://{HOST}{done.header('location')}")
        plain = ask(self.service.plain + done.header("location").removeprefix(self.path))
        self.must(file.header("content-disposition") == plain.header("content-disposition"), str(file.headers))
        return file.header("content-disposition")

    def inline(self):
        value = {"file_type": "numbers", "criteria": {"upto": 2000}, "deliver": "now"}
        front = self.service.api("/api/requests", "POST", value, headers=[ACCEPT])
        plain = self.service.api("/api/requests", "POST", value, self.service.plain)
        self.must(front.status == 200 and front.body == plain.body, f"deliver now: {front.status} {front.headers}")
        return f"deliver now: {len(front.body)} bytes"

    def rest(self):
        """A stream on which nothing happens but its comments."""
        if not self.idle:
            return "not tried (--idle SECONDS)"
        worker = self.machine.processes["worker"].pid
        os.killpg(worker, signal.SIGSTOP)
        try:
            id = self.service.request().json()["id"]
            watch = self.watch(id)
            time.sleep(self.idle)
            alive = watch.process.poll() is None
        finally:
            os.killpg(worker, signal.SIGCONT)
        self.must(alive, f"cut off within {self.idle} s: {watch.lines}")
        self.service.finished(id, self.service.plain)
        watch.join(15)
        comments = sum(line.startswith(":") for _, line in watch.lines)
        self.must('"finished"' in str(watch.lines[-3:]), str(watch.lines[-3:]))
        return f"{self.idle} s without news, {comments} comments, then its end"
