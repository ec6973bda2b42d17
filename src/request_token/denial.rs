//! Why a request token does not admit.

use super::jwt::Flaw;
use crate::error::Error;

/// The reason, with a stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// None was presented where one is needed.
    Missing,
    /// It is no JWT, or its `jti` is no number.
    Malformed,
    /// Its header names another algorithm.
    WrongAlgorithm,
    /// No key of ours made it.
    BadSignature,
    /// `jti`, `sub` or `mod` is not there.
    MissingClaim,
    /// It begins later.
    NotYetValid,
    /// Its time is over.
    Expired,
    /// Its row is gone.
    Unknown,
    /// It is for something else.
    WrongScope,
    /// It has admitted as often as it may.
    UsedUp,
    /// It is for somebody else than who is logged in.
    WrongUser,
    /// The one it is for may not do anything (any more), or is gone.
    InactiveUser,
}

impl Denial {
    /// The stable code: in answers, in the log of uses, in metrics.
    pub fn code(self) -> &'static str {
        match self {
            Denial::Missing => "token_missing",
            Denial::Malformed => "token_malformed",
            Denial::WrongAlgorithm => "token_wrong_algorithm",
            Denial::BadSignature => "token_bad_signature",
            Denial::MissingClaim => "token_missing_claim",
            Denial::NotYetValid => "token_not_yet_valid",
            Denial::Expired => "token_expired",
            Denial::Unknown => "token_unknown",
            Denial::WrongScope => "token_wrong_scope",
            Denial::UsedUp => "token_used_up",
            Denial::WrongUser => "token_wrong_user",
            Denial::InactiveUser => "token_inactive_user",
        }
    }

    /// For people.
    pub fn message(self) -> &'static str {
        match self {
            Denial::Missing => "this needs a link with a token",
            Denial::Malformed => "the token of this link is incomplete",
            Denial::WrongAlgorithm | Denial::BadSignature => "the token of this link is not ours",
            Denial::MissingClaim => "the token of this link lacks something",
            Denial::NotYetValid => "this link does not work yet",
            Denial::Expired => "this link has expired",
            Denial::Unknown => "this link was withdrawn",
            Denial::WrongScope => "this link is for something else",
            Denial::UsedUp => "this link has been used as often as it may be",
            Denial::WrongUser => "this link is for somebody else than who is logged in",
            Denial::InactiveUser => "the one this link is for has no access any more",
        }
    }
}

impl From<Flaw> for Denial {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Malformed => Denial::Malformed,
            Flaw::WrongAlgorithm => Denial::WrongAlgorithm,
            Flaw::BadSignature => Denial::BadSignature,
            Flaw::MissingClaim => Denial::MissingClaim,
            Flaw::NotYetValid => Denial::NotYetValid,
            Flaw::Expired => Denial::Expired,
        }
    }
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        Error::TokenRefused { code: denial.code(), message: denial.message() }
    }
}
