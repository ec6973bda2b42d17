-- The same as migrations/postgres/0018_causes.sql.

ALTER TABLE bgfiles_file_requests ADD COLUMN error_cause text;
ALTER TABLE bgfiles_attempts ADD COLUMN cause text;
