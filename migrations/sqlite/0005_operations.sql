-- The same tables as migrations/postgres/0005_operations.sql.

-- One line for each attempt that ended with a word. One that ended without has none. They outlive
-- their requests for a day, as what the last day was like is read off them.
CREATE TABLE bgfiles_attempts (
    request_id blob        NOT NULL,
    generation bigint      NOT NULL,
    worker     text        NOT NULL,
    started_at datetime    NOT NULL,
    ended_at   datetime    NOT NULL,
    -- finished, failed, cancelled; pending: given back or to be tried again
    outcome    text        NOT NULL,
    error      text,
    PRIMARY KEY (request_id, generation)
);

CREATE INDEX bgfiles_attempts_ended ON bgfiles_attempts (ended_at);

-- Worker processes, as long as they say that they live.
CREATE TABLE bgfiles_workers (
    name       text        PRIMARY KEY NOT NULL,
    host       text        NOT NULL,
    slots      integer     NOT NULL,
    started_at datetime    NOT NULL,
    seen_at    datetime    NOT NULL,
    ended_at   datetime
);
CREATE INDEX bgfiles_workers_seen ON bgfiles_workers (seen_at);

-- The last run of each sweep.
CREATE TABLE bgfiles_sweeps (
    name    text        PRIMARY KEY NOT NULL,
    ran_at  datetime    NOT NULL,
    millis  bigint      NOT NULL,
    -- processed, max_items, timeout; error
    outcome text        NOT NULL,
    removed bigint      NOT NULL,
    failed  bigint      NOT NULL
);

-- What operators did.
CREATE TABLE bgfiles_audit (
    id      integer     PRIMARY KEY AUTOINCREMENT NOT NULL,
    at      datetime    NOT NULL,
    actor   text        NOT NULL,
    -- request.cancel, user.update …
    action  text        NOT NULL,
    -- a request's id, a name
    subject text        NOT NULL,
    detail  text        NOT NULL DEFAULT ''
);
CREATE INDEX bgfiles_audit_at ON bgfiles_audit (at);
CREATE INDEX bgfiles_audit_actor ON bgfiles_audit (actor, id);
CREATE INDEX bgfiles_audit_subject ON bgfiles_audit (subject, id);
