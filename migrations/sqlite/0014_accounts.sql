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

ALTER TABLE bgfiles_file_requests ADD COLUMN links_from datetime;

CREATE INDEX bgfiles_locks_owner ON bgfiles_locks (owner) WHERE held;
