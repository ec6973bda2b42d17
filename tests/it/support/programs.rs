//! PostgreSQL's own programs, for servers that tests begin and end; also for `tests/faults`.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// The folder with `initdb` and `pg_ctl`.
pub fn binaries() -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&on_path).map(|dir| dir.join("pg_ctl"));
    let mut dirs: Vec<PathBuf> =
        found.filter_map(|pg_ctl| Some(pg_ctl.canonicalize().ok()?.parent()?.to_owned())).collect();
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<PathBuf> = installed.map(|entry| entry.path().join("bin")).collect();
    installed.sort();
    dirs.extend(installed.into_iter().rev());
    let dir = dirs.into_iter().find(|dir| dir.join("initdb").exists());
    dir.expect("no PostgreSQL is installed: run the tests by scripts/test, which brings it")
}

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

pub fn run(command: &mut Command) {
    let out = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {}{error}", String::from_utf8_lossy(&out.stdout));
}
