//! What can be set about request tokens; django-request-token's names, behind `BGFILES_`.

use std::time::Duration;

use super::jwt::Keys;
use crate::{
    config::Config,
    error::{Error, Result},
};

/// What can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sign and verify JWTs.
    pub keys: Keys,
    /// The name under which tokens travel in queries, JSON bodies and forms (`rt`).
    pub querystring: String,
    /// How long session tokens work, unless their maker says (10 minutes).
    pub expiry: Duration,
    /// How often tokens admit, unless their maker says (10).
    pub default_max_uses: i32,
    /// Whether uses and denials are not logged. They are counted all the same.
    pub disable_logs: bool,
    /// The page that people see who are not admitted.
    pub template_403: String,
    /// Whether a token that does not admit counts as none where none is needed, as in
    /// django-request-token. By default it is refused.
    pub ignore_invalid: bool,
}

impl Settings {
    /// The defaults, with one or more secrets: the first signs, all verify.
    ///
    /// # Errors
    /// [`Error::Config`] without a secret.
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Result<Self> {
        Ok(Settings {
            keys: Keys::new(secrets)?,
            querystring: "rt".into(),
            expiry: Duration::from_secs(600),
            default_max_uses: 10,
            disable_logs: false,
            template_403: "page/problem.html".into(),
            ignore_invalid: false,
        })
    }

    /// As the configuration says.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that cannot be used.
    pub fn configured(config: &Config) -> Result<Self> {
        let default_max_uses = i32::try_from(config.request_token_default_max_uses.get());
        if config.request_token_querystring.is_empty() {
            return Err(Error::Config("BGFILES_REQUEST_TOKEN_QUERYSTRING: needs a name".into()));
        }
        Ok(Settings {
            querystring: config.request_token_querystring.clone(),
            expiry: config.request_token_expiry,
            default_max_uses: default_max_uses.unwrap_or(i32::MAX),
            disable_logs: config.request_token_disable_logs,
            template_403: config.request_token_403_template.clone(),
            ignore_invalid: config.request_token_ignore_invalid,
            ..Self::new(config.secrets()?)?
        })
    }
}
