-- The same as migrations/postgres/0015_conclude.sql.

ALTER TABLE bgfiles_request_token_uses ADD COLUMN redeemed_by text;
ALTER TABLE bgfiles_request_token_uses ADD COLUMN concluded_at datetime;
