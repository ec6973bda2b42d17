"""An SMTP server for the tests: every accepted message becomes a file in a folder.

Prints its port on the first line of standard output and serves until it is killed.

  --starttls CERT KEY   offer STARTTLS and insist on it
  --auth USER PASSWORD  insist on a login
  --reject CODE N       answer the first N messages with this code
  --ascii               do not offer SMTPUTF8
"""

import argparse
import ssl

from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--starttls", nargs=2, metavar=("CERT", "KEY"))
parser.add_argument("--auth", nargs=2, metavar=("USER", "PASSWORD"))
parser.add_argument("--reject", nargs=2, metavar=("CODE", "N"))
parser.add_argument("--ascii", action="store_true")
options = parser.parse_args()


class Handler:
    def __init__(self):
        self.seen = 0
        self.kept = 0

    async def handle_DATA(self, server, session, envelope):
        self.seen += 1
        if options.reject and self.seen <= int(options.reject[1]):
            return f"{options.reject[0]} not now"
        self.kept += 1
        draft = options.folder / f"{self.kept:06}.draft"
        draft.write_bytes(envelope.content)
        draft.with_suffix(".to").write_text("\n".join(envelope.rcpt_tos), "utf-8")
        draft.rename(draft.with_suffix(".eml"))
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    user, password = options.auth
    good = (data.login, data.password) == (user.encode(), password.encode())
    # Not handled: the answer is the server's to give.
    return AuthResult(success=good, handled=False)


settings = {}
if options.starttls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*options.starttls)
    settings.update(tls_context=context, require_starttls=True)
if options.auth:
    settings.update(authenticator=authenticate, auth_required=True)
    settings.update(auth_require_tls=bool(options.starttls))

if options.ascii:
    settings.update(enable_SMTPUTF8=False)

controller = Controller(Handler(), hostname="127.0.0.1", port=0, server_kwargs=settings)
# Port 0: Controller's own check of the port would look at 0, so the loop is started by hand.
import asyncio


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(controller._factory_invoker, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


controller.loop = asyncio.new_event_loop()
asyncio.set_event_loop(controller.loop)
controller.loop.run_until_complete(main())

