//! The operators' socket: a passphrase comes in, nothing comes out. It is not the proxy's
//! way, and who may use it is said apart.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use signing_core::breakglass::wire;
use signing_core::breakglass::wire::operator::{PASSPHRASE_MAX_BYTES, Unlocked};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use crate::service::Service;
use crate::unlock::WAITS;

/// How long a peer may take for all of it; a person has typed before it connects.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves one peer, of that user id.
pub async fn serve(service: Rc<Service>, mut stream: UnixStream, uid: u32) {
    let by = format!("uid {uid}");
    let read = tokio::time::timeout(PATIENCE, passphrase(&mut stream)).await;
    let answer = match read {
        Ok(Ok(passphrase)) => {
            if service.unlock(passphrase, &by) {
                service.note_unlock(&by, "brought");
                service.log.info("a passphrase waits to be used", json!({"by": by}));
                Unlocked {
                    unlocked: true,
                    detail:
                        "it waits for one activation, and is wiped after that or in five minutes; \
                             next: signctl breakglass activate"
                            .to_owned(),
                    waits_s: WAITS.as_secs(),
                }
            } else {
                no("too many passphrases were brought; wait a quarter of a minute")
            }
        }
        Ok(Err(_)) | Err(_) => {
            no(&format!("no passphrase of 1 to {PASSPHRASE_MAX_BYTES} bytes came in time"))
        }
    };
    let mut bytes = Vec::new();
    if wire::write(&answer, &mut bytes).is_ok() {
        // Whoever asked may be gone.
        let _ = tokio::time::timeout(PATIENCE, stream.write_all(&bytes)).await;
    }
}

fn no(why: &str) -> Unlocked {
    Unlocked { unlocked: false, detail: why.to_owned(), waits_s: 0 }
}

/// Reads the one frame of a peer: a length, and a passphrase of 1 to [`PASSPHRASE_MAX_BYTES`].
///
/// # Errors
/// If it does not come whole, or is longer.
pub async fn passphrase(
    stream: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let length = usize::try_from(stream.read_u32_le().await?).unwrap_or(usize::MAX);
    if !(1..=PASSPHRASE_MAX_BYTES).contains(&length) {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    // As long as it is from the start, so that no copy is left behind.
    let mut passphrase = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut passphrase).await?;
    Ok(passphrase)
}
