"""The parts in their order, and how they begin and end."""

import resource
import signal
import sys

from . import downloads, env, exports, flat, install, memory, queue, report, results, tokens
from .data import Data

PARTS = {
    "exports": exports.run,
    "memory": memory.run,
    "queue": queue.run,
    "flat": flat.run,
    "downloads": downloads.run,
    "tokens": tokens.run,
}


def main(arguments, usage):
    quick, names = "quick" in arguments, [a for a in arguments if a != "quick"]
    if unknown := set(names) - {*PARTS, "report"}:
        print(f"scripts/bench: {', '.join(sorted(unknown))}?\n\n{usage}", file=sys.stderr)
        return 2
    # Ends as Ctrl-C does: by the way of `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        parts = [name for name in PARTS if name in names or not names]
        failed = measure(parts, env.QUICK if quick else env.FULL) if parts else []
        report.write()
        return 1 if failed else 0
    except env.Failed as failed:
        print(f"scripts/bench: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        env.stop_all()


def measure(parts, sizes):
    """Returns the parts that failed; they keep no other from its turn."""
    if not env.BIN.exists():
        raise env.Failed("target/release/bgfiles is missing: cargo build --release")
    install.everything()
    # For ten thousand connections; what is started inherits it.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
    failed = []
    with Data(sizes.rows) as data:
        for name in parts:
            print(f"== {name}", flush=True)
            try:
                results.record(name, sizes, lambda: PARTS[name](data, sizes))
            except env.Failed as why:
                print(f"scripts/bench: {name}: {why}", file=sys.stderr, flush=True)
                failed.append(name)
    return failed
