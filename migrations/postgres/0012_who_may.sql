-- Whether links are for the requester alone: NULL is "as the file type says", and `false` is the word
-- of somebody who may loosen that. Of the rows that are there nobody can tell a `false` that somebody
-- said from the column's default of before, so they take their type's word.

ALTER TABLE bgfiles_file_requests ALTER COLUMN requester_only DROP NOT NULL, ALTER COLUMN requester_only DROP DEFAULT;
UPDATE bgfiles_file_requests SET requester_only = NULL WHERE NOT requester_only;
ALTER TABLE bgfiles_links ALTER COLUMN requester_only DROP NOT NULL;
UPDATE bgfiles_links SET requester_only = NULL WHERE NOT requester_only;

-- What web processes keep in memory (0007_downloads.sql) was also found good by this column.
DROP TRIGGER bgfiles_downloads_links_changed ON bgfiles_links;
CREATE TRIGGER bgfiles_downloads_links_changed
    AFTER UPDATE OF jti, request_id, requester_only, expires_at, revoked_at, not_before, max_uses, scanner_safe ON bgfiles_links
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND OLD.max_uses IS NULL AND NOT OLD.scanner_safe)
    EXECUTE FUNCTION bgfiles_auth_changed();
DROP TRIGGER bgfiles_downloads_changed ON bgfiles_file_requests;
CREATE TRIGGER bgfiles_downloads_changed
    AFTER UPDATE OF id, file_type, status, expires_at, requester, requester_only, storage_key, size, sha256,
        filename, content_type, finished_at ON bgfiles_file_requests
    FOR EACH ROW WHEN (OLD.status = 'finished' AND NOT (
        NEW.status = 'expired' AND OLD.expires_at IS NOT DISTINCT FROM NEW.expires_at
        AND COALESCE(OLD.expires_at <= now() - interval '5 minutes', false)))
    EXECUTE FUNCTION bgfiles_auth_changed();

-- Lists of links have pages.
DROP INDEX bgfiles_links_request;
CREATE INDEX bgfiles_links_request ON bgfiles_links (request_id, created_at, jti);
