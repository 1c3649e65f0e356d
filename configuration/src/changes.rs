//! What a reload cannot change: settings that only a start takes.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::{Admin, Audit, Breakglass, Config, Draft, Server, Traces, Trail};

impl Config {
    /// One sentence for each setting in which `next` differs from this configuration
    /// and which takes a restart.
    #[must_use]
    pub fn takes_a_restart(&self, next: &Self) -> Vec<String> {
        // Every field is named, so that a new one has to be thought of here.
        let Self {
            deployment,
            setting,
            server,
            metrics_listen,
            admin: Admin { socket, allowed, roles },
            state_dir,
            // The handover to a new audit key is signed at the start only.
            audit: Audit { dir, key_file, previous_key_file: _, segment_bytes, reader_group },
            breakglass: Breakglass { min_outage, signer_socket, sign_timeout },
            fleet,
            trail: Trail { required_socket, uid, commit_timeout },
            traces: Traces { endpoint, sample_percent, queue_max, timeout },
            // What a reload is for.
            registry_file: _,
            signers: _,
            thresholds: _,
            probe: _,
            callers: _,
            caller_rates: _,
            aliases: _,
        } = self;
        let mut changes = Changes::default();
        changes.compare("deployment.name", deployment, &next.deployment);
        changes.compare("deployment.environment", setting, &next.setting);
        changes.compare("metrics.listen", metrics_listen, &next.metrics_listen);
        changes.compare("admin.socket", socket, &next.admin.socket);
        changes.compare("admin.allowed_uids", &allowed.uids, &next.admin.allowed.uids);
        changes.compare("admin.allowed_gids", &allowed.gids, &next.admin.allowed.gids);
        for (role, members) in roles {
            let (uids, gids) = Admin::keys(*role);
            let then = next.admin.roles.get(role).cloned().unwrap_or_default();
            changes.compare(&format!("admin.{uids}"), &members.uids, &then.uids);
            changes.compare(&format!("admin.{gids}"), &members.gids, &then.gids);
        }
        changes.compare("state.dir", state_dir, &next.state_dir);
        changes.compare("audit.dir", dir, &next.audit.dir);
        changes.compare("audit.key_file", key_file, &next.audit.key_file);
        changes.compare("audit.segment_bytes", segment_bytes, &next.audit.segment_bytes);
        changes.compare("audit.reader_group", reader_group, &next.audit.reader_group);
        changes.compare("breakglass.min_outage_s", min_outage, &next.breakglass.min_outage);
        changes.compare("breakglass.signer_socket", signer_socket, &next.breakglass.signer_socket);
        changes.compare("breakglass.sign_timeout_ms", sign_timeout, &next.breakglass.sign_timeout);
        changes.compare("fleet", fleet, &next.fleet);
        changes.compare("trail.required_socket", required_socket, &next.trail.required_socket);
        changes.compare("trail.uid", uid, &next.trail.uid);
        changes.compare("trail.commit_timeout_ms", commit_timeout, &next.trail.commit_timeout);
        changes.compare("traces.endpoint", endpoint, &next.traces.endpoint);
        changes.compare("traces.sample_percent", sample_percent, &next.traces.sample_percent);
        changes.compare("traces.queue_max", queue_max, &next.traces.queue_max);
        changes.compare("traces.timeout_ms", timeout, &next.traces.timeout);
        changes.server(server, &next.server);
        changes.0
    }
}

impl Draft {
    /// What of a mistaken file would take a restart, leaving out the settings that are
    /// mistaken themselves: only a default stands in their place.
    #[must_use]
    pub fn takes_a_restart(&self, running: &Config) -> Vec<String> {
        let section = |sentence: &str| sentence.split([':', '[', ' ']).next().map(str::to_owned);
        let mistaken: BTreeSet<_> = self.mistakes.iter().map(|mistake| section(mistake)).collect();
        let mut changes = running.takes_a_restart(&self.config);
        changes.retain(|change| !mistaken.contains(&section(change)));
        changes
    }
}

