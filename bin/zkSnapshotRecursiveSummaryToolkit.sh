#!/bin/sh
# The tool of that name, with its arguments, output and exit codes. ZORILLA names the binary.
exec "${ZORILLA:-zorilla}" snapshot summary "$@"
