//! `pkcs11-worker`: a vendor's PKCS#11 library in a process of its own. The proxy starts
//! it, speaks with it over its standard input, and kills it when it hangs.

mod fault;
mod key;
mod measure;
mod names;
mod pin;
mod serve;
mod sign;
mod slots;
mod token;
mod token_error;

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use host::out;
use host::signals::{End, Held, Signal};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::dup2_stdin;

const USAGE: &str = "pkcs11-worker: started by signing-proxy, which speaks with it over its standard input\n\
     usage: pkcs11-worker                               serve the proxy\n\
     \x20      pkcs11-worker measure START.json SECONDS    count what the token signs\n\
     \x20      pkcs11-worker --version";

fn main() -> ExitCode {
    let held = Held::back();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    out::ended("pkcs11-worker", run(&arguments, held))
}

fn run(arguments: &[&str], held: Held) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    match arguments {
        [] => {
            // What stops the proxy does not stop the worker, which is needed until the last request
            // is answered; it ends when the proxy closes the socket.
            held.for_ever();
            harden()?;
            serve::serve(&socket()?)?;
        }
        ["measure", start, seconds] => match measure::duration(seconds) {
            Some(duration) => {
                held.end_process(End::BySignal);
                measure::measure(start, duration)?;
            }
            None => return Ok(out::usage(&format!("SECONDS is {seconds:?}\n{USAGE}"), true)),
        },
        ["--version" | "-V"] => {
            let version = concat!("pkcs11-worker ", env!("CARGO_PKG_VERSION"));
            return Ok(out::usage(version, false));
        }
        ["--help" | "-h"] => return Ok(out::usage(USAGE, false)),
        _ => return Ok(out::usage(USAGE, true)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Before a PIN is read: no core dump, no ptrace by others, no life without the proxy.
fn harden() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// The proxy's end of the world, where no program that the library runs inherits it.
fn socket() -> io::Result<UnixStream> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}
