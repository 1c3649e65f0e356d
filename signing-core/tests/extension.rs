//! A log that only grew is proved to have, whatever its sizes, and nothing else is. The crate
//! `tlog_tiles`, which shares no code with us, verifies what we make and makes what we verify.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use signing_core::tree::{
    Checkpoint, ExtensionError, Frontier, LogId, TreeHash, node_place, nodes_of, prove_extension,
    size_with, verify_extension,
};
use tlog_tiles::{Hash, HashReader};

const SIZE: u64 = 70;
const LOG: LogId = LogId::new([0x5a; 16]);

fn record(number: u64) -> Vec<u8> {
    format!("{{\"record\":{number}}}").into_bytes()
}

/// A tree with all its nodes in a row, and the root of each of its beginnings.
struct Tree {
    row: Vec<TreeHash>,
    roots: Vec<TreeHash>,
}

impl Tree {
    /// One in which record `other` says something else.
    fn with(size: u64, other: Option<u64>) -> Self {
        let mut frontier = Frontier::default();
        let (mut row, mut roots) = (Vec::new(), vec![frontier.root()]);
        for number in 0..size {
            let body = if Some(number) == other { b"another".to_vec() } else { record(number) };
            frontier.push_each(TreeHash::leaf(&body), |hash| row.push(hash));
            roots.push(frontier.root());
        }
        Self { row, roots }
    }

    fn node(&self, level: u32, number: u64) -> Option<TreeHash> {
        let place = usize::try_from(node_place(level, number)?).ok()?;
        self.row.get(place).copied()
    }

    fn root(&self, size: u64) -> TreeHash {
        *self.roots.get(usize::try_from(size).unwrap()).unwrap()
    }

    fn at(&self, size: u64) -> Checkpoint {
        Checkpoint { log: LOG, size, root: self.root(size) }
    }

    fn prove(&self, old: u64, new: u64) -> Option<Vec<TreeHash>> {
        prove_extension(old, new, &mut |level, number| self.node(level, number))
    }
}

impl HashReader for Tree {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let hash = |index: &u64| theirs(*self.row.get(usize::try_from(*index).unwrap()).unwrap());
        Ok(indexes.iter().map(hash).collect())
    }
}

fn theirs(hash: TreeHash) -> Hash {
    Hash(*hash.as_bytes())
}

#[test]
fn the_row_is_the_one_that_others_keep() {
    let tree = Tree::with(SIZE, None);
    assert_eq!(tree.row.len() as u64, nodes_of(SIZE));
    let mut row: Vec<Hash> = Vec::new();
    for number in 0..SIZE {
        assert_eq!(row.len() as u64, nodes_of(number));
        row.extend(tlog_tiles::stored_hashes(number, &record(number), &tree).unwrap());
    }
    assert_eq!(row, tree.row.iter().copied().map(theirs).collect::<Vec<_>>());
    for nodes in 0..nodes_of(SIZE) {
        let size = size_with(nodes);
        assert!(nodes_of(size) <= nodes && nodes_of(size + 1) > nodes, "{nodes}");
    }
    assert_eq!((node_place(64, 0), node_place(63, 0), node_place(0, u64::MAX)), (None, None, None));
}

#[test]
fn i7_every_growth_is_proved_and_each_side_believes_the_other() {
    let tree = Tree::with(SIZE, None);
    for new in 1..=SIZE {
        for old in 1..=new {
            let path = tree.prove(old, new).unwrap();
            let known = (old, tree.root(old));
            assert_eq!(verify_extension(known, &tree.at(new), &path), Ok(()), "{old} to {new}");
            let theirs_path: Vec<Hash> = path.iter().copied().map(theirs).collect();
            let (to, from) = (theirs(tree.root(new)), theirs(tree.root(old)));
            tlog_tiles::check_tree(&theirs_path, new, to, old, from).unwrap();
            let proof = tlog_tiles::prove_tree(new, old, &tree).unwrap();
            assert_eq!(proof, theirs_path, "{old} to {new}");
        }
        let known = (0, TreeHash::empty());
        assert_eq!(verify_extension(known, &tree.at(new), &tree.prove(0, new).unwrap()), Ok(()));
    }
    assert_eq!(tree.prove(SIZE + 1, SIZE), None);
}

#[test]
fn i7_a_log_that_is_another_one_is_not_proved_to_have_grown() {
    let tree = Tree::with(SIZE, None);
    for new in 1..=SIZE {
        for old in 1..=new {
            let path = tree.prove(old, new).unwrap();
            let known = (old, tree.root(old));
            let refused = |known, newer: Checkpoint, path: &[TreeHash]| {
                verify_extension(known, &newer, path).unwrap_err()
            };
            // Of the log in which one of the known records is another one.
            let forked = Tree::with(new, Some(old - 1));
            let honest = forked.prove(old, new).unwrap();
            assert_eq!(refused(known, forked.at(new), &honest), ExtensionError::Other(old));
            // The honest log's proof, under the other one's root.
            assert_eq!(refused(known, forked.at(new), &path), ExtensionError::Other(old));
            // Nothing that differs from the proof proves the same.
            for at in 0..path.len() {
                let (mut without, mut changed) = (path.clone(), path.clone());
                without.remove(at);
                *changed.get_mut(at).unwrap() = TreeHash::leaf(b"another");
                refused(known, tree.at(new), &without);
                refused(known, tree.at(new), &changed);
            }
            for at in 0..=path.len() {
                let mut with = path.clone();
                with.insert(at, tree.root(old));
                refused(known, tree.at(new), &with);
            }
            for size in (0..old).chain(old + 1..=new) {
                refused((size, tree.root(old)), tree.at(new), &path);
            }
        }
        let (known, found) = (new, new - 1);
        let shorter = ExtensionError::Shorter { known, found };
        let refused = verify_extension((new, tree.root(new)), &tree.at(found), &[]);
        assert_eq!(refused, Err(shorter));
    }
}

#[test]
fn a_node_that_is_gone_leaves_the_proof_out_that_needs_it() {
    let tree = Tree::with(SIZE, None);
    for kept in 1..SIZE {
        // Of the first `kept` records only the frontier is there.
        let mut frontier = Frontier::default();
        (0..kept).for_each(|number| frontier.push(TreeHash::leaf(&record(number))));
        let mut node = |level: u32, number: u64| {
            let (from, to) = (number << level, (number + 1) << level);
            let is_edge = frontier.hashes().contains(&tree.node(level, number)?);
            (to > kept || (is_edge && from < kept)).then(|| tree.node(level, number))?
        };
        for old in kept..=SIZE {
            let path = prove_extension(old, SIZE, &mut node);
            assert_eq!(path, tree.prove(old, SIZE), "{kept}: {old}");
        }
    }
}
