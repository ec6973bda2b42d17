"""The queries that must stay quick however many rows there are; their plans go into the report."""

from . import env

PLANS = env.RESULTS / "plans"

QUERIES = {
    "wake-what-was-forgotten": """UPDATE bgfiles_file_requests SET woken_at = now() WHERE id IN (SELECT id FROM (
SELECT * FROM (SELECT id, requested_at FROM bgfiles_file_requests WHERE status = 'pending'
AND woken_at IS NULL AND run_at <= now() ORDER BY woken_at, run_at LIMIT 200) never UNION ALL
SELECT * FROM (SELECT id, requested_at FROM bgfiles_file_requests WHERE status = 'pending'
AND woken_at < now() - interval '1 minute' AND run_at <= now() ORDER BY woken_at LIMIT 200) long_ago UNION ALL
SELECT id, requested_at FROM bgfiles_file_requests WHERE status = 'running'
AND lease_until < now() AND (woken_at IS NULL OR woken_at < now() - interval '10 seconds')
) forgotten ORDER BY requested_at LIMIT 200)
AND (woken_at IS NULL OR woken_at < now() - interval '10 seconds') RETURNING id""",
    "claim": """UPDATE bgfiles_file_requests SET status = 'running', generation = generation + 1,
attempts = attempts + 1, lease_until = now() + interval '10 seconds', leased_by = 'a worker'
WHERE id = (SELECT id FROM bgfiles_file_requests WHERE status = 'pending' ORDER BY run_at LIMIT 1)
AND ((status = 'pending' AND run_at <= now()) OR (status = 'running' AND lease_until < now())) RETURNING *""",
    "to-handle": """SELECT * FROM (
SELECT * FROM (SELECT * FROM bgfiles_file_requests WHERE status = 'pending'
AND run_at <= now() ORDER BY requested_at, id LIMIT 50) waiting UNION ALL
SELECT * FROM (SELECT * FROM bgfiles_file_requests WHERE status = 'running'
AND lease_until < now() ORDER BY requested_at, id LIMIT 50) silent
) due ORDER BY requested_at, id LIMIT 50""",
    "newest-of-a-requester": """SELECT * FROM bgfiles_file_requests WHERE requester = 'user-7'
ORDER BY requested_at DESC, id DESC LIMIT 50""",
    "failed": """SELECT * FROM bgfiles_file_requests WHERE status = 'failed'
ORDER BY requested_at DESC, id DESC LIMIT 50""",
    "a-page-far-back": """SELECT * FROM bgfiles_file_requests
WHERE (requested_at, id) < (now() - interval '5 days', '00000000-0000-0000-0000-000000000000')
ORDER BY requested_at DESC, id DESC LIMIT 50""",
    "counts": """SELECT status, CAST(sum(n) AS bigint) FROM bgfiles_tally
GROUP BY status HAVING sum(n) <> 0""",
}


def explain(data):
    """Writes the plan of each query, run on the tables as they are."""
    env.empty(PLANS)
    for name, sql in QUERIES.items():
        plan = data.psql(f"BEGIN; EXPLAIN (ANALYZE, BUFFERS) {sql}; ROLLBACK", "bgfiles")
        (PLANS / f"{name}.txt").write_text(f"{sql}\n\n{plan}\n")
