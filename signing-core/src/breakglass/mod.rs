//! Break-glass, the pure part: the request that two people approve, the decision to
//! activate (I5), the armed period that ends by itself (I12), and what proxy and signer say
//! to each other.
//!
//! ```text
//! bytes -> Request -> activation::decide(evidence) -> Activation -> Session -> SignPermit
//! ```

pub mod activation;
mod begin;
mod caps;
mod claim;
mod end;
mod rate;
mod refused;
mod request;
mod session;
pub mod wire;

pub use activation::{Activation, Clause, NotActivated};
pub use begin::{is_out, may_begin};
pub use caps::{Caps, room_bytes};
pub use end::{End, ProxyEnd};
pub use refused::{ProxyReason, Refused};
pub use request::{
    APPROVAL_MAX_BYTES, APPROVALS_MAX, Draft, NAMESPACE, REQUEST_MAX_BYTES, Request, RequestError,
    TYPE,
};
pub use session::{Ask, NoPermit, Session, SignPermit};
