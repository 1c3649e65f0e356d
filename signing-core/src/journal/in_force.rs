//! What is in force as a journal's records tell it: the freeze and the seals of signers, which an
//! operator has to end, and the logs of emergency signers that are known. The first record of each segment
//! and every `start` tell all of it again, so the newest segment is enough to know it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::clip;
use super::key_modes::{KeyModes, KeyModesSnapshot};
use super::peer_logs::{KnownLog, PeerLogs};
use super::record::{Kind, Outline};
use crate::incident::{ASKED, IncidentId, PARTS};
use crate::{FreezeId, Kid};

/// How many seals one record lists.
const LISTED_MAX: usize = 24;
/// How much of a seal's detail, in bytes: so many of them have to fit a record in any spelling.
const LISTED_DETAIL_BYTES: usize = 64;
/// How much of who ordered a freeze of the fleet, and why, in bytes: all that a member holds fit too.
const LISTED_FLEET_BYTES: usize = 24;

/// The freeze and the seals in force, and the logs of emergency signers that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// The freeze.
    pub freeze: Option<Frozen>,
    /// The freezes of the fleet, by their ids.
    pub fleet: BTreeMap<FreezeId, Frozen>,
    /// The incident that is open.
    pub incident: Option<OpenIncident>,
    /// In which mode keys were registered.
    pub key_modes: KeyModes,
    /// The seals, by signer.
    pub seals: BTreeMap<Kid, SealedFor>,
    /// The logs of emergency signers.
    pub signer_logs: PeerLogs,
}

/// A freeze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    /// When it began, UTC.
    #[serde(with = "at")]
    pub at: OffsetDateTime,
    /// The user who began it.
    pub by: String,
    /// An operator's: its name; None where nothing names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FreezeId>,
    /// The reason that the operator gave.
    pub reason: String,
}

/// An incident that began and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenIncident {
    /// When it began.
    #[serde(with = "at")]
    pub at: OffsetDateTime,
    /// Who began it.
    pub by: String,
    /// SHA-256 of the newest bundle's list, in hex, once the state was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured: Option<String>,
    /// The sections of the runbook of which somebody said that they are done, out of [`incident::ASKED`].
    ///
    /// [`incident::ASKED`]: crate::incident::ASKED
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<String>,
    /// Its name.
    pub incident: IncidentId,
    /// The parts that the newest bundle lacks, out of [`incident::PARTS`].
    ///
    /// [`incident::PARTS`]: crate::incident::PARTS
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// What was seen.
    pub reason: String,
}

impl OpenIncident {
    /// Takes down that a line of the runbook is done. Lines that nobody is asked about are not taken down.
    pub fn note_done(&mut self, section: &str) {
        if ASKED.contains(&section) && !self.done.iter().any(|done| done == section) {
            self.done.push(section.to_owned());
            self.done.sort_unstable();
        }
    }
}

/// A freeze of the fleet in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetFrozen {
    /// When it was obeyed.
    #[serde(with = "at")]
    pub at: OffsetDateTime,
    /// Who ordered it, or the beginning of it.
    pub by: String,
    /// Its id.
    pub freeze_id: FreezeId,
    /// Why, or the beginning of it.
    pub reason: String,
}

/// A seal of one signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedFor {
    /// When it began, UTC.
    #[serde(with = "at")]
    pub at: OffsetDateTime,
    /// What is doubted.
    pub detail: String,
}

