//! The journal as outside clients of such logs see it: exported tiles, read with the crates
//! `tlog_tiles` and `signed_note`, which share no code with us, and with the checker.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use signed_note::{Note, StandardVerifier, VerifierList};
use system_tests::journal::{python, segments};
use system_tests::{Kind, World};
use tlog_tiles::{
    Error, Hash, HashReader as _, Tile, TileHashReader, TileReader, check_record, check_tree,
    prove_record, prove_tree, record_hash, stored_hash_index,
};

use crate::ALICE;
use crate::audit_tools::{audit, signs};

/// A directory that was exported to.
struct Log(PathBuf);

impl TileReader for Log {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        // Their paths are those of Go's checksum database, which names the height too.
        let read = |tile: &Tile| {
            fs::read(self.0.join(tile.path().replacen("tile/8/", "tile/", 1))).map_err(|error| {
                panic!("{}: {error}", tile.path());
            })
        };
        tiles.iter().map(read).collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

impl Log {
    /// Its checkpoint, if one of these lines is a key that signed it.
    fn checkpoint(&self, verifier_keys: &[&str]) -> tlog_tiles::Checkpoint {
        let note = fs::read(self.0.join("checkpoint")).unwrap();
        let note = Note::from_bytes(&note).unwrap();
        let verifiers = verifier_keys.iter().map(|key| StandardVerifier::new(key).unwrap());
        let known = VerifierList::new(verifiers.map(|one| Box::new(one) as _).collect());
        note.verify(&known).unwrap();
        tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap()
    }

    /// All entries, from the bundles of a log of that size.
    fn entries(&self, size: u64) -> Vec<Vec<u8>> {
        let tiles = Tile::new_tiles(8, 0, size).into_iter().filter(|tile| tile.level() == 0);
        let mut entries = Vec::new();
        for tile in tiles {
            let path = tile.path().replacen("tile/8/0/", "tile/entries/", 1);
            let bundle = fs::read(self.0.join(path)).unwrap();
            let (mut rest, before) = (&bundle[..], entries.len());
            while let Some((length, more)) = rest.split_first_chunk::<2>() {
                let (entry, more) = more.split_at(usize::from(u16::from_be_bytes(*length)));
                entries.push(entry.to_vec());
                rest = more;
            }
            assert_eq!(entries.len() - before, tile.width() as usize);
        }
        entries
    }

    /// How many files there are; all of them and their directories are for the owner alone.
    fn files(&self) -> usize {
        fn count(path: &Path) -> usize {
            let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
            if path.is_file() {
                assert_eq!(mode, 0o600, "{}", path.display());
                return 1;
            }
            assert_eq!(mode, 0o700, "{}", path.display());
            fs::read_dir(path).unwrap().map(|entry| count(&entry.unwrap().path())).sum()
        }
        count(&self.0)
    }
}

fn export(journal: &Path, directory: &Path, more: &[&str]) -> (i32, String) {
    let arguments = [&["export", "--tiles", directory.to_str().unwrap()], more].concat();
    let (code, said, errors) = audit(journal, &arguments);
    assert_eq!(said, "");
    (code, errors)
}

#[tokio::test]
async fn outside_clients_verify_the_tiles_each_record_and_that_the_log_only_grew() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let journal = builder.journal();
    let registry = world.scratch.path("proxy/signers.json");
    let with_registry = ["--signers", registry.to_str().unwrap()];
    let (first, second) = (world.scratch.path("first"), world.scratch.path("second"));
    let receipt = signs(&builder, 140).await;
    let (code, said) = export(&journal, &first, &with_registry);
    assert!(code == 0 && said.contains(" records"), "{said}");
    signs(&builder, 3).await;
    // Beside the oldest form: an empty directory that is there already.
    fs::create_dir(&second).unwrap();
    assert_eq!(export(&journal, &second, &with_registry).0, 0);

