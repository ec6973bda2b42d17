-- Web processes keep links that were found good in memory (see 0003_auth.sql). Whatever takes
-- something away from who has such a link tells them, whoever does it and however. What time takes
-- away needs no word, nor do downloads, redemptions and the sweeps of what is over.

-- Called in a transaction that is about to take something away: from here to its end no process
-- trusts its memory. False when one of them has not let go yet. The number is that of
-- src/db/watch.rs.
CREATE FUNCTION bgfiles_hold_memory() RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '100ms' AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(x'62676661757468'::bigint);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

-- Only links that can be used as often as one likes are kept.
CREATE TRIGGER bgfiles_downloads_links_changed
    AFTER UPDATE OF jti, request_id, expires_at, revoked_at, not_before, max_uses, scanner_safe ON bgfiles_links
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND OLD.max_uses IS NULL AND NOT OLD.scanner_safe)
    EXECUTE FUNCTION bgfiles_auth_changed();
-- Links that were over for a while go with their requests, a sweep's many at a time.
CREATE TRIGGER bgfiles_downloads_links_deleted AFTER DELETE ON bgfiles_links
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND OLD.max_uses IS NULL AND NOT OLD.scanner_safe
        AND OLD.expires_at > now() - interval '5 minutes')
    EXECUTE FUNCTION bgfiles_auth_changed();
CREATE TRIGGER bgfiles_downloads_links_truncated AFTER TRUNCATE ON bgfiles_links
    FOR EACH STATEMENT EXECUTE FUNCTION bgfiles_auth_changed();

CREATE TRIGGER bgfiles_downloads_changed
    AFTER UPDATE OF id, file_type, status, expires_at, requester, storage_key, size, sha256,
        filename, content_type, finished_at ON bgfiles_file_requests
    FOR EACH ROW WHEN (OLD.status = 'finished' AND NOT (
        NEW.status = 'expired' AND OLD.expires_at IS NOT DISTINCT FROM NEW.expires_at
        AND COALESCE(OLD.expires_at <= now() - interval '5 minutes', false)))
    EXECUTE FUNCTION bgfiles_auth_changed();
CREATE TRIGGER bgfiles_downloads_removed AFTER DELETE ON bgfiles_file_requests
    FOR EACH ROW WHEN (OLD.status = 'finished') EXECUTE FUNCTION bgfiles_auth_changed();
CREATE TRIGGER bgfiles_downloads_emptied AFTER TRUNCATE ON bgfiles_file_requests
    FOR EACH STATEMENT EXECUTE FUNCTION bgfiles_auth_changed();

-- A foreign key looks the request up again for each line of a batch that is about one request, in
-- all the versions that counting its downloads has left. Who writes lines holds the request instead
-- (src/file_request/links/store.rs), and this removes them with it.
ALTER TABLE bgfiles_link_hits DROP CONSTRAINT bgfiles_link_hits_request_id_fkey;
CREATE FUNCTION bgfiles_hits_removed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM bgfiles_link_hits WHERE request_id IN (SELECT id FROM removed);
    RETURN NULL;
END $$;
CREATE TRIGGER bgfiles_hits_removed AFTER DELETE ON bgfiles_file_requests
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION bgfiles_hits_removed();
CREATE FUNCTION bgfiles_hits_emptied() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM bgfiles_link_hits;
    RETURN NULL;
END $$;
CREATE TRIGGER bgfiles_hits_emptied AFTER TRUNCATE ON bgfiles_file_requests
    FOR EACH STATEMENT EXECUTE FUNCTION bgfiles_hits_emptied();
