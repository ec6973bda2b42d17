//! The name of the file: `flights-{origin}.{ext}`.

use chrono::NaiveDate;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::{
    export::criteria::{Given, Typed},
    file_request::filename::{cut, safe},
};

/// Longest value of a criterion in a name, in characters.
const LONGEST_VALUE: usize = 50;
/// Places that are no criteria, with what they stand for.
const OWN: [(&str, &str); 2] = [("ext", "the format's extension"), ("date", "the request's day")];

/// A file name with places for `{ext}`, `{date}` and criteria.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Ext,
    Date,
    Criterion(String),
}

impl Template {
    /// Takes a template apart.
    ///
    /// # Errors
    /// When a brace is not closed, or a place is none of `criteria`, `ext` and `date`, or is two of
    /// them.
    pub fn parse<'n>(
        text: &str,
        criteria: impl Iterator<Item = &'n str> + Clone,
    ) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err("a { is not closed".into());
            };
            let is_criterion = criteria.clone().any(|known| known == name);
            let own = OWN.iter().find(|(own, _)| is_criterion && *own == name);
            if let Some((_, meaning)) = own {
                return Err(format!(
                    "{{{name}}} stands for {meaning}, and there is a criterion {name}; rename that"
                ));
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                "ext" => Part::Ext,
                "date" => Part::Date,
                _ if is_criterion => Part::Criterion(name.to_owned()),
                _ => {
                    let known: Vec<&str> = ["ext", "date"].into_iter().chain(criteria).collect();
                    return Err(format!("{{{name}}} is not known; use {}", known.join(", ")));
                }
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Template(parts))
    }

    /// Whether the name tells the format.
    pub fn has_ext(&self) -> bool {
        self.0.contains(&Part::Ext)
    }

    /// The name for these criteria. What could be taken for a path or break a header is replaced;
    /// a criterion that was not given leaves no separator behind (`flights-{origin}.csv` becomes
    /// `flights.csv`). Empty when nothing but the extension is left.
    pub fn render(&self, given: &[Given], ext: &str, date: NaiveDate) -> String {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Ext => name.push_str(ext),
                Part::Date => name.push_str(&format!("{date:?}")),
                Part::Criterion(criterion) => {
                    let values = given.iter().find(|one| one.name == *criterion);
                    let values = values.map(|one| one.values.as_slice()).unwrap_or_default();
                    push(&mut name, values);
                }
            }
        }
        let stem = name.strip_suffix(ext).unwrap_or(&name);
        let says = |c: char| !matches!(c, '-' | '_' | '.') && !c.is_whitespace();
        if stem.contains(says) { safe(&name) } else { String::new() }
    }
}

fn push(name: &mut String, values: &[Typed]) {
    let texts: Vec<String> = values.iter().map(shown).filter(|text| !text.is_empty()).collect();
    let text = texts.join("-");
    if text.is_empty() {
        name.truncate(name.trim_end_matches(['-', '_', ' ']).len());
        return;
    }
    // In front, a sign would be lost with what makes a name an option.
    let first = name.chars().all(|c| matches!(c, '-' | '.') || c.is_whitespace());
    if first && text.starts_with('-') {
        name.push('_');
    }
    let most = text.char_indices().nth(LONGEST_VALUE).map_or(text.len(), |(at, _)| at);
    name.push_str(cut(&text, most).trim_end_matches(['-', '.']));
}

/// A value as names have it: with the sign of a number, which tells -5 from 5.
fn shown(value: &Typed) -> String {
    let text = value.canonical();
    let digits = text.strip_prefix('-').filter(|rest| rest.starts_with(|c: char| c.is_numeric()));
    if digits.is_some() { format!("-{}", clean(&text)) } else { clean(&text) }
}

