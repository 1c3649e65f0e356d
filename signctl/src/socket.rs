//! Where the admin socket is: said before the verb or after it, by a variable, or where the
//! daemon's own package puts it. A verb that does not ask there does not take it, and if it was
//! said before the verb, says that it is not used.

use std::path::PathBuf;

use clap::Args;
use host::out;

const VARIABLE: &str = "SIGNCTL_SOCKET";
const DEFAULT: &str = "/run/signing-proxy/admin.sock";

/// `--socket`, of a verb that asks the proxy's admin socket.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Socket {
    /// The admin socket [env: SIGNCTL_SOCKET] [default: /run/signing-proxy/admin.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Socket {
    /// Of a verb that does not ask there: whoever named one is told.
    pub(crate) fn unused(&self) {
        if self.socket.is_some() {
            out::say("signctl: --socket is not used: this verb does not ask the admin socket");
        }
    }

    /// The one that was said nearest to the verb.
    pub(crate) fn or(&self, before: &Self) -> Self {
        Self { socket: self.socket.clone().or_else(|| before.socket.clone()) }
    }

    /// Its path.
    pub(crate) fn path(&self) -> PathBuf {
        let of_variable = || std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
        let given = self.socket.clone().or_else(|| of_variable().map(PathBuf::from));
        given.unwrap_or_else(|| PathBuf::from(DEFAULT))
    }
}
