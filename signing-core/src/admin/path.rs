//! Every path of the admin socket.

/// Stops signing.
pub const FREEZE: &str = "/v1/freeze";
/// Ends a freeze.
pub const UNFREEZE: &str = "/v1/unfreeze";
/// Ends a seal.
pub const UNSEAL: &str = "/v1/unseal";
/// Reads the configuration again.
pub const RELOAD: &str = "/v1/reload";
/// Says how all is.
pub const STATUS: &str = "/v1/status";
/// Says what happened lately.
pub const EVENTS: &str = "/v1/events";
/// Looks at the upstreams.
pub const DOCTOR: &str = "/v1/doctor";
/// Runs a drill.
pub const DRILL: &str = "/v1/drill";
/// Says how break-glass is.
pub const BREAKGLASS: &str = "/v1/breakglass";
/// Begins a session.
pub const ACTIVATE: &str = "/v1/breakglass/activate";
/// Ends one.
pub const END: &str = "/v1/breakglass/end";
/// Accepts the emergency signer that is refused for its log.
pub const ACCEPT_SIGNER: &str = "/v1/breakglass/accept-signer";
/// Obeys a freeze of the whole fleet.
pub const FLEET_FREEZE: &str = "/v1/fleet/freeze";
/// Ends freezes of the fleet, by a statement that a person signed.
pub const FLEET_STATEMENT: &str = "/v1/fleet/statement";
/// Says that the fleet was read, and asks how this member is in it.
pub const FLEET_HEARTBEAT: &str = "/v1/fleet/heartbeat";
/// Destroys an emergency key.
pub const DESTROY: &str = "/v1/breakglass/destroy";

/// Says which incident is open, and what is left to do.
pub const INCIDENT: &str = "/v1/incident";
/// Begins an incident.
pub const INCIDENT_BEGIN: &str = "/v1/incident/begin";
/// Records the bundle that was captured for it.
pub const INCIDENT_CAPTURED: &str = "/v1/incident/captured";
/// Records what was done for a line of the runbook.
pub const INCIDENT_ITEM: &str = "/v1/incident/item";
/// Ends it.
pub const INCIDENT_END: &str = "/v1/incident/end";

/// All of them.
pub const ALL: [&str; 21] = [
    STATUS,
    EVENTS,
    FREEZE,
    UNFREEZE,
    FLEET_FREEZE,
    FLEET_STATEMENT,
    FLEET_HEARTBEAT,
    UNSEAL,
    RELOAD,
    DOCTOR,
    DRILL,
    BREAKGLASS,
    ACTIVATE,
    ACCEPT_SIGNER,
    END,
    DESTROY,
    INCIDENT,
    INCIDENT_BEGIN,
    INCIDENT_CAPTURED,
    INCIDENT_ITEM,
    INCIDENT_END,
];
