//! Every metric name, with its kind and help.

pub(super) const HEALTH: &str = "signing_proxy_health";
pub(super) const SIGNER_HEALTH: &str = "signing_proxy_signer_health";
pub(super) const UPSTREAM_HEALTH: &str = "signing_proxy_upstream_health";
pub(super) const GATE_STATE: &str = "signing_proxy_gate_state";
pub(super) const GATE_TRANSITIONS: &str = "signing_proxy_gate_transitions_total";
pub(super) const REQUESTS: &str = "signing_proxy_requests_total";
pub(super) const DOOR_REQUESTS: &str = "signing_proxy_door_requests_total";
pub(super) const REQUEST_DURATION: &str = "signing_proxy_request_duration_seconds";
pub(super) const INFLIGHT: &str = "signing_proxy_inflight_requests";
pub(super) const OUTAGE: &str = "signing_proxy_outage_seconds";
pub(super) const OUTAGE_EXTENT: &str = "signing_proxy_outage";
pub(super) const QUOTA_HEADROOM: &str = "signing_proxy_upstream_quota_headroom_ratio";
pub(super) const FROZEN: &str = "signing_proxy_frozen";
pub(super) const BUILD_INFO: &str = "signing_proxy_build_info";
pub(super) const SIGNER_KEY_END: &str = "signing_proxy_signer_key_end_timestamp_seconds";
pub(super) const CERTIFICATE_EXPIRY: &str =
    "signing_proxy_tls_certificate_expiry_timestamp_seconds";
pub(super) const AUTHORITY_EXPIRY: &str = "signing_proxy_client_ca_expiry_timestamp_seconds";
pub(super) const LIST_EXPIRY: &str = "signing_proxy_client_crl_next_update_timestamp_seconds";
pub(super) const RELOAD_SUCCESSFUL: &str = "signing_proxy_config_last_reload_successful";
pub(super) const RELOAD_SUCCESS_AT: &str =
    "signing_proxy_config_last_reload_success_timestamp_seconds";
pub(super) const COMPONENT_OK: &str = "signing_proxy_component_ok";
pub(super) const CONNECTIONS: &str = "signing_proxy_connections";
pub(super) const HANDSHAKES_FAILED: &str = "signing_proxy_tls_handshakes_failed_total";
pub(super) const CONNECTIONS_REFUSED: &str = "signing_proxy_connections_refused_total";
pub(super) const CONNECTIONS_RESET: &str = "signing_proxy_connections_reset_total";
pub(super) const TRACE_SPANS: &str = "signing_proxy_trace_spans_total";
pub(super) const KMS_LATENCY: &str = "kms_sign_latency";
pub(super) const KMS_ERRORS: &str = "kms_errors_total";
pub(super) const WORKER_UP: &str = "pkcs11_worker_up";
pub(super) const WORKER_RESTARTS: &str = "pkcs11_worker_restarts_total";
pub(super) const WORKER_HANGS: &str = "pkcs11_worker_hangs_killed_total";
pub(super) const WORKER_WAITING: &str = "pkcs11_worker_waiting_calls";
pub(super) const BREAKGLASS_ACTIVE: &str = "breakglass_active";
pub(super) const BREAKGLASS_EXPIRES: &str = "breakglass_session_expires_timestamp_seconds";
pub(super) const BREAKGLASS_SIGNATURES: &str = "breakglass_signatures_total";
pub(super) const BREAKGLASS_REMAINING: &str = "breakglass_signatures_remaining";
pub(super) const BREAKGLASS_CONNECTED: &str = "breakglass_signer_connected";
pub(super) const BREAKGLASS_RECOVERED: &str = "breakglass_upstream_recovered";
pub(super) const BREAKGLASS_DUE: &str = "breakglass_key_destruction_due_timestamp_seconds";
pub(super) const BREAKGLASS_OVERDUE: &str = "breakglass_key_destruction_overdue";
pub(super) const AUDIT_APPEND: &str = "audit_append_duration_seconds";
pub(super) const AUDIT_SYNC: &str = "audit_sync_duration_seconds";
pub(super) const AUDIT_BATCH: &str = "audit_batch_records";
pub(super) const AUDIT_RECORDS: &str = "audit_records_total";
pub(super) const AUDIT_QUEUE: &str = "audit_queue_records";
pub(super) const AUDIT_FREE: &str = "audit_journal_free_bytes";
pub(super) const AUDIT_FULL_IN: &str = "audit_journal_full_seconds";
pub(super) const AUDIT_SEALED: &str = "audit_sealed";

