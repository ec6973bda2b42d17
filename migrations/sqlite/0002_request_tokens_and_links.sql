-- The same tables as migrations/postgres/0002_request_tokens_and_links.sql. AUTOINCREMENT: the
-- number of a removed token never comes back, as JWTs with it may be about.

CREATE TABLE bgfiles_request_tokens (
    -- A number, as in django-request-token: rows moved from there keep their JWTs working.
    id              integer     PRIMARY KEY AUTOINCREMENT NOT NULL,
    login_mode      text        NOT NULL DEFAULT 'none' CHECK (login_mode IN ('none', 'request', 'session')),
    user_id         text,
    scope           text        NOT NULL,
    expiration_time datetime,
    not_before_time datetime,
    issued_at       datetime,
    data            text        NOT NULL DEFAULT '{}',
    max_uses        integer     NOT NULL DEFAULT 10 CHECK (max_uses >= 0),
    used_to_date    integer     NOT NULL DEFAULT 0,
    created_by      text        NOT NULL DEFAULT ''
);
CREATE INDEX bgfiles_request_tokens_scope ON bgfiles_request_tokens (scope, id);
CREATE INDEX bgfiles_request_tokens_user ON bgfiles_request_tokens (user_id, id);

CREATE TABLE bgfiles_request_token_uses (
    id          integer     PRIMARY KEY AUTOINCREMENT NOT NULL,
    token_id    bigint      NOT NULL REFERENCES bgfiles_request_tokens (id) ON DELETE CASCADE,
    -- used, or why it was denied
    outcome     text        NOT NULL,
    user_id     text,
    user_agent  text        NOT NULL DEFAULT 'unknown',
    client_ip   text,
    status_code integer,
    timestamp   datetime NOT NULL
);
CREATE INDEX bgfiles_request_token_uses_token ON bgfiles_request_token_uses (token_id, id);
CREATE INDEX bgfiles_request_token_uses_timestamp ON bgfiles_request_token_uses (timestamp);

CREATE TABLE bgfiles_sessions (
    -- SHA-256 of what the cookie holds
    hash       text        PRIMARY KEY NOT NULL,
    user_id    text        NOT NULL,
    created_at datetime NOT NULL,
    expires_at datetime NOT NULL
);
CREATE INDEX bgfiles_sessions_user ON bgfiles_sessions (user_id);
CREATE INDEX bgfiles_sessions_expires ON bgfiles_sessions (expires_at);

ALTER TABLE bgfiles_links ADD COLUMN not_before datetime;
ALTER TABLE bgfiles_links ADD COLUMN max_uses integer CHECK (max_uses > 0);
ALTER TABLE bgfiles_links ADD COLUMN uses integer NOT NULL DEFAULT 0;
ALTER TABLE bgfiles_links ADD COLUMN scanner_safe boolean NOT NULL DEFAULT 0;
ALTER TABLE bgfiles_links ADD COLUMN last_used_at datetime;

-- One redemption of a link: all requests under it are one use.
CREATE TABLE bgfiles_link_grants (
    -- SHA-256 of what the URL holds
    hash         text        PRIMARY KEY NOT NULL,
    request_id   blob        NOT NULL REFERENCES bgfiles_file_requests (id) ON DELETE CASCADE,
    jti          blob        REFERENCES bgfiles_links (jti) ON DELETE CASCADE,
    requester    text,
    sha256       text        NOT NULL,
    created_at   datetime NOT NULL,
    expires_at   datetime NOT NULL,
    completed_at datetime
);
CREATE INDEX bgfiles_link_grants_request ON bgfiles_link_grants (request_id);
CREATE INDEX bgfiles_link_grants_jti ON bgfiles_link_grants (jti);

CREATE TABLE bgfiles_link_hits (
    id         integer     PRIMARY KEY AUTOINCREMENT NOT NULL,
    request_id blob        NOT NULL REFERENCES bgfiles_file_requests (id) ON DELETE CASCADE,
    jti        blob,
    grant_hash text,
    event      text        NOT NULL,
    reason     text,
    first_byte bigint,
    bytes      bigint,
    client_ip  text,
    user_agent text        NOT NULL DEFAULT '',
    user_id    text,
    timestamp  datetime NOT NULL
);
CREATE INDEX bgfiles_link_hits_request ON bgfiles_link_hits (request_id, id);
CREATE INDEX bgfiles_link_hits_grant ON bgfiles_link_hits (grant_hash) WHERE grant_hash IS NOT NULL;

-- The link that the mail carries, when the file type has a policy.
ALTER TABLE bgfiles_file_requests ADD COLUMN link_jti blob;
ALTER TABLE bgfiles_file_requests ADD COLUMN downloads integer NOT NULL DEFAULT 0;
ALTER TABLE bgfiles_file_requests ADD COLUMN download_limit integer;
ALTER TABLE bgfiles_file_requests ADD COLUMN last_download_at datetime;

-- A notice that sends a link again names it.
ALTER TABLE bgfiles_notices ADD COLUMN jti blob;
