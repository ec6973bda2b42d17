"""Signing and verifying: ours from `cargo bench --bench tokens`, beside Django and PyJWT."""

import json

from . import env, results
from .env import PEERS, PYTHON, ROOT

# Criterion's estimates, a folder for each benchmark.
CRITERION = ROOT / "target/criterion"
OURS = ["bgfiles sign", "bgfiles verify", "bgfiles JWT verify"]


def run(data, sizes):
    rows = {name: [ours(name)] for name in OURS}
    said = json.loads(env.output(PYTHON, PEERS / "python_tokens.py"))
    rows |= {name: [nanoseconds] for name, nanoseconds in said.items()}
    return [results.table("Tokens", ["ns each"], rows, "HMAC-SHA256 all. bgfiles: `cargo bench --bench tokens`.")]


def ours(name):
    """The median in nanoseconds, if `cargo bench --bench tokens` was run."""
    estimates = CRITERION / name / "new/estimates.json"
    return json.loads(estimates.read_text())["median"]["point_estimate"] if estimates.exists() else None
