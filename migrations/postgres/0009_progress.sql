-- Whether progress_total is an estimate.
ALTER TABLE bgfiles_file_requests ADD COLUMN progress_estimated boolean NOT NULL DEFAULT false;

-- How many rows the last files of a type had, for such estimates. `rows IS NOT NULL` also keeps
-- lists, which do not ask for it, from using this one.
CREATE INDEX bgfiles_file_requests_earlier ON bgfiles_file_requests (file_type, finished_at)
    WHERE status = 'finished' AND rows IS NOT NULL;