/// Name, unit and help of each metric.
pub(super) const DESCRIPTIONS: &[(&str, Kind, &str)] = &[
    (
        HEALTH,
        Kind::Gauge,
        "1 only when every signer can sign through its own provider, and callers can get in.",
    ),
    (SIGNER_HEALTH, Kind::Gauge, "1 when this signer's gate is open and nothing is frozen."),
    (UPSTREAM_HEALTH, Kind::Gauge, "1 when this upstream answers with signatures that verify."),
    (GATE_STATE, Kind::Gauge, "1 for the state the signer's gate is in, 0 for the others."),
    (GATE_TRANSITIONS, Kind::Counter, "Transitions of the signer's gate."),
    (REQUESTS, Kind::Counter, "Requests to sign, by result and refusal reason."),
    (
        DOOR_REQUESTS,
        Kind::Counter,
        "Requests to sign, by the door that they came through and result.",
    ),
    (
        REQUEST_DURATION,
        Kind::Histogram,
        "Time that signed requests spent in each stage, in seconds.",
    ),
    (INFLIGHT, Kind::Gauge, "Requests admitted and not yet answered."),
    (
        OUTAGE,
        Kind::Gauge,
        "How long the signer has been in full outage, in seconds; 0 once its gate has opened again.",
    ),
    (OUTAGE_EXTENT, Kind::Gauge, "1 for how much of the signer is out: none, partial or full."),
    (
        QUOTA_HEADROOM,
        Kind::Gauge,
        "Part of the upstream's configured quota that is left, 0 to 1; at 0 calls are shed.",
    ),
    (FROZEN, Kind::Gauge, "1 while an operator's freeze is in force."),
    (BUILD_INFO, Kind::Gauge, "1, with the version as a label."),
    (
        SIGNER_KEY_END,
        Kind::Gauge,
        "When the registry ends the signer's key (notAfter), or ended it (revokedAt), in seconds since 1970. Without a sample the registry does not end it.",
    ),
    (CERTIFICATE_EXPIRY, Kind::Gauge, "When the server's certificate ends, in seconds since 1970."),
    (
        AUTHORITY_EXPIRY,
        Kind::Gauge,
        "When each authority of client_ca_file expires, in seconds since 1970: by its position in the file and the first 16 hex digits of the SHA-256 of its SubjectPublicKeyInfo.",
    ),
    (
        LIST_EXPIRY,
        Kind::Gauge,
        "When each revocation list expires, in seconds since 1970: by the number of its file in client_crl_files and its own in there.",
    ),
    (RELOAD_SUCCESSFUL, Kind::Gauge, "1 unless the newest reload was refused."),
    (
        RELOAD_SUCCESS_AT,
        Kind::Gauge,
        "When the configuration in force was read, in seconds since 1970.",
    ),
    (
        COMPONENT_OK,
        Kind::Gauge,
        "1 while this component of the proxy's own side is well; 0 while someone has to look at it.",
    ),
    (CONNECTIONS, Kind::Gauge, "Open connections to the data plane."),
    (HANDSHAKES_FAILED, Kind::Counter, "TLS handshakes that failed or timed out."),
    (
        CONNECTIONS_REFUSED,
        Kind::Counter,
        "Connections closed since too many were open, or too many handshakes under way.",
    ),
    (
        CONNECTIONS_RESET,
        Kind::Counter,
        "Connections that were reset: their clients did not read, or may not be connected any more.",
    ),
    (KMS_LATENCY, Kind::Histogram, "Time of one call to the upstream to sign, in seconds."),
    (KMS_ERRORS, Kind::Counter, "Failed calls to the upstream, by kind."),
    (WORKER_UP, Kind::Gauge, "1 while a token's worker serves: logged in, with its key found."),
    (WORKER_RESTARTS, Kind::Counter, "Starts of a token's worker after the first."),
    (TRACE_SPANS, Kind::Counter, "Spans of requests to sign, by whether the collector took them."),
    (
        WORKER_HANGS,
        Kind::Counter,
        "Workers of a token that were killed, since they did not answer within call_timeout_ms.",
    ),
    (
        WORKER_WAITING,
        Kind::Gauge,
        "Calls that wait in the proxy until the token has room for them.",
    ),
    (BREAKGLASS_ACTIVE, Kind::Gauge, "1 while a break-glass session is in force."),
    (
        BREAKGLASS_EXPIRES,
        Kind::Gauge,
        "When the session ends by itself, in seconds since 1970; 0 without one.",
    ),
    (BREAKGLASS_SIGNATURES, Kind::Counter, "Signatures of emergency keys that left."),
    (BREAKGLASS_REMAINING, Kind::Gauge, "Signatures that the session has left."),
    (BREAKGLASS_CONNECTED, Kind::Gauge, "1 while the emergency signer is connected."),
    (
        BREAKGLASS_RECOVERED,
        Kind::Gauge,
        "1 while a session is in force and an upstream that it replaces is healthy: end it.",
    ),
    (
        BREAKGLASS_DUE,
        Kind::Gauge,
        "When the emergency key has to be destroyed, in seconds since 1970; 0 if it was not used.",
    ),
    (BREAKGLASS_OVERDUE, Kind::Gauge, "1 if an emergency key should have been destroyed by now."),
    (
        AUDIT_APPEND,
        Kind::Histogram,
        "Time from a record that is waited for until it is on disk, in seconds.",
    ),
    (AUDIT_SYNC, Kind::Histogram, "Time of one sync of the journal, in seconds."),
    (AUDIT_BATCH, Kind::Sizes, "Records written at once."),
    (AUDIT_RECORDS, Kind::Counter, "Records written, by type."),
    (AUDIT_QUEUE, Kind::Gauge, "Records that wait to be written."),
    (
        AUDIT_FREE,
        Kind::Gauge,
        "Bytes that signatures can still take in the journal, in whole segments; 0 while it is full.",
    ),
    (
        AUDIT_FULL_IN,
        Kind::Gauge,
        "Seconds until the journal is full at the rate of the last minutes; 0 while it is, infinite if it does not fill.",
    ),
    (AUDIT_SEALED, Kind::Gauge, "1 while the journal is sealed: an operator has to look."),
];

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// A histogram of counts.
    Sizes,
}
