"""What is asked of bgfiles on an object store. The stores are those that other people wrote for tests."""

import base64
import email.utils
import hashlib
import hmac
import os
import pathlib
import sys
import urllib.parse
import urllib.request

from machine import eventually, listens, run
from service import Service, ask, sha256

PYTHON, NODE = ("moto[server,s3]==5.2.5",), ("s3rver@3.7.1", "azurite@3.37.0")


def install(home):
    """The stores, below target/, once."""
    if not (home / "venv/bin/moto_server").exists():
        run(sys.executable, "-m", "venv", home / "venv")
        run(home / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", *PYTHON)
    if not (home / "node_modules/azurite").exists():
        run("npm", "install", "--silent", "--no-save", "--prefix", home, *NODE)


class Stores:
    def __init__(self, part, machine, bgfiles):
        self.part, self.machine, self.bgfiles = part, machine, bgfiles
        self.home = machine.extra
        self.packages = str(next((self.home / "venv/lib").glob("python3*")) / "site-packages")

    def run(self):
        names = ["azurite"] if self.part.title == "Azure" else ["moto", "s3rver"]
        for name in names:
            self.name = name
            for check in self.checks():
                yield f"{name}, {check.__name__}", check()
            for process in ("web", "presigned", "worker", name):
                self.machine.stop(process)
            run("rm", "-rf", "/var/lib/bgfiles/bgfiles.db", "/var/lib/bgfiles/bgfiles.db-wal", "/var/lib/bgfiles/bgfiles.db-shm")
        if gone := self.machine.ended():
            raise RuntimeError("\n".join(gone))

    def checks(self):
        checks = [self.no_bucket, self.other_names, self.small, self.parts, self.presigned, self.deleted, self.sweep]
        return checks + ([self.versions] if self.name == "moto" else [])

    def must(self, true, text):
        if not true:
            raise AssertionError(text)

    # --- the stores --------------------------------------------------------------------------
    def serve(self):
        modules = self.home / "node_modules"
        commands = {
            "moto": [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "9000"],
            # Its marks of pages are of DES, which OpenSSL 3 has only when told.
            "s3rver": ["node", "--openssl-legacy-provider", modules / "s3rver/bin/s3rver.js", "-a", "127.0.0.1", "-p", "9000", "-d", "/tmp/s3rver"],
            "azurite": ["node", modules / "azurite/dist/src/blob/main.js", "--blobHost", "127.0.0.1", "--blobPort", "10000",
                        "-l", "/tmp/azurite", "--skipApiVersionCheck", "--disableTelemetry"],
        }
        pathlib.Path("/tmp/s3rver").mkdir(exist_ok=True)
        self.machine.start(self.name, list(map(str, commands[self.name])), env={**os.environ, "PYTHONPATH": self.packages})
        eventually(lambda: listens(10000 if self.name == "azurite" else 9000), 60, of=self.machine.log(self.name))

    def boto(self, code):
        """A piece of Python with an S3 client, `s3`."""
        head = """import boto3
s3 = boto3.client("s3", endpoint_url="http://127.0.0.1:9000", region_name="us-east-1", aws_access_key_id="S3RVER", aws_secret_access_key="S3RVER")
"""
        return run(sys.executable, "-c", head + code, env={**os.environ, "PYTHONPATH": self.packages, "AWS_EC2_METADATA_DISABLED": "true"}).strip()

    def azure(self, method, query, path="/exports"):
        account, key = self.environment["AZURE_STORAGE_ACCOUNT_NAME"], self.environment["AZURE_STORAGE_ACCOUNT_KEY"]
        date = email.utils.formatdate(usegmt=True)
        resource = f"/{account}/{account}{path}" + "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
        text = "\n".join([method, *[""] * 11, f"x-ms-date:{date}", "x-ms-version:2021-08-06", resource])
        signature = base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()
        request = urllib.request.Request(f"{self.environment['AZURE_ENDPOINT']}{path}?{urllib.parse.urlencode(query)}", method=method, headers={
            "x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": f"SharedKey {account}:{signature}"})
        return urllib.request.urlopen(request).read().decode()

    def make_bucket(self):
        if self.name == "azurite":
            self.azure("PUT", {"restype": "container"})
        else:
            self.boto('s3.create_bucket(Bucket="exports")')

    def keys(self):
        if self.name == "azurite":
            return self.azure("GET", {"restype": "container", "comp": "list"}).count("<Blob>")
        return int(self.boto('print(len(s3.list_objects_v2(Bucket="exports").get("Contents", [])))'))

    # --- checks ------------------------------------------------------------------------------
    def no_bucket(self):
        self.serve()
        lines = pathlib.Path("/etc/bgfiles/bgfiles.env").read_text().split()
        self.environment = dict(line.split("=", 1) for line in lines)
        self.service = Service(self.machine, self.bgfiles, environment=self.environment)
        self.service.ready, wait = (lambda port=8000: listens(port)), self.service.ready
        self.service.start(second=False)
        self.service.ready = wait
        without = ask("http://127.0.0.1:8000/readyz")
        self.must(without.status == 503, f"without a bucket: {without.status} {without.body}")
        self.make_bucket()
        eventually(self.service.ready, of="ready")
        return f"/readyz without a bucket: 503, storage {without.json()['storage']!r}; with it: 200"

    def other_names(self):
        """The other variables that the page names; `check` lists the bucket."""
        kept = dict(self.service.environment)
        if self.name == "azurite":
            for name in ("AZURE_ENDPOINT", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"):
                del self.service.environment[name]
            self.service.environment |= {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": "http://127.0.0.1:10000"}
        else:
            self.service.environment["AWS_ENDPOINT_URL"] = self.service.environment.pop("AWS_ENDPOINT")
            del self.service.environment["AWS_REGION"]
        added = self.service.environment.keys() - kept.keys()
        self.service.command("check")
        self.service.environment = kept
        return f"check: fine with {', '.join(sorted(added))}"

    def small(self):
        row = self.service.file(1000)
        front = ask(row["download_url"])
        self.must(front.status == 200 and sha256(front.body) == row["sha256"], f"{front.status}")
        self.rows = [row]
        return f"{row['size']} bytes"

    def parts(self):
        row = self.service.file(1_200_000)
        whole, piece = ask(row["download_url"]), ask(row["download_url"], headers=["Range: bytes=9000000-9000099"])
        self.must(row["size"] > 2 * 8 * 1024 * 1024, str(row["size"]))
        self.must(whole.status == 200 and sha256(whole.body) == row["sha256"], f"{whole.status}")
        self.must(piece.status == 206 and piece.body == whole.body[9_000_000:9_000_100], f"range: {piece.status}")
        self.rows.append(row)
        return f"{row['size']} bytes in parts, whole and a range"

    def presigned(self):
        self.service.spawn("presigned", "web", BGFILES_BIND="127.0.0.1:8001", BGFILES_SERVE="presigned")
        eventually(lambda: self.service.ready(8001), of="web at 8001")
        row = self.rows[1]
        answer = ask(row["download_url"].replace(":8000", ":8001"))
        to = answer.header("location") or ""
        self.must(answer.status == 302, f"{answer.status} {answer.headers}")
        file, piece = ask(to), ask(to, headers=["Range: bytes=100-199"])
        self.must(file.status == 200 and sha256(file.body) == row["sha256"] and piece.body == file.body[100:200], f"{file.status}, {piece.status}")
        return f"302 to {urllib.parse.urlsplit(to).netloc}, whole and a range"

    def deleted(self):
        before = self.keys()
        gone = self.service.api(f"/api/requests/{self.rows[0]['id']}", "DELETE")
        self.must(gone.status == 204 and before == 2, f"{gone.status}, {before} objects")
        eventually(lambda: self.service.command("clean") is not None and self.keys() == 1, of="the object is removed")
        return "its object is gone"

    def sweep(self):
        said = self.service.command("clean", "--leeway", "0")
        self.must(self.keys() == 1, "the sweep took a file")
        return next(line for line in said.splitlines() if line.startswith("orphan_objects"))

    def versions(self):
        self.boto('s3.put_bucket_versioning(Bucket="exports", VersioningConfiguration={"Status": "Enabled"})')
        row = self.service.file(2000)
        self.must(self.service.api(f"/api/requests/{row['id']}", "DELETE").status == 204, "DELETE")
        eventually(lambda: self.service.command("clean") is not None and self.keys() == 1, of="the object is removed")
        left = self.boto('l = s3.list_object_versions(Bucket="exports"); print(sum(v["VersionId"] != "null" for v in l["Versions"]), len(l.get("DeleteMarkers", [])))')
        self.must(left == "1 1", left)
        return "one version and one marker are left of a file that was removed, as the page says"
