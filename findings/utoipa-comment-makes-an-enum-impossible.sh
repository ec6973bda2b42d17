#!/usr/bin/env bash
# With the Rust crate utoipa 6.0.0 a doc comment on a field decides whether any value satisfies its schema.
#
# A field that is an enum of words, inlined by #[schema(inline)], has the schema of the enum: a string out of a
# list. With a doc comment on the field, the schema is an allOf of that string and of {"type": "object",
# "description": …}. Nothing is a string and an object at once, so no value is valid, the ones that serde writes
# included. Without `inline` the comment stands beside $ref, and all is well; so it does on an inlined Option.
#
# It surprises because a comment changes what is valid, and because nothing warns: the document is itself valid
# OpenAPI, and generators take it. A validator of answers refuses every one of them.
#
# Needs cargo and python3.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export CARGO_TARGET_DIR="$folder/target"
python3 -m venv venv
venv/bin/pip --quiet install jsonschema==4.25.1

mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "moods"
version = "0.0.0"
edition = "2021"

[dependencies]
serde = { version = "=1.0.229", features = ["derive"] }
serde_json = "=1.0.154"
utoipa = "=6.0.0"
TOML
cat >src/main.rs <<'RUST'
use serde::Serialize;
use utoipa::{PartialSchema, ToSchema};

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Mood {
    Calm,
}

#[derive(Serialize, ToSchema)]
struct Silent {
    #[schema(inline)]
    mood: Mood,
}

#[derive(Serialize, ToSchema)]
struct Commented {
    /// How they are.
    #[schema(inline)]
    mood: Mood,
}

fn main() {
    let pairs = serde_json::json!({
        "silent": [Silent::schema(), Silent { mood: Mood::Calm }],
        "commented": [Commented::schema(), Commented { mood: Mood::Calm }],
    });
    println!("{pairs}");
}
RUST

echo "utoipa 6.0.0, jsonschema 4.25.1"
cargo run --quiet >pairs.json
venv/bin/python - <<'PYTHON' | tee said
import json, jsonschema
for name, (schema, value) in sorted(json.load(open("pairs.json")).items()):
    print(name, json.dumps(schema["properties"]["mood"]))
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(value))
    print(name, json.dumps(value), errors[0].message if errors else "is valid")
PYTHON
grep -q '^silent {"mood": "calm"} is valid$' said
grep -q "^commented {\"mood\": \"calm\"} 'calm' is not of type 'object'$" said
echo "as described"