    let (_, said, _) = audit(&journal, &["key", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let line = said["keys"][0]["verifier_key"].as_str().unwrap();
    let (first, second) = (Log(first), Log(second));
    let (old, new) = (first.checkpoint(&[line]), second.checkpoint(&[line]));
    assert!(old.size() > 256 && new.size() > old.size(), "{} and {}", old.size(), new.size());
    assert_eq!(old.origin(), receipt["log"].as_str().unwrap());
    for (log, checkpoint) in [(&first, &old), (&second, &new)] {
        let (size, root) = (checkpoint.size(), *checkpoint.hash());
        let tree = TileHashReader::new(size, root, log);
        let entries = log.entries(size);
        assert_eq!(entries.len() as u64, size);
        for (index, entry) in (0..).zip(&entries) {
            // Their reader checks the tiles against the root first.
            let leaf = record_hash(entry);
            assert_eq!(tree.read_hashes(&[stored_hash_index(0, index)]).unwrap(), [leaf]);
            let proof = prove_record(size, index, &tree).unwrap();
            check_record(&proof, size, root, index, leaf).unwrap();
        }
        let seq = receipt["seq"].as_u64().unwrap();
        let leaf = record_hash(&entries[usize::try_from(seq).unwrap() - 1]);
        assert_eq!(hex::encode(leaf.0), receipt["leaf"].as_str().unwrap());
        // Nothing but what the standard has: full tiles, those at the edge, and the checkpoint.
        let tiles = Tile::new_tiles(8, 0, size);
        let bundles = tiles.iter().filter(|tile| tile.level() == 0).count();
        assert_eq!(log.files(), tiles.len() + bundles + 1);
    }
    let tree = TileHashReader::new(new.size(), *new.hash(), &second);
    let proof = prove_tree(new.size(), old.size(), &tree).unwrap();
    check_tree(&proof, new.size(), *new.hash(), old.size(), *old.hash()).unwrap();
    let other = Hash([7; 32]);
    assert!(check_tree(&proof, new.size(), *new.hash(), old.size(), other).is_err());

    // The checker, from the page alone, and what it says of a byte that was changed.
    let checked = || {
        let mut check = python("tests/journal/check.py");
        let output = check.arg("--tiles").arg(&second.0).arg("--registry").arg(&registry).output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (ok, said) = checked();
    assert!(ok && said.contains(&hex::encode(new.hash().0)), "{said}");
    let bundle = second.0.join("tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[100] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let (ok, said) = checked();
    assert!(!ok && said.contains("tile/0/000"), "{said}");
}

#[tokio::test]
async fn tiles_are_exported_whole_into_an_empty_directory_or_not_at_all() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().segment_bytes(1 << 20).signer("ec", &key).caller(ALICE, &["ec"]);
    let journal = builder.journal();
    let proxy = builder.clone().start().await;
    let alice = proxy.client(ALICE).await;
    while segments(&journal).len() < 2 {
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    }
    proxy.stop().await;
    let scratch = &world.scratch;
    let refused = |to: &str, more: &[&str], what: &str| {
        let (code, said) = export(&journal, &scratch.path(to), more);
        assert!(code == 1 && said.contains(what), "{what}: {said}");
        assert!(!said.contains(".new is not"), "{said}");
    };
    // Nothing is replaced: a file, a directory with something in it, what an interruption left.
    scratch.write("file", "kept");
    scratch.write("full/kept", "kept");
    std::os::unix::fs::symlink(scratch.path("nowhere"), scratch.path("link")).unwrap();
    for to in ["file", "full", "link"] {
        refused(to, &[], "is not an empty directory");
    }
    scratch.write("left.new/kept", "kept");
    refused("left", &[], "left.new: cannot be made");
    for kept in ["file", "full/kept", "left.new/kept"] {
        assert_eq!(fs::read_to_string(scratch.path(kept)).unwrap(), "kept");
    }
    // Another audit key's registry: nothing is written.
    let (_, said, _) = audit(&journal, &["key", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let line = said["keys"][0]["verifier_key"].as_str().unwrap();
    let raw = STANDARD.decode(line.splitn(3, '+').nth(2).unwrap()).unwrap();
    assert_eq!((raw[0], raw.len()), (1, 33), "Ed25519");
    let other = system_tests::audit_key::audit_entry(&scratch.path("other.key"));
    let other = scratch.write("other.json", serde_json::json!({"signers": [other]}).to_string());
    refused("log", &["--signers", other.to_str().unwrap()], "the registry does not have");
    // A part of the tree is no tree.
    let copy = scratch.path("copy");
    fs::create_dir(&copy).unwrap();
    let newest = segments(&journal).pop().unwrap();
    fs::copy(&newest, copy.join(newest.file_name().unwrap())).unwrap();
    let registry = scratch.path("proxy/signers.json");
    let with_registry = ["--signers", registry.to_str().unwrap()];
    let (code, said) = export(&copy, &scratch.path("log"), &with_registry);
    let first: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let missing = format!("records 1 to {} are not in", first - 1);
    assert!(code == 1 && said.contains(&missing) && said.contains("--journal"), "{said}");
    assert!(!scratch.path("log").exists() && !scratch.path("log.new").exists());
    // Flags that would say of which records.
    let log = scratch.path("log");
    for more in [&["--from", "2"][..], &["--to", "2"], &["--output", "x"]] {
        assert_eq!(export(&journal, &log, more).0, 64, "{more:?}");
    }
    assert_eq!(export(&journal, &log, &with_registry).0, 0);
}
