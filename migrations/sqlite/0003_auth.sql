-- The same as migrations/postgres/0003_auth.sql, but for the throttle, which the web process keeps
-- in memory here.

ALTER TABLE bgfiles_users ADD COLUMN username_key text;
CREATE UNIQUE INDEX bgfiles_users_key ON bgfiles_users (username_key);

ALTER TABLE bgfiles_clients ADD COLUMN tokens text NOT NULL DEFAULT 'one'
    CHECK (tokens IN ('one', 'one-only', 'several'));

ALTER TABLE bgfiles_auth_tokens RENAME TO bgfiles_auth_tokens_before;
CREATE TABLE bgfiles_auth_tokens (
    id              blob        PRIMARY KEY NOT NULL,
    user_id         text        NOT NULL,
    own_user_id     blob        REFERENCES bgfiles_users (id) ON DELETE CASCADE,
    client_id       blob        NOT NULL REFERENCES bgfiles_clients (id) ON DELETE CASCADE,
    slot            text        NOT NULL DEFAULT '',
    created_at      datetime    NOT NULL,
    expires_at      datetime,
    last_used_at    datetime,
    last_ip         text,
    last_user_agent text        NOT NULL DEFAULT '',
    UNIQUE (user_id, client_id, slot)
);
CREATE INDEX bgfiles_auth_tokens_own_user ON bgfiles_auth_tokens (own_user_id);
CREATE INDEX bgfiles_auth_tokens_client ON bgfiles_auth_tokens (client_id);
CREATE INDEX bgfiles_auth_tokens_expires ON bgfiles_auth_tokens (expires_at)
    WHERE expires_at IS NOT NULL;

CREATE TABLE bgfiles_auth_secrets (
    hash       text        PRIMARY KEY NOT NULL,
    prefix     text        NOT NULL,
    token_id   blob        NOT NULL REFERENCES bgfiles_auth_tokens (id) ON DELETE CASCADE,
    created_at datetime    NOT NULL,
    expires_at datetime
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

CREATE TABLE bgfiles_login_attempts (
    key           text   PRIMARY KEY NOT NULL,
    drained_at    bigint NOT NULL,
    blocked_until bigint NOT NULL
);
CREATE INDEX bgfiles_login_attempts_drained ON bgfiles_login_attempts (drained_at);

CREATE TABLE bgfiles_auth_epoch (
    id    integer PRIMARY KEY CHECK (id = 1),
    epoch bigint  NOT NULL
);
INSERT INTO bgfiles_auth_epoch (id, epoch) VALUES (1, 1);
CREATE TRIGGER bgfiles_auth_secrets_deleted AFTER DELETE ON bgfiles_auth_secrets BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_auth_secrets_shortened AFTER UPDATE OF expires_at ON bgfiles_auth_secrets
WHEN NEW.expires_at < OLD.expires_at OR (OLD.expires_at IS NULL AND NEW.expires_at IS NOT NULL) BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_auth_tokens_shortened AFTER UPDATE OF expires_at ON bgfiles_auth_tokens
WHEN NEW.expires_at < OLD.expires_at OR (OLD.expires_at IS NULL AND NEW.expires_at IS NOT NULL) BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_users_changed AFTER UPDATE OF username, email, role, is_active ON bgfiles_users BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_clients_changed AFTER UPDATE OF name, throttle_rate ON bgfiles_clients BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
-- Deleting cascades only where foreign keys are on, which is up to who deletes.
CREATE TRIGGER bgfiles_auth_tokens_deleted AFTER DELETE ON bgfiles_auth_tokens BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_users_deleted AFTER DELETE ON bgfiles_users BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_clients_deleted AFTER DELETE ON bgfiles_clients BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_auth_secrets_moved AFTER UPDATE OF hash, token_id ON bgfiles_auth_secrets BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_auth_tokens_moved AFTER UPDATE OF user_id, own_user_id, client_id ON bgfiles_auth_tokens BEGIN
    UPDATE bgfiles_auth_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER bgfiles_users_renamed AFTER UPDATE OF username ON bgfiles_users WHEN NEW.username <> OLD.username BEGIN
    UPDATE bgfiles_auth_tokens SET user_id = NEW.username WHERE own_user_id = NEW.id;
END;
