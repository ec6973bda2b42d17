//! Excel's number formats, as far as Excel refuses a file for them (ECMA-376 part 1, 18.8.31).

/// Sections, for positive and negative numbers, zero and text.
const MOST_SECTIONS: usize = 4;
/// Letters that stand for parts of dates and times.
const TIMES: &str = "dmyhsgebDMYHSGEB";

/// Whether Excel takes a number format.
///
/// # Errors
/// What is wrong with it.
pub(in crate::export) fn check_number_format(format: &str) -> Result<(), String> {
    if format.eq_ignore_ascii_case("general") || format.is_empty() {
        return Ok(());
    }
    let mut section = Section::default();
    let mut sections = 1;
    let mut rest = format;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '"' => {
                let end = rest[1..].find('"').ok_or("a \" is not closed")?;
                taken = end + 2;
            }
            '[' => {
                let end = rest.find(']').ok_or("a [ is not closed")?;
                section.bracket(&rest[1..end])?;
                taken = end + 1;
            }
            ']' => return Err("there is a ] without a [".into()),
            '\\' | '_' | '*' => {
                let next = rest[1..].chars().next();
                taken = 1 + next.ok_or_else(|| format!("nothing follows {c}"))?.len_utf8();
            }
            ';' => {
                section.check()?;
                section = Section::default();
                sections += 1;
            }
            '0' | '#' | '?' => section.has_digits = true,
            '.' => section.points += 1,
            'E' | 'e' if rest[1..].starts_with(['+', '-']) => taken = 2,
            c if c.is_ascii_alphabetic() => {
                let word: &str =
                    rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("");
                taken = section.word(word, rest)?;
            }
            _ => {}
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    section.check()?;
    match sections {
        ..=MOST_SECTIONS => Ok(()),
        _ => Err(format!("it has {sections} sections (;); there are {MOST_SECTIONS} at most")),
    }
}

#[derive(Default)]
struct Section {
    has_digits: bool,
    is_time: bool,
    points: usize,
}

impl Section {
    fn check(&self) -> Result<(), String> {
        // Those of a date only stand between its parts.
        match self.has_digits && !self.is_time && self.points > 1 {
            true => Err("a number has one decimal point".into()),
            false => Ok(()),
        }
    }

    /// A colour, a condition, a time that passes its unit, a currency or a language.
    fn bracket(&mut self, inner: &str) -> Result<(), String> {
        let lower = inner.to_ascii_lowercase();
        let is_passed = !lower.is_empty()
            && ["h", "m", "s"].iter().any(|unit| lower.chars().all(|c| unit.contains(c)));
        self.is_time |= is_passed;
        let colours = ["black", "blue", "cyan", "green", "magenta", "red", "white", "yellow"];
        let number = lower.strip_prefix("color").map(str::trim);
        let is_colour = colours.contains(&lower.as_str())
            || number.is_some_and(|n| n.parse::<u8>().is_ok_and(|n| (1..=56).contains(&n)));
        let condition = lower.trim_start_matches(['<', '>', '=']);
        let is_condition = condition.len() < lower.len() && condition.trim().parse::<f64>().is_ok();
        let is_other =
            lower.starts_with('$') || lower.starts_with("dbnum") || lower.starts_with("natnum");
        match is_passed || is_colour || is_condition || is_other {
            true => Ok(()),
            false => Err(format!("[{inner}] is no colour, condition, time or currency")),
        }
    }

    /// Letters that mean something; how many bytes they take.
    fn word(&mut self, word: &str, rest: &str) -> Result<usize, String> {
        let lower = rest.to_ascii_lowercase();
        for marker in ["am/pm", "a/p", "general"] {
            if lower.starts_with(marker) {
                self.is_time |= marker != "general";
                return Ok(marker.len());
            }
        }
        match word.chars().next().is_some_and(|c| TIMES.contains(c)) {
            true => {
                self.is_time = true;
                Ok(1)
            }
            false => Err(format!("letters that are to be shown stand in quotes: {word:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check_number_format;

    #[test]
    fn formats_that_excel_takes_are_taken() {
        for format in [
            "#,##0",
            "#,##0.00",
            "0.00E+00",
            "0%",
            "# ??/??",
            "yyyy-mm-dd",
            "dd.mm.yyyy hh:mm:ss.000",
            "[h]:mm",
            "[$€-407] #,##0.00;[Red]-#,##0.00",
            "[>=1000]#,##0,\"k\";0",
            "_(* #,##0_);_(* (#,##0);_(* \"-\"??_);_(@_)",
            "h:mm AM/PM",
            "General",
            "0\\ \"EUR\"",
            "€ 0",
            "@",
            "",
        ] {
            assert_eq!(check_number_format(format), Ok(()), "{format}");
        }
    }

    #[test]
    fn formats_that_excel_refuses_are_refused() {
        for format in [
            "#,##0.0.0;;[",
            "0.0.0",
            "0;0;0;0;0",
            "0 EUR",
            "\"x",
            "[no]0",
            "0]",
            "0\\",
            "[Color99]0",
        ] {
            assert!(check_number_format(format).is_err(), "{format}");
        }
    }
}
