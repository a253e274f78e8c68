#!/bin/sh
# Installs the system programs that the tests need, or says with which line to do it; never goes on without them.
set -eu
PATH="$PATH:/usr/sbin:/sbin"
missing=""
command -v sshd >/dev/null || missing="$missing openssh-server"
[ -x /usr/bin/python3 ] || missing="$missing python3"
command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
[ -z "$missing" ] && exit 0
line="apt-get update && apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing …"
    export DEBIAN_FRONTEND=noninteractive
    # The tests run servers of their own; none of the package's has to run on this machine.
    clusters=/etc/postgresql-common/createcluster.conf
    case "$missing" in
    *postgresql*) [ -e $clusters ] || { mkdir -p ${clusters%/*} && echo "create_main_cluster = false" >$clusters; } ;;
    esac
    apt-get -o DPkg::Lock::Timeout=300 update -qq && apt-get -o DPkg::Lock::Timeout=300 -o DPkg::Options::=--force-confold install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "the tests need$missing; as root run:  $line" >&2
    exit 1
fi
