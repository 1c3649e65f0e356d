//! What the records of batch signers' inputs say of each other: the leaves of one batch have its one note and
//! signature, no two of them its one place, and all of them together its root.

use std::collections::{BTreeMap, VecDeque};

use signing_core::batch::BatchId;
use signing_core::journal::{BatchLeaf, Outline};
use signing_core::tree::{TreeHash, WholeTree};

/// Leaves that are held at once; the batches that began first are forgotten then, and not judged any further.
const WINDOW: usize = 1 << 17;

/// A leaf of a batch, as a `signed` record has it.
#[derive(Debug)]
pub(super) struct Leaf {
    deployment: String,
    origin: String,
    index: u64,
    leaf: TreeHash,
    size: u64,
    root: TreeHash,
    signature: String,
    /// Given out again: its batch has it already.
    is_replayed: bool,
}

/// The batches so far.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    /// Of the `start` before.
    deployment: Option<String>,
    batches: BTreeMap<String, Gathered>,
    /// Their origins, in the order in which they began.
    order: VecDeque<String>,
    held: usize,
}

#[derive(Debug)]
struct Gathered {
    first_seq: u64,
    size: u64,
    root: TreeHash,
    signature: String,
    leaves: BTreeMap<u64, TreeHash>,
}

impl Leaf {
    /// Reads it out of a record, which has to say the same of itself. None: it is of no batch.
    pub(super) fn of(outline: &Outline) -> Result<Option<Self>, String> {
        let Some(batch) = outline.data.get("batch") else { return Ok(None) };
        let text = |name| outline.text(name).unwrap_or_default();
        let BatchLeaf { index, leaf, origin, root, size } =
            BatchLeaf::parse(batch).ok_or("its `batch` is no leaf of a batch")?;
        let parsed = TreeHash::parse(&leaf).zip(TreeHash::parse(&root));
        let (leaf, root) = parsed.ok_or("the `leaf` or the `root` in its `batch` is not a hash: expected 64 lower-case hex digits")?;
        let kid = text("signer_kid");
        let named = origin.rsplit_once('/').and_then(|(name, id)| {
            BatchId::parse(id)?;
            Some((name.strip_suffix(kid)?.strip_suffix("/batch/")?.to_owned(), id))
        });
        let Some((deployment, id)) = named else {
            return Err(format!(
                "the origin {origin:?} of its batch does not name a batch of {kid}"
            ));
        };
        let is_replayed = outline.data.get("replayed").is_some_and(|it| it == true);
        // In a break-glass session the emergency signer names the batch by itself.
        let names_call = !is_replayed && text("mode") == "normal";
        let attempt = outline.text("attempt").filter(|_| names_call);
        if let Some(attempt) = attempt.filter(|attempt| attempt.split('-').next() != Some(id)) {
            return Err(format!("its attempt is {attempt}, and its batch is {id}"));
        }
        if size == 1 && leaf != root {
            return Err("its leaf is not the root of its batch, which has one leaf".to_owned());
        }
        let signature = text("signature").to_owned();
        Ok(Some(Self { deployment, origin, index, leaf, size, root, signature, is_replayed }))
    }
}

impl Leaves {
    /// A process began to write, in that deployment.
    pub(super) fn start(&mut self, deployment: &str) {
        self.deployment = Some(deployment.to_owned());
    }

