#!/bin/sh
# Installs the system programs that the tests need, or says with which line to do it; never goes on without them.
set -eu
PATH="$PATH:/usr/sbin:/sbin"
missing=""
command -v sshd >/dev/null || missing="$missing openssh-server"
[ -x /usr/bin/python3 ] || missing="$missing python3"
[ -z "$missing" ] && exit 0
line="apt-get update && apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing …"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update -qq && apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "the tests need$missing; as root run:  $line" >&2
    exit 1
fi
