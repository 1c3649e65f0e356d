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
/// Destroys an emergency key.
pub const DESTROY: &str = "/v1/breakglass/destroy";

/// All of them.
pub const ALL: [&str; 12] = [
    STATUS,
    FREEZE,
    UNFREEZE,
    UNSEAL,
    RELOAD,
    DOCTOR,
    DRILL,
    BREAKGLASS,
    ACTIVATE,
    ACCEPT_SIGNER,
    END,
    DESTROY,
];
