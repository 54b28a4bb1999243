#!/bin/sh
# The workspace's command. What it writes is what `wharf logs` shows.
trap 'echo "asked to end after $count lines"; exit 0' TERM
count=0
while :; do
    count=$((count + 1))
    echo "line $count of $WORKSPACE_NAME: $(cat /tmp/hello-state 2>/dev/null || echo 'not set up yet')"
    # A signal ends `wait` at once, and would have to wait for `sleep`.
    sleep 2 &
    wait $!
done
