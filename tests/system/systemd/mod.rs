//! `config/systemd`: the units as systemd reads them, and as a real systemd runs them.

mod exposure;
mod machine;
mod running;
mod units;
