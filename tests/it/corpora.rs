//! Every file that fuzzing found worth keeping, through its target (`fuzz/`).

#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_file_of_every_corpus() {
    for (name, target) in targets::TARGETS {
        let mut files = 0;
        for entry in std::fs::read_dir(format!("fuzz/corpus/{name}")).unwrap() {
            let path = entry.unwrap().path();
            let input = std::fs::read(&path).unwrap();
            let passed = std::panic::catch_unwind(|| target(&input));
            assert!(passed.is_ok(), "{} does not pass", path.display());
            files += 1;
        }
        assert!(files > 0, "{name} has no corpus");
    }
}
