# The image: one static program and the authorities of the web, nothing else; no shell, no package manager.
#
#   docker buildx build --platform linux/amd64,linux/arm64 -t countersign .
#
# Whoever has static programs already puts them in dist/amd64/countersign and dist/arm64/countersign, the authorities in
# dist/ca-certificates.crt, and takes those:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg PROGRAM=prebuilt -t countersign .
#
# A release gives the compiler's image by digest: --build-arg RUST_IMAGE=docker.io/library/rust@sha256:…
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-alpine
ARG PROGRAM=compiled

# Alpine's Rust links against musl, statically. Each platform compiles for itself.
FROM ${RUST_IMAGE} AS compiled
RUN apk add --no-cache build-base ca-certificates-bundle
WORKDIR /source
COPY . .
ARG REVISION=unknown
RUN COUNTERSIGN_REVISION="${REVISION}" COUNTERSIGN_RUSTC="$(rustc --version)" cargo build --locked --release --bin countersign \
    && install -D -m 755 target/release/countersign /image/countersign \
    && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt

FROM scratch AS prebuilt
ARG TARGETARCH
COPY dist/${TARGETARCH}/countersign /image/countersign
COPY dist/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt

FROM ${PROGRAM} AS program

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="countersign" \
    org.opencontainers.image.description="Content trust for Kubernetes: only signed tags run, rewritten to the digest that was signed" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.url="https://countersign.dev" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=program /image/ /
# A number, so that kubelets can tell that it is not root.
USER 65532:65532
EXPOSE 10250 8080
ENTRYPOINT ["/countersign"]
