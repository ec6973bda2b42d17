-- Who redeemed a request token for a visitor of their own, and when they told how that was answered.
ALTER TABLE bgfiles_request_token_uses ADD COLUMN redeemed_by text;
ALTER TABLE bgfiles_request_token_uses ADD COLUMN concluded_at timestamptz;
