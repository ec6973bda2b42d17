//! The name of the file: `flights-{origin}.{ext}`.

use chrono::NaiveDate;

use crate::{export::criteria::Given, file_request::filename::safe};

/// Longest value of a criterion in a name, in characters.
const LONGEST_VALUE: usize = 50;
/// Longest name, in characters; what a file request keeps.
const LONGEST_NAME: usize = 200;

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
    /// When a brace is not closed, or a place is none of `criteria`, `ext` and `date`.
    pub fn parse<'n>(
        text: &str,
        criteria: impl Iterator<Item = &'n str> + Clone,
    ) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err("a { is not closed".into());
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                "ext" => Part::Ext,
                "date" => Part::Date,
                _ if criteria.clone().any(|known| known == name) => {
                    Part::Criterion(name.to_owned())
                }
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
    /// `flights.csv`).
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
                    let texts: Vec<String> = values.iter().map(|v| v.canonical()).collect();
                    match clean(&texts.join("-")).as_str() {
                        "" => name.truncate(name.trim_end_matches(['-', '_', ' ']).len()),
                        value => name.push_str(value),
                    }
                }
            }
        }
        shorten(&safe(&name), ext)
    }
}

/// As much of a criterion as fits every file system.
fn clean(value: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    let value: String =
        value.chars().map(|c| if kept(c) { c } else { '-' }).take(LONGEST_VALUE).collect();
    // Neither `..` nor a name that begins with a dot comes out of a criterion.
    value.trim_matches(|c| matches!(c, '-' | '.')).to_owned()
}

fn shorten(name: &str, ext: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    let ending = format!(".{ext}");
    let stem = name.strip_suffix(&ending).unwrap_or(name);
    let room = LONGEST_NAME.saturating_sub(ending.chars().count());
    let stem: String = stem.chars().take(room).collect();
    stem + &ending
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
    fn unknown_places_are_refused() {
        for (template, word) in [("{orgin}", "orgin"), ("a{ext", "not closed")] {
            let error = Template::parse(template, ["origin"].into_iter()).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
