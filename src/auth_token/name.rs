//! Names of users: which are fit, and which are the same.

use icu_casemap::CaseMapper;
use unicode_normalization::UnicodeNormalization;

use crate::error::{Error, Result};

/// Checks a user's name: 1 to 150 visible characters without spaces at the ends.
///
/// # Errors
/// [`Error::Invalid`] on `username`.
pub fn check_username(name: &str) -> Result<()> {
    let fits = (1..=150).contains(&name.chars().count());
    if !fits || name.trim() != name || name.chars().any(char::is_control) {
        let message = "must be 1 to 150 visible characters without spaces at the ends";
        return Err(Error::invalid("username", message));
    }
    Ok(())
}

/// What two names share that people take for one: compatibility composition (NFKC) and case
/// folding, repeated as either may undo the other (Unicode, chapter 3.13, "Caseless Matching").
pub fn username_key(name: &str) -> String {
    let fold = |text: &str| {
        let composed: String = text.nfkc().collect();
        CaseMapper::new().fold_string(&composed).into_owned()
    };
    fold(&fold(name.trim())).nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_take_for_one() {
        for (one, other) in [
            ("Amy", "aMY"),
            ("ÄMY", "a\u{308}my"),
            ("STRASSE", "straße"),
            ("ﬁona", "FIONA"),
            ("ａｍｙ", "amy"),
            ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ] {
            assert_eq!(username_key(one), username_key(other), "{one} {other}");
        }
        assert_ne!(username_key("amy"), username_key("ämy"));
    }
}
