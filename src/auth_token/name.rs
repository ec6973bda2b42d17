//! Names of users: which are fit, and which are the same.

use icu_casemap::CaseMapper;
use unicode_normalization::UnicodeNormalization;
use unicode_security::mixed_script::AugmentedScriptSet;

use crate::error::{Error, Result};

/// Checks a user's name: 1 to 150 visible characters without spaces at the ends, in letters of one
/// script, as those of several can be put together to look like another name (`аmy` with a Cyrillic
/// `а`). As everywhere, Latin letters may stand beside Chinese, Japanese and Korean ones (UTS 39, 5.2,
/// "Highly Restrictive").
///
/// # Errors
/// [`Error::Invalid`] on `username`.
pub fn check_username(name: &str) -> Result<()> {
    let fits = (1..=150).contains(&name.chars().count());
    if !fits || name.trim() != name || name.chars().any(|c| c.is_control() || is_unseen(c)) {
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
