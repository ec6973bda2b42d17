-- The scope that a request token was issued for: its JWTs say it (claim `sub`), whatever the scope is
-- now. Null where that is not known.
ALTER TABLE bgfiles_request_tokens ADD COLUMN issued_scope text;

-- A session is of a user, not of a name. Null when users live in a host application.
ALTER TABLE bgfiles_sessions
    ADD COLUMN own_user_id uuid REFERENCES bgfiles_users (id) ON DELETE CASCADE;
UPDATE bgfiles_sessions SET own_user_id = u.id FROM bgfiles_users u WHERE u.username = user_id;
CREATE INDEX bgfiles_sessions_own_user ON bgfiles_sessions (own_user_id);
CREATE OR REPLACE FUNCTION bgfiles_user_renamed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bgfiles_auth_tokens SET user_id = NEW.username WHERE own_user_id = NEW.id;
    UPDATE bgfiles_sessions SET user_id = NEW.username WHERE own_user_id = NEW.id;
    RETURN NULL;
END $$;

-- An API key: with what it was made (a client's name, or `session`), and the end of that, beyond which
-- nothing extends it.
ALTER TABLE bgfiles_auth_tokens ADD COLUMN made_by text NOT NULL DEFAULT '';
ALTER TABLE bgfiles_auth_tokens ADD COLUMN not_after timestamptz;
-- It ends with the token that it was made with.
ALTER TABLE bgfiles_auth_tokens
    ADD COLUMN made_by_token uuid REFERENCES bgfiles_auth_tokens (id) ON DELETE CASCADE;
CREATE INDEX bgfiles_auth_tokens_made_by ON bgfiles_auth_tokens (made_by_token) WHERE made_by_token IS NOT NULL;

-- Links that were signed before count for nothing.
ALTER TABLE bgfiles_file_requests ADD COLUMN links_from timestamptz;
DROP TRIGGER bgfiles_downloads_changed ON bgfiles_file_requests;
CREATE TRIGGER bgfiles_downloads_changed
    AFTER UPDATE OF id, file_type, status, expires_at, requester, requester_only, storage_key, size, sha256,
        filename, content_type, finished_at, links_from ON bgfiles_file_requests
    FOR EACH ROW WHEN (OLD.status = 'finished' AND NOT (
        NEW.status = 'expired' AND OLD.expires_at IS NOT DISTINCT FROM NEW.expires_at
        AND COALESCE(OLD.expires_at <= now() - interval '5 minutes', false)))
    EXECUTE FUNCTION bgfiles_auth_changed();

-- A user holds so many at most.
CREATE INDEX bgfiles_locks_owner ON bgfiles_locks (owner) WHERE held;
