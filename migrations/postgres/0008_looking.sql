-- Workers look for what is due by themselves.
DROP INDEX bgfiles_file_requests_unwoken;
ALTER TABLE bgfiles_file_requests DROP COLUMN woken_at;
