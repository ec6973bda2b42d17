//! What a machine needs beside the binary: units, dashboards, rules, completions, manual pages.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;

use crate::{
    architecture::sources,
    cli::{define, free_port, on, run, start},
    support::{Kind, TestApp, child::bgfiles, eventually},
};

/// Words that begin like metrics of ours.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("bgfiles_"))
        .collect()
}

#[test]
fn every_metric_of_dashboard_and_rules_is_exported() {
    let code: String = sources().into_iter().map(|(_, _, text)| text).collect();
    let exported: BTreeSet<&str> = ["counter!(", "gauge!(", "histogram!("]
        .iter()
        .flat_map(|mark| code.split(mark).skip(1))
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    assert!(exported.len() > 10, "{exported:?}");
    let page = std::fs::read_to_string("docs/src/reference/metrics.md").unwrap();
    let listed = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<&str> = listed.filter(|name| name.starts_with("bgfiles_")).collect();
    assert_eq!(listed, exported, "docs/src/reference/metrics.md");
    for file in ["packaging/grafana/bgfiles.json", "packaging/prometheus/bgfiles.rules.yml"] {
        let text = std::fs::read_to_string(file).unwrap();
        let used = metrics_in(&text);
        assert!(used.len() > 4, "{file}");
        for name in used {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let name = base.unwrap_or(name);
            assert!(exported.contains(name), "{file}: {name} is not exported");
        }
    }
}

#[test]
fn the_dashboard_is_one() {
    let text = std::fs::read_to_string("packaging/grafana/bgfiles.json").unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 8);
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    for panel in panels {
        assert!(panel["title"].is_string() && panel["gridPos"]["w"].is_u64(), "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            assert!(target["expr"].as_str().is_some_and(|e| !e.is_empty()), "{panel}");
        }
    }
}

#[test]
fn prometheus_takes_the_rules() {
    let (code, out, err) = run(Command::new("promtool").args([
        "check",
        "rules",
        "packaging/prometheus/bgfiles.rules.yml",
    ]));
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = run(Command::new("promtool").args([
        "test",
        "rules",
        "packaging/prometheus/bgfiles.test.yml",
    ]));
    assert_eq!(code, 0, "{out}{err}");
}

/// Units that systemd accepts, and that may do little.
#[test]
fn the_units_are_right_and_hardened() {
    // `verify` wants the program that a unit names to be there.
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("units");
    std::fs::create_dir(&units).unwrap();
    let names = ["bgfiles-web.service", "bgfiles-worker.service", "bgfiles-cleaner.service"];
    for name in names.iter().chain(&["bgfiles-migrate.service", "bgfiles.target"]) {
        let text = std::fs::read_to_string(Path::new("packaging/systemd").join(name)).unwrap();
        let text = text.replace("/usr/local/bin/bgfiles", env!("CARGO_BIN_EXE_bgfiles"));
        std::fs::write(units.join(name), text).unwrap();
    }
    for name in names {
        let path = units.join(name);
        let (code, out, err) =
            run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path));
        let ours: Vec<&str> = err.lines().filter(|line| line.contains("bgfiles")).collect();
        assert!(code == 0 && ours.is_empty(), "{name}: {out}{err}");
        let (code, out, err) = run(Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=29", "--no-pager"])
            .arg(&path));
        assert_eq!(code, 0, "{name}: {out}{err}");
    }
}

#[test]
fn shells_take_the_completions() {
    let dir = tempfile::tempdir().unwrap();
    for (shell, check) in [
        (
            "bash",
            "source \"$0\"; COMP_WORDS=(bgfiles wor); COMP_CWORD=1; _bgfiles bgfiles wor bgfiles; echo \"${COMPREPLY[@]}\"",
        ),
        ("zsh", "autoload -U compinit && compinit -u -D; source \"$0\"; whence -w _bgfiles"),
        ("fish", "source $argv[1]; complete -C 'bgfiles wor'"),
    ] {
        let (code, script, err) = run(bgfiles().args(["completions", shell]));
        assert!(code == 0 && script.contains("bgfiles"), "{shell}: {err}");
        let path = dir.path().join(shell);
        std::fs::write(&path, &script).unwrap();
        let mut command = Command::new(shell);
        command.env("HOME", dir.path()).arg("-c").arg(check).arg(&path);
        let (code, out, err) = run(&mut command);
        let wanted = if shell == "zsh" { "_bgfiles: function" } else { "worker" };
        assert!(code == 0 && out.contains(wanted) && err.is_empty(), "{shell}: {out}{err}");
    }
    let (code, _, err) = run(bgfiles().args(["completions", "csh"]));
    assert!(code == 2 && err.contains("bash"), "{err}");
}

#[test]
fn manual_pages_render() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let (code, _, err) = run(bgfiles().arg("man").arg("--dir").arg(&pages));
    assert_eq!(code, 0, "{err}");
    let paths: Vec<_> = std::fs::read_dir(&pages).unwrap().map(|e| e.unwrap().path()).collect();
    let names: Vec<_> = paths.iter().filter_map(|p| p.file_name()?.to_str()).collect();
    for name in ["bgfiles.1", "bgfiles-web.1", "bgfiles-create-user.1", "bgfiles-token-inspect.1"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let (code, page, _) = run(bgfiles().arg("man"));
    assert!(code == 0 && page.contains(".TH bgfiles 1"), "{page}");
    for path in paths {
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Kutf8", "-Tutf8", "-ww", "-z"]).arg(&path);
        let (code, _, err) = run(&mut groff);
        assert!(code == 0 && err.is_empty(), "{}: {err}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_tells_whether_a_process_answers() {
    let app = TestApp::live(Kind::Sqlite).await;
    define(&app, "one.toml", "formats = [\"csv\"]\nquery = \"SELECT 1 AS one\"\n");
    let port = free_port();
    let (bind, all) = (format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"));
    let (code, out, err) = run(on(&app).arg("health").env("BGFILES_BIND", &bind));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains(&bind) && err.contains("nobody answers"), "{err}");
    let _web = start(&app, "web.log", &["web"], &[("BGFILES_BIND", &bind)]);
    eventually("it is well", 30, async || {
        (run(on(&app).arg("health").env("BGFILES_BIND", &all)).0 == 0).then_some(())
    })
    .await;
    let (code, _, err) = run(on(&app).args(["health", "--ready", "--address", &bind]));
    assert_eq!(code, 0, "{err}");
    // Without any settings, as a monitor may have none.
    let (code, _, err) =
        run(bgfiles().env_remove("BGFILES_SECRET_KEY").args(["health", "--address", &bind]));
    assert_eq!(code, 0, "{err}");
}
