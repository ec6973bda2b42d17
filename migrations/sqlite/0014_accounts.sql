-- The same as migrations/postgres/0014_accounts.sql.

ALTER TABLE bgfiles_request_tokens ADD COLUMN issued_scope text;

ALTER TABLE bgfiles_sessions
    ADD COLUMN own_user_id blob REFERENCES bgfiles_users (id) ON DELETE CASCADE;
UPDATE bgfiles_sessions SET own_user_id =
    (SELECT u.id FROM bgfiles_users u WHERE u.username = bgfiles_sessions.user_id);
CREATE INDEX bgfiles_sessions_own_user ON bgfiles_sessions (own_user_id);
CREATE TRIGGER bgfiles_users_renamed_sessions AFTER UPDATE OF username ON bgfiles_users WHEN NEW.username <> OLD.username BEGIN
    UPDATE bgfiles_sessions SET user_id = NEW.username WHERE own_user_id = NEW.id;
END;

ALTER TABLE bgfiles_auth_tokens ADD COLUMN made_by text NOT NULL DEFAULT '';
ALTER TABLE bgfiles_auth_tokens ADD COLUMN not_after datetime;
ALTER TABLE bgfiles_auth_tokens
    ADD COLUMN made_by_token blob REFERENCES bgfiles_auth_tokens (id) ON DELETE CASCADE;
CREATE INDEX bgfiles_auth_tokens_made_by ON bgfiles_auth_tokens (made_by_token) WHERE made_by_token IS NOT NULL;

ALTER TABLE bgfiles_file_requests ADD COLUMN links_from datetime;
DROP TRIGGER bgfiles_downloads_changed;
CREATE TRIGGER bgfiles_downloads_changed
AFTER UPDATE OF id, file_type, status, expires_at, requester, requester_only, storage_key, size, sha256,
    filename, content_type, finished_at, links_from ON bgfiles_file_requests
WHEN OLD.status = 'finished' AND NOT (NEW.status = 'expired' AND OLD.expires_at IS NEW.expires_at
    AND COALESCE(OLD.expires_at <= strftime('%Y-%m-%dT%H:%M:%S', 'now', '-5 minutes'), 0)) BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;

CREATE INDEX bgfiles_locks_owner ON bgfiles_locks (owner) WHERE held;
