-- Why an attempt failed, in the words of what failed: for operators alone. Null where error_message
-- says it.
ALTER TABLE bgfiles_file_requests ADD COLUMN error_cause text;
ALTER TABLE bgfiles_attempts ADD COLUMN cause text;
