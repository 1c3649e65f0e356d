//! The registry and the policy that count together: what a reload replaces as a
//! whole, and what its successor may not change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use time::OffsetDateTime;

use crate::caller::Caller;
use crate::key::{Algorithm, Kid, PublicKey, Signer};
use crate::policy::{Grant, Policy};
use crate::refusal::Refusal;
use crate::registry::Registry;

/// One generation of registry and policy.
#[derive(Clone, Debug)]
pub struct Rulebook {
    generation: u64,
    registry: Registry,
    policy: Policy,
    /// Keys of kids that an earlier generation had and this one has not: a kid that
    /// comes back comes back with its key.
    retired: BTreeMap<Kid, Known>,
    /// Of the registry, which every request to sign asks for.
    signature_max_bytes: usize,
}

/// What verifiers know under a kid, and keep knowing.
#[derive(Clone, Debug)]
struct Known {
    key: PublicKey,
    is_batch: bool,
}

impl Rulebook {
    /// The first generation.
    #[must_use]
    pub fn new(registry: Registry, policy: Policy) -> Self {
        let signature_max_bytes = registry.signature_max_bytes();
        Self { generation: 1, registry, policy, retired: BTreeMap::new(), signature_max_bytes }
    }

    /// The generation that takes this one's place.
    ///
    /// # Errors
    /// One sentence for each kid whose public key or mode would change: what a verifier
    /// once knew under a kid stays under it, and a key that signed callers' bytes never signs a batch's
    /// note, which could have been such bytes.
    pub fn succeeded_by(&self, registry: Registry, policy: Policy) -> Result<Self, Vec<String>> {
        let known = self.registry.iter().map(|signer| (signer.kid.clone(), Known::of(signer)));
        let mut all = self.retired.clone();
        all.extend(known);
        let changed = registry.iter().filter_map(|signer| {
            let (before, now) = (all.get(&signer.kid)?, Known::of(signer));
            let kid = signer.kid.as_str();
            if before.key != now.key {
                return Some(format!(
                    "signer {kid:?}: its public key would change from {} {} to {} {}; a kid keeps its \
                     key: register the new one under a new kid",
                    before.key.algorithm(),
                    before.key.sha256_hex(),
                    now.key.algorithm(),
                    now.key.sha256_hex(),
                ));
            }
            (before.is_batch != now.is_batch).then(|| {
                format!(
                    "signer {kid:?}: its mode would change; a key that signs batches signs nothing \
                     else, ever: register a new key under a new kid"
                )
            })
        });
        let changed: Vec<_> = changed.collect();
        if !changed.is_empty() {
            return Err(changed);
        }
        let retired =
            all.into_iter().filter(|(kid, _)| registry.get(kid.as_str()).is_none()).collect();
        let signature_max_bytes = registry.signature_max_bytes();
        let generation = self.generation + 1;
        Ok(Self { generation, registry, policy, retired, signature_max_bytes })
    }

    /// The signers about which `next` could decide otherwise: whose entry, grants,
    /// aliases or callers' defaults differ.
    #[must_use]
    pub fn touched_by(&self, next: &Self) -> BTreeSet<Kid> {
        let kids = self.registry.iter().chain(next.registry.iter()).map(|signer| &signer.kid);
        let kids: BTreeSet<&Kid> = kids.collect();
        let differs = |kid: &&Kid| {
            self.registry.get(kid.as_str()) != next.registry.get(kid.as_str())
                || self.policy.standing(kid) != next.policy.standing(kid)
        };
        kids.into_iter().filter(differs).cloned().collect()
    }

    /// Counts the generations since the start, from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How long a signature that callers get is at most, in bytes.
    #[must_use]
    pub fn signature_max_bytes(&self) -> usize {
        self.signature_max_bytes
    }

    /// Every public key.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Decides whether `caller` may use the named (or its default) signer with
    /// the named (or the signer's own) algorithm at `now`.
    ///
    /// # Errors
    /// The refusal, deny by default.
    pub fn authorize(
        &self,
        caller: &Arc<Caller>,
        named: Option<&str>,
        algorithm: Option<Algorithm>,
        now: OffsetDateTime,
    ) -> Result<Grant, Refusal> {
        self.policy.authorize((&self.registry, self.generation), caller, named, algorithm, now)
    }

    /// Other names for kids.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &Kid)> {
        self.policy.aliases()
    }

    /// Everyone who was granted something.
    pub fn callers(&self) -> impl Iterator<Item = &Caller> {
        self.policy.callers()
    }

    /// Whether `caller` was granted anything at all: for deciding early, before
    /// anything is read for it.
    ///
    /// # Errors
    /// `caller_not_authorized` if it was not.
    pub fn known(&self, caller: &Caller) -> Result<(), Refusal> {
        self.policy.known(caller)
    }

    /// Whether `caller` means the bytes that `/signData`'s `data` encodes in base64, not its text.
    #[must_use]
    pub fn decodes_sign_data(&self, caller: &Caller) -> bool {
        self.policy.decodes_sign_data(caller)
    }

    /// The signer that `caller` means by `named`, for surfaces that reveal
    /// only what is public (verify, public keys).
    ///
    /// # Errors
    /// `signer_unknown`, or `invalid_request` if it names none and has no default.
    pub fn find(&self, caller: &Caller, named: Option<&str>) -> Result<&Arc<Signer>, Refusal> {
        self.policy.find(&self.registry, caller, named)
    }
}

impl Known {
    fn of(signer: &Signer) -> Self {
        Self { key: signer.public_key.clone(), is_batch: signer.batch.is_batch() }
    }
}
