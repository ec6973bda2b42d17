-- The same tables as migrations/postgres/0004_locks.sql.

CREATE TABLE bgfiles_locks (
    -- app/model, and which one
    resource   text        NOT NULL,
    object_id  text        NOT NULL,
    -- grows with every acquisition, also over a release
    fence      bigint      NOT NULL,
    held       boolean     NOT NULL,
    -- whose tabs share it; null for nobody's
    session    text,
    owner      text,
    reason     text        NOT NULL DEFAULT '',
    -- of the acquisition: tells one that joins from one that acquires
    first_token text       NOT NULL,
    locked_at  datetime    NOT NULL,
    expires_at datetime    NOT NULL,
    PRIMARY KEY (resource, object_id)
);
CREATE INDEX bgfiles_locks_expires ON bgfiles_locks (expires_at);

CREATE TABLE bgfiles_lock_tokens (
    token      text        PRIMARY KEY NOT NULL,
    resource   text        NOT NULL,
    object_id  text        NOT NULL,
    fence      bigint      NOT NULL,
    ttl        integer     NOT NULL,
    expires_at datetime    NOT NULL,
    FOREIGN KEY (resource, object_id) REFERENCES bgfiles_locks (resource, object_id) ON DELETE CASCADE
);
CREATE INDEX bgfiles_lock_tokens_resource ON bgfiles_lock_tokens (resource, object_id);

-- The highest fence of all rows that were removed: new rows begin above it.
CREATE TABLE bgfiles_lock_floor (
    id    integer PRIMARY KEY CHECK (id = 1),
    fence bigint  NOT NULL
);
INSERT INTO bgfiles_lock_floor (id, fence) VALUES (1, 0);
