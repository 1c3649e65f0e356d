//! What deserves attention in a configuration without mistakes: it serves, but
//! perhaps not as meant, or not for long. `check` prints these.

use std::collections::BTreeSet;
use std::path::Path;

use configuration::{Admin, Config, Proof, Server, Signer, Upstream};
use host::clock::rfc3339;
use server::signed_max;
use signing_core::Kid;
use signing_core::admin::path;
use signing_core::key::names_of;
use time::{Duration, OffsetDateTime};
use upstream::settings::{AwsKms, Pkcs11};

use super::{Materials, breakglass};

/// How long before its end a certificate or a key deserves attention.
const SOON: Duration = Duration::days(30);

/// Headers of an ordinary request to sign fit in so many bytes.
const HEADERS_USUAL_BYTES: usize = 512;

/// One sentence each: the key, the value, what it leads to.
pub(super) fn notes(materials: &Materials, now: OffsetDateTime) -> Vec<String> {
    let config = &materials.config;
    let mut notes = limits(&config.server, materials.registry.signature_max_bytes());
    notes.extend(upstreams(config));
    notes.extend(proxies(config));
    notes.extend(traces(config));
    notes.extend(nobody(&config.admin));
    notes.extend(directories(config));
    notes.extend(materials.file_system_notes());
    notes.extend(local_doors(config));
    notes.extend(grants(materials, now));
    notes.extend(signers(materials, now));
    notes.extend(materials.registry_notes());
    notes.extend(materials.tls.notes(now, SOON));
    notes.extend(breakglass::notes(materials, now));
    notes
}

/// Names of callers and signers leave this machine readable.
fn traces(config: &Config) -> Option<String> {
    let endpoint = config.traces.endpoint.as_ref().filter(|endpoint| !endpoint.is_loopback())?;
    Some(format!(
        "traces.endpoint: is {endpoint}, and the spans with the names of callers and signers go there without \
         TLS: name a collector on this machine, or make sure that nobody reads that network"
    ))
}

/// `signature_bytes`: the longest signature that is answered.
fn limits(server: &Server, signature_bytes: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let signed_bytes = signed_max(signature_bytes);
    let (each, all) = (server.connections_per_caller_max, server.connections_max);
    if each > all {
        notes.push(format!(
            "server.connections_per_caller_max: is {each}, above connections_max {all}: one caller \
             can take every connection; lower it"
        ));
    }
    let (each, all) = (server.handshakes_per_address_max, server.handshakes_max);
    if each > all {
        notes.push(format!(
            "server.handshakes_per_address_max: is {each}, above handshakes_max {all}: one address can \
             take every place for handshakes; lower it, or make both equal behind a load balancer"
        ));
    }
    let (each, all) = (server.answers_per_caller_max_bytes, server.answers_max_bytes);
    if each > all {
        notes.push(format!(
            "server.answers_per_caller_max_bytes: is {each}, above answers_max_bytes {all}: one caller \
             that does not read takes the room for everybody's answers; lower it"
        ));
    }
    let (each, all) =
        (server.answers_per_connection_max_bytes, server.answers_per_caller_max_bytes);
    if each > all {
        notes.push(format!(
            "server.answers_per_connection_max_bytes: is {each}, above answers_per_caller_max_bytes \
             {all}: one connection that is not read takes the room for all of its caller's; lower it"
        ));
    }
    let (streams, room) = (server.http2_streams_max, server.answers_per_connection_max_bytes);
    let fit = room / signed_bytes;
    if u64::from(streams) > fit as u64 {
        notes.push(format!(
            "server.answers_per_connection_max_bytes: is {room}, room for {fit} requests to sign at once \
             on a connection, below http2_streams_max {streams}: one more is refused; raise it"
        ));
    }
    let (requests, room) = (server.requests_in_flight_max, server.answers_max_bytes);
    let fit = room / signed_bytes;
    if requests > fit {
        notes.push(format!(
            "server.answers_max_bytes: is {room}, room for {fit} requests to sign at once, below \
             requests_in_flight_max {requests}: one more is refused; raise it"
        ));
    }
    let (drain, request) = (server.drain_timeout, server.request_timeout);
    if drain < request {
        notes.push(format!(
            "server.drain_timeout_ms: is {}, below request_timeout_ms {}: a stop cuts requests that \
             would still be answered; raise it",
            drain.as_millis(),
            request.as_millis()
        ));
    }
    if server.headers_max_bytes < HEADERS_USUAL_BYTES {
        notes.push(format!(
            "server.headers_max_bytes: is {}, too little for the headers that clients commonly send; \
             {HEADERS_USUAL_BYTES} and more are enough",
            server.headers_max_bytes
        ));
    }
    notes
}

