//! The tree, held against an oracle that is written as RFC 6962 defines it, and against its known
//! roots: what is in the log is proved, and nothing else is.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use ed25519_dalek::Signer as _;
use signing_core::tree::{
    Checkpoint, Frontier, Inclusion, InclusionError, LogId, Recent, SignedCheckpoint, TreeHash,
};

use key_pairs::ed25519;

#[expect(dead_code, reason = "another test takes the other one")]
mod key_pairs;

const LOG: LogId = LogId::new([0xab; 16]);

fn entry(number: u64) -> Vec<u8> {
    format!("record {number}").into_bytes()
}

fn leaves(count: u64) -> Vec<TreeHash> {
    (0..count).map(|number| TreeHash::leaf(&entry(number))).collect()
}

/// The root as RFC 6962, section 2.1 defines it.
fn oracle(leaves: &[TreeHash]) -> TreeHash {
    match leaves {
        [] => TreeHash::empty(),
        [leaf] => *leaf,
        _ => {
            let mut left = 1;
            while left * 2 < leaves.len() {
                left *= 2;
            }
            TreeHash::node(&oracle(&leaves[..left]), &oracle(&leaves[left..]))
        }
    }
}

fn signed(size: u64, root: TreeHash) -> SignedCheckpoint {
    let (private, signer) = ed25519(1);
    let sign = |text: &[u8]| private.sign(text).to_bytes();
    Checkpoint { log: LOG, size, root }.sign(&[(&signer.public_key, &sign)])
}

#[test]
fn the_roots_of_the_known_leaves_are_those_that_others_publish() {
    // Leaves and roots of the tests of Certificate Transparency (RFC 6962).
    let entries = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Frontier::default();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(tree.root().to_string(), empty);
    for (entry, root) in entries.iter().zip(roots) {
        tree.push(TreeHash::leaf(&hex::decode(entry).unwrap()));
        assert_eq!(tree.root().to_string(), root, "with {entry:?}");
    }
}

#[test]
fn a_frontier_has_the_root_of_all_its_leaves_and_goes_on_from_its_hashes() {
    let leaves = leaves(301);
    let mut tree = Frontier::default();
    for (size, leaf) in leaves.iter().enumerate() {
        assert_eq!(tree.root(), oracle(&leaves[..size]), "{size} leaves");
        let again = Frontier::new(tree.size(), tree.hashes().to_vec()).unwrap();
        assert_eq!(again, tree);
        assert!(Frontier::new(tree.size() + 1, tree.hashes().to_vec()) != Some(tree.clone()));
        tree.push(*leaf);
    }
}

#[test]
fn every_recent_leaf_is_proved_and_nothing_else_is() {
    for size in 1..=80_u64 {
        let leaves = leaves(size);
        let root = oracle(&leaves);
        let checkpoint = signed(size, root);
        for since in 0..size {
            let mut before = Frontier::default();
            leaves.iter().take(since as usize).for_each(|leaf| before.push(*leaf));
            let mut recent = Recent::since(before);
            leaves.iter().skip(since as usize).for_each(|leaf| recent.push(*leaf));
            assert_eq!(recent.now().root(), root);
            for index in 0..=size {
                let path = recent.path(index);
                assert_eq!(path.is_some(), index >= since && index < size, "{index} of {size}");
                let Some(path) = path else { continue };
                let proof = Inclusion { index, path, checkpoint: checkpoint.clone() };
                let leaf = &leaves[index as usize];
                assert_eq!(proof.proves(leaf), Ok(()), "{index} of {size} since {since}");
                if since > 0 {
                    continue;
                }
                for (other, hash) in leaves.iter().enumerate() {
                    assert_eq!(proof.proves(hash).is_ok(), other as u64 == index);
                }
                no_other(&proof, leaf);
            }
            recent.forget();
            assert_eq!((recent.path(size - 1), recent.now().root()), (None, root));
        }
    }
}

