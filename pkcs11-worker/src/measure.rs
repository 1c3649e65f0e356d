//! How fast the token signs, without proxy and frames: the measure that the hop to the
//! worker is compared with.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use host::files;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use signing_core::worker::{Call, Leave, Start};
use signing_core::{Algorithm, json};

use crate::sign::sign;
use crate::token::{Proxy, Token};

/// Reads a number of seconds.
pub(crate) fn duration(seconds: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

/// Signs on every thread for so long and prints what came of it.
pub(crate) fn measure(start: &str, time: Duration) -> Result<(), Box<dyn Error + Send + Sync>> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
    let start: Start = json::from_file(&std::fs::read(start)?)?;
    let algorithm =
        Algorithm::parse(&start.algorithm).ok_or_else(|| invalid("no such algorithm"))?;
    let token = Token::open(&start, &mut NoProxy { pin_file: Path::new(&start.pin_file) })
        .map_err(io::Error::from)?;
    let sessions: Result<Vec<_>, _> = (0..start.threads.max(1)).map(|_| token.session()).collect();
    let sessions = sessions.map_err(io::Error::from)?;
    let call = Call { id: 0, algorithm, input: vec![7; algorithm.digest_hash().digest_bytes()] };
    let (began, cpu) = (Instant::now(), cpu()?);
    let signed = std::thread::scope(|scope| {
        let (call, key) = (&call, &token.key);
        let threads: Vec<_> = sessions
            .into_iter()
            .map(|session| {
                scope.spawn(move || {
                    let mut signed = 0_u64;
                    while began.elapsed() < time {
                        let signature = sign(&session, key.handle, key.kind, call)
                            .map_err(|failure| io::Error::other(failure.detail))?;
                        if signature.len() > signing_core::worker::SIGNATURE_MAX_BYTES {
                            return Err(io::Error::other("a signature is too long"));
                        }
                        signed += 1;
                    }
                    Ok(signed)
                })
            })
            .collect();
        threads.into_iter().try_fold(0_u64, |sum, thread| match thread.join() {
            Ok(signed) => Ok(sum + signed?),
            Err(_) => Err(io::Error::other("a thread panicked")),
        })
    })?;
    let took = began.elapsed().as_secs_f64();
    let cpu = self::cpu()?.saturating_sub(cpu).as_secs_f64();
    let json = serde_json::json!({"signatures": signed, "seconds": took, "cpu_seconds": cpu});
    Ok(host::out::show(&json.to_string())?)
}

/// No proxy is there, and no other worker.
struct NoProxy<'a> {
    pin_file: &'a Path,
}

impl Proxy for NoProxy<'_> {
    fn may_log_in(&mut self) -> io::Result<Leave> {
        let metadata = std::fs::metadata(self.pin_file).ok();
        Ok(Leave { pin_file: metadata.as_ref().map(files::identity) })
    }

    fn logged_in(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// CPU time of this process so far.
fn cpu() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let of = |time: TimeVal| {
        let micros = time.tv_sec().saturating_mul(1_000_000).saturating_add(time.tv_usec());
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    Ok(of(usage.user_time()) + of(usage.system_time()))
}
