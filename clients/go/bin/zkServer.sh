#!/usr/bin/env bash
# How go-zookeeper's own tests start their server: `zkServer.sh start-foreground <zoo.cfg>`, with flags for the JVM in
# SERVER_JVMFLAGS. What they mean is a server on that configuration with those flags; they get ours. It replaces this
# shell, because they stop the process they started.
set -euo pipefail
[ "$1" = start-foreground ]
[ -z "${ZORILLA_CONF:-}" ] || printf '\n%s\n' "$ZORILLA_CONF" >> "$2"
# Both are lists of words.
# shellcheck disable=SC2086
exec $ZORILLA server ${SERVER_JVMFLAGS:-} "$2"
