//! What the answers of one connection take memory from.

use std::sync::Arc;

use super::share::{Share, Shares};

/// The shares that an answer of one connection takes from: the connection's, its caller's,
/// everybody's.
pub(super) type Answers = Shares<3>;

impl Answers {
    pub(super) fn of_all(limits: &configuration::Server) -> Arc<Share> {
        Share::new("answers_max_bytes", limits.answers_max_bytes)
    }

    pub(super) fn of_caller(limits: &configuration::Server) -> Arc<Share> {
        Share::new("answers_per_caller_max_bytes", limits.answers_per_caller_max_bytes)
    }

    pub(super) fn new(limits: &configuration::Server, caller: Arc<Share>, all: Arc<Share>) -> Self {
        let key = "answers_per_connection_max_bytes";
        Self([Share::new(key, limits.answers_per_connection_max_bytes), caller, all])
    }
}
