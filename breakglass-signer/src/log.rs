//! The log, which every daemon writes the same way.

pub use host::log::Log;
