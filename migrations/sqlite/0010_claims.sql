-- The same as migrations/postgres/0010_claims.sql. Here nobody has rights, and nothing is announced.

-- Whether the handler of the last claim is known to have begun.
ALTER TABLE bgfiles_file_requests ADD COLUMN begun boolean NOT NULL DEFAULT 0;
-- Claims that ended without a word before that was known; they count as no attempt.
ALTER TABLE bgfiles_file_requests ADD COLUMN lost integer NOT NULL DEFAULT 0;
-- Since when it is known that nobody knows its type.
ALTER TABLE bgfiles_file_requests ADD COLUMN unknown_since datetime;
-- What was being made has begun, for all that anybody knows.
UPDATE bgfiles_file_requests SET begun = 1 WHERE status = 'running';

-- Which types wait.
CREATE INDEX bgfiles_file_requests_waiting ON bgfiles_file_requests (file_type, run_at) WHERE status = 'pending';
-- The file types that a worker knows, with commas between them.
ALTER TABLE bgfiles_workers ADD COLUMN file_types text NOT NULL DEFAULT '';

-- Workers look for notices by themselves. The column stays for workers of before, which still write
-- it while processes are replaced one by one.
DROP INDEX bgfiles_notices_unwoken;
