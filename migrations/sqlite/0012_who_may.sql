-- The same as migrations/postgres/0012_who_may.sql. A column does not lose its NOT NULL here, so
-- another one takes its place.

DROP TRIGGER bgfiles_downloads_links_changed;
DROP TRIGGER bgfiles_downloads_changed;

ALTER TABLE bgfiles_file_requests ADD COLUMN requester_only_may boolean;
UPDATE bgfiles_file_requests SET requester_only_may = 1 WHERE requester_only;
ALTER TABLE bgfiles_file_requests DROP COLUMN requester_only;
ALTER TABLE bgfiles_file_requests RENAME COLUMN requester_only_may TO requester_only;

ALTER TABLE bgfiles_links ADD COLUMN requester_only_may boolean;
UPDATE bgfiles_links SET requester_only_may = 1 WHERE requester_only;
ALTER TABLE bgfiles_links DROP COLUMN requester_only;
ALTER TABLE bgfiles_links RENAME COLUMN requester_only_may TO requester_only;

CREATE TRIGGER bgfiles_downloads_links_changed
AFTER UPDATE OF jti, request_id, requester_only, expires_at, revoked_at, not_before, max_uses, scanner_safe ON bgfiles_links
WHEN OLD.revoked_at IS NULL AND OLD.max_uses IS NULL AND NOT OLD.scanner_safe BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_downloads_changed
AFTER UPDATE OF id, file_type, status, expires_at, requester, requester_only, storage_key, size, sha256,
    filename, content_type, finished_at ON bgfiles_file_requests
WHEN OLD.status = 'finished' AND NOT (NEW.status = 'expired' AND OLD.expires_at IS NEW.expires_at
    AND COALESCE(OLD.expires_at <= strftime('%Y-%m-%dT%H:%M:%S', 'now', '-5 minutes'), 0)) BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;

DROP INDEX bgfiles_links_request;
CREATE INDEX bgfiles_links_request ON bgfiles_links (request_id, created_at, jti);
