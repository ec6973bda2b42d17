//! A real SMTP server (aiosmtpd) as a process of its own.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use super::child::Process;

pub struct Smtp {
    pub port: u16,
    pub folder: PathBuf,
    _process: Process,
}

/// The Python that `scripts/test` prepared.
pub fn python() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("BGFILES_TEST_PYTHON")
        .map_or(root.join("target/test-venv/bin/python"), PathBuf::from);
    assert!(python.exists(), "{} is missing: run the tests by scripts/test", python.display());
    python
}

impl Smtp {
    /// Takes everything, puts each message into the folder. `options` are those of
    /// `tests/smtp_server.py`.
    pub fn start(folder: PathBuf, options: &[&str]) -> Smtp {
        std::fs::create_dir_all(&folder).unwrap();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/smtp_server.py");
        let mut child = Command::new(python())
            .arg(script)
            .arg(&folder)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the server prints its port");
        Smtp { port, folder, _process: Process(child) }
    }

    /// The messages so far, oldest first.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = std::fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "eml"))
            .collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }
}
