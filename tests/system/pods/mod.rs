//! The pods of config/kubernetes as podman plays them: real images, real containers, each with its own
//! user and volumes, a real database, and a KMS that can fail.

mod gateway;
mod keygen;
mod sidecar;
mod site;
