-- Clients and auth tokens as the successor of django-rest-durin has them.

-- NFKC and case folding of the name, which neither database can do alone: `bgfiles migrate` fills
-- it in for users that were there before.
ALTER TABLE bgfiles_users ADD COLUMN username_key text;
CREATE UNIQUE INDEX bgfiles_users_key ON bgfiles_users (username_key);

-- one: a user has one token with a client, and each login adds a secret to it; one-only: a login
-- ends the secrets before it; several: each login makes a token.
ALTER TABLE bgfiles_clients ADD COLUMN tokens text NOT NULL DEFAULT 'one'
    CHECK (tokens IN ('one', 'one-only', 'several'));

ALTER TABLE bgfiles_auth_tokens RENAME TO bgfiles_auth_tokens_before;
CREATE TABLE bgfiles_auth_tokens (
    id              uuid        PRIMARY KEY,
    -- the requester id
    user_id         text        NOT NULL,
    -- null when users live in a host application
    own_user_id     uuid        REFERENCES bgfiles_users (id) ON DELETE CASCADE,
    client_id       uuid        NOT NULL REFERENCES bgfiles_clients (id) ON DELETE CASCADE,
    -- empty for the one of a user and a client, else the token's id
    slot            text        NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,
    last_used_at    timestamptz,
    last_ip         text,
    last_user_agent text        NOT NULL DEFAULT '',
    UNIQUE (user_id, client_id, slot)
);
CREATE INDEX bgfiles_auth_tokens_own_user ON bgfiles_auth_tokens (own_user_id);
CREATE INDEX bgfiles_auth_tokens_client ON bgfiles_auth_tokens (client_id);
CREATE INDEX bgfiles_auth_tokens_expires ON bgfiles_auth_tokens (expires_at)
    WHERE expires_at IS NOT NULL;

CREATE TABLE bgfiles_auth_secrets (
    -- SHA-256 of the secret
    hash       text        PRIMARY KEY,
    prefix     text        NOT NULL,
    token_id   uuid        NOT NULL REFERENCES bgfiles_auth_tokens (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz
);
CREATE INDEX bgfiles_auth_secrets_token ON bgfiles_auth_secrets (token_id);
CREATE INDEX bgfiles_auth_secrets_expires ON bgfiles_auth_secrets (expires_at)
    WHERE expires_at IS NOT NULL;

INSERT INTO bgfiles_auth_tokens (id, user_id, own_user_id, client_id, slot, created_at, expires_at)
    SELECT t.id, u.username, u.id, t.client_id, t.hash, t.created_at, t.expires_at
    FROM bgfiles_auth_tokens_before t JOIN bgfiles_users u ON u.id = t.user_id;
INSERT INTO bgfiles_auth_secrets (hash, prefix, token_id, created_at, expires_at)
    SELECT hash, prefix, id, created_at, expires_at FROM bgfiles_auth_tokens_before;
DROP TABLE bgfiles_auth_tokens_before;

-- Failed logins of late, by account and address, and who is known where. Times in milliseconds
-- since 1970; failures leak away, all of them by drained_at. Unlogged: after a crash of the server
-- it begins empty.
CREATE UNLOGGED TABLE bgfiles_login_attempts (
    key           text   PRIMARY KEY,
    drained_at    bigint NOT NULL,
    blocked_until bigint NOT NULL
);
CREATE INDEX bgfiles_login_attempts_drained ON bgfiles_login_attempts (drained_at);

-- When each caller's bucket will be full again, in microseconds since 1970 (GCRA's "theoretical
-- arrival time"). On SQLite the web process keeps this in memory.
CREATE UNLOGGED TABLE bgfiles_throttle (
    key text   PRIMARY KEY,
    tat bigint NOT NULL
) WITH (fillfactor = 50);

-- Web processes keep what they know of tokens in memory. Whatever takes something away from a
-- caller tells them, whoever does it and however.
CREATE FUNCTION bgfiles_auth_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('bgfiles_auth', '');
    RETURN NULL;
END $$;
CREATE TRIGGER bgfiles_auth_secrets_deleted AFTER DELETE ON bgfiles_auth_secrets
    FOR EACH STATEMENT EXECUTE FUNCTION bgfiles_auth_changed();
CREATE TRIGGER bgfiles_auth_secrets_shortened AFTER UPDATE OF expires_at ON bgfiles_auth_secrets
    FOR EACH ROW WHEN (NEW.expires_at < OLD.expires_at OR (OLD.expires_at IS NULL AND NEW.expires_at IS NOT NULL))
    EXECUTE FUNCTION bgfiles_auth_changed();
CREATE TRIGGER bgfiles_auth_tokens_shortened AFTER UPDATE OF expires_at ON bgfiles_auth_tokens
    FOR EACH ROW WHEN (NEW.expires_at < OLD.expires_at OR (OLD.expires_at IS NULL AND NEW.expires_at IS NOT NULL))
    EXECUTE FUNCTION bgfiles_auth_changed();
CREATE TRIGGER bgfiles_auth_secrets_moved AFTER UPDATE OF hash, token_id ON bgfiles_auth_secrets
    FOR EACH ROW EXECUTE FUNCTION bgfiles_auth_changed();
CREATE TRIGGER bgfiles_auth_secrets_truncated AFTER TRUNCATE ON bgfiles_auth_secrets
    FOR EACH STATEMENT EXECUTE FUNCTION bgfiles_auth_changed();
CREATE TRIGGER bgfiles_auth_tokens_moved AFTER UPDATE OF user_id, own_user_id, client_id ON bgfiles_auth_tokens
    FOR EACH ROW EXECUTE FUNCTION bgfiles_auth_changed();
CREATE TRIGGER bgfiles_users_changed AFTER UPDATE OF username, email, role, is_active ON bgfiles_users
    FOR EACH ROW EXECUTE FUNCTION bgfiles_auth_changed();
CREATE TRIGGER bgfiles_clients_changed AFTER UPDATE OF name, throttle_rate ON bgfiles_clients
    FOR EACH ROW EXECUTE FUNCTION bgfiles_auth_changed();

-- A user who is renamed keeps their tokens, and nobody else gets them.
CREATE FUNCTION bgfiles_user_renamed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bgfiles_auth_tokens SET user_id = NEW.username WHERE own_user_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER bgfiles_users_renamed AFTER UPDATE OF username ON bgfiles_users
    FOR EACH ROW WHEN (NEW.username <> OLD.username) EXECUTE FUNCTION bgfiles_user_renamed();
