"""python_tokens.py: nanoseconds of signing and verifying by Django and PyJWT, as JSON."""

import json
import statistics
import time

import jwt
from django.conf import settings
from django.core import signing

KEY = "bench-key-bench-key-bench-key-00"
DATA = {"id": "018f2f6e-7c1a-7d5e-9a40-6a5f7e0c1d2b"}
CLAIMS = {"sub": "42", "jti": "123456", "exp": 4_102_444_800}


def nanoseconds(work, times=5000, rounds=9):
    def one_round():
        began = time.perf_counter_ns()
        for _ in range(times):
            work()
        return (time.perf_counter_ns() - began) / times

    one_round()
    return statistics.median(one_round() for _ in range(rounds))


settings.configure(SECRET_KEY=KEY)
signed = signing.dumps(DATA, salt="bgfiles")
encoded = jwt.encode(CLAIMS, KEY, "HS256")
print(
    json.dumps(
        {
            "Django sign": nanoseconds(lambda: signing.dumps(DATA, salt="bgfiles")),
            "Django verify": nanoseconds(lambda: signing.loads(signed, salt="bgfiles", max_age=3600)),
            "PyJWT verify": nanoseconds(lambda: jwt.decode(encoded, KEY, ["HS256"])),
        }
    )
)
