//! What the configuration may need of its machine, against what the machine lets the process have.

use host::limits::Limits;

use configuration::Config;
use server::SPAN_MAX_BYTES;

/// What the proxy has without a connection, and what one has, in bytes (docs/operating/topologies.md).
const IDLE_BYTES: u64 = 64 << 20;
const CONNECTION_BYTES: u64 = 64 << 10;
/// Descriptors beside those of callers: upstreams, sockets, journals, files that are read again.
const FILES_BESIDE: u64 = 128;
/// Below this share of a processor, canaries of several signers are late beside one request.
const PROCESSOR_THOUSANDTHS: u64 = 500;

/// One sentence for each thing that is too little.
pub(super) fn notes(config: &Config, limits: Limits) -> Vec<String> {
    let Config { server, traces, .. } = config;
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let connections = count(server.connections_max);
    let mut notes = Vec::new();
    let bytes = connections.saturating_mul(CONNECTION_BYTES);
    let bytes = bytes.saturating_add(IDLE_BYTES);
    let bytes = bytes.saturating_add(count(server.bodies_max_bytes));
    let bytes = bytes.saturating_add(count(server.answers_max_bytes));
    // Without a collector there is no queue.
    let queue_max = traces.endpoint.as_ref().map_or(0, |_| traces.queue_max);
    let bytes = bytes.saturating_add(count(queue_max).saturating_mul(count(SPAN_MAX_BYTES)));
    let and_traces = if queue_max == 0 { "" } else { ", and queue_max of [traces]," };
    if let Some(limit) = limits.memory_bytes.filter(|limit| *limit < bytes) {
        notes.push(format!(
            "memory: the control group of this process has {} MiB, and connections_max, bodies_max_bytes and \
             answers_max_bytes of [server]{and_traces} may take {} MiB together; the kernel ends the proxy at the limit: raise it, or \
             lower these keys",
            limit >> 20,
            bytes >> 20
        ));
    }
    let files = connections.saturating_add(count(server.handshakes_max));
    let files = files.saturating_add(FILES_BESIDE);
    if let Some(limit) = limits.files.filter(|limit| *limit < files) {
        notes.push(format!(
            "open files: this process may have {limit}, and connections_max and handshakes_max of [server] may take \
             {files} together; beyond the limit no connection is accepted: raise it (LimitNOFILE, ulimit -n), or lower \
             these keys"
        ));
    }
    let processor = limits.processor_thousandths;
    if let Some(limit) = processor.filter(|limit| *limit < PROCESSOR_THOUSANDTHS) {
        notes.push(format!(
            "processor: the control group of this process has {}.{:03} of one; what is late is refused, and under load \
             that is much: give it half of one at least, or no limit",
            limit / 1000,
            limit % 1000
        ));
    }
    notes
}
