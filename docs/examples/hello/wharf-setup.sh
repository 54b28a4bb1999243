#!/bin/sh
# Runs once, inside the workspace, right after it was made: the script post-start.rhai asks the host for it.
set -e
echo "ready since $(date -u +%H:%M:%S) UTC" > /tmp/hello-state
