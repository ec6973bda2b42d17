//! The program of README.md's quick start "In a Rust program", which a test compares and plays.

use async_trait::async_trait;
use bgfiles::{Handler, Job, Output, Registry, Result};

/// Makes the files of one type.
struct Greetings;

#[async_trait]
impl Handler for Greetings {
    fn file_type(&self) -> &str {
        "greeting"
    }

    fn filename(&self, _: &Job) -> String {
        "greeting.txt".into()
    }

    async fn write(&self, job: &Job, mut out: Output) -> Result<()> {
        let name = job.criteria.get("name").unwrap_or("world");
        out.write(format!("Hello, {name}!\n")).await
    }
}

fn main() -> std::process::ExitCode {
    let mut registry = Registry::new();
    registry.register(Greetings).expect("each name is registered once");
    bgfiles::cli::main(registry)
}
