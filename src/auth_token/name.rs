//! Names of users: which are fit, and which are the same.

use icu_casemap::CaseMapper;
use unicode_normalization::UnicodeNormalization;
use unicode_security::mixed_script::AugmentedScriptSet;

use crate::error::{Error, Result};

/// Most characters of a user's name.
pub const LONGEST_NAME: usize = 150;
/// The same in bytes of UTF-8, which is known without looking at them.
const MOST_BYTES: usize = 4 * LONGEST_NAME;

/// Whether a name is no longer than one can be.
fn is_short(name: &str) -> bool {
    name.len() <= MOST_BYTES && name.chars().count() <= LONGEST_NAME
}

/// Checks a user's name: 1 to 150 visible characters without spaces at the ends, in letters of one
/// script, as those of several can be put together to look like another name (`аmy` with a Cyrillic
/// `а`). As everywhere, Latin letters may stand beside Chinese, Japanese and Korean ones (UTS 39, 5.2,
/// "Highly Restrictive").
///
/// # Errors
/// [`Error::Invalid`] on `username`.
pub fn check_username(name: &str) -> Result<()> {
    if name.is_empty()
        || !is_short(name)
        || name.trim() != name
        || name.chars().any(|c| c.is_control() || is_unseen(c))
    {
        let message = "must be 1 to 150 visible characters without spaces at the ends";
        return Err(Error::invalid("username", message));
    }
    let foreign: String = name.chars().filter(|c| !c.is_ascii()).collect();
    let beside_latin = AugmentedScriptSet::for_str(&foreign);
    let of_the_east = beside_latin.hanb || beside_latin.jpan || beside_latin.kore;
    if AugmentedScriptSet::for_str(name).is_empty() && !of_the_east {
        let message = "must not mix letters of several scripts, as some look alike";
        return Err(Error::invalid("username", message));
    }
    Ok(())
}

/// Characters that show nothing or turn text around: what Unicode calls `Default_Ignorable`,
/// annotations, and the blank of Braille.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// What two names share that people take for one: compatibility composition (NFKC) and case
/// folding, repeated as either may undo the other (Unicode, chapter 3.13, "Caseless Matching").
///
/// `None` for a name that is longer than any can be: one character may become 18 by this, and anybody
/// may send a name. Nothing is done to such a name, whatever its length.
pub fn username_key(name: &str) -> Option<String> {
    let name = name.trim();
    if !is_short(name) {
        return None;
    }
    let fold = |text: &str| {
        let composed: String = text.nfkc().collect();
        CaseMapper::new().fold_string(&composed).into_owned()
    };
    Some(fold(&fold(name)).nfkc().collect())
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

    #[test]
    fn names_that_are_too_long_to_be_one_have_no_key() {
        let key = |letter: &str, times: usize| username_key(&letter.repeat(times));
        for letter in ["a", "ä", "語", "\u{1f600}", "\u{fdfa}"] {
            assert!(check_username(&letter.repeat(151)).is_err());
            assert!(key(letter, LONGEST_NAME).is_some(), "{letter}");
            assert_eq!(key(letter, LONGEST_NAME + 1), None, "{letter}");
            assert_eq!(key(letter, 1 << 20), None, "{letter}");
        }
        // What a key costs has a bound: no letter becomes more than 18 of them.
        let longest = key("\u{fdfa}", LONGEST_NAME).unwrap();
        assert_eq!(longest.chars().count(), 18 * LONGEST_NAME);
    }
}
