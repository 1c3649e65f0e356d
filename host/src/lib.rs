//! What the programs ask of their machine, the same way each: settings and what overrides
<<<<<<< HEAD
//! them, names without blanks around them, bounded files, unix sockets that nobody else can stand in for, passphrases, users' names,
//! what they deny themselves before a secret, and what others may do to their files.
=======
//! them, names without blanks around them, bounded files, unix sockets that nobody else can stand in
//! for, passphrases, users' names, what is printed, and what they deny themselves before a secret.
>>>>>>> 315bfab (Print through one place that reports errors and never panics)

pub mod environment;
pub mod files;
pub mod hardening;
pub mod identifier;
pub mod mistakes;
<<<<<<< HEAD
pub mod modes;
=======
pub mod out;
>>>>>>> 315bfab (Print through one place that reports errors and never panics)
pub mod passphrase;
pub mod section;
pub mod socket;
pub mod user;
