"""The queries that must stay quick however many rows there are; their plans go into the report."""

from . import env

PLANS = env.RESULTS / "plans"

QUERIES = {
    "due": """SELECT * FROM bgfiles_file_requests
WHERE (status = 'pending' AND run_at <= now()) OR (status = 'running' AND lease_until < now())
ORDER BY requested_at, id LIMIT 50""",
    "newest": "SELECT * FROM bgfiles_file_requests ORDER BY requested_at DESC, id DESC LIMIT 50",
    "newest-of-a-requester": """SELECT * FROM bgfiles_file_requests WHERE requester = 'user-7'
ORDER BY requested_at DESC, id DESC LIMIT 50""",
    "by-status": "SELECT status, count(*) FROM bgfiles_file_requests GROUP BY status",
}


def explain(data):
    """Writes the plan of each query, run on the tables as they are."""
    env.empty(PLANS)
    for name, sql in QUERIES.items():
        plan = data.psql(f"BEGIN; EXPLAIN (ANALYZE, BUFFERS) {sql}; ROLLBACK", "bgfiles")
        (PLANS / f"{name}.txt").write_text(f"{sql}\n\n{plan}\n")
