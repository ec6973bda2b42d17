-- A line of what happened to a link stands for all that was alike within a minute.
ALTER TABLE bgfiles_link_hits ADD COLUMN times bigint NOT NULL DEFAULT 1;
-- What was alike (src/file_request/links/line); none of lines that were written before.
ALTER TABLE bgfiles_link_hits ADD COLUMN line_key text;
CREATE UNIQUE INDEX bgfiles_link_hits_line ON bgfiles_link_hits (line_key);

-- Which bytes were sent under a grant, as pairs of first and end, since lines no longer tell.
ALTER TABLE bgfiles_link_grants ADD COLUMN covered text NOT NULL DEFAULT '[]';
