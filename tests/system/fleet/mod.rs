//! The fleet: one command stops all members, and starts none.

mod member;
