-- The same tables as migrations/postgres/0001_initial.sql. Times are text as RFC 3339 in UTC
-- (they sort as text), ids are 16 bytes.

CREATE TABLE bgfiles_file_requests (
    id                 blob        PRIMARY KEY NOT NULL DEFAULT (randomblob(16)),
    file_type          text        NOT NULL,
    criteria           text        NOT NULL DEFAULT '',
    format             text        NOT NULL DEFAULT '',
    filename           text        NOT NULL DEFAULT '',
    description        text        NOT NULL DEFAULT '',
    content_type       text        NOT NULL DEFAULT '',
    size               bigint,
    sha256             text,
    rows               bigint,
    storage_key        text,
    requester          text,
    requester_email    text        NOT NULL DEFAULT '',
    requester_language text        NOT NULL DEFAULT '',
    requester_timezone text        NOT NULL DEFAULT '',
    requester_only     boolean     NOT NULL DEFAULT 0,
    notify             boolean     NOT NULL DEFAULT 1,
    status             text        NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'finished', 'failed', 'cancelled', 'expired')),
    generation         bigint      NOT NULL DEFAULT 0,
    attempts           integer     NOT NULL DEFAULT 0,
    crashes            integer     NOT NULL DEFAULT 0,
    run_at             datetime    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')),
    lease_until        datetime,
    leased_by          text,
    woken_at           datetime,
    cancel_requested   boolean     NOT NULL DEFAULT 0,
    progress_done      bigint      NOT NULL DEFAULT 0,
    progress_total     bigint,
    error_code         text,
    error_message      text,
    requested_at       datetime    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')),
    started_at         datetime,
    finished_at        datetime,
    expires_at         datetime
);
CREATE INDEX bgfiles_file_requests_requested ON bgfiles_file_requests (requested_at, id);
CREATE INDEX bgfiles_file_requests_requester ON bgfiles_file_requests (requester, requested_at, id);
CREATE INDEX bgfiles_file_requests_open ON bgfiles_file_requests (status, run_at)
    WHERE status IN ('pending', 'running');
CREATE INDEX bgfiles_file_requests_expires ON bgfiles_file_requests (expires_at)
    WHERE expires_at IS NOT NULL;

CREATE TABLE bgfiles_notices (
    id          blob        PRIMARY KEY NOT NULL,
    request_id  blob        NOT NULL REFERENCES bgfiles_file_requests (id) ON DELETE CASCADE,
    kind        text        NOT NULL CHECK (kind IN ('ready', 'failed')),
    message_id  text        NOT NULL,
    status      text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'failed')),
    generation  bigint      NOT NULL DEFAULT 0,
    attempts    integer     NOT NULL DEFAULT 0,
    run_at      datetime    NOT NULL,
    lease_until datetime,
    woken_at    datetime,
    error       text,
    created_at  datetime    NOT NULL,
    done_at     datetime
);
CREATE INDEX bgfiles_notices_open ON bgfiles_notices (run_at) WHERE status = 'pending';
CREATE INDEX bgfiles_notices_request ON bgfiles_notices (request_id);

CREATE TABLE bgfiles_links (
    jti            blob        PRIMARY KEY NOT NULL,
    request_id     blob        NOT NULL REFERENCES bgfiles_file_requests (id) ON DELETE CASCADE,
    requester_only boolean     NOT NULL,
    data           text        NOT NULL,
    created_by     text        NOT NULL,
    created_at     datetime    NOT NULL,
    expires_at     datetime    NOT NULL,
    revoked_at     datetime
);
CREATE INDEX bgfiles_links_request ON bgfiles_links (request_id);

CREATE TABLE bgfiles_idempotency_keys (
    caller      text        NOT NULL,
    key         text        NOT NULL,
    fingerprint text        NOT NULL,
    request_id  blob        NOT NULL REFERENCES bgfiles_file_requests (id) ON DELETE CASCADE,
    created_at  datetime    NOT NULL,
    PRIMARY KEY (caller, key)
);
CREATE INDEX bgfiles_idempotency_keys_created ON bgfiles_idempotency_keys (created_at);
CREATE INDEX bgfiles_idempotency_keys_request ON bgfiles_idempotency_keys (request_id);

CREATE TABLE bgfiles_users (
    id            blob        PRIMARY KEY NOT NULL,
    username      text        NOT NULL UNIQUE,
    email         text        NOT NULL DEFAULT '',
    role          text        NOT NULL CHECK (role IN ('user', 'service', 'staff')),
    password_hash text,
    is_active     boolean     NOT NULL DEFAULT 1,
    created_at    datetime    NOT NULL
);

CREATE TABLE bgfiles_clients (
    id            blob        PRIMARY KEY NOT NULL,
    name          text        NOT NULL UNIQUE,
    token_ttl     bigint,
    throttle_rate text        NOT NULL DEFAULT '',
    created_at    datetime    NOT NULL
);

CREATE TABLE bgfiles_auth_tokens (
    id          blob        PRIMARY KEY NOT NULL,
    hash        text        NOT NULL UNIQUE,
    prefix      text        NOT NULL,
    user_id     blob        NOT NULL REFERENCES bgfiles_users (id) ON DELETE CASCADE,
    client_id   blob        NOT NULL REFERENCES bgfiles_clients (id) ON DELETE CASCADE,
    created_at  datetime    NOT NULL,
    expires_at  datetime
);
CREATE INDEX bgfiles_auth_tokens_user ON bgfiles_auth_tokens (user_id, client_id);
