//! Who may use which signer with which algorithm: deny by default.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use time::OffsetDateTime;

use crate::caller::Caller;
use crate::key::{Algorithm, Kid, Purpose, Signer, names_of};
use crate::refusal::{Reason, Refusal};
use crate::registry::Registry;

/// The policy: what each caller was granted. A caller that is not in it may
/// sign nothing.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    callers: BTreeMap<Caller, Rules>,
    aliases: BTreeMap<String, Kid>,
}

/// See [`Policy::standing`].
pub(crate) type Standing<'p> =
    (BTreeMap<&'p Caller, (Option<&'p [Algorithm]>, bool)>, BTreeSet<&'p str>);

/// What one caller was granted.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Each signer it may use, with the algorithms it may use it with.
    pub signers: BTreeMap<Kid, Vec<Algorithm>>,
    /// The signer of requests that name none. Without it, the only grant.
    pub default_signer: Option<Kid>,
    /// Whether it means the bytes that `/signData`'s `data` encodes in base64, not its text.
    pub sign_data_decoded: bool,
}

/// Proof that this caller may use this signer with this algorithm (I1), by the
/// rulebook of one generation. It is not `Clone`, it is consumed by
/// [`crate::gate::Snapshot::admit`], and only [`crate::Rulebook::authorize`] makes one:
///
/// ```
/// fn of(grant: &signing_core::Grant) -> &signing_core::Caller {
///     grant.caller()
/// }
/// ```
///
/// ```compile_fail
/// fn twice(grant: &signing_core::Grant) -> (signing_core::Grant, signing_core::Grant) {
///     (grant.clone(), grant.clone())
/// }
/// ```
///
/// ```compile_fail
/// use std::sync::Arc;
/// fn forge(caller: Arc<signing_core::Caller>, signer: Arc<signing_core::Signer>) -> signing_core::Grant {
///     signing_core::Grant { caller, signer, algorithm: signing_core::Algorithm::EcdsaSha256, generation: 1 }
/// }
/// ```
#[derive(Debug)]
pub struct Grant {
    caller: Arc<Caller>,
    signer: Arc<Signer>,
    algorithm: Algorithm,
    generation: u64,
}

impl Grant {
    /// Who was granted it.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The same, to be kept beyond the grant.
    #[must_use]
    pub fn shared_caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// Which signer.
    #[must_use]
    pub fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }

    /// With which algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The generation of the rulebook that granted it.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
}

impl Policy {
    /// A policy out of rules and aliases; what a config file says.
    #[must_use]
    pub fn new(callers: BTreeMap<Caller, Rules>, aliases: BTreeMap<String, Kid>) -> Self {
        Self { callers, aliases }
    }

    /// Decides whether `caller` may use the named (or its default) signer with
    /// the named (or the signer's own) algorithm at `now`.
    ///
    /// # Errors
    /// The refusal, deny by default.
    pub(crate) fn authorize(
        &self,
        (registry, generation): (&Registry, u64),
        caller: &Arc<Caller>,
        named: Option<&str>,
        algorithm: Option<Algorithm>,
        now: OffsetDateTime,
    ) -> Result<Grant, Refusal> {
        let rules = self.rules(caller)?;
        let kid = match named {
            Some(name) => self.resolve(name),
            None => rules.unnamed(caller)?,
        };
        let signer = self.signer(registry, kid)?;
        let allowed = rules.signers.get(&signer.kid).ok_or_else(|| {
            Refusal::new(
                Reason::CallerNotAuthorized,
                format!("the caller {caller} has no grant for the signer {}", signer.kid),
            )
            .about(&signer.kid)
        })?;
        let algorithm = algorithm.unwrap_or_else(|| signer.algorithm());
        signer.signs_with(algorithm)?;
        if !allowed.contains(&algorithm) {
            return Err(Refusal::new(
                Reason::AlgorithmNotAllowed,
                format!(
                    "the caller {caller} was not granted {algorithm} with {}, only {}",
                    signer.kid,
                    names_of(allowed)
                ),
            )
            .about(&signer.kid));
        }
        signer.usable_at(now)?;
        let (caller, signer) = (Arc::clone(caller), Arc::clone(signer));
        Ok(Grant { caller, signer, algorithm, generation })
    }