    /// Takes the leaf of record `seq`, or says what is wrong with it.
    pub(super) fn take(&mut self, seq: u64, leaf: &Leaf) -> Result<(), String> {
        let Leaf { origin, index, .. } = leaf;
        // A proof that is given out again may be of the process before.
        if let Some(own) = self.deployment.as_ref().filter(|own| **own != leaf.deployment)
            && !leaf.is_replayed
        {
            return Err(format!("its batch {origin} is not of the deployment {own}"));
        }
        if !self.batches.contains_key(origin) {
            self.order.push_back(origin.clone());
        }
        let batch = self.batches.entry(origin.clone()).or_insert_with(|| Gathered {
            first_seq: seq,
            size: leaf.size,
            root: leaf.root,
            signature: leaf.signature.clone(),
            leaves: BTreeMap::new(),
        });
        let first = batch.first_seq;
        if (batch.size, batch.root) != (leaf.size, leaf.root) || batch.signature != leaf.signature {
            return Err(format!(
                "it and record {first} are of the batch {origin}, and differ about its size, root or signature"
            ));
        }
        match batch.leaves.insert(*index, leaf.leaf) {
            Some(before) if before != leaf.leaf || !leaf.is_replayed => {
                return Err(format!("another record has the leaf {index} of the batch {origin}"));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        if batch.leaves.len() as u64 == batch.size
            && WholeTree::new(batch.leaves.values().copied()).root() != batch.root
        {
            return Err(format!(
                "the leaves of the batch {origin}, of which it is the last, do not lead to its root"
            ));
        }
        self.held += 1;
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        while self.held > WINDOW {
            let Some(oldest) = self.order.pop_front() else { return };
            self.held -= self.batches.remove(&oldest).map_or(0, |batch| batch.leaves.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn hash(number: u64) -> TreeHash {
        TreeHash::leaf(&number.to_be_bytes())
    }

    /// The records of a whole batch.
    fn batch(size: u64) -> Vec<Value> {
        let root = WholeTree::new((0..size).map(hash)).root();
        let record = |index| {
            json!({
                "attempt": format!("{ID}-1"),
                "batch": {
                    "index": index,
                    "leaf": hash(index).to_string(),
                    "origin": format!("test/batch/bulk/{ID}"),
                    "root": root.to_string(),
                    "size": size,
                },
                "mode": "normal",
                "replayed": false,
                "signature": "AAAA",
                "signer_kid": "bulk",
            })
        };
        (0..size).map(record).collect()
    }

    /// The first thing that is wrong with these records.
    fn wrong(records: &[Value]) -> Option<String> {
        let mut leaves = Leaves::default();
        leaves.start("test");
        for (seq, data) in (2..).zip(records) {
            let body = json!({"at": "2026-11-26T05:00:00.000000Z", "data": data, "type": "signed"});
            let (outline, _) = Outline::parse(body.to_string().as_bytes()).unwrap();
            match Leaf::of(&outline) {
                Ok(leaf) => {
                    if let Err(what) = leaves.take(seq, &leaf.unwrap()) {
                        return Some(what);
                    }
                }
                Err(what) => return Some(what),
            }
        }
        None
    }

    /// The records of a batch of five, of which one was changed so.
    #[track_caller]
    fn changed(at: usize, change: impl Fn(&mut Value), expected: &str) {
        let mut records = batch(5);
        change(records.get_mut(at).unwrap());
        let found = wrong(&records).unwrap_or_default();
        assert!(found.contains(expected), "{found:?} has no {expected:?}");
    }

    #[test]
    fn the_leaves_of_a_batch_fit_together() {
        for size in [1, 2, 3, 7, 64] {
            assert_eq!(wrong(&batch(size)), None, "{size}");
        }
        // In another order, and with one that was not signed for anybody.
        let mut records = batch(5);
        records.swap(0, 4);
        assert_eq!(wrong(&records), None);
        records.remove(2);
        assert_eq!(wrong(&records), None);
        // Given out again.
        let mut again = batch(5);
        let mut replayed = again.first().unwrap().clone();
        replayed["replayed"] = json!(true);
        replayed.as_object_mut().unwrap().remove("attempt");
        again.push(replayed);
        assert_eq!(wrong(&again), None);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let other = hash(9).to_string();
        changed(2, |it| it["batch"]["leaf"] = json!(other.clone()), "do not lead to its root");
        changed(2, |it| it["batch"]["index"] = json!(1), "another record has the leaf 1");
        changed(2, |it| it["batch"]["root"] = json!(other.clone()), "differ about its size, root");
        changed(2, |it| it["batch"]["size"] = json!(6), "differ about its size, root");
        changed(
            2,
            |it| it["signature"] = json!("BBBB"),
            "differ about its size, root or signature",
        );
        changed(2, |it| it["signer_kid"] = json!("other"), "does not name a batch of other");
        let kid = format!("test/batch/other/{ID}");
        changed(
            2,
            |it| it["batch"]["origin"] = json!(kid.clone()),
            "does not name a batch of bulk",
        );
        let deployment = format!("other/batch/bulk/{ID}");
        changed(
            0,
            |it| it["batch"]["origin"] = json!(deployment.clone()),
            "not of the deployment test",
        );
        let id = "f".repeat(32);
        changed(0, |it| it["attempt"] = json!(format!("{id}-1")), "its batch is");
        let long = format!("test/batch/bulk/{ID}0");
        changed(
            0,
            |it| it["batch"]["origin"] = json!(long.clone()),
            "does not name a batch of bulk",
        );
        let mut one = batch(1);
        one.first_mut().unwrap()["batch"]["leaf"] = json!(other);
        assert!(wrong(&one).unwrap_or_default().contains("which has one leaf"));
        let mut twice = batch(2);
        twice.push(twice.first().unwrap().clone());
        assert!(wrong(&twice).unwrap_or_default().contains("another record has the leaf 0"));
    }
}
