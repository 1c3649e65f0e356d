# The images of signing-proxy, breakglass-signer and signing-trail. How to build, verify and run them:
# docs/operating/packaging.md. Another image is one more stage, and one more name in packaging/rootfs.sh.

# By default pinned by version only, and a tag can move. A digest cannot:
# --build-arg RUST_IMAGE=rust@sha256:...  How to find it: docs/operating/packaging.md.
ARG RUST_IMAGE=rust:1.95.0-bookworm
FROM ${RUST_IMAGE} AS build
WORKDIR /src
# The date of what is built, in seconds: --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
ARG SOURCE_DATE_EPOCH=0
COPY packaging/tools.sh packaging/
RUN packaging/tools.sh cargo-auditable cargo-cyclonedx
COPY . .
RUN packaging/build.sh
RUN packaging/rootfs.sh signing-proxy target/package /rootfs/signing-proxy
RUN packaging/rootfs.sh breakglass-signer target/package /rootfs/breakglass-signer
RUN packaging/rootfs.sh signing-trail target/package /rootfs/signing-trail

# --target breakglass-signer
FROM scratch AS breakglass-signer
COPY --from=build /rootfs/breakglass-signer/ /
ENV PATH=/usr/bin
USER 65533:65533
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/breakglass-signer"]
CMD ["serve", "--config", "/etc/breakglass-signer/breakglass-signer.toml"]

# --target signing-trail
FROM scratch AS signing-trail
COPY --from=build /rootfs/signing-trail/ /
ENV PATH=/usr/bin
USER 65531:65531
STOPSIGNAL SIGTERM
# Whether the database has what the journals hold, but for what is on its way.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["/usr/bin/signing-trail", "status"]
ENTRYPOINT ["/usr/bin/signing-trail"]
CMD ["serve", "--config", "/etc/signing-trail/signing-trail.toml"]

FROM scratch AS signing-proxy
COPY --from=build /rootfs/signing-proxy/ /
ENV PATH=/usr/bin
USER 65532:65532
# The state, where `dev` keeps what it makes.
WORKDIR /var/lib/signing-proxy
EXPOSE 8443
STOPSIGNAL SIGTERM
# Whether it signs. The OCI format has no health check: buildah and podman keep it with --format docker.
# SIGNCTL_HEALTH_URL names another listener or /livez.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/bin/signctl", "health"]
ENTRYPOINT ["/usr/bin/signing-proxy"]
CMD ["serve", "--config", "/etc/signing-proxy/signing-proxy.toml"]
