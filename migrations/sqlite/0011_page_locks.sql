-- Whether a token came with a page (locks_object) and nobody has renewed it since: the session's next
-- save gives it back.
ALTER TABLE bgfiles_lock_tokens ADD COLUMN of_page boolean NOT NULL DEFAULT 0;
