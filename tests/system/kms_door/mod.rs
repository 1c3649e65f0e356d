//! KMS's own wire form.

mod wire;