fn upstreams(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for (kid, call) in config.signers.iter().flat_map(call_timeouts) {
        let request = config.server.request_timeout;
        if request <= call {
            notes.push(format!(
                "server.request_timeout_ms: is {}, not above call_timeout_ms {} of signer {:?}: a \
                 slow call is cut, and nobody knows whether it signed; raise it or lower the other",
                request.as_millis(),
                call.as_millis(),
                kid.as_str()
            ));
        }
    }
    for (kid, token) in config.signers.iter().flat_map(of_token) {
        let worker = token.worker().unwrap_or_default();
        for (key, file) in
            [("module", &token.module), ("pin_file", &token.pin_file), ("worker", &worker)]
        {
            if !file.exists() {
                notes.push(format!(
                    "signers {:?}: {key}: there is no {} on this machine; install it before the \
                     proxy starts here, for its user",
                    kid.as_str(),
                    file.display()
                ));
            }
        }
    }
    for (kid, kms) in config.signers.iter().flat_map(of_kms) {
        if let Some(region) = region_of_arn(&kms.key_id).filter(|region| *region != kms.region) {
            notes.push(format!(
                "signers {:?}: region is {:?}, but key_id {:?} is in {region:?}, where KMS looks for \
                 it; name that region",
                kid.as_str(),
                kms.region,
                kms.key_id
            ));
        }
    }
    notes
}

/// Through which proxy KMS is asked, if there is one.
fn proxies(config: &Config) -> Vec<String> {
    let kms: Vec<_> = config.signers.values().flat_map(Signer::kms).collect();
    let Some(first) = kms.first() else { return Vec::new() };
    first.proxies.notes(kms.iter().map(|kms| kms.endpoint.as_str()))
}

fn of_kms<'c>((kid, signer): (&'c Kid, &'c Signer)) -> impl Iterator<Item = (&'c Kid, &'c AwsKms)> {
    signer.kms().map(move |kms| (kid, kms))
}

fn of_token<'c>(
    (kid, signer): (&'c Kid, &'c Signer),
) -> impl Iterator<Item = (&'c Kid, &'c Pkcs11)> {
    signer.upstreams.iter().filter_map(move |reached| match &reached.upstream {
        Upstream::Pkcs11(token) => Some((kid, token)),
        Upstream::AwsKms(_) | Upstream::Development { .. } => None,
    })
}

fn call_timeouts<'c>(
    named @ (kid, _): (&'c Kid, &'c Signer),
) -> impl Iterator<Item = (&'c Kid, std::time::Duration)> {
    let kms = of_kms(named).map(|(_, kms)| kms.call_timeout);
    let tokens = of_token(named).map(|(_, token)| token.call_timeout);
    kms.chain(tokens).map(move |call| (kid, call))
}

/// `arn:PARTITION:kms:REGION:ACCOUNT:...`
fn region_of_arn(key_id: &str) -> Option<&str> {
    let mut parts = key_id.split(':');
    (parts.next() == Some("arn"))
        .then(|| parts.nth(2))
        .flatten()
        .filter(|region| !region.is_empty())
}

