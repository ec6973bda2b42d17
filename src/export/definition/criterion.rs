//! `[criteria.NAME]` of a definition, each part held against those before it.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use toml::Spanned;

use super::{
    build::{Faults, Sources},
    raw::{self, CriterionType},
};
use crate::export::{
    criteria::{Criterion, Type, Typed},
    sql::is_parameter_name,
};

impl Sources<'_> {
    /// The criteria in the order of the file, with the offsets of their declarations.
    pub(super) fn criteria(
        &self,
        raw: &BTreeMap<Spanned<String>, raw::Criterion>,
        faults: &mut Faults,
    ) -> Vec<(usize, Criterion)> {
        let mut criteria: Vec<(usize, Criterion)> = raw
            .iter()
            .map(|(name, one)| {
                let at = name.span().start;
                if !is_parameter_name(name.get_ref()) {
                    let message = format!(
                        "criterion {:?} must be ASCII letters, digits and _, no digit first",
                        name.get_ref()
                    );
                    faults.push(self.fault(at, message));
                }
                (at, self.criterion(name.get_ref(), one, faults))
            })
            .collect();
        criteria.sort_by_key(|(at, _)| *at);
        criteria
    }

    fn criterion(&self, name: &str, raw: &raw::Criterion, faults: &mut Faults) -> Criterion {
        let (kind, list) = self.kind(name, raw, faults);
        let mut criterion = Criterion {
            name: name.to_owned(),
            kind,
            list,
            required: raw.required,
            label: raw.label.clone(),
            choices: Vec::new(),
            default: Vec::new(),
            min: None,
            max: None,
        };
        let mut one = |what: &str, at: usize, text: &str, criterion: &Criterion| {
            let parsed = criterion.parse(text, Tz::UTC);
            parsed.map_err(|e| faults.push(self.fault(at, format!("{name}: {what}: {e}")))).ok()
        };
        // Each is held against those before it: a limit against the type, a choice against the
        // limits, a default against all of them.
        let limit = |raw: &Option<Spanned<raw::Scalar>>| {
            raw.as_ref().map(|one| (one.span().start, one.get_ref().0.clone()))
        };
        criterion.min = limit(&raw.min).and_then(|(at, text)| one("min", at, &text, &criterion));
        criterion.max = limit(&raw.max).and_then(|(at, text)| one("max", at, &text, &criterion));
        let mut choices = Vec::new();
        for choice in raw.choices.iter().flat_map(|choices| choices.get_ref()) {
            let (at, text) = (choice.span().start, &choice.get_ref().0);
            choices.extend(one("choices", at, text, &criterion).as_ref().map(Typed::canonical));
        }
        criterion.choices = choices;
        if let Some(default) = &raw.default {
            for text in &default.get_ref().0 {
                let value = one("default", default.span().start, &text.0, &criterion);
                // Empty text stands for no value, which is what there is without a default.
                let value = value.as_ref().map(Typed::canonical).filter(|text| !text.is_empty());
                criterion.default.extend(value);
            }
        }
        self.check_criterion(&criterion, raw, faults);
        criterion
    }

    fn kind(&self, name: &str, raw: &raw::Criterion, faults: &mut Faults) -> (Type, bool) {
        match (*raw.r#type.get_ref(), &raw.of) {
            (CriterionType::List, Some(item)) => (item.get_ref().0, true),
            (CriterionType::List, None) => {
                let message = format!("{name}: a list of what? Write type = \"list of text\"");
                faults.push(self.fault(raw.r#type.span().start, message));
                (Type::Text, true)
            }
            (CriterionType::One(kind), of) | (CriterionType::ListOf(kind), of) => {
                if let Some(of) = of {
                    let message = format!("{name}: of goes with type = \"list\" only");
                    faults.push(self.fault(of.span().start, message));
                }
                (kind, matches!(raw.r#type.get_ref(), CriterionType::ListOf(_)))
            }
        }
    }

    fn check_criterion(&self, one: &Criterion, raw: &raw::Criterion, faults: &mut Faults) {
        let name = &one.name;
        let mut fault = |at: usize, message: &str| {
            faults.push(self.fault(at, format!("{name}: {message}")));
        };
        let type_at = raw.r#type.span().start;
        if one.kind == Type::Choice && raw.choices.is_none() {
            fault(type_at, "a choice needs choices = […]");
        }
        if let Some(choices) = raw.choices.as_ref().filter(|choices| choices.get_ref().is_empty()) {
            fault(choices.span().start, "choices must name at least one");
        }
        for limit in [&raw.min, &raw.max].into_iter().flatten() {
            if !one.kind.is_ordered() {
                fault(limit.span().start, "min and max are for numbers and dates");
            }
        }
        if let Some(default) = &raw.default {
            let count = default.get_ref().0.len();
            if one.required {
                fault(default.span().start, "required and default contradict each other");
            } else if !one.list && count != 1 {
                fault(default.span().start, "default must be one value, as this is no list");
            }
        }
    }
}
