//! What the programs ask of their machine, the same way each: settings and what overrides
//! them, names without blanks around them, bounded files, secret files whose errors hold nothing of
//! theirs, unix sockets that nobody else can stand in for and who can reach them, places that no peer
//! takes from others, passphrases, users' names, what is printed, what a check found, what they deny
//! themselves before a secret, what others may do to their files, what kind of file system keeps them, what the machine lacks for a moment, what it lets them have, why an address cannot be had, what the kernel says
//! of this process, what systemd and its journal are told, the clock, the thread that writes the log, the size of a thread's stack, the size of a page of memory, and how often a log line is written that a peer can cause.

pub mod access;
pub mod checked;
pub mod clock;
pub mod environment;
pub mod file_system;
pub mod files;
pub mod hardening;
pub mod identifier;
pub mod journald;
pub mod limits;
pub mod listening;
pub mod log;
pub mod log_limit;
pub mod log_thread;
pub mod mistakes;
pub mod modes;
pub mod out;
pub mod pages;
pub mod passphrase;
pub mod peer_address;
pub mod places;
pub mod process;
pub mod secret;
pub mod section;
pub mod service_manager;
pub mod shortage;
pub mod signals;
pub mod socket;
pub mod stack;
pub mod user;
