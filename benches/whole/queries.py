"""The queries that must stay quick however many rows there are; their plans go into the report."""

from . import env

PLANS = env.ROOT / "docs/plans"

QUERIES = {
    "claim-what-is-due": """UPDATE bgfiles_file_requests SET status = 'running', generation = generation + 1,
attempts = attempts + 1, lease_until = now() + interval '10 seconds', leased_by = 'a worker'
WHERE ctid = ANY (ARRAY (SELECT ctid FROM bgfiles_file_requests WHERE status = 'pending'
AND run_at BETWEEN '1970-01-01' AND now() ORDER BY run_at LIMIT 8 FOR UPDATE SKIP LOCKED)) RETURNING *""",
    "claim-of-the-silent": """UPDATE bgfiles_file_requests SET status = 'running', generation = generation + 1,
attempts = attempts + 1, lease_until = now() + interval '10 seconds', leased_by = 'a worker'
WHERE ctid = ANY (ARRAY (SELECT ctid FROM bgfiles_file_requests WHERE status = 'running'
AND lease_until < now() ORDER BY requested_at LIMIT 8 FOR UPDATE SKIP LOCKED)) RETURNING *""",
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