#[derive(Default)]
struct Changes(Vec<String>);

impl Changes {
    fn compare<T: PartialEq + Debug>(&mut self, key: &str, running: &T, next: &T) {
        if running != next {
            self.0.push(format!(
                "{key}: would change from {running:?} to {next:?}, which takes a restart; put it \
                 back to reload the rest"
            ));
        }
    }

    fn server(&mut self, running: &Server, next: &Server) {
        let Server {
            listen,
            tls: _,
            local,
            dialects,
            connections_max,
            connections_per_caller_max,
            handshakes_max,
            handshakes_per_address_max,
            bodies_max_bytes,
            bodies_per_caller_max_bytes,
            answers_max_bytes,
            answers_per_caller_max_bytes,
            answers_per_connection_max_bytes,
            requests_in_flight_max,
            requests_in_flight_per_caller_max,
            http2_streams_max,
            handshake_timeout,
            header_read_timeout,
            body_read_timeout,
            write_timeout,
            request_timeout,
            connection_age_max,
            headers_max_bytes,
            body_max_bytes,
            drain_timeout,
        } = running;
        self.compare("server.listen", listen, &next.listen);
        if *local != next.local {
            // Not what stands there: it may hold what a token is compared with.
            self.0.push(
                "server.local: another door, caller or proof, which takes a restart; put it back to \
                 reload the rest"
                    .to_owned(),
            );
        }
        self.compare("dialects", dialects, &next.dialects);
        for (key, running, next) in [
            ("connections_max", connections_max, &next.connections_max),
            (
                "connections_per_caller_max",
                connections_per_caller_max,
                &next.connections_per_caller_max,
            ),
            ("handshakes_max", handshakes_max, &next.handshakes_max),
            (
                "handshakes_per_address_max",
                handshakes_per_address_max,
                &next.handshakes_per_address_max,
            ),
            ("bodies_max_bytes", bodies_max_bytes, &next.bodies_max_bytes),
            (
                "bodies_per_caller_max_bytes",
                bodies_per_caller_max_bytes,
                &next.bodies_per_caller_max_bytes,
            ),
            ("answers_max_bytes", answers_max_bytes, &next.answers_max_bytes),
            (
                "answers_per_caller_max_bytes",
                answers_per_caller_max_bytes,
                &next.answers_per_caller_max_bytes,
            ),
            (
                "answers_per_connection_max_bytes",
                answers_per_connection_max_bytes,
                &next.answers_per_connection_max_bytes,
            ),
            ("requests_in_flight_max", requests_in_flight_max, &next.requests_in_flight_max),
            (
                "requests_in_flight_per_caller_max",
                requests_in_flight_per_caller_max,
                &next.requests_in_flight_per_caller_max,
            ),
            ("headers_max_bytes", headers_max_bytes, &next.headers_max_bytes),
            ("body_max_bytes", body_max_bytes, &next.body_max_bytes),
        ] {
            self.compare(&format!("server.{key}"), running, next);
        }
        self.compare("server.http2_streams_max", http2_streams_max, &next.http2_streams_max);
        for (key, running, next) in [
            ("handshake_timeout_ms", handshake_timeout, &next.handshake_timeout),
            ("header_read_timeout_ms", header_read_timeout, &next.header_read_timeout),
            ("body_read_timeout_ms", body_read_timeout, &next.body_read_timeout),
            ("write_timeout_ms", write_timeout, &next.write_timeout),
            ("request_timeout_ms", request_timeout, &next.request_timeout),
            ("connection_age_max_ms", connection_age_max, &next.connection_age_max),
            ("drain_timeout_ms", drain_timeout, &next.drain_timeout),
        ] {
            self.compare(&format!("server.{key}"), &running.as_millis(), &next.as_millis());
        }
    }
}
