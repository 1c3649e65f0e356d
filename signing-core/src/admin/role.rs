//! Who may ask what of the admin socket: a table, and nothing else decides it.

use super::path;

/// What somebody is to this proxy. A peer may have several roles; each adds to what it may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks.
    Observer,
    /// Runs the proxy: freezes, ends a freeze, reloads, drills, begins and ends an approved session.
    Operator,
    /// Answers for keys: ends seals, accepts emergency signers, destroys their keys. Freezes too.
    Security,
    /// The agent that carries the words of a fleet: freezes, and presents what people signed.
    Fleet,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Observer, Self::Operator, Self::Security, Self::Fleet];

    /// Its word in the configuration and in refusals.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Observer => "observer",
            Self::Operator => "operator",
            Self::Security => "security",
            Self::Fleet => "fleet",
        }
    }

    /// Whether it may ask for this path. What loosens a stop is never the fleet's, and a path that is
    /// not in this table is nobody's.
    #[must_use]
    pub fn may(self, asked: &str) -> bool {
        match asked {
            path::STATUS | path::EVENTS | path::BREAKGLASS | path::INCIDENT => true,
            path::DOCTOR => self != Self::Fleet,
            path::UNFREEZE
            | path::ACTIVATE
            | path::END
            | path::INCIDENT_BEGIN
            | path::INCIDENT_CAPTURED
            | path::INCIDENT_ITEM
            | path::INCIDENT_END => {
                matches!(self, Self::Operator | Self::Security)
            }
            // A statement counts by who signed it, whoever brings it.
            path::FREEZE | path::FLEET_FREEZE | path::FLEET_STATEMENT => self != Self::Observer,
            // Only the agent knows whether it has read the fleet.
            path::FLEET_HEARTBEAT => self == Self::Fleet,
            path::RELOAD | path::DRILL => self == Self::Operator,
            path::UNSEAL | path::ACCEPT_SIGNER | path::DESTROY => self == Self::Security,
            _ => false,
        }
    }
}

/// The roles that may ask for this path, in words: `operator or security`.
#[must_use]
pub fn who_may(asked: &str) -> String {
    let may: Vec<_> =
        Role::ALL.into_iter().filter(|role| role.may(asked)).map(Role::word).collect();
    may.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_somebodys_and_what_loosens_is_not_the_fleets_nor_an_observers() {
        for asked in path::ALL {
            assert_ne!(who_may(asked), "", "{asked}");
        }
        let of = |role: Role| path::ALL.into_iter().filter(move |asked| role.may(asked));
        assert_eq!(
            of(Role::Fleet).collect::<Vec<_>>(),
            [
                path::STATUS,
                path::EVENTS,
                path::FREEZE,
                path::FLEET_FREEZE,
                path::FLEET_STATEMENT,
                path::FLEET_HEARTBEAT,
                path::BREAKGLASS,
                path::INCIDENT
            ]
        );
        assert_eq!(
            of(Role::Observer).collect::<Vec<_>>(),
            [path::STATUS, path::EVENTS, path::DOCTOR, path::BREAKGLASS, path::INCIDENT]
        );
        assert!(Role::ALL.into_iter().all(|role| !role.may("/v1/sign")));
    }
}