impl InForce {
    /// Hears the next record. None if its body cannot be read as one of its kind.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other kind begins or ends either")]
    pub fn hear(&mut self, kind: Kind, body: &[u8]) -> Option<()> {
        match kind {
            Kind::Start | Kind::Segment => *self = Self::from_snapshot(&Outline::parse(body)?.0)?,
            Kind::Freeze => {
                let (outline, _) = Outline::parse(body)?;
                let text = |name| outline.text(name).map(str::to_owned);
                let (at, by, reason) = (at::parse(&outline.at)?, text("by")?, text("reason")?);
                let id = match outline.text("id") {
                    Some(id) => Some(FreezeId::parse(id).ok()?),
                    None => None,
                };
                self.freeze = Some(Frozen { at, by, id, reason });
            }
            Kind::Unfreeze => self.freeze = None,
            Kind::FleetFreeze => {
                let (outline, _) = Outline::parse(body)?;
                let text = |name| outline.text(name).map(str::to_owned);
                let (at, by, reason) = (at::parse(&outline.at)?, text("by")?, text("reason")?);
                let id = FreezeId::parse(outline.text("freeze_id")?).ok()?;
                self.fleet.entry(id).or_insert(Frozen { at, by, id: None, reason });
            }
            Kind::FleetUnfreeze => {
                let (outline, _) = Outline::parse(body)?;
                for id in outline.data.get("ends")?.as_array()? {
                    self.fleet.remove(&FreezeId::parse(id.as_str()?).ok()?);
                }
            }
            Kind::Gate => {
                let (outline, _) = Outline::parse(body)?;
                if outline.text("to")? == "sealed" && outline.text("upstream").is_none() {
                    let (at, detail) = (at::parse(&outline.at)?, outline.text("detail")?);
                    let seal = SealedFor { at, detail: detail.to_owned() };
                    self.seals.insert(Kid::parse(outline.text("signer_kid")?).ok()?, seal);
                }
            }
            Kind::Unseal => {
                let (outline, _) = Outline::parse(body)?;
                if let Some(kid) = outline.text("signer_kid") {
                    self.seals.remove(&Kid::parse(kid).ok()?);
                }
            }
            Kind::IncidentBegun => {
                let (outline, _) = Outline::parse(body)?;
                let text = |name| outline.text(name).map(str::to_owned);
                let (at, by, reason) = (at::parse(&outline.at)?, text("by")?, text("reason")?);
                let incident = IncidentId::parse(outline.text("incident")?).ok()?;
                self.incident = Some(OpenIncident {
                    at,
                    by,
                    captured: None,
                    done: Vec::new(),
                    incident,
                    missing: Vec::new(),
                    reason,
                });
            }
            Kind::IncidentCaptured => {
                let (outline, _) = Outline::parse(body)?;
                let (name, sha256) = (outline.text("incident")?, outline.text("sha256")?);
                let missing = outline.data.get("missing").map(Vec::<String>::deserialize);
                let mut missing = missing.transpose().ok()?.unwrap_or_default();
                missing.retain(|part| PARTS.contains(&part.as_str()));
                if let Some(open) =
                    self.incident.as_mut().filter(|open| open.incident.as_str() == name)
                {
                    (open.captured, open.missing) = (Some(sha256.to_owned()), missing);
                }
            }
            Kind::IncidentItem => {
                let (outline, _) = Outline::parse(body)?;
                let (name, section) = (outline.text("incident")?, outline.text("section")?);
                let is_done = outline.data.get("done")?.as_bool()?;
                if let Some(open) =
                    self.incident.as_mut().filter(|open| open.incident.as_str() == name && is_done)
                {
                    open.note_done(section);
                }
            }
            Kind::IncidentEnded => self.incident = None,
            Kind::Reload => {
                let told = KeyModes::from_snapshot(&Outline::parse(body)?.0)?;
                self.key_modes = std::mem::take(&mut self.key_modes).and(told);
            }
            Kind::SignerLog => self.signer_logs.hear(&Outline::parse(body)?.0)?,
            _ => {}
        }
        Some(())
    }

