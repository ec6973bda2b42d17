-- What looks at requests costs the same with a hundred thousand waiting and a million made.

-- One partial index a state: SQLite uses such an index only where the statement names this state
-- and no other, and prefers a full one on (status, …) to all others.
DROP INDEX bgfiles_file_requests_open;
CREATE INDEX bgfiles_file_requests_pending ON bgfiles_file_requests (requested_at, id) WHERE status = 'pending';
-- Not on lease_until: a heartbeat, which changes it each second, would write to every index.
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
ALTER TABLE bgfiles_attempts ADD COLUMN gone boolean NOT NULL DEFAULT false;
UPDATE bgfiles_attempts SET gone = true
    WHERE NOT EXISTS (SELECT 1 FROM bgfiles_file_requests r WHERE r.id = request_id);
CREATE INDEX bgfiles_attempts_gone ON bgfiles_attempts (ended_at) WHERE gone;

-- How many requests there are in each state, and how many files of how many bytes are kept for
-- them: the sum of all lines. Whatever changes a request appends lines, as one line that all
-- update would let them wait for each other until they commit; workers and the cleaner add lines up.
CREATE TABLE bgfiles_tally (
    status text   NOT NULL,
    n      bigint NOT NULL,
    files  bigint NOT NULL,
    bytes  bigint NOT NULL
);
-- When requests were last counted one by one.
CREATE TABLE bgfiles_tally_counted (
    id integer     PRIMARY KEY CHECK (id = 1),
    at timestamptz NOT NULL
);
INSERT INTO bgfiles_tally_counted (id, at) VALUES (1, 'epoch');

-- For each row: about 5 µs of the 600 that it costs to take a request. For each statement, with a
-- transition table, it would be 30; those who insert many by one statement leave many lines instead.
CREATE FUNCTION bgfiles_tally_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    kept boolean;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        kept := OLD.storage_key IS NOT NULL AND OLD.status <> 'expired';
        INSERT INTO bgfiles_tally (status, n, files, bytes) VALUES
            (OLD.status, -1, -kept::integer, CASE WHEN kept THEN -coalesce(OLD.size, 0) ELSE 0 END);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        kept := NEW.storage_key IS NOT NULL AND NEW.status <> 'expired';
        INSERT INTO bgfiles_tally (status, n, files, bytes) VALUES
            (NEW.status, 1, kept::integer, CASE WHEN kept THEN coalesce(NEW.size, 0) ELSE 0 END);
    ELSE
        UPDATE bgfiles_attempts SET gone = true WHERE request_id = OLD.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER bgfiles_tally_added AFTER INSERT ON bgfiles_file_requests
    FOR EACH ROW EXECUTE FUNCTION bgfiles_tally_changed();
CREATE TRIGGER bgfiles_tally_removed AFTER DELETE ON bgfiles_file_requests
    FOR EACH ROW EXECUTE FUNCTION bgfiles_tally_changed();
CREATE TRIGGER bgfiles_tally_moved AFTER UPDATE OF status, storage_key, size ON bgfiles_file_requests
    FOR EACH ROW WHEN (NEW.status <> OLD.status OR NEW.storage_key IS DISTINCT FROM OLD.storage_key
        OR NEW.size IS DISTINCT FROM OLD.size)
    EXECUTE FUNCTION bgfiles_tally_changed();

CREATE FUNCTION bgfiles_tally_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM bgfiles_tally;
    UPDATE bgfiles_attempts SET gone = true WHERE NOT gone;
    RETURN NULL;
END $$;
CREATE TRIGGER bgfiles_tally_truncated AFTER TRUNCATE ON bgfiles_file_requests
    FOR EACH STATEMENT EXECUTE FUNCTION bgfiles_tally_truncated();

-- Last, as from the triggers on nobody else writes until this migration is done.
INSERT INTO bgfiles_tally (status, n, files, bytes)
    SELECT status, count(*),
        count(*) FILTER (WHERE storage_key IS NOT NULL AND status <> 'expired'),
        coalesce(sum(size) FILTER (WHERE storage_key IS NOT NULL AND status <> 'expired'), 0)
    FROM bgfiles_file_requests GROUP BY status;
