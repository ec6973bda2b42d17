"""A machine of one's own to follow a page on: the ports, /etc, /var, /run and /home of this one, laid over, so that
nothing stays. It needs root and namespaces (in a container, CAP_SYS_ADMIN). It has no network but its loopback.
"""

import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

HOST = "files.example.com"
LAID_OVER = ("etc", "var", "run", "home", "usr/local")
ALONE = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
LOGS = pathlib.Path("/tmp/how-to")
# How Debian's unit starts it, in the foreground.
UNITS = {
    "nginx": ["nginx", "-g", "daemon off;"],
    "apache2": ["apachectl", "-DFOREGROUND"],
    "lighttpd": ["lighttpd", "-D", "-f", "/etc/lighttpd/lighttpd.conf"],
    "caddy": ["caddy", "run", "--config", "/etc/caddy/Caddyfile"],
    "haproxy": ["haproxy", "-W", "-f", "/etc/haproxy/haproxy.cfg", "-p", "/run/haproxy.pid"],
    "squid": ["sh", "-c", "squid --foreground -z >/dev/null 2>&1; exec squid --foreground -YC"],
    "pgbouncer": ["pgbouncer", "/etc/pgbouncer/pgbouncer.ini"],
}
AS = {"caddy": "caddy", "pgbouncer": "postgres"}
os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"


def run(*command, **more):
    """A command that must succeed; what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def eventually(what, seconds=30, of=""):
    """What comes true within a time."""
    end = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > end:
            raise RuntimeError(f"{of or what} has not come true within {seconds} s")
        time.sleep(0.05)
    return found


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Machine:
    """Inside the namespaces."""

    def __init__(self, bgfiles, extra=None):
        self.processes = {}
        os.chdir("/")
        run("ip", "link", "set", "lo", "up")
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/mnt")
        for name in LAID_OVER:
            at = pathlib.Path("/mnt", name.replace("/", "-"))
            for folder in ("upper", "work"):
                (at / folder).mkdir(parents=True)
            run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/{name},upperdir={at}/upper,workdir={at}/work", f"/{name}")
        # Wherever it is: others than root must find it.
        self.bgfiles = pathlib.Path("/usr/local/bin/bgfiles")
        self.bgfiles.touch()
        run("mount", "--bind", bgfiles, self.bgfiles)
        if extra:
            self.extra = pathlib.Path("/usr/local/lib/how-to")
            self.extra.mkdir()
            run("mount", "--bind", extra, self.extra)
        run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp")
        LOGS.mkdir()
        with open("/etc/hosts", "a") as hosts:
            hosts.write(f"127.0.0.1 {HOST}\n")
        self.certificate()

    def certificate(self):
        """That of the host, where the pages have it, by an authority that curl is told of."""
        private, public = pathlib.Path("/etc/ssl/private"), pathlib.Path("/etc/ssl/certs")
        private.mkdir(parents=True, exist_ok=True)
        key, certificate = private / f"{HOST}.key", public / f"{HOST}.pem"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-keyout", key, "-out", certificate, "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}")
        # Who may read keys is the front server's user, in the group that Debian has for it.
        run("groupadd", "-f", "ssl-cert")
        run("chgrp", "-R", "ssl-cert", private)
        run("chmod", "0640", key)
        run("chmod", "0710", private)
        # Some want both in one file.
        both = private / f"{HOST}.pem"
        both.write_text(certificate.read_text() + key.read_text())
        both.chmod(0o640)

    def follow(self, part):
        """Does what a part of a page says."""
        for kind, path, text in part.steps:
            if kind == "file":
                file = pathlib.Path(path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
                if file.name == "bgfiles.toml":
                    file.chmod(0o644)
            else:
                self.shell(text)

    def shell(self, text):
        for line in text.replace("\\\n", " ").splitlines():
            if match := re.match(r"systemctl (?:re)?start (\S+)$", line):
                self.restart(match[1])
            elif not line.startswith(("apt-get install ", "systemctl ")) and line.strip():
                run("sh", "-euc", line)

    def restart(self, unit):
        self.stop(unit)
        # A drop-in says it in full.
        command, user = UNITS.get(unit), AS.get(unit)
        for drop_in in pathlib.Path(f"/etc/systemd/system/{unit}.service.d").glob("*.conf"):
            said = re.findall(r"^ExecStart=(.+)", drop_in.read_text().replace("\\\n", " "), re.M)
            command = shlex.split(said[-1])
        for folder in ("lock/apache2", "haproxy", "postgresql", "squid", "lighttpd"):
            pathlib.Path("/run", folder).mkdir(parents=True, exist_ok=True)
        run("chown", "-R", "postgres:", "/run/postgresql")
        self.start(unit, command, user=user)

    def start(self, name, command, user=None, **more):
        if user:
            home = {"HOME": f"/var/lib/{user}", **more.pop("env", os.environ)}
            command = ["setpriv", f"--reuid={user}", f"--regid={run('id', '-g', user).strip()}", "--init-groups",
                       # As units give it to who listens on 443.
                       "--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service", "--", *command]
            more["env"] = home
        log = open(LOGS / f"{name}.log", "a")
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **more)
        return self.processes[name]

    def stop(self, name, how=signal.SIGTERM):
        process = self.processes.pop(name, None)
        if process:
            os.killpg(process.pid, how)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def log(self, name):
        return (LOGS / f"{name}.log").read_text(errors="replace") if (LOGS / f"{name}.log").exists() else ""

    def ended(self):
        """Processes that are no longer there."""
        return [f"{name}: exit {process.poll()}\n{self.log(name)[-2000:]}" for name, process in self.processes.items() if process.poll() is not None]


def alone(script, arguments):
    """The same script in namespaces of its own."""
    return subprocess.Popen([*ALONE, sys.executable, script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
