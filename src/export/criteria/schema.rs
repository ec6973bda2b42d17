//! Criteria as JSON Schema, draft 2020-12.

use serde_json::{Map, Value, json};

use super::{Criterion, Declared, Type, Typed};

impl Declared {
    /// What `criteria` of `POST /api/requests` may be, for forms and generated clients, with labels
    /// in that language.
    pub fn json_schema(&self, language: &str) -> Value {
        let properties: Map<String, Value> =
            self.0.iter().map(|one| (one.name.clone(), one.json_schema(language))).collect();
        let required: Vec<&str> =
            self.0.iter().filter(|one| one.required).map(|one| one.name.as_str()).collect();
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    }
}

impl Criterion {
    fn json_schema(&self, language: &str) -> Value {
        let mut item = self.item_schema();
        let defaults: Vec<Value> = self.default.iter().map(|text| self.kind.json(text)).collect();
        let mut schema = if self.list {
            Map::from_iter([
                ("type".to_owned(), json!("array")),
                ("items".to_owned(), Value::Object(item)),
            ])
        } else {
            std::mem::take(&mut item)
        };
        if let Some(label) = &self.label {
            schema.insert("title".into(), json!(label.get(language)));
        }
        if self.list && self.required {
            schema.insert("minItems".into(), json!(1));
        }
        if self.list && !defaults.is_empty() {
            schema.insert("default".into(), Value::Array(defaults));
        } else if let Some(default) = defaults.into_iter().next() {
            schema.insert("default".into(), default);
        }
        schema
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect::<Map<String, Value>>()
            .into()
    }

    fn item_schema(&self) -> Map<String, Value> {
        let mut schema = match self.kind {
            Type::Text | Type::Choice => json!({"type": "string"}),
            Type::Integer => json!({"type": "integer"}),
            // As text, too: a JSON number loses digits in many clients.
            Type::Decimal => {
                let pattern = r"^[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]{1,3})?$";
                json!({"type": ["number", "string"], "pattern": pattern})
            }
            Type::Date => json!({"type": "string", "format": "date"}),
            Type::DateTime => json!({"type": "string", "format": "date-time"}),
            Type::Boolean => json!({"type": "boolean"}),
            Type::Uuid => json!({"type": "string", "format": "uuid"}),
        };
        let Some(schema) = schema.as_object_mut() else { return Map::new() };
        if !self.choices.is_empty() {
            let choices: Vec<Value> =
                self.choices.iter().map(|text| self.kind.json(text)).collect();
            schema.insert("enum".into(), Value::Array(choices));
        }
        // JSON Schema has limits for numbers only; `formatMinimum` is what validators call the
        // others.
        let dates = matches!(self.kind, Type::Date | Type::DateTime);
        let limits =
            if dates { ["formatMinimum", "formatMaximum"] } else { ["minimum", "maximum"] };
        for (name, limit) in limits.into_iter().zip([&self.min, &self.max]) {
            if let Some(limit) = limit {
                schema.insert(name.into(), self.kind.json(&limit.canonical()));
            }
        }
        std::mem::take(schema)
    }
}

impl Type {
    /// The JSON value that stands for a canonical text.
    fn json(self, text: &str) -> Value {
        match self.parse(text, chrono_tz::Tz::UTC) {
            Ok(Typed::Integer(number)) => json!(number),
            Ok(Typed::Boolean(flag)) => json!(flag),
            Ok(Typed::Decimal(digits)) => match digits.parse::<f64>() {
                Ok(number) if number.to_string() == digits => json!(number),
                _ => json!(digits),
            },
            _ => json!(text),
        }
    }
}
