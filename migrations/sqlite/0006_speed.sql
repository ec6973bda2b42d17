-- The same as migrations/postgres/0006_speed.sql, but for the tally, which is updated in place: there
-- is one writer at a time anyway.

-- One partial index a state: SQLite uses such an index only where the statement names this state
-- and no other, and prefers a full one on (status, …) to all others.
DROP INDEX bgfiles_file_requests_open;
CREATE INDEX bgfiles_file_requests_pending ON bgfiles_file_requests (requested_at, id) WHERE status = 'pending';
CREATE INDEX bgfiles_file_requests_running ON bgfiles_file_requests (requested_at, id) WHERE status = 'running';
CREATE INDEX bgfiles_file_requests_finished ON bgfiles_file_requests (requested_at, id) WHERE status = 'finished';
CREATE INDEX bgfiles_file_requests_failed ON bgfiles_file_requests (requested_at, id) WHERE status = 'failed';
CREATE INDEX bgfiles_file_requests_cancelled ON bgfiles_file_requests (requested_at, id) WHERE status = 'cancelled';
CREATE INDEX bgfiles_file_requests_expired ON bgfiles_file_requests (requested_at, id) WHERE status = 'expired';
-- How long the oldest has waited.
CREATE INDEX bgfiles_file_requests_due ON bgfiles_file_requests (run_at) WHERE status = 'pending';
-- Wake-ups that were lost; run_at passes over what waits for its next attempt.
CREATE INDEX bgfiles_file_requests_unwoken ON bgfiles_file_requests (woken_at, run_at) WHERE status = 'pending';

CREATE INDEX bgfiles_notices_unwoken ON bgfiles_notices (woken_at, run_at) WHERE status = 'pending';
CREATE INDEX bgfiles_notices_failed ON bgfiles_notices (created_at) WHERE status = 'failed';

-- Attempts whose request is gone are marked, so that nobody has to look for them among all.
ALTER TABLE bgfiles_attempts ADD COLUMN gone boolean NOT NULL DEFAULT 0;
UPDATE bgfiles_attempts SET gone = 1
    WHERE NOT EXISTS (SELECT 1 FROM bgfiles_file_requests r WHERE r.id = request_id);
CREATE INDEX bgfiles_attempts_gone ON bgfiles_attempts (ended_at) WHERE gone;

-- How many requests there are in each state, and how many files of how many bytes are kept for
-- them. A state has its line for ever, as triggers can only update safely: what an upsert does in
-- them is up to the statement outside.
CREATE TABLE bgfiles_tally (
    status text   PRIMARY KEY NOT NULL,
    n      bigint NOT NULL DEFAULT 0,
    files  bigint NOT NULL DEFAULT 0,
    bytes  bigint NOT NULL DEFAULT 0
) WITHOUT ROWID;
INSERT INTO bgfiles_tally (status) VALUES
    ('pending'), ('running'), ('finished'), ('failed'), ('cancelled'), ('expired');
UPDATE bgfiles_tally SET n = c.n, files = c.files, bytes = c.bytes FROM (
    SELECT status, count(*) AS n,
        count(*) FILTER (WHERE storage_key IS NOT NULL AND status <> 'expired') AS files,
        coalesce(sum(size) FILTER (WHERE storage_key IS NOT NULL AND status <> 'expired'), 0) AS bytes
    FROM bgfiles_file_requests GROUP BY status) c WHERE c.status = bgfiles_tally.status;
-- When requests were last counted one by one.
CREATE TABLE bgfiles_tally_counted (
    id integer  PRIMARY KEY CHECK (id = 1),
    at datetime NOT NULL
);
INSERT INTO bgfiles_tally_counted (id, at) VALUES (1, '1970-01-01T00:00:00+00:00');

CREATE TRIGGER bgfiles_tally_added AFTER INSERT ON bgfiles_file_requests BEGIN
    UPDATE bgfiles_tally SET n = n + 1,
        files = files + (NEW.storage_key IS NOT NULL AND NEW.status <> 'expired'),
        bytes = bytes + iif(NEW.storage_key IS NOT NULL AND NEW.status <> 'expired', coalesce(NEW.size, 0), 0)
        WHERE status = NEW.status;
END;
CREATE TRIGGER bgfiles_tally_removed AFTER DELETE ON bgfiles_file_requests BEGIN
    UPDATE bgfiles_tally SET n = n - 1,
        files = files - (OLD.storage_key IS NOT NULL AND OLD.status <> 'expired'),
        bytes = bytes - iif(OLD.storage_key IS NOT NULL AND OLD.status <> 'expired', coalesce(OLD.size, 0), 0)
        WHERE status = OLD.status;
    UPDATE bgfiles_attempts SET gone = 1 WHERE request_id = OLD.id;
END;
CREATE TRIGGER bgfiles_tally_moved AFTER UPDATE OF status, storage_key, size ON bgfiles_file_requests
WHEN NEW.status <> OLD.status OR NEW.storage_key IS NOT OLD.storage_key OR NEW.size IS NOT OLD.size BEGIN
    UPDATE bgfiles_tally SET n = n - 1,
        files = files - (OLD.storage_key IS NOT NULL AND OLD.status <> 'expired'),
        bytes = bytes - iif(OLD.storage_key IS NOT NULL AND OLD.status <> 'expired', coalesce(OLD.size, 0), 0)
        WHERE status = OLD.status;
    UPDATE bgfiles_tally SET n = n + 1,
        files = files + (NEW.storage_key IS NOT NULL AND NEW.status <> 'expired'),
        bytes = bytes + iif(NEW.storage_key IS NOT NULL AND NEW.status <> 'expired', coalesce(NEW.size, 0), 0)
        WHERE status = NEW.status;
END;
