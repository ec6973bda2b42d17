"""A store that speaks S3: moto's server."""

import http.client

from . import env

SETTINGS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_REGION": "us-east-1"}


class Store:
    """The server while it runs, with a bucket."""

    def __enter__(self):
        self.port = env.free_port()
        moto = env.PYTHON.parent / "moto_server"
        self.server = env.start(moto, "-H", "127.0.0.1", "-p", self.port, environ=env.environment(**SETTINGS))
        env.wait_for("moto", lambda: env.listens(self.port), self.server)
        self.reset()
        return self

    def __exit__(self, *_):
        env.stop(self.server)

    def reset(self):
        """Forgets all files."""
        self.call("POST", "/moto-api/reset")
        self.call("PUT", "/bench")

    def call(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status >= 300:
            raise env.Failed(f"moto: {method} {path}: {answer.status}")

    def settings(self):
        return {"BGFILES_STORAGE": "s3://bench/files", "AWS_ENDPOINT": f"http://127.0.0.1:{self.port}", **SETTINGS}
