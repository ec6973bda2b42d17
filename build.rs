//! Rebuilds when a migration or a built-in template changes.

fn main() {
    for folder in ["migrations", "templates"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
