//! The text of the config file that a proxy to be gets.

use std::fmt::Write as _;

use super::{Granted, ProxyBuilder};
use crate::kms::Key;

impl ProxyBuilder<'_> {
    /// More sections of the config file.
    #[must_use]
    pub fn sections(mut self, lines: &str) -> Self {
        self.sections = lines.to_owned();
        self
    }

    pub(super) fn config(&self) -> String {
        let mut text = format!(
            "[deployment]\nname = \"test\"\nenvironment = \"test\"\n\
             [server]\nlisten = \"127.0.0.1:0\"\n{}\n\
             [server.tls]\ncertificate_file = \"server.pem\"\nprivate_key_file = \"server.key\"\n\
             client_ca_file = \"ca.pem\"\n{}{}\n\
             [metrics]\nlisten = \"127.0.0.1:0\"\n\
             [admin]\nsocket = \"admin.sock\"\nallowed_uids = [{}]\n{}\n\
             [state]\ndir = \"state\"\n\
             [audit]\ndir = \"{}\"\nkey_file = \"audit.key\"\nsegment_bytes = {}\n{}\n\
             [registry]\nfile = \"signers.json\"\n[gate]\n{}\n[breakglass]\n{}\n{}\n",
            self.server,
            // A test says itself when files are read again.
            if self.watches_tls { "" } else { "watch = false\n" },
            self.tls,
            nix::unistd::geteuid(),
            self.admin,
            self.journal,
            self.segment_bytes,
            self.audit,
            self.gate,
            self.breakglass,
            self.sections,
        );
        text += &self.local;
        for (kid, key) in &self.signers {
            writeln!(text, "[[signers]]\nkid = \"{kid}\"").unwrap();
            if self.prefer != "configured" {
                writeln!(text, "prefer = \"{}\"", self.prefer).unwrap();
            }
            for (_, lines) in self.of_signers.iter().filter(|(of, _)| of == kid) {
                writeln!(text, "{lines}").unwrap();
            }
            match self.upstreams.iter().find(|(name, _)| name == kid) {
                Some((_, lines)) => text.push_str(lines),
                None => text.push_str(&self.kms_upstream(key)),
            }
            for (_, kms, key) in self.replicas.iter().filter(|(of, ..)| of == kid) {
                text.push_str(&self.upstream_of(key, kms.region, &kms.endpoint));
            }
        }
        for (caller, granted) in &self.callers {
            let default = &granted.first().unwrap().kid;
            write!(text, "[[callers]]\nname = \"{caller}\"\ndefault_signer = \"{default}\"\n")
                .unwrap();
            for (_, lines) in self.rates.iter().filter(|(limited, _)| limited == caller) {
                writeln!(text, "{lines}").unwrap();
            }
            for Granted { kid, algorithms } in granted {
                write!(text, "[[callers.signers]]\nkid = \"{kid}\"\nalgorithms = {algorithms:?}\n")
                    .unwrap();
            }
        }
        text
    }

    pub(super) fn kms_upstream(&self, key: &Key) -> String {
        self.upstream_of(key, "eu-test-1", &self.endpoint)
    }

    fn upstream_of(&self, key: &Key, region: &str, endpoint: &str) -> String {
        format!(
            "[[signers.upstreams]]\nprovider = \"aws-kms\"\nkey_id = \"{}\"\n\
             region = \"{region}\"\nendpoint = \"{endpoint}\"\n{}\n",
            key.id, self.kms
        )
    }
}
