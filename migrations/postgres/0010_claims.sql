-- A claim costs its request an attempt once the handler has begun; see CLAIM in
-- src/file_request/store.rs.

-- Whether the handler of the last claim is known to have begun.
ALTER TABLE bgfiles_file_requests ADD COLUMN begun boolean NOT NULL DEFAULT false;
-- Claims that ended without a word before that was known; they count as no attempt.
ALTER TABLE bgfiles_file_requests ADD COLUMN lost integer NOT NULL DEFAULT 0;
-- Since when it is known that nobody knows its type.
ALTER TABLE bgfiles_file_requests ADD COLUMN unknown_since timestamptz;
-- What was being made has begun, for all that anybody knows.
UPDATE bgfiles_file_requests SET begun = true WHERE status = 'running';

-- Which types wait.
CREATE INDEX bgfiles_file_requests_waiting ON bgfiles_file_requests (file_type, run_at) WHERE status = 'pending';
-- The file types that a worker knows, with commas between them.
ALTER TABLE bgfiles_workers ADD COLUMN file_types text NOT NULL DEFAULT '';

-- Workers look for notices by themselves. The column stays for workers of before, which still write
-- it while processes are replaced one by one.
DROP INDEX bgfiles_notices_unwoken;

-- An insert wakes the workers, whoever inserts. The channel is that of src/queue.rs.
CREATE FUNCTION bgfiles_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('bgfiles', 'bgfiles::requests');
    RETURN NULL;
END $$;
CREATE TRIGGER bgfiles_announced AFTER INSERT ON bgfiles_file_requests
    FOR EACH STATEMENT EXECUTE FUNCTION bgfiles_announce();

-- Who may write to one table need have no right to those that its triggers write to. The path is
-- pinned, so that nobody puts a table or an operator of theirs in between; and nobody hangs these
-- functions on a table of theirs.
DO $$
DECLARE
    name text;
    home text := current_schema();
BEGIN
    FOREACH name IN ARRAY ARRAY['bgfiles_tally_changed', 'bgfiles_tally_truncated',
        'bgfiles_hits_removed', 'bgfiles_hits_emptied', 'bgfiles_user_renamed']
    LOOP
        EXECUTE format('ALTER FUNCTION %I.%I() SECURITY DEFINER SET search_path = pg_catalog, %I, pg_temp',
            home, name, home);
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %I.%I() FROM PUBLIC', home, name);
    END LOOP;
END $$;
