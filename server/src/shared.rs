//! What the answers and the request bodies of one connection take memory from.

use super::answers::Answers;
use super::bodies::Bodies;

/// The shares of a connection, its caller, and everybody.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) answers: Answers,
    pub(super) bodies: Bodies,
}