    /// Whether `caller` was granted anything at all: for deciding early, before
    /// anything is read for it.
    ///
    /// # Errors
    /// `caller_not_authorized` if it was not.
    pub(crate) fn known(&self, caller: &Caller) -> Result<(), Refusal> {
        self.rules(caller).map(|_| ())
    }

    /// See [`Rules::sign_data_decoded`].
    pub(crate) fn decodes_sign_data(&self, caller: &Caller) -> bool {
        self.callers.get(caller).is_some_and(|rules| rules.sign_data_decoded)
    }

    pub(crate) fn aliases(&self) -> impl Iterator<Item = (&str, &Kid)> {
        self.aliases.iter().map(|(alias, kid)| (alias.as_str(), kid))
    }

    pub(crate) fn callers(&self) -> impl Iterator<Item = &Caller> {
        self.callers.keys()
    }

    /// Who may use `kid`, and how: each caller with its algorithms and whether it is
    /// what the caller means when it names none; and the aliases that mean it.
    pub(crate) fn standing(&self, kid: &Kid) -> Standing<'_> {
        let callers = self.callers.iter().filter_map(|(caller, rules)| {
            let algorithms = rules.signers.get(kid).map(Vec::as_slice);
            let is_unnamed = rules.unnamed(caller).is_ok_and(|unnamed| unnamed == kid.as_str());
            (algorithms.is_some() || is_unnamed).then_some((caller, (algorithms, is_unnamed)))
        });
        let aliases = self.aliases.iter().filter(|(_, meant)| *meant == kid);
        (callers.collect(), aliases.map(|(alias, _)| alias.as_str()).collect())
    }

    fn rules(&self, caller: &Caller) -> Result<&Rules, Refusal> {
        self.callers.get(caller).ok_or_else(|| {
            Refusal::new(
                Reason::CallerNotAuthorized,
                format!("no grant for the caller {caller}: add it under [[callers]]"),
            )
        })
    }

    /// The signer that `caller` means by `named`, for surfaces that reveal
    /// only what is public (verify, public keys).
    ///
    /// # Errors
    /// `signer_unknown`, or `invalid_request` if it names none and has no default.
    pub(crate) fn find<'r>(
        &self,
        registry: &'r Registry,
        caller: &Caller,
        named: Option<&str>,
    ) -> Result<&'r Arc<Signer>, Refusal> {
        let kid = match (named, self.callers.get(caller)) {
            (Some(name), _) => self.resolve(name),
            (None, Some(rules)) => rules.unnamed(caller)?,
            (None, None) => return Err(no_default(caller)),
        };
        registry.get(kid).ok_or_else(|| unknown(kid))
    }

    fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.get(name).map_or(name, Kid::as_str)
    }

    fn signer<'r>(&self, registry: &'r Registry, kid: &str) -> Result<&'r Arc<Signer>, Refusal> {
        let signer = registry.get(kid).ok_or_else(|| unknown(kid))?;
        match signer.purpose {
            Purpose::Signing => Ok(signer),
            // Emergency and audit keys sign nothing for callers by name (I4).
            Purpose::Breakglass | Purpose::Audit => Err(unknown(kid)),
        }
    }
}

impl Rules {
    fn unnamed(&self, caller: &Caller) -> Result<&str, Refusal> {
        let mut kids = self.signers.keys();
        match (&self.default_signer, kids.next(), kids.next()) {
            (Some(kid), _, _) | (None, Some(kid), None) => Ok(kid.as_str()),
            (None, _, _) => Err(no_default(caller)),
        }
    }
}

fn no_default(caller: &Caller) -> Refusal {
    Refusal::new(
        Reason::InvalidRequest,
        format!(
            "the request names no signer and the caller {caller} has no default: \
             name one in \"signer_kid\" or set its default_signer"
        ),
    )
}

fn unknown(kid: &str) -> Refusal {
    let kid: String = kid.chars().take(128).collect();
    Refusal::new(
        Reason::SignerUnknown,
        format!("no signer {kid:?}: GET /v1/signers lists the registered ones"),
    )
}