    /// What both know together. Of two freezes the later is told.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let freezes = self.freeze.into_iter().chain(other.freeze);
        self.freeze = freezes.max_by_key(|freeze| freeze.at);
        // Of the same one, the one that knows more is told.
        let incidents = self.incident.into_iter().chain(other.incident);
        self.incident =
            incidents.max_by_key(|open| (open.at, open.captured.is_some(), open.done.len()));
        for (id, freeze) in other.fleet {
            self.fleet.entry(id).or_insert(freeze);
        }
        for (kid, seal) in other.seals {
            self.seals.entry(kid).or_insert(seal);
        }
        self.key_modes = self.key_modes.and(other.key_modes);
        self.signer_logs = self.signer_logs.and(other.signer_logs);
        self
    }

    /// The form that `start` and `segment` records tell it in. More seals than one record lists are
    /// told as a freeze too: whoever knows nothing but the record then signs for nobody.
    #[must_use]
    pub fn snapshot(&self) -> InForceSnapshot<'_> {
        let seals = self.seals.iter().take(LISTED_MAX);
        let seals = seals.map(|(kid, SealedFor { at, detail })| {
            let detail = beginning(detail, LISTED_DETAIL_BYTES);
            Seal { at: *at, detail, signer_kid: kid.as_str() }
        });
        let fleet = self.fleet.iter().map(|(id, Frozen { at, by, reason, .. })| FleetFrozen {
            at: *at,
            by: beginning(by, LISTED_FLEET_BYTES).to_owned(),
            freeze_id: *id,
            reason: beginning(reason, LISTED_FLEET_BYTES).to_owned(),
        });
        InForceSnapshot {
            fleet: fleet.collect(),
            freeze: self.freeze_snapshot(),
            incident: self.incident.as_ref().map(|open| OpenIncident {
                by: beginning(&open.by, LISTED_DETAIL_BYTES).to_owned(),
                reason: beginning(&open.reason, LISTED_DETAIL_BYTES).to_owned(),
                ..open.clone()
            }),
            key_modes: self.key_modes.snapshot(),
            seals: seals.collect(),
            signer_logs: self.signer_logs.snapshot(),
        }
    }

    fn freeze_snapshot(&self) -> Option<Frozen> {
        let told = self.freeze.as_ref().map(|Frozen { at, by, id, reason }| Frozen {
            at: *at,
            by: clip(by).to_owned(),
            id: *id,
            reason: clip(reason).to_owned(),
        });
        let newest = self.seals.values().skip(LISTED_MAX).map(|seal| seal.at).max();
        told.or_else(|| {
            newest.map(|at| Frozen {
                at,
                by: "its journal".to_owned(),
                id: None,
                reason: format!(
                    "{} signers are sealed, more than a record lists",
                    self.seals.len()
                ),
            })
        })
    }

    /// Reads what [`Self::snapshot`] gave.
    fn from_snapshot(outline: &Outline) -> Option<Self> {
        let freeze = match outline.data.get("freeze") {
            Some(freeze) => Some(Frozen::deserialize(freeze).ok()?),
            None => None,
        };
        let listed = outline.data.get("fleet").map(Vec::<FleetFrozen>::deserialize);
        let listed = listed.transpose().ok()?.unwrap_or_default();
        let fleet = listed.into_iter().map(|FleetFrozen { at, by, freeze_id, reason }| {
            (freeze_id, Frozen { at, by, id: None, reason })
        });
        let seals = outline.data.get("seals")?.as_array()?.iter().map(|seal| {
            let Seal { at, detail, signer_kid } = Seal::deserialize(seal).ok()?;
            Some((Kid::parse(signer_kid).ok()?, SealedFor { at, detail: detail.to_owned() }))
        });
        let incident = match outline.data.get("incident") {
            Some(incident) => Some(OpenIncident::deserialize(incident).ok()?),
            None => None,
        };
        let (seals, signer_logs) =
            (seals.collect::<Option<_>>()?, PeerLogs::from_snapshot(outline)?);
        let (fleet, key_modes) = (fleet.collect(), KeyModes::from_snapshot(outline)?);
        Some(Self { freeze, fleet, incident, key_modes, seals, signer_logs })
    }
}

fn beginning(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

/// What `start` and `segment` records tell.
#[derive(Clone, Debug)]
pub struct InForceSnapshot<'r> {
    /// The freezes of the fleet.
    pub fleet: Vec<FleetFrozen>,
    /// The freeze.
    pub freeze: Option<Frozen>,
    /// The incident that is open.
    pub incident: Option<OpenIncident>,
    /// In which mode keys were registered.
    pub key_modes: Option<KeyModesSnapshot>,
    /// The seals.
    pub seals: Vec<Seal<'r>>,
    /// The logs of emergency signers.
    pub signer_logs: Vec<KnownLog>,
}

/// A seal in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seal<'r> {
    /// When it began, UTC.
    #[serde(with = "at")]
    pub at: OffsetDateTime,
    /// What is doubted, or the beginning of it.
    pub detail: &'r str,
    /// Of which signer.
    pub signer_kid: &'r str,
}

/// An instant as records write it.
mod at {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::super::instant;

    pub(super) fn parse(text: &str) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(text, &Rfc3339).ok()
    }

    pub(super) fn serialize<S: Serializer>(at: &OffsetDateTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&instant(*at))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(from)?;
        OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)
    }
}
