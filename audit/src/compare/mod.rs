//! Two journals of which each names the other: the proxy's holds heads and records of the emergency
//! signer's, and the other way round. Whoever replaces or cuts one of them has the other one against
//! them.

mod claim;

use std::path::{Path, PathBuf};

use signing_core::journal::{Head, Kind, Outline};
use signing_core::tree::{Frontier, LogId, TreeHash};

use crate::walk::{Defect, Stop, Walk, WalkStep, newest};
use claim::{Claim, Said, claims};

/// So many are held at once; for more the other journal is read once more.
const CLAIMS_MAX: usize = 1 << 16;

/// What one journal says of another, as far as it was held against it.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Heads and records that are in the other journal as they are named.
    pub found: u64,
    /// Those of records that were moved away from it: it can say nothing about them.
    pub moved_away: u64,
    /// Those of a journal that was there before it.
    pub earlier: u64,
    /// The first that is not as it is named.
    pub defect: Option<Defect>,
}

/// Looks up in the journal in `other` what the records of the journal in `directory` say of it, from
/// record `from` on.
///
/// # Errors
/// [`Stop`] if either cannot be read, or is defective itself.
pub fn compare(directory: &Path, from: u64, other: &Path) -> Result<Compared, Stop> {
    let to = newest(directory)?.size;
    let named = Named::read(other)?;
    let mut compared = Compared::default();
    // The newest that is about neither this log nor the one before it.
    let mut foreign = None;
    let mut waiting = Vec::new();
    let mut walk = Walk::open(directory, from)?;
    loop {
        let place = match walk.step()? {
            WalkStep::Record(place) if place.leaf.seq <= to => place,
            WalkStep::Sealed(_) => continue,
            WalkStep::Record(_) | WalkStep::End | WalkStep::TornWrite(_) => break,
        };
        if place.leaf.seq < from {
            continue;
        }
        let (record, at) = (place.leaf.seq, place.at);
        let claims = match claims(walk.body(&place)) {
            Ok(claims) => claims,
            Err(what) => {
                let file = walk.file().to_owned();
                compared.defect = Some(Defect { record, file, at, what });
                break;
            }
        };
        for (log, said) in claims {
            let claim = Claim { said, seq: record, file: walk.file().to_owned(), at };
            if log == named.log {
                foreign = None;
                waiting.push(claim);
            } else {
                compared.earlier += 1;
                foreign = (named.replaces != Some(log)).then_some((log, claim));
            }
        }
        if waiting.len() >= CLAIMS_MAX {
            named.look_up(&mut waiting, &mut compared)?;
            if compared.defect.is_some() {
                return Ok(compared);
            }
        }
    }
    named.look_up(&mut waiting, &mut compared)?;
    if let Some((log, claim)) = foreign {
        let what = format!(
            "it names the log {log}, and {} is the log {}: it is another journal, or was replaced; give \
             the journal that this one names last",
            other.display(),
            named.log
        );
        compared.defect.get_or_insert(claim.defect(what));
    }
    Ok(compared)
}

/// The journal that claims are looked up in.
struct Named {
    directory: PathBuf,
    log: LogId,
    /// The log that was there before it, if its first record is here and says so.
    replaces: Option<LogId>,
}

impl Named {
    fn read(directory: &Path) -> Result<Self, Stop> {
        let mut walk = Walk::open(directory, 1)?;
        let replaces = match walk.step()? {
            WalkStep::Record(place) if place.leaf.seq == 1 => {
                let init =
                    Outline::parse(walk.body(&place)).filter(|(_, kind)| *kind == Kind::Init);
                init.and_then(|(init, _)| LogId::parse(init.text("replaces")?.split(':').next()?))
            }
            _ => None,
        };
        let log = walk.log().ok_or_else(|| Stop::NoJournal(directory.to_owned()))?;
        Ok(Self { directory: directory.to_owned(), log, replaces })
    }

    /// Looks up all that wait, in one way through the journal; the first of them that does not fit, by
    /// the order of who names it, is the defect.
    fn look_up(&self, waiting: &mut Vec<Claim>, compared: &mut Compared) -> Result<(), Stop> {
        waiting.sort_by_key(|claim| claim.said.size());
        let mut claims = waiting.drain(..).peekable();
        let Some(first) = claims.peek() else { return Ok(()) };
        let mut walk = Walk::open(&self.directory, first.said.size())?;
        let mut tree: Option<Frontier> = None;
        let mut defects = Vec::new();
        loop {
            // A record is given out behind the header of its segment.
            let leaf = match walk.step()? {
                WalkStep::Record(place) => place.leaf,
                WalkStep::Sealed(_) => continue,
                WalkStep::End | WalkStep::TornWrite(_) => break,
            };
            let tree = match (&mut tree, walk.header()) {
                (Some(tree), _) => tree,
                (tree @ None, Some(header)) => {
                    let before = header.before();
                    while let Some(claim) = claims.next_if(|claim| claim.said.size() <= before.size)
                    {
                        match claim.said {
                            Said::Head(head) if head.size == before.size => {
                                self.judge(&claim, head.root, before.root, compared, &mut defects);
                            }
                            Said::Head(_) | Said::Record(_) => compared.moved_away += 1,
                        }
                    }
                    tree.insert(header.frontier.clone())
                }
                (None, None) => continue,
            };
            tree.push(leaf.hash);
            while let Some(claim) = claims.next_if(|claim| claim.said.size() == leaf.seq) {
                let (said, found) = match claim.said {
                    Said::Head(head) => (head.root, tree.root()),
                    Said::Record(record) => (record.hash, leaf.hash),
                };
                self.judge(&claim, said, found, compared, &mut defects);
            }
            if claims.peek().is_none() {
                break;
            }
        }
        let end = walk.passed().map_or(0, |head: Head| head.size);
        defects.extend(claims.map(|claim| {
            let what = format!(
                "it names {} of the journal in {}, which ends with record {end}: that journal was cut \
                 short, or an older copy took its place",
                claim.said,
                self.directory.display()
            );
            claim.defect(what)
        }));
        let first = compared.defect.take().into_iter().chain(defects);
        compared.defect = first.min_by_key(|defect| defect.record);
        Ok(())
    }

    fn judge(
        &self,
        claim: &Claim,
        said: TreeHash,
        found: TreeHash,
        compared: &mut Compared,
        defects: &mut Vec<Defect>,
    ) {
        if said == found {
            compared.found += 1;
            return;
        }
        let (directory, of) = (self.directory.display(), claim.said.what());
        defects.push(claim.defect(format!(
            "it names {} of the journal in {directory}, whose {of} there is {found}: one of the two \
             journals was replaced",
            claim.said
        )));
    }
}
