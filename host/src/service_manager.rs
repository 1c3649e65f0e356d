//! What systemd is told of this process (`sd_notify(3)`): that it serves, that it reloads, that it
//! stops, and that it is alive. Without a `NOTIFY_SOCKET` nothing is said.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::environment::Environment;

/// The variable with the socket of whoever listens.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The variables of the watchdog: its time in microseconds, and whose it is.
const WATCHDOG: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";
/// How often the process says that it is alive, within the time of the watchdog.
const SAID_WITHIN: u32 = 4;

/// The manager that started this process, if one wants to hear of it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment names it. To be called before the process denies itself to connect.
    ///
    /// # Errors
    /// A sentence, if the socket that is named cannot be reached. A unit of `Type=notify` would
    /// wait for this process in vain.
    pub fn of(environment: &Environment) -> Result<Self, String> {
        let Some(place) = environment.raw(SOCKET) else { return Ok(Self::default()) };
        let socket = connect(place).map_err(|error| {
            format!(
                "{SOCKET}: {place} cannot be reached: {error}; unset it, or start the unit anew"
            )
        })?;
        let watchdog = watchdog(environment, std::process::id());
        Ok(Self { socket: Some(Arc::new(socket)), watchdog })
    }

    /// It serves.
    pub fn serving(&self) {
        self.say("READY=1\nSTATUS=serving");
    }

    /// It reads its configuration again.
    pub fn reloading(&self) {
        self.say("RELOADING=1\nSTATUS=reloading");
    }

    /// It has read it; `outcome` is what came of it, for `systemctl status`.
    pub fn reloaded(&self, outcome: &str) {
        let outcome = text::line(outcome);
        self.say(&format!("READY=1\nSTATUS={outcome}"));
    }

    /// It was told to stop, and finishes what is under way.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=draining");
    }

    /// It is alive.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// How often [`Self::alive`] is to be said; None if nobody counts.
    #[must_use]
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / SAID_WITHIN)
    }

    /// Nothing here waits for whoever listens: a watchdog that did not hear it acts.
    fn say(&self, text: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(text.as_bytes());
        }
    }
}

/// Connects to a path, or to a name without a file, which begins with `@`.
fn connect(place: &str) -> io::Result<UnixDatagram> {
    let address = match place.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn watchdog(environment: &Environment, own_pid: u32) -> Option<Duration> {
    let number = |name| environment.raw(name)?.parse::<u64>().ok();
    let is_ours =
        environment.raw(WATCHDOG_PID).is_none() || number(WATCHDOG_PID) == Some(u64::from(own_pid));
    number(WATCHDOG).filter(|time| is_ours && *time > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn whoever_listens_hears_each_word_and_a_text_of_several_lines_as_one() {
        let name = format!("service-manager-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let place = format!("@{name}");
        let given = [(SOCKET, place.as_str()), (WATCHDOG, "2000000")];
        let manager = ServiceManager::of(&environment(&given)).unwrap();
        assert_eq!(manager.alive_every(), Some(Duration::from_millis(500)));
        let heard = || {
            let mut bytes = [0; 256];
            let length = listener.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        manager.serving();
        assert_eq!(heard(), "READY=1\nSTATUS=serving");
        manager.alive();
        assert_eq!(heard(), "WATCHDOG=1");
        manager.reloading();
        assert!(heard().starts_with("RELOADING=1\n"));
        manager.reloaded("refused\nREADY=0");
        assert_eq!(heard().lines().count(), 2);
        manager.stopping();
        assert!(heard().starts_with("STOPPING=1\n"));
    }

    #[test]
    fn nobody_listens_without_a_socket_and_a_lost_one_is_named() {
        let nobody = ServiceManager::of(&environment(&[(WATCHDOG, "1000")])).unwrap();
        nobody.serving();
        assert_eq!(nobody.alive_every(), None);
        let lost = ServiceManager::of(&environment(&[(SOCKET, "/nowhere/notify")]));
        assert!(lost.unwrap_err().contains("NOTIFY_SOCKET: /nowhere/notify cannot be reached"));
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        for (pid, expected) in [("7", Some(Duration::from_millis(3))), ("8", None), ("x", None)] {
            let given = environment(&[(WATCHDOG, "3000"), (WATCHDOG_PID, pid)]);
            assert_eq!(watchdog(&given, 7), expected, "{pid}");
        }
        for time in ["0", "soon", "-1"] {
            assert_eq!(watchdog(&environment(&[(WATCHDOG, time)]), 7), None, "{time}");
        }
    }
}
