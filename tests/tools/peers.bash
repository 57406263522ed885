# Sourced by the scripts beside it: real peers on loopback, in the folder $work, which ends with the script.

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
export NOTARY_ROOT_PASSPHRASE=root-passphrase NOTARY_TARGETS_PASSPHRASE=targets-passphrase
export NOTARY_SNAPSHOT_PASSPHRASE=snapshot-passphrase NOTARY_DELEGATION_PASSPHRASE=delegation-passphrase

# An authority (ca.pem) and one certificate for every server on loopback (tls.pem, tls.key).
certificates() {
    local new=(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2)
    "${new[@]}" -subj /CN=authority -keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
    "${new[@]}" -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -addext basicConstraints=critical,CA:FALSE -CA "$work/ca.pem" -CAkey "$work/ca.key" \
        -keyout "$work/tls.key" -out "$work/tls.pem" 2>/dev/null
}

free_port() {
    local port
    while port=$((RANDOM % 12000 + 20000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

# await NAME PORT: waits until somebody listens there, for at most ten seconds.
await() {
    local attempt
    for attempt in {1..200}; do
        ! (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null || return 0
        sleep 0.05
    done
    printf '%s does not listen on port %s: %s\n' "$1" "$2" "$(cat "$work/$1.log")" >&2
    return 1
}

# trust_server NAME PROGRAM TRUST_SERVICE: sets url_NAME. Metadata stay in memory.
trust_server() {
    local port
    port=$(free_port)
    jq -n --arg addr "127.0.0.1:$port" --arg work "$work" --argjson trust "$3" '{
        server: {http_addr: $addr, tls_cert_file: "\($work)/tls.pem", tls_key_file: "\($work)/tls.key"},
        trust_service: $trust, logging: {level: "error"}, storage: {backend: "memory"}}' >"$work/$1.json"
    "$2" -config "$work/$1.json" >"$work/$1.log" 2>&1 &
    await "$1" "$port"
    printf -v "url_$1" 'https://localhost:%s' "$port"
}
