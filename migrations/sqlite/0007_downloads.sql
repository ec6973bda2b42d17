-- The same triggers as migrations/postgres/0007_downloads.sql. Here the counter is seen with the
-- commit, so that nothing has to be held before.

CREATE TRIGGER bgfiles_downloads_links_changed
AFTER UPDATE OF jti, request_id, expires_at, revoked_at, not_before, max_uses, scanner_safe ON bgfiles_links
WHEN OLD.revoked_at IS NULL AND OLD.max_uses IS NULL AND NOT OLD.scanner_safe BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_downloads_links_deleted AFTER DELETE ON bgfiles_links
WHEN OLD.revoked_at IS NULL AND OLD.max_uses IS NULL AND NOT OLD.scanner_safe
    AND OLD.expires_at > strftime('%Y-%m-%dT%H:%M:%S', 'now', '-5 minutes') BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_downloads_changed
AFTER UPDATE OF id, file_type, status, expires_at, requester, storage_key, size, sha256,
    filename, content_type, finished_at ON bgfiles_file_requests
WHEN OLD.status = 'finished' AND NOT (NEW.status = 'expired' AND OLD.expires_at IS NEW.expires_at
    AND COALESCE(OLD.expires_at <= strftime('%Y-%m-%dT%H:%M:%S', 'now', '-5 minutes'), 0)) BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_downloads_removed AFTER DELETE ON bgfiles_file_requests
WHEN OLD.status = 'finished' BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
