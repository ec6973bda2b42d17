//! What a file type lets links be, and what is asked of one, held against each other.

use std::{num::NonZeroU32, time::Duration};

use crate::error::FieldError;

/// Whether links to files of a type are for the requester alone: a floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequesterOnly {
    /// For whoever has them, unless the request or the link says otherwise.
    #[default]
    No,
    /// For the requester, unless somebody who may (`service`, `staff`) says `false` for one
    /// request or one link.
    Yes,
    /// For the requester, whatever anybody says.
    Always,
}

impl RequesterOnly {
    /// What counts where a request or a link says `said`; `None` is "as the file type says".
    pub fn counts(self, said: Option<bool>) -> bool {
        match (self, said) {
            (RequesterOnly::Always, _) => true,
            (_, Some(said)) => said,
            (floor, None) => floor != RequesterOnly::No,
        }
    }
}

impl From<bool> for RequesterOnly {
    fn from(only: bool) -> Self {
        if only { RequesterOnly::Yes } else { RequesterOnly::No }
    }
}

/// What a file type lets links to its files be: what the mailed one is, and what those of people
/// are at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkPolicy {
    /// How often it can be redeemed; as often as one likes when `None`.
    pub max_uses: Option<NonZeroU32>,
    /// Whether opening it shows a page, and only its button (a POST) downloads. Limited links
    /// always do, as mail scanners open links.
    pub scanner_safe: bool,
    /// How long it works, from when it is made; as long as the file stays when `None`.
    pub max_age: Option<Duration>,
    /// Whether it is for the requester alone.
    pub requester_only: RequesterOnly,
}

/// What is asked of a link. `None`: nothing, so that it is as the policy says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// For the requester alone, or not.
    pub requester_only: Option<bool>,
    /// How often; `Some(None)` as often as one likes.
    pub max_uses: Option<Option<NonZeroU32>>,
    /// Whether opening it shows a page first.
    pub scanner_safe: Option<bool>,
    /// How long, from when it is made.
    pub max_age: Option<Duration>,
}

impl LinkPolicy {
    /// Whether the mailed link needs a row.
    pub fn needs_row(&self) -> bool {
        self.scanner_safe || self.max_uses.is_some() || self.max_age.is_some()
    }

    /// In what a link would be wider than this. `bound`: whether the request's links are for its
    /// requester alone, when nothing else is said.
    pub fn wider(&self, wish: &Wish, bound: bool) -> Vec<FieldError> {
        let mut wider = Vec::new();
        let mut wide = |field: &str, message: String| {
            wider.push(FieldError { field: field.into(), message });
        };
        if bound && wish.requester_only == Some(false) {
            wide("requester_only", "links to this file are for its requester alone".into());
        }
        if let (Some(most), Some(asked)) = (self.max_uses, wish.max_uses)
            && asked.is_none_or(|asked| asked > most)
        {
            let times = if most.get() == 1 { "once".to_owned() } else { format!("{most} times") };
            wide("max_uses", format!("a link to such a file works {times} at most"));
        }
        if self.scanner_safe && wish.scanner_safe == Some(false) {
            wide("scanner_safe", "opening a link to such a file shows a page first".into());
        }
        if let (Some(most), Some(asked)) = (self.max_age, wish.max_age)
            && asked > most
        {
            let seconds = most.as_secs();
            wide("max_age", format!("a link to such a file works {seconds} seconds at most"));
        }
        wider
    }

    /// What is asked, and what this says where nothing is.
    pub fn filled(&self, wish: Wish) -> Wish {
        Wish {
            requester_only: wish.requester_only,
            max_uses: Some(wish.max_uses.unwrap_or(self.max_uses)),
            scanner_safe: Some(wish.scanner_safe.unwrap_or(self.scanner_safe)),
            max_age: wish.max_age.or(self.max_age),
        }
    }
}
