//! A caller's command line: `signctl sign` and `signctl verify` ask the data plane, as services do. What
//! the proxy answers is not believed: it has to verify under the registry on this machine.

mod answer;
mod dev;
mod input;
mod reach;
pub(crate) mod sign;
mod variables;
pub(crate) mod verify;
