#!/bin/sh
# HAProxy as Ray Serve starts it (-db -f CONFIG …), with its two pages of statistics on this machine alone, which Ray's
# template puts on every address, and with our own page where no doors answer, or where there are none yet. What Ray's
# replicas fail at is kept from them: an id of a request that is not ASCII, and methods besides the usual ones. Whoever
# waits for leave to send a body gets it here, since HAProxy loses some answers where it hands the asking on.
# It ends with the process that starts it, however that ends: one that stayed behind would keep the port for ever.
set -eu
sed -i -e '/^frontend prometheus/,/^frontend http/ s/bind :/bind 127.0.0.1:/' \
    -e '/^listen stats/,$ s/bind \*:/bind 127.0.0.1:/' \
    -e "/^frontend http_frontend/ a \\
    http-request del-header x-request-id if { req.fhdr(x-request-id) -m reg '[^ -~]' }\\
    http-request wait-for-body time 10s if { req.hdr(expect) -m found }\\
    http-request return status 405 content-type application/json string '$RLHF_RAY_OTHER_METHOD' hdr Allow '$RLHF_RAY_METHODS' unless { method $(echo "$RLHF_RAY_METHODS" | tr -d ,) }" \
    -e "s|^\( *errorfile [0-9]* \).*|\1$RLHF_RAY_UNAVAILABLE|" "$3"
if ! grep -q '^ *use_backend' "$3"; then
    sed -i '/^backend default_backend/,/^backend / s/http-request return .*/http-request return status 503 default-errorfiles/' "$3"
fi
set -- "$RLHF_RAY_HAPROXY" "$@"
if ! setpriv --pdeathsig KILL true 2>/dev/null; then # older than util-linux 2.33, or none
    exec "$@"
fi
# Whoever died before the kernel was told is not the parent any more when the inner shell looks.
exec setpriv --pdeathsig KILL sh -c 'test "$PPID" = "$0" && exec "$@"' "$PPID" "$@"