/// What every file system takes: letters of all scripts with their marks and joiners, and digits.
fn clean(value: &str) -> String {
    let is_mark = |c: char| c.general_category_group() == GeneralCategoryGroup::Mark;
    let is_joiner = |c: char| matches!(c, '\u{200c}' | '\u{200d}');
    let mut kept = String::with_capacity(value.len());
    // Whether a letter, with what belongs to it, stands before.
    let mut letter = false;
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        if is_joiner(c) {
            // Nobody sees one that joins nothing.
            if letter && chars.peek().is_some_and(|next| next.is_alphanumeric()) {
                kept.push(c);
            }
            continue;
        }
        letter = if is_mark(c) { letter } else { c.is_alphanumeric() };
        let stays = letter || matches!(c, '-' | '_' | '.' | '+');
        kept.push(if stays { c } else { '-' });
    }
    // Neither `..` nor a name that begins with a dot comes out of a criterion.
    kept.trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::Template;
    use crate::export::criteria::{Given, Type, Typed};

    fn name(template: &str, values: &[&str]) -> String {
        let values = values.iter().map(|v| Typed::Text((*v).to_owned())).collect();
        let given = [Given { name: "origin".into(), kind: Type::Text, list: true, values }];
        let day = NaiveDate::from_ymd_opt(2013, 1, 2).unwrap();
        Template::parse(template, ["origin"].into_iter()).unwrap().render(&given, "csv", day)
    }

    #[test]
    fn places_are_filled() {
        assert_eq!(name("a-{origin}-{date}.{ext}", &["JFK"]), "a-JFK-2013-01-02.csv");
        assert_eq!(name("a-{origin}.{ext}", &["JFK", "LGA"]), "a-JFK-LGA.csv");
        assert_eq!(name("a-{origin}.{ext}", &[]), "a.csv");
    }

    #[test]
    fn no_value_leads_out_of_the_folder_or_breaks_a_header() {
        assert_eq!(
            name("{origin}.{ext}", &["../../etc/passwd\r\nX: \"y\""]),
            "etc-passwd--X---y.csv"
        );
        assert_eq!(name("a-{origin}.{ext}", &["ü/東京"]), "a-ü-東京.csv");
        assert_eq!(name("a-{origin}.{ext}", &["x".repeat(500).as_str()]).len(), 2 + 50 + 4);
        assert_eq!(name(&format!("{}.{{ext}}", "x".repeat(500)), &[]).len(), 200);
    }

    #[test]
    fn letters_keep_their_marks_and_joiners() {
        for (value, shown) in [
            ("हिन्दी", "हिन्दी"),
            ("e\u{301}t\u{e9}", "e\u{301}t\u{e9}"),
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
            ("क्\u{200d}ष", "क्\u{200d}ष"),
            ("עִבְרִית", "עִבְרִית"),
            ("ภาษาไทย", "ภาษาไทย"),
            // What belongs to no letter.
            ("a\u{200d}", "a"),
            ("x \u{301}y", "x--y"),
            ("❤\u{fe0f}a", "a"),
        ] {
            assert_eq!(name("n-{origin}.{ext}", &[value]), format!("n-{shown}.csv"), "{value:?}");
        }
        // 50 characters would end after the first mark of the ninth word.
        let words = "हिन्दी".repeat(9);
        let long = name("{origin}.{ext}", &[&words]);
        assert_eq!(long, format!("{}हि.csv", "हिन्दी".repeat(8)));
    }

    #[test]
    fn numbers_keep_their_sign() {
        let name = |template: &str, value: &str| {
            let values = vec![Type::Decimal.parse(value, chrono_tz::Tz::UTC).unwrap()];
            let given = [Given { name: "n".into(), kind: Type::Decimal, list: false, values }];
            let template = Template::parse(template, ["n"].into_iter()).unwrap();
            template.render(&given, "csv", NaiveDate::from_ymd_opt(2013, 1, 2).unwrap())
        };
        for (template, value, shown) in [
            ("below-{n}.{ext}", "-5", "below--5.csv"),
            ("below-{n}.{ext}", "5", "below-5.csv"),
            ("{n}.{ext}", "-0.5", "_-0.5.csv"),
            ("{n}.{ext}", "0.5", "0.5.csv"),
        ] {
            assert_eq!(name(template, value), shown);
        }
    }

    #[test]
    fn a_name_of_which_nothing_is_left_is_empty() {
        assert_eq!(name("{origin}.{ext}", &[]), "");
        assert_eq!(name("-{origin}_.{ext}", &["..."]), "");
    }

    #[test]
    fn unknown_places_are_refused() {
        for template in ["{ext}", "a-{date}.csv"] {
            let error = Template::parse(template, ["ext", "date"].into_iter()).unwrap_err();
            assert!(error.contains("there is a criterion"), "{error}");
        }
        assert!(Template::parse("a.csv", ["ext", "date"].into_iter()).is_ok());
        for (template, word) in [("{orgin}", "orgin"), ("a{ext", "not closed")] {
            let error = Template::parse(template, ["origin"].into_iter()).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