fn nobody(admin: &Admin) -> Option<String> {
    let may = |asked: &str| {
        let mut roles = admin.roles.iter().filter(|(role, _)| role.may(asked));
        !admin.allowed.is_empty() || roles.any(|(_, members)| !members.is_empty())
    };
    if !may(path::FREEZE) {
        return Some(
            "admin.allowed_uids: is [], and no role that may freeze has a user: nobody can freeze; \
             add a user"
                .to_owned(),
        );
    }
    (!may(path::UNSEAL)).then(|| {
        "admin.security_uids: is [], and so are security_gids and allowed_uids: nobody can end a \
         seal; add a user"
            .to_owned()
    })
}

fn directories(config: &Config) -> Vec<String> {
    let of_socket = match config.admin.socket.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    [("state.dir", config.state_dir.as_path()), ("admin.socket", of_socket)]
        .into_iter()
        .filter(|(_, dir)| !dir.is_dir())
        .map(|(key, dir)| {
            format!(
                "{key}: {} is no directory on this machine; make it before the proxy starts here, \
                 for its user",
                dir.display()
            )
        })
        .collect()
}

/// Each local door, since whoever stands there has no certificate.
fn local_doors(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for (index, door) in config.server.local.iter().enumerate() {
        let callers: BTreeSet<_> = door.callers.iter().map(|local| local.caller.as_str()).collect();
        let anyone = door.callers.iter().any(|local| local.proof == Proof::Anyone);
        let whom = if anyone { "whoever reaches it is" } else { "a proof of its own names" };
        notes.push(format!(
            "server.local[{index}]: {} is a door without client certificates, where {whom} {}; leave \
             it out where callers can have certificates",
            door.listen,
            callers.iter().copied().collect::<Vec<_>>().join(", ")
        ));
        for local in &door.callers {
            if !config.callers.contains_key(&*local.caller) {
                notes.push(format!(
                    "server.local[{index}]: the caller {:?} was granted nothing; grant it a signer \
                     under [[callers]], or leave it out",
                    local.caller.as_str()
                ));
            }
        }
    }
    notes
}

fn grants(materials: &Materials, now: OffsetDateTime) -> Vec<String> {
    let Materials { config, registry, .. } = materials;
    let mut notes = Vec::new();
    for kid in config.signers.keys() {
        if !config.callers.values().any(|rules| rules.signers.contains_key(kid)) {
            notes.push(format!(
                "signers {:?}: was granted to no caller; grant it under [[callers]], or leave it out",
                kid.as_str()
            ));
        }
    }
    for (caller, rules) in &config.callers {
        for (kid, algorithms) in &rules.signers {
            // Every signer is registered, or there would be a mistake.
            let Some(signer) = registry.get(kid.as_str()) else { continue };
            let grant = format!("callers {:?}: the grant for {:?}", caller.as_str(), kid.as_str());
            if let Err(refusal) = signer.usable_at(now) {
                notes.push(format!(
                    "{grant} signs nothing: {}; grant its successor",
                    refusal.detail
                ));
            }
            if !algorithms.contains(&signer.algorithm()) {
                notes.push(format!(
                    "{grant} has {}, without {}, the registered algorithm; requests that name none \
                     are refused",
                    names_of(algorithms),
                    signer.algorithm()
                ));
            }
        }
    }
    notes
}

fn signers(materials: &Materials, now: OffsetDateTime) -> Vec<String> {
    let Materials { config, registry, .. } = materials;
    let mut notes = Vec::new();
    for kid in config.signers.keys() {
        let Some(signer) = registry.get(kid.as_str()) else { continue };
        match (signer.usable_at(now), signer.not_after) {
            (Err(refusal), _) => notes.push(format!(
                "signers {:?}: {}; /health says 503 while it is configured, so leave it out",
                kid.as_str(),
                refusal.detail
            )),
            (Ok(()), Some(at)) if at - now < SOON => notes.push(format!(
                "signers {:?}: signs nothing from {} on (notAfter); have its successor ready",
                kid.as_str(),
                rfc3339(at)
            )),
            (Ok(()), _) => {}
        }
    }
    notes
}
