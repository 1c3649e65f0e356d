//! CPU time in nanoseconds, of a whole process or of this thread.

use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// The CPU clock of one process: all its threads, those that ended included,
/// which `/proc/PID/task/*/schedstat` forgets.
#[derive(Clone, Copy, Debug)]
pub struct ProcessClock(ClockId);

impl ProcessClock {
    /// The clock of the process `pid`.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        Ok(Self(clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?))
    }

    /// The CPU time that it has used.
    ///
    /// # Errors
    /// If it has ended.
    pub fn read(self) -> anyhow::Result<Duration> {
        Ok(clock_gettime(self.0)?.into())
    }
}

/// The CPU time that this thread has used.
///
/// # Errors
/// If the system has no such clock.
pub fn of_this_thread() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_thread_that_ended_still_counts() {
        let clock = ProcessClock::of(std::process::id()).unwrap();
        let before = clock.read().unwrap();
        let burnt = Duration::from_millis(20);
        let burn = move || while of_this_thread().unwrap() < burnt {};
        std::thread::spawn(burn).join().unwrap();
        assert!(clock.read().unwrap() >= before + burnt);
    }
}