/// Nothing that differs from a proof proves the same.
fn no_other(proof: &Inclusion, leaf: &TreeHash) {
    let size = proof.checkpoint.checkpoint().size;
    for index in (0..size + 2).filter(|index| *index != proof.index) {
        let moved = Inclusion { index, ..proof.clone() };
        let expected = if index >= size {
            InclusionError::Index { index, size }
        } else {
            InclusionError::Root
        };
        assert_eq!(moved.proves(leaf), Err(expected), "{index} for {}", proof.index);
    }
    for at in 0..proof.path.len() {
        let mut without = proof.clone();
        without.path.remove(at);
        assert!(without.proves(leaf).is_err());
        let mut changed = proof.clone();
        changed.path[at] = TreeHash::leaf(b"another");
        assert!(changed.proves(leaf).is_err());
    }
    for at in 0..=proof.path.len() {
        let mut with = proof.clone();
        with.path.insert(at, *leaf);
        assert_eq!(with.proves(leaf), Err(InclusionError::Root), "one more at {at}");
    }
}

#[test]
fn a_checkpoint_and_a_proof_have_one_text_each() {
    let leaves = leaves(7);
    let mut recent = Recent::since(Frontier::default());
    leaves.iter().for_each(|leaf| recent.push(*leaf));
    let checkpoint = signed(7, recent.now().root());
    let note = checkpoint.note().to_owned();
    assert!(note.starts_with("signing-journal/abababababababababababababababab\n7\n"), "{note}");
    assert_eq!(SignedCheckpoint::parse(&note), Ok(checkpoint.clone()));
    let (_, signer) = ed25519(1);
    let key = &signer.public_key;
    assert_eq!(checkpoint.is_signed_by(0, key), Some(true));
    let proof = Inclusion { index: 2, path: recent.path(2).unwrap(), checkpoint };
    let text = proof.to_text();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 2\n"), "{text}");
    assert_eq!(Inclusion::parse(&text), Ok(proof.clone()));
    for at in 0..text.len() {
        // Every other byte in its place, each byte left out, and each once more.
        let replaced = (0..=u8::MAX).map(|other| vec![other]);
        for with in replaced.chain([vec![], vec![text.as_bytes()[at]; 2]]) {
            let mut bytes = text.clone().into_bytes();
            bytes.splice(at..=at, with);
            if bytes == text.as_bytes() {
                continue;
            }
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let Ok(read) = Inclusion::parse(&changed) else { continue };
            assert_eq!(read.to_text(), changed);
            assert_ne!(read, proof, "byte {at}: {changed}");
            let proves = read.proves(&leaves[2]).is_ok();
            let signed = read.checkpoint.is_signed_by(0, key) == Some(true);
            assert!(!(proves && signed), "byte {at}: {changed}");
        }
    }
    for index in ["02", "+2", "2 ", "", "-2", "18446744073709551616"] {
        let bad = text.replacen("index 2\n", &format!("index {index}\n"), 1);
        assert_eq!(Inclusion::parse(&bad), Err(InclusionError::Text), "{bad}");
    }
    let signature = note.split_inclusive('\n').next_back().unwrap();
    for (what, bad) in [
        ("no signature", note.split_inclusive('\n').take(4).collect::<String>()),
        ("an extension line", note.replacen("\n\n", "\nmore\n\n", 1)),
        ("a size with a zero before it", note.replacen("\n7\n", "\n07\n", 1)),
        ("a size with a sign", note.replacen("\n7\n", "\n+7\n", 1)),
        ("no padding", note.replacen("=\n", "\n", 1)),
        ("a third signature", note.clone() + &signature.repeat(2)),
        ("an empty line at its end", note.clone() + "\n"),
        ("no end of its last line", note.trim_end().to_owned()),
        ("another name", note.replace("signing-journal/", "signing-batch/")),
        ("capitals", note.to_uppercase()),
    ] {
        assert!(SignedCheckpoint::parse(&bad).is_err(), "{what}: {bad}");
    }
}

#[test]
fn a_hash_and_a_log_have_one_spelling() {
    let (hash, log) = (TreeHash::leaf(b"x"), LOG);
    assert_eq!(TreeHash::parse(&hash.to_string()), Some(hash));
    assert_eq!(LogId::parse(&log.to_string()), Some(log));
    assert_eq!(LogId::parse_origin(&log.origin()), Some(log));
    for text in [hash.to_string(), log.to_string()] {
        for other in
            [text.to_uppercase(), format!("{text}0"), text[1..].to_owned(), format!(" {text}")]
        {
            assert_eq!((TreeHash::parse(&other), LogId::parse(&other)), (None, None), "{other}");
        }
    }
    assert_eq!(LogId::parse_origin(&log.origin().to_uppercase()), None);
}
