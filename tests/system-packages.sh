#!/bin/sh
# Installs the system programs that the tests need, or says with which line to do it; never goes on without them.
# Words given to it are programs, in Debian packages of the same name, that are needed too.
set -eu
PATH="$PATH:/usr/sbin:/sbin"
missing=""
command -v sshd >/dev/null || missing="$missing openssh-server"
[ -x /usr/bin/python3 ] || missing="$missing python3"
command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
for program; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
# Alert rules are tested by Prometheus' own promtool; the package's server and pages are not needed.
tool=""
command -v promtool >/dev/null || tool="cd \$(mktemp -d) && apt-get download -qq prometheus && dpkg-deb -x prometheus*.deb . && install usr/bin/promtool /usr/local/bin/"
[ -z "$missing$tool" ] && exit 0
line="apt-get update"
[ -z "$missing" ] || line="$line && apt-get install -y --no-install-recommends$missing"
[ -z "$tool" ] || line="$line && ($tool)"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing${tool:+ promtool} …"
    export DEBIAN_FRONTEND=noninteractive
    # The tests run servers of their own; none of the package's has to run on this machine.
    clusters=/etc/postgresql-common/createcluster.conf
    case "$missing" in
    *postgresql*) [ -e $clusters ] || { mkdir -p ${clusters%/*} && echo "create_main_cluster = false" >$clusters; } ;;
    esac
    apt-get -o DPkg::Lock::Timeout=300 update -qq
    [ -z "$missing" ] || apt-get -o DPkg::Lock::Timeout=300 -o DPkg::Options::=--force-confold install -y -qq --no-install-recommends $missing >/dev/null
    [ -z "$tool" ] || (eval "$tool") >/dev/null 2>&1
else
    echo "the tests need$missing${tool:+ promtool}; as root run:  $line" >&2
    exit 1
fi
