#!/usr/bin/env bash
# The Rust crate utoipa 6.0.0 writes an OpenAPI document that the same crate cannot read.
#
# A field of serde_json::Value may hold anything. ToSchema writes it as JSON Schema says: a property with no
# "type". utoipa's own Deserialize finds no variant for a property without "type" and refuses the whole schema,
# and with it the whole document. Every other member of the document is read. With "type": null put in by hand it
# is read, and written without "type" again.
#
# It surprises because OpenApi derives both Serialize and Deserialize, because one field of one schema decides,
# and because the message ("data did not match any variant of untagged enum") names neither schema nor field. A
# program that changes a derived schema as JSON and reads it back loses all of it, if it falls back to a default.
#
# Needs cargo.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export CARGO_TARGET_DIR="$folder/target"

mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "reread"
version = "0.0.0"
edition = "2021"

[dependencies]
serde_json = "=1.0.154"
utoipa = "=6.0.0"
TOML
cat >src/main.rs <<'RUST'
use serde_json::Value;
use utoipa::{
    openapi::{OpenApi, RefOr, Schema},
    OpenApi as _, PartialSchema, ToSchema,
};

/// A note.
#[allow(dead_code)]
#[derive(ToSchema)]
struct Note {
    id: i64,
    extra: Value,
}

/// The same without the field that may hold anything.
#[allow(dead_code)]
#[derive(ToSchema)]
struct Short {
    id: i64,
}

#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(Note)))]
struct Document;

fn said<T>(read: serde_json::Result<T>) -> String {
    read.map_or_else(|error| format!("refused: {error}"), |_| "read".to_owned())
}

fn schema(text: &str) -> String {
    said(serde_json::from_str::<RefOr<Schema>>(text))
}

fn main() {
    let note = serde_json::to_string(&Note::schema()).unwrap();
    println!("written: {note}");
    println!("schema with a field of any JSON: {}", schema(&note));
    let short = serde_json::to_string(&Short::schema()).unwrap();
    println!("schema without it: {}", schema(&short));
    let mut patched: Value = serde_json::from_str(&note).unwrap();
    patched["properties"]["extra"]["type"] = Value::Null;
    println!("with \"type\": null put in: {}", schema(&patched.to_string()));
    println!("document: {}", said(serde_json::from_str::<OpenApi>(&Document::openapi().to_json().unwrap())));
}
RUST

echo "utoipa 6.0.0, serde_json 1.0.154"
cargo run --quiet | tee said
grep -q '"extra":{}' said
grep -q '^schema with a field of any JSON: refused: data did not match any variant' said
grep -q '^schema without it: read$' said
grep -q '^with "type": null put in: read$' said
grep -q '^document: refused: data did not match any variant' said
echo "as described"
