//! An OpenSSH key as a SubjectPublicKeyInfo, to be compared with the registry's keys (I4).

use aws_lc_rs::digest;
use signing_core::key::{KeyKind, spki_of_point, spki_of_rsa};
use ssh_key::public::{EcdsaPublicKey, KeyData};

/// SHA-256, in hex, of the key's DER SubjectPublicKeyInfo. None: no registry holds such keys.
#[must_use]
pub fn sha256_of(key: &KeyData) -> Option<String> {
    let der = match key {
        KeyData::Ed25519(key) => spki_of_point(KeyKind::Ed25519, key.as_ref()),
        KeyData::SkEd25519(key) => spki_of_point(KeyKind::Ed25519, key.public_key().as_ref()),
        KeyData::Ecdsa(EcdsaPublicKey::NistP256(point)) => {
            spki_of_point(KeyKind::P256, point.as_bytes())
        }
        KeyData::SkEcdsaSha2NistP256(key) => {
            spki_of_point(KeyKind::P256, key.ec_point().as_bytes())
        }
        KeyData::Ecdsa(EcdsaPublicKey::NistP384(point)) => {
            spki_of_point(KeyKind::P384, point.as_bytes())
        }
        KeyData::Ecdsa(EcdsaPublicKey::NistP521(point)) => {
            spki_of_point(KeyKind::P521, point.as_bytes())
        }
        KeyData::Rsa(key) => spki_of_rsa(key.n().as_bytes(), key.e().as_bytes()),
        _ => None,
    }?;
    Some(hex::encode(digest::digest(&digest::SHA256, &der)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of `ssh-keygen`, each with the SHA-256 of what `openssl pkey -pubin -outform DER` makes of it.
    const KEYS: [(&str, &str); 4] = [
        (
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA7Y2m3jt6RlJVXdz7tkh8pxWq1KI2zZqYYJqd8fH3WI",
            "7f39d4fd439cd3c6bf0a4800fba8e40f5f50e8c5a1751c54dd1dd58f12a96f58",
        ),
        (
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBDb02MeyXcB4btaw8B\
             fcGlnYiBCSmQGrkkQkY5ZOSxx4PkKGTtxb+jdM8g5gy7DSCh4x/8472xdVLNXt0Myt/xM=",
            "99ad7731edb40a3740f2fd2cbf25ba84c81949f7779e4b5f8c88d41e924c973b",
        ),
        (
            "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBNCQDCTfoh8zhgNjve\
             sLmKaQzbePGgR8F189Kqcoiqd4wCmfE2vceVbLjxpID2QOnt8nXP2YSgi3D0huDy426lw2b9V/OLnz4gigvxbtwHDF\
             zGa7jmvY7ZedBS7fyfMEeg==",
            "da362b83028809d80a444927798ea01b3e3e82263529a6db4120581e33ae0e7b",
        ),
        (
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCbIGzRFMRdZm39B0i4rzW3hz8FzMPMuEi52ZgJGctJmQ6x/Rmw3L\
             o/O8MDSc08zERkFf0zROLS+VQOUyzaXwBEGL8QLHzvVBUkVG5HsREik+ZC7QGzcY/gu+W/A/EHjCTnx3Wuf5IMKLzC\
             +c5i4M3asgwPdt1FZmfDtasGAwwTaVCwGwriAKjSHui+t6asPCqUqHS2SX9HjLZSQSzHmLktWZ6lCyVQDoc9kf/Mdj\
             HQhCMTIxPWC5NaQTdlng7x3KOedRQ6iBRsrFjr9roJ44k+71zVQRWG1TfkirHWMx25W5rr7e85b35PsfqamCYPT4vP\
             pknEMU7jz5CBjo7Mhe6T",
            "7e1c61816c2cf3fa30630060459781222284ce7aa97fd0a79b213be170c5d0f6",
        ),
    ];

    #[test]
    fn an_openssh_key_is_the_same_key_as_the_registrys() {
        for (openssh, sha256) in KEYS {
            let key = ssh_key::PublicKey::from_openssh(openssh).unwrap();
            assert_eq!(sha256_of(key.key_data()).as_deref(), Some(sha256), "{openssh}");
        }
    }
}
