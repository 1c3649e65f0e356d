//! The corpus of the fuzzing, replayed: every input that was kept, through the same bodies.
//! Campaigns look for new ones (`tests/fuzz.sh`).

#[expect(unreachable_pub, reason = "the targets, in another crate, use it too")]
#[path = "../../fuzz/src/bodies/mod.rs"]
mod bodies;

use std::collections::BTreeSet;

use system_tests::programs::repository;

#[test]
fn every_kept_input_holds() {
    let corpus = repository().join("fuzz/corpus");
    for (name, body) in bodies::ALL {
        let entries = std::fs::read_dir(corpus.join(name)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            println!("{}", file.display());
            body(&std::fs::read(&file).unwrap());
        }
        // Nothing, and nothing but what chooses.
        body(&[]);
        (0..=u8::MAX).for_each(|first| body(&[first]));
    }
}

#[test]
fn every_body_is_a_target_and_every_target_a_body() {
    let bodies: BTreeSet<_> = bodies::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    let targets = std::fs::read_dir(repository().join("fuzz/fuzz_targets")).unwrap();
    let targets: BTreeSet<_> = targets
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(bodies, targets);
    for target in targets {
        bodies::run(&target, b"");
    }
}
